"""LangChain's ChatOpenAI."""

from harness import KEY, QUESTION, URL, WEATHER_TOOL, error_of, report
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

model = ChatOpenAI(base_url=URL, api_key=KEY, model="best-mini", max_retries=0)


class Invoice(BaseModel):
    number: str
    total: float


def plain() -> object:
    message = model.invoke(QUESTION)
    return [message.text, message.usage_metadata["output_tokens"]]


def stream() -> object:
    return "".join(chunk.text for chunk in model.stream(QUESTION))


def tool() -> object:
    call = model.bind_tools([WEATHER_TOOL]).invoke("How cold is it in Oslo?").tool_calls[0]
    return [call["name"], call["args"]]


def tool_stream() -> object:
    chunks = [*model.bind_tools([WEATHER_TOOL]).stream("How cold is it in Oslo?")]
    call = sum(chunks[1:], chunks[0]).tool_calls[0]
    return [call["name"], call["args"]]


def choices() -> object:
    two = ChatOpenAI(base_url=URL, api_key=KEY, model="best-mini", max_retries=0, n=2)
    return [generation.text for generation in two.generate([[HumanMessage(QUESTION)]]).generations[0]]


def override() -> object:
    """Return the tokens of one completion instead of three."""
    one = ChatOpenAI(base_url=URL, api_key=KEY, model="best-mini", extra_body={"swift": {"n": 1}})
    return one.invoke(QUESTION).usage_metadata["output_tokens"]


def structured() -> object:
    return model.with_structured_output(Invoice).invoke("Read the invoice.").model_dump()


def structured_by_tool() -> object:
    return model.with_structured_output(Invoice, method="function_calling").invoke("Read the invoice.").model_dump()


def unknown_model() -> object:
    return error_of(lambda: ChatOpenAI(base_url=URL, api_key=KEY, model="nobody", max_retries=0).invoke(QUESTION))


def wrong_key() -> object:
    return error_of(lambda: ChatOpenAI(base_url=URL, api_key="wrong", model="best-mini").invoke(QUESTION))


report(plain, stream, tool, tool_stream, choices, override, structured, structured_by_tool, unknown_model, wrong_key)
