"""LangChain's chat model and Runnable over a reranker."""

import asyncio

from harness import QUESTION, WEATHER_TOOL, error_of, report
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
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

from swift_client.integrations.langchain import ChatSwift
from swift_client.integrations.langchain_runnable import best_of_runnable

model = ChatSwift(reranker(), n=3)


class Invoice(BaseModel):
    number: str
    total: float


def plain() -> object:
    message = model.invoke(QUESTION)
    return [message.text, message.usage_metadata, facts_of(message.response_metadata["swift"])]


def plain_async() -> object:
    return asyncio.run(model.ainvoke(QUESTION)).text


def either_kind() -> object:
    """Ask an async reranker from sync code, and from two event loops, one after another."""
    other = ChatSwift(async_reranker(), n=3)
    return [other.invoke(QUESTION).text, *(asyncio.run(other.ainvoke(QUESTION)).text for _ in range(2))]


def stream() -> object:
    return [chunk.text for chunk in model.stream(QUESTION) if chunk.text]


def many() -> object:
    return [message.text for message in model.batch([QUESTION, QUESTION])]


def options() -> object:
    """Override n in one call, and give arguments of best_of to all."""
    drawn = ChatSwift(reranker(), n=3, options={"temperature": 0.5, "on_reject": "return"})
    messages = [drawn.bind(n=2).invoke(QUESTION, stop=["X"]), drawn.invoke(QUESTION)]
    return [len(message.response_metadata["swift"]["candidates"]) for message in messages]


def tool() -> object:
    call = model.bind_tools([WEATHER_TOOL], tool_choice="weather").invoke("How cold is it in Oslo?").tool_calls[0]
    return [call["name"], call["args"], call["id"].startswith("call_")]


def tool_result() -> object:
    """Send a tool's result with the messages before it."""
    call = model.bind_tools([WEATHER_TOOL]).invoke("How cold is it in Oslo?")
    result = ToolMessage("4 degrees", tool_call_id=call.tool_calls[0]["id"])
    return model.invoke([SystemMessage("Be short."), HumanMessage("How cold is it in Oslo?"), call, result]).text


def structured() -> object:
    return model.with_structured_output(Invoice).invoke("Read the invoice.").model_dump()


def chain() -> object:
    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    return (prompt | model | StrOutputParser()).invoke({"question": QUESTION})


def runnable() -> object:
    """Return the Selection of a text, of a prompt in a chain, and of messages."""
    step = best_of_runnable(reranker(), n=3)
    prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
    selections = [step.invoke(QUESTION), (prompt | step).invoke({"question": QUESTION}), step.invoke([AIMessage("a")])]
    selections.append(asyncio.run(step.ainvoke(QUESTION)))
    return [selection.answer for selection in selections]


def errors() -> object:
    return errors_of(lambda swift: ChatSwift(swift, n=3).invoke(QUESTION))


def configuration_error() -> object:
    return [error_of(lambda: model.invoke(QUESTION, head="x")), error_of(lambda: ChatSwift("openai"))]


def packaged_model() -> object:
    message = ChatSwift(packaged_reranker(), n=8).invoke(PACKAGED_QUESTION)
    return packaged_facts(message.response_metadata["swift"])


report(
    plain, plain_async, either_kind, stream, many, options, tool, tool_result, structured, chain, runnable, errors,
    configuration_error, packaged_model,
)  # fmt: skip
