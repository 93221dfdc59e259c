"""LlamaIndex's LLM over a reranker."""

import asyncio

from harness import QUESTION, error_of, report
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage, ImageBlock
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel
from rerankers import (
    PACKAGED_QUESTION,
    async_reranker,
    errors_of,
    facts_of,
    packaged_facts,
    packaged_reranker,
    reranker,
)

from swift_client.integrations.llamaindex import SwiftLLM

llm = SwiftLLM(reranker(), n=3)
ASK_WEATHER = "How cold is it in Oslo?"


class Invoice(BaseModel):
    number: str
    total: float


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"4 degrees in {city}"


def plain() -> object:
    response = llm.complete(QUESTION)
    return [response.text, response.raw["usage"]["completion_tokens"], facts_of(response.raw["swift"])]


def chat() -> object:
    return llm.chat([ChatMessage(role="system", content="Be short."), ChatMessage(QUESTION)]).message.content


def in_async_code() -> object:
    async def ask() -> list[str]:
        responses = [await llm.acomplete(QUESTION), (await llm.achat([ChatMessage(QUESTION)])).message]
        return [str(responses[0]), responses[1].content]

    return asyncio.run(ask())


def either_kind() -> object:
    other = SwiftLLM(async_reranker(), n=3)
    return [other.complete(QUESTION).text, asyncio.run(other.acomplete(QUESTION)).text]


def stream() -> object:
    async def deltas() -> list[str]:
        chunks = [chunk.delta async for chunk in await llm.astream_chat([ChatMessage(QUESTION)])]
        return chunks + [chunk.delta async for chunk in await llm.astream_complete(QUESTION)]

    chunks = [*llm.stream_complete(QUESTION), *llm.stream_chat([ChatMessage(QUESTION)])]
    return [chunk.delta for chunk in chunks] + asyncio.run(deltas())


def options() -> object:
    drawn = SwiftLLM(reranker(), n=3, options={"temperature": 0.5})
    return [len(drawn.complete(QUESTION, **fields).raw["swift"]["candidates"]) for fields in ({"n": 2}, {})]


def tool() -> object:
    tool = FunctionTool.from_defaults(weather)
    response = llm.chat_with_tools([tool], ASK_WEATHER, tool_required=True)
    call = llm.get_tool_calls_from_response(response)[0]
    return [call.tool_name, call.tool_kwargs]


def no_tool_call() -> object:
    response = llm.chat([ChatMessage(QUESTION)])
    calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    return [calls, error_of(lambda: llm.get_tool_calls_from_response(response))]


def agent() -> object:
    """Let an agent run the tool and send its result."""

    async def run() -> str:
        return str(await FunctionAgent(tools=[weather], llm=llm).run(ASK_WEATHER))

    return asyncio.run(run())


def structured() -> object:
    return llm.as_structured_llm(Invoice).complete("Read the invoice.").raw.model_dump()


def counted_tokens() -> object:
    counter = TokenCountingHandler()
    counted = SwiftLLM(reranker(), n=3, callback_manager=CallbackManager([counter]))
    counted.complete(QUESTION)
    return [counter.prompt_llm_token_count, counter.completion_llm_token_count]


def errors() -> object:
    return errors_of(lambda swift: SwiftLLM(swift, n=3).complete(QUESTION))


def configuration_error() -> object:
    picture = ChatMessage(role="user", blocks=[ImageBlock(url="http://127.0.0.1/cup.png")])
    return [error_of(lambda: llm.complete(QUESTION, head="x")), error_of(lambda: llm.chat([picture]))]


def packaged_model() -> object:
    return packaged_facts(SwiftLLM(packaged_reranker(), n=8).complete(PACKAGED_QUESTION).raw["swift"])


report(
    plain, chat, in_async_code, either_kind, stream, options, tool, no_tool_call, agent, structured, counted_tokens,
    errors, configuration_error, packaged_model,
)  # fmt: skip
