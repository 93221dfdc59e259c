"""pydantic-ai with the chat completions API and with the Responses API."""

import asyncio

from harness import KEY, QUESTION, URL, error_of, report
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

provider = OpenAIProvider(base_url=URL, api_key=KEY)
model = OpenAIChatModel("best-mini", provider=provider)


class Invoice(BaseModel):
    number: str
    total: float


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"4 degrees in {city}"


def plain() -> object:
    return Agent(model).run_sync(QUESTION).output


def stream() -> object:
    async def last() -> str:
        async with Agent(model).run_stream(QUESTION) as result:
            return [text async for text in result.stream_text()][-1]

    return asyncio.run(last())


def tool() -> object:
    """Ask for the weather: the agent runs the tool and sends its result."""
    return Agent(model, tools=[weather]).run_sync("How cold is it in Oslo?").output


def structured() -> object:
    return Agent(model, output_type=NativeOutput(Invoice)).run_sync("Read the invoice.").output.model_dump()


def structured_by_tool() -> object:
    return Agent(model, output_type=Invoice).run_sync("Read the invoice.").output.model_dump()


def responses() -> object:
    return Agent(OpenAIResponsesModel("best-mini", provider=provider)).run_sync(QUESTION).output


def unknown_model() -> object:
    return error_of(lambda: Agent(OpenAIChatModel("nobody", provider=provider)).run_sync(QUESTION))


def wrong_key() -> object:
    wrong = OpenAIProvider(base_url=URL, api_key="wrong")
    return error_of(lambda: Agent(OpenAIChatModel("best-mini", provider=wrong)).run_sync(QUESTION))


report(plain, stream, tool, structured, structured_by_tool, responses, unknown_model, wrong_key)
