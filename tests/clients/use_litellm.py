"""LiteLLM's completion() with the prefix "openai/"."""

from typing import Any

from harness import ASK_WEATHER, KEY, MESSAGES, URL, WEATHER_TOOL, error_of, report
from litellm import completion
from pydantic import BaseModel


class Invoice(BaseModel):
    number: str
    total: float


def ask(messages: object = MESSAGES, *, model: str = "openai/best-mini", key: str = KEY, **options: object) -> Any:
    """Send a request to the service."""
    return completion(model=model, messages=messages, api_base=URL, api_key=key, max_retries=0, **options)


def plain() -> object:
    return ask().choices[0].message.content


def stream() -> object:
    return "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True))


def tool() -> object:
    function = ask(ASK_WEATHER, tools=[WEATHER_TOOL]).choices[0].message.tool_calls[0].function
    return [function.name, function.arguments]


def choices() -> object:
    return [choice.message.content for choice in ask(n=2).choices]


def structured() -> object:
    return Invoice.model_validate_json(ask(response_format=Invoice).choices[0].message.content).model_dump()


def unknown_model() -> object:
    return error_of(lambda: ask(model="openai/nobody"))


def wrong_key() -> object:
    return error_of(lambda: ask(key="wrong"))


report(plain, stream, tool, choices, structured, unknown_model, wrong_key)
