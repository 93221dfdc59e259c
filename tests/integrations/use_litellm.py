"""LiteLLM's completion() with a custom provider over a reranker."""

import asyncio
from typing import Any

import litellm
from harness import ASK_WEATHER, MESSAGES, WEATHER_TOOL, error_of, report
from litellm import acompletion, completion
from rerankers import (
    PACKAGED_QUESTION,
    async_reranker,
    errors_of,
    facts_of,
    packaged_facts,
    packaged_reranker,
    reranker,
)

from swift_client import SwiftReranker
from swift_client.integrations.litellm import SwiftProvider

FORMAT = {"type": "json_schema", "json_schema": {"name": "invoice", "schema": {"type": "object"}}}


def provide(swift: Any, n: int = 3, **options: Any) -> None:
    """Let the provider "swift" use a reranker."""
    litellm.custom_provider_map = [{"provider": "swift", "custom_handler": SwiftProvider(swift, n=n, options=options)}]


def ask(messages: object = MESSAGES, **options: object) -> Any:
    """Ask the model behind the provider."""
    return completion(model="swift/m", messages=messages, **options)


def plain() -> object:
    provide(reranker())
    response = ask()
    text, tokens = response.choices[0].message.content, response.usage.completion_tokens
    return [text, tokens, facts_of(response.swift), response.choices[0].finish_reason]


def cost() -> object:
    return round(ask()._hidden_params["response_cost"] * 1e6)


def in_async_code() -> object:
    async def run() -> list[str]:
        responses = await asyncio.gather(*(acompletion(model="swift/m", messages=MESSAGES) for _ in range(3)))
        return [response.choices[0].message.content for response in responses]

    return asyncio.run(run())


def stream() -> object:
    async def deltas() -> str:
        chunks = await acompletion(model="swift/m", messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

    chunks = [*ask(stream=True)]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return [text, chunks[-1].choices[0].finish_reason, asyncio.run(deltas())]


def tool() -> object:
    function = ask(ASK_WEATHER, tools=[WEATHER_TOOL]).choices[0].message.tool_calls[0].function
    return [function.name, function.arguments]


def tool_stream() -> object:
    chunks = [*ask(ASK_WEATHER, tools=[WEATHER_TOOL], stream=True)]
    function = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0].function
    return [function.name, function.arguments, chunks[-1].choices[0].finish_reason]


def structured() -> object:
    return ask(response_format=FORMAT).choices[0].message.content


def options() -> object:
    provide(reranker(), n=2, seed=1)
    return len(ask(temperature=0.5, max_tokens=9).swift["candidates"])


def either_kind() -> object:
    provide(async_reranker())
    return ask().choices[0].message.content


def errors() -> object:
    def ask_through(swift: SwiftReranker) -> object:
        provide(swift)
        return ask()

    return errors_of(ask_through)


def errors_in_streams() -> object:
    with reranker("status-429") as refused:
        provide(refused)

        async def ask_async() -> None:
            async for _ in await acompletion(model="swift/m", messages=MESSAGES, stream=True):
                pass

        return [error_of(lambda: ask(stream=True)), error_of(lambda: asyncio.run(ask_async()))]


def configuration_error() -> object:
    provide(reranker(), head="x")
    return error_of(ask)


def packaged_model() -> object:
    provide(packaged_reranker(), n=8)
    return packaged_facts(ask([{"role": "user", "content": PACKAGED_QUESTION}]).swift)


report(
    plain, cost, in_async_code, stream, tool, tool_stream, structured, options, either_kind, errors,
    errors_in_streams, configuration_error, packaged_model,
)  # fmt: skip
