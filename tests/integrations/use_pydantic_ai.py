"""pydantic-ai's agents over a reranker."""

import asyncio

from harness import QUESTION, error_of, report
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.fallback import FallbackModel
from rerankers import (
    PACKAGED_QUESTION,
    async_reranker,
    errors_of,
    facts_of,
    packaged_facts,
    packaged_reranker,
    reranker,
)

from swift_client.integrations.pydantic_ai import SwiftModel

model = SwiftModel(reranker(), n=3)


class Invoice(BaseModel):
    number: str
    total: float


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"4 degrees in {city}"


def swift_of(result: object) -> dict[str, object]:
    """Return how the last answer of a run was chosen."""
    return result.all_messages()[-1].provider_details["swift"]


def plain() -> object:
    result = Agent(model).run_sync(QUESTION)
    return [result.output, result.usage.output_tokens, facts_of(swift_of(result)), result.response.model_name]


def either_kind() -> object:
    return Agent(SwiftModel(async_reranker(), n=3)).run_sync(QUESTION).output


def in_async_code() -> object:
    async def run() -> list[str]:
        return [result.output for result in await asyncio.gather(*(Agent(model).run(QUESTION) for _ in range(3)))]

    return asyncio.run(run())


def stream() -> object:
    async def texts() -> list[object]:
        async with Agent(model).run_stream(QUESTION) as result:
            texts = [text async for text in result.stream_text()]
            return [texts[-1], facts_of(swift_of(result))]

    return asyncio.run(texts())


def options() -> object:
    """Send a setting of the agent, and arguments of best_of."""
    drawn = SwiftModel(reranker(), n=2, options={"seed": 1})
    result = Agent(drawn, model_settings={"temperature": 0.5, "max_tokens": 9}).run_sync(QUESTION)
    return len(swift_of(result)["candidates"])


def tool() -> object:
    return Agent(model, tools=[weather]).run_sync("How cold is it in Oslo?").output


def structured() -> object:
    return Agent(model, output_type=NativeOutput(Invoice)).run_sync("Read the invoice.").output.model_dump()


def structured_by_tool() -> object:
    return Agent(model, output_type=Invoice).run_sync("Read the invoice.").output.model_dump()


def fallback() -> object:
    """Use the second model if the first one's provider fails."""
    with reranker("status-500") as failing:
        return Agent(FallbackModel(SwiftModel(failing, n=3), model)).run_sync(QUESTION).output


def saved_history() -> object:
    """Go on with a conversation that was JSON in between."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    data = Agent(model).run_sync(QUESTION).all_messages_json()
    history = ModelMessagesTypeAdapter.validate_json(data)
    return Agent(model).run_sync(QUESTION, message_history=history).output


def errors() -> object:
    return errors_of(lambda swift: Agent(SwiftModel(swift, n=3)).run_sync(QUESTION))


def configuration_error() -> object:
    wrong = SwiftModel(reranker(), n=3, options={"head": "x"})
    return error_of(lambda: Agent(wrong).run_sync(QUESTION))


def packaged_model() -> object:
    return packaged_facts(swift_of(Agent(SwiftModel(packaged_reranker(), n=8)).run_sync(PACKAGED_QUESTION)))


report(
    plain, either_kind, in_async_code, stream, options, tool, structured, structured_by_tool, fallback, saved_history,
    errors, configuration_error, packaged_model,
)  # fmt: skip
