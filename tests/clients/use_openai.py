"""OpenAI's own Python client, of version 1 or later."""

from typing import Any

from harness import ASK_WEATHER, KEY, MESSAGES, URL, WEATHER_TOOL, error_of, report
from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
chat: Any = client.chat.completions


class Invoice(BaseModel):
    number: str
    total: float


def plain() -> object:
    completion = chat.create(model="best-mini", messages=MESSAGES)
    return [completion.choices[0].message.content, completion.model_extra["swift"]["answer"]]


def stream() -> object:
    with chat.create(model="best-mini", messages=MESSAGES, stream=True) as chunks:
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def tool() -> object:
    message = chat.create(model="best-mini", messages=ASK_WEATHER, tools=[WEATHER_TOOL]).choices[0].message
    function = message.tool_calls[0].function
    return [function.name, function.arguments]


def tool_stream() -> object:
    with chat.create(model="best-mini", messages=ASK_WEATHER, tools=[WEATHER_TOOL], stream=True) as chunks:
        calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or ()]
    return [calls[0].function.name, "".join(call.function.arguments or "" for call in calls)]


def choices() -> object:
    return [choice.message.content for choice in chat.create(model="best-mini", messages=MESSAGES, n=2).choices]


def override() -> object:
    """Return the number of completions after an override."""
    completion = chat.create(model="best-mini", messages=MESSAGES, extra_body={"swift": {"n": 1}})
    return len(completion.model_extra["swift"]["candidates"])


def structured() -> object:
    completion = chat.parse(model="best-mini", messages=MESSAGES, response_format=Invoice)
    return completion.choices[0].message.parsed.model_dump()


def responses() -> object:
    return client.responses.create(model="best-mini", input="What is 17 * 24?").output_text


def unknown_model() -> object:
    return error_of(lambda: chat.create(model="nobody", messages=MESSAGES))


def wrong_key() -> object:
    return error_of(lambda: OpenAI(base_url=URL, api_key="wrong", max_retries=0).models.list())


report(plain, stream, tool, tool_stream, choices, override, structured, responses, unknown_model, wrong_key)
