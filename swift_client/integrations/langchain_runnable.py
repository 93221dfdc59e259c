"""LangChain: a Runnable from a prompt to the Selection, for chains that go on with more than the text."""

from __future__ import annotations

from typing import Any

from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.peer_packages import peer_package
from swift_client.types import Message, Selection

with peer_package("langchain-core"):
    from langchain_core import exceptions
    from langchain_core.messages import convert_to_messages, convert_to_openai_messages
    from langchain_core.runnables import Runnable, RunnableLambda


def best_of_runnable(reranker: Reranker, n: int = 16, options: Options = None) -> Runnable[Any, Selection]:
    """Return a Runnable from a text, a prompt or messages to the Selection; arguments as of ``ChatSwift``."""
    call = BestOfCall(reranker, n, options, errors=exceptions)

    def choose(prompt: Any) -> Selection:
        return call.run(_messages(prompt))

    async def choose_async(prompt: Any) -> Selection:
        return await call.arun(_messages(prompt))

    return RunnableLambda(choose, choose_async, name="best_of")


def _messages(prompt: Any) -> str | list[Message]:
    """Return a text as it is, and a PromptValue or messages of any kind as OpenAI's messages."""
    return prompt if isinstance(prompt, str) else convert_to_openai_messages(convert_to_messages(prompt))
