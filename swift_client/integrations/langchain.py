"""LangChain: a chat model that answers by best of N, and a Runnable that returns the Selection."""

from __future__ import annotations

from typing import Any

from swift_client.integrations.best_of_call import BestOfCall, Options, Reranker
from swift_client.integrations.openai_format import chat_completion, named_tool_choice
from swift_client.integrations.peer_packages import peer_package
from swift_client.types import Selection

with peer_package("langchain-core"):
    from langchain_core import exceptions
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, convert_to_openai_messages
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.utils.function_calling import convert_to_openai_tool


class ChatSwift(BaseChatModel):
    """A chat model whose messages have ``Selection.to_dict()`` in ``response_metadata["swift"]``."""

    _call: BestOfCall

    def __init__(self, reranker: Reranker, n: int = 16, options: Options = None, **fields: Any) -> None:
        """Take a reranker and arguments of ``best_of()``; ``fields`` are those of every chat model."""
        super().__init__(**fields)
        self._call = BestOfCall(reranker, n, options, errors=exceptions)

    @property
    def _llm_type(self) -> str:
        return "swift-client"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self._call.name, **self._call.arguments}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **fields: Any) -> ChatResult:
        return _chat_result(self._call.run(convert_to_openai_messages(messages), stop=stop, **fields))

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **fields: Any) -> ChatResult:
        return _chat_result(await self._call.arun(convert_to_openai_messages(messages), stop=stop, **fields))

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **fields: Any) -> Any:
        """Return the model with tools; ``tool_choice`` is "auto", "none", "any", "required" or the name of a tool."""
        dicts = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=dicts, tool_choice=named_tool_choice(tool_choice), **fields)


def _chat_result(selection: Selection) -> ChatResult:
    reply, usage = chat_completion(selection), selection.usage
    sent, reason = reply["choices"][0]["message"], reply["choices"][0]["finish_reason"]
    _, content, refusal = (sent.pop(name) for name in ("role", "content", "refusal"))
    facts = {"model_name": reply["model"], "finish_reason": reason, "swift": reply["swift"]}
    tokens: Any = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
    tokens |= {"total_tokens": sum(tokens.values()), "input_token_details": {"cache_read": usage.cached_prompt_tokens}}
    message = AIMessage(
        content or refusal or "", additional_kwargs=sent, response_metadata=facts, usage_metadata=tokens
    )
    return ChatResult(generations=[ChatGeneration(message=message)])
