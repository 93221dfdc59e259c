"""instructor in front of OpenAI's Python client."""

import instructor
from harness import KEY, MESSAGES, URL, error_of, report
from openai import OpenAI
from pydantic import BaseModel

openai_client = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
client = instructor.from_openai(openai_client)


class Invoice(BaseModel):
    number: str
    total: float


def structured_by_tool() -> object:
    return client.create(model="best-mini", messages=MESSAGES, response_model=Invoice).model_dump()


def structured() -> object:
    by_schema = instructor.from_openai(openai_client, mode=instructor.Mode.JSON_SCHEMA)
    return by_schema.create(model="best-mini", messages=MESSAGES, response_model=Invoice).model_dump()


def stream() -> object:
    parts = client.create_partial(model="best-mini", messages=MESSAGES, response_model=Invoice)
    return [*parts][-1].model_dump()


def completion() -> object:
    """Return the explanation that comes beside the object."""
    _, raw = client.create_with_completion(model="best-mini", messages=MESSAGES, response_model=Invoice)
    return raw.model_extra["swift"]["method"]


def unknown_model() -> object:
    return error_of(lambda: client.create(model="nobody", messages=MESSAGES, response_model=Invoice, max_retries=0))


def wrong_key() -> object:
    wrong = instructor.from_openai(OpenAI(base_url=URL, api_key="wrong", max_retries=0))
    return error_of(lambda: wrong.create(model="best-mini", messages=MESSAGES, response_model=Invoice, max_retries=0))


report(structured_by_tool, structured, stream, completion, unknown_model, wrong_key)
