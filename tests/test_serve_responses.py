"""Tests of ``/v1/responses`` with real HTTP: OpenAI's client in front, a chat server behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pydantic
import pytest

from swift_client import SwiftReranker
from swift_client.server.responses.request import parse_response_call
from tests.servers import FaultServer, after, chat, chat_body, error, json_response
from tests.services import FOUR_WINS, RunningService, run, service_config

QUESTION = "What is 2 + 2?"
WEATHER = {
    "type": "function", "name": "weather", "description": "Get it.", "parameters": {"type": "object"}, "strict": True
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[FaultServer]:
    with FaultServer(FOUR_WINS) as server:
        yield server


@pytest.fixture
def upstream(shared_upstream: FaultServer) -> FaultServer:
    shared_upstream.requests.clear()
    shared_upstream.serve(shared_upstream.obey)
    shared_upstream._turn = 0
    return shared_upstream


@pytest.fixture(scope="module")
def service(shared_upstream: FaultServer) -> Iterator[RunningService]:
    with run(service_config(shared_upstream, server={"keep_alive": 0.1}, caps={"n": 8})) as running:
        yield running


def post(service: RunningService, **body: Any) -> httpx2.Response:
    return service.post({"model": "best", "input": QUESTION, **body}, "/responses")


def serve_calls(upstream: FaultServer, content: str | None = None) -> None:
    """Let every choice call two tools."""
    body = chat_body(["x"] * 3, k=None, finish_reason="tool_calls")
    calls = [
        {"id": f"up_{city}", "type": "function", "function": {"name": "weather", "arguments": f'{{"city": "{city}"}}'}}
        for city in ("Oslo", "Rome")
    ]
    for choice in body["choices"]:
        choice["message"] |= {"content": content, "tool_calls": calls}
    upstream.serve(lambda received: json_response(body))


def test_an_openai_client_gets_the_best_answer_and_why(service: RunningService, upstream: FaultServer) -> None:
    response = service.openai().responses.create(
        model="best", input=QUESTION, instructions="Be brief.", temperature=0.3, top_p=0.9, max_output_tokens=50,
        metadata={"a": "b"}, user="u", reasoning={"effort": "low"}, parallel_tool_calls=False, store=False,
        extra_body={"seed": 3, "swift": {"texts": True}},
    )  # fmt: skip

    assert response.output_text == "The answer is 4"
    assert (response.object, response.status, response.model) == ("response", "completed", "best")
    assert response.id.startswith("resp_")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 12, 19)
    assert (response.instructions, response.temperature, response.max_output_tokens) == ("Be brief.", 0.3, 50)
    assert (response.metadata, response.tools, response.parallel_tool_calls) == ({"a": "b"}, [], False)
    swift = response.model_extra["swift"]  # type: ignore[index]
    assert (swift["method"], swift["answer"]) == ("vote", "4")
    assert [row["text"] for row in swift["candidates"]] == list(FOUR_WINS)
    (message,) = response.output
    assert message.type == "message"
    assert message.content[0].annotations == []  # type: ignore[union-attr]
    sent = upstream.requests[0].json
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    expected = {"temperature": 0.3, "top_p": 0.9, "max_tokens": 50, "user": "u", "reasoning_effort": "low", "seed": 3}
    assert {name: sent[name] for name in expected} == expected
    assert sent.keys() & {"store", "metadata", "swift", "input", "instructions", "reasoning", "text"} == set()


def test_a_stream_has_the_official_events_in_order(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: after(0.3, chat(["So " * 40 + "the answer is 4", "The answer is 4", "5"], k=None)))
    with service.openai().responses.create(model="best", input=QUESTION, stream=True) as stream:
        events: list[Any] = list(stream)

    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = events[-1].response
    assert "".join(event.delta for event in events[4:-4]) == response.output_text == events[-4].text
    assert events[0].response.id == response.id
    assert events[0].response.status == "in_progress"
    assert response.model_extra["swift"]["answer"] == "4"

    text = post(service, stream=True).text
    assert text.index("response.in_progress") < text.index(": sampling\n\n") < text.index("output_item.added")


def test_the_clients_own_stream_helper_follows(service: RunningService, upstream: FaultServer) -> None:
    with service.openai().responses.stream(model="best", input=QUESTION) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == "The answer is 4"

    serve_calls(upstream, "Let me look.")
    with service.openai().responses.stream(model="best", input=QUESTION, tools=[WEATHER]) as stream:  # type: ignore[list-item]
        events = list(stream)
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["message", "function_call", "function_call"]
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == ['{"city": "Oslo"}', '{"city": "Rome"}']


def test_a_pydantic_model_is_parsed(service: RunningService, upstream: FaultServer) -> None:
    class Sum(pydantic.BaseModel):
        total: int

    upstream.serve(lambda received: chat(['{"total": 4}', '{"total": 5}', '{"total": 4}']))
    response = service.openai().responses.parse(model="best", input=QUESTION, text_format=Sum)

    assert response.output_parsed == Sum(total=4)
    layout = upstream.requests[0].json["response_format"]
    assert (layout["type"], layout["json_schema"]["name"], layout["json_schema"]["strict"]) == (
        "json_schema", "Sum", True
    )  # fmt: skip
    assert layout["json_schema"]["schema"]["required"] == ["total"]


def test_tools_are_called_and_their_output_goes_back(service: RunningService, upstream: FaultServer) -> None:
    serve_calls(upstream)
    choice = {"type": "function", "name": "weather"}
    first = service.openai().responses.create(model="best", input=QUESTION, tools=[WEATHER], tool_choice=choice)  # type: ignore[call-overload]

    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [
        ("weather", '{"city": "Oslo"}'), ("weather", '{"city": "Rome"}')
    ]  # fmt: skip
    assert len({call.call_id for call in calls} | {call.id for call in calls}) == 4
    assert len(first.output) == 2
    sent = upstream.requests[0].json
    function = {name: value for name, value in WEATHER.items() if name != "type"}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}

    upstream.serve(upstream.obey)
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "12 °C"} for call in calls]
    items = [item.to_dict() for item in first.output]  # openai 2.20 cannot send its own objects with pydantic 2.10
    second = service.openai().responses.create(
        model="best", input=[{"role": "user", "content": QUESTION}, *items, *outputs], tools=[WEATHER]
    )  # type: ignore[call-overload]
    assert second.output_text == "The answer is 4"
    messages = upstream.requests[-1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == [call.call_id for call in calls]
    assert [message["tool_call_id"] for message in messages[2:]] == [call.call_id for call in calls]


def test_items_become_messages_of_a_chat() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}
    items = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "What?"}, image]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Let me "}, {"type": "output_text", "text": "look."}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "12"}]},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        {"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64,AA"}]},
    ]  # fmt: skip
    call = parse_response_call({"model": "best", "input": items})
    function = {"name": "f", "arguments": "{}"}

    assert call.messages == [
        {"role": "developer", "content": "Rules."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
            ],
        },
        {
            "role": "assistant", "content": "Let me look.",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
        {
            "role": "assistant", "content": None, "tool_calls": [{"id": "c2", "type": "function", "function": function}]
        },
        {
            "role": "user",
            "content": [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:;base64,AA"}}],
        },
    ]  # fmt: skip


def test_further_fields_have_chats_names_and_extras_pass() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    body = {
        "model": "best", "input": QUESTION, "text": {"verbosity": "low", "format": {"type": "json_object"}},
        "store": True, "metadata": {"a": "b"}, "tools": [WEATHER], "tool_choice": allowed, "service_tier": "flex",
        "top_k": 5, "background": False, "max_tool_calls": 3, "top_logprobs": 2, "previous_response_id": None,
        "include": ["reasoning.encrypted_content"], "truncation": "disabled",
    }  # fmt: skip
    call = parse_response_call(body)

    assert call.fields == {
        "verbosity": "low", "response_format": {"type": "json_object"}, "store": True, "metadata": {"a": "b"},
        "tools": call.fields["tools"], "service_tier": "flex", "top_k": 5,
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]
            },
        },
    }  # fmt: skip
    assert call.repeated["store"] is False
    assert not call.wants_logprobs


def test_logprobs_come_if_included(service: RunningService, upstream: FaultServer) -> None:
    include = ["message.output_text.logprobs"]
    response = post(service, include=include, top_logprobs=2).json()
    (part,) = response["output"][0]["content"]

    assert "".join(token["token"] for token in part["logprobs"]) == part["text"]
    with service.openai().responses.create(model="best", input=QUESTION, include=include, stream=True) as stream:  # type: ignore[call-overload]
        deltas = [event for event in stream if event.type == "response.output_text.delta"]
    assert [token.token for event in deltas for token in event.logprobs] == [t["token"] for t in part["logprobs"]]
    assert post(service).json()["output"][0]["content"][0]["logprobs"] == []


def test_length_refusals_and_thinking_have_their_own_forms(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: chat(["The answer is"] * 3, finish_reason="length"))
    response = post(service).json()
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert "event: response.incomplete\n" in post(service, stream=True).text

    body = chat_body(["x"] * 3, k=None)
    for choice in body["choices"]:
        choice["message"] = {"role": "assistant", "content": None, "refusal": "I cannot help."}
    upstream.serve(lambda received: json_response(body))
    assert post(service).json()["output"][0]["content"] == [{"type": "refusal", "refusal": "I cannot help."}]
    assert "event: response.refusal.done\n" in post(service, stream=True).text

    body = chat_body(["The answer is 4"] * 3, k=None)
    for choice in body["choices"]:
        choice["message"]["reasoning_content"] = "2 + 2 is 4."
    upstream.serve(lambda received: json_response(body))
    items = post(service).json()["output"]
    assert [item["type"] for item in items] == ["reasoning", "message"]
    assert items[0]["content"] == [{"type": "reasoning_text", "text": "2 + 2 is 4."}]
    with service.openai().responses.stream(model="best", input=QUESTION) as stream:
        events = [event.type for event in stream]
        assert stream.get_final_response().output_text == "The answer is 4"
    assert "response.reasoning_text.delta" in events


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"),
        ({"background": True}, "background"),
        ({"previous_response_id": False}, "previous_response_id"), ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tools": [{}]}, "tools[0].type"),
        ({"tools": [WEATHER, {"type": "function"}]}, "tools[1].name"), ({"tools": [1]}, "tools[0]"),
        ({"tools": {}}, "tools"), ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "allowed_tools", "tools": []}]}},
         "tool_choice.tools[0].type"),
        ({"input": None}, "input"), ({"input": []}, "input"), ({"input": 3}, "input"), ({"input": ["x"]}, "input[0]"),
        ({"input": [{"type": "reasoning"}]}, "input"), ({"input": [{"type": ["x"]}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]},
         "input[0].content[0].file_id"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "file:///etc/passwd"}]}]},
         "input[0].content[0].file_url"),
        ({"input": [{"role": "assistant", "content": [{"type": "input_image", "image_url": "x"}]}]},
         "input[0].content"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"messages": []}, "messages"), ({"n": 2}, "n"), ({"max_tokens": 2}, "max_tokens"),
        ({"response_format": {}}, "response_format"), ({"logprobs": True}, "logprobs"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"), ({"text": 1}, "text"),
        ({"text": {"format": 1}}, "text.format"), ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include[0]"), ({"include": [["x"]]}, "include[0]"),
        ({"top_logprobs": 99}, "top_logprobs"), ({"max_output_tokens": "x"}, "max_output_tokens"),
        ({"reasoning": "high"}, "reasoning"), ({"instructions": ["x"]}, "instructions"), ({"store": 1}, "store"),
        ({"metadata": 1}, "metadata"), ({"stream": 1}, "stream"), ({"seed": "x"}, "seed"), ({"model": 1}, "model"),
        ({"swift": {"nn": 1}}, "swift"), ({"swift": {"n": 1000}}, "swift.n"),
    ],
    ids=str,
)  # fmt: skip
def test_what_the_service_does_not_have_is_a_400_that_names_it(
    service: RunningService, upstream: FaultServer, change: dict[str, Any], param: str
) -> None:
    reply = post(service, **change)

    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert not upstream.requests


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"\xff", b"[" * 5000, b'{"input": ' + b"[" * 900], ids=range(6))
def test_a_body_that_is_not_a_json_object_is_a_400(service: RunningService, body: bytes) -> None:
    reply = service.post(body, "/responses")

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


def test_errors_come_as_a_status_or_as_events(service: RunningService, upstream: FaultServer) -> None:
    caller = service.openai()
    upstream.serve(lambda received: error(429, "slow down", headers={"retry-after": "0"}))
    with pytest.raises(openai.RateLimitError):
        caller.responses.create(model="best", input=QUESTION)
    with pytest.raises(openai.NotFoundError):
        caller.responses.create(model="other", input=QUESTION)

    upstream.serve(lambda received: after(0.3, error(500, "boom")))
    with (
        pytest.raises(openai.APIError, match="boom"),
        caller.responses.create(model="best", input=QUESTION, stream=True) as stream,
    ):
        list(stream)
    events = [
        json.loads(line.removeprefix("data: "))
        for line in post(service, stream=True).text.splitlines()
        if line.startswith("data: ")
    ]
    assert [event["type"] for event in events] == [
        "response.created", "response.in_progress", "error", "response.failed"
    ]  # fmt: skip
    assert [event["sequence_number"] for event in events] == [0, 1, 2, 3]
    assert events[2]["code"] == events[3]["response"]["error"]["code"] == "upstream_error"
    assert events[3]["response"]["status"] == "failed"


def test_half_a_character_is_json_in_every_event(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: chat(["\ud83d \u2028 data: x\n\nThe answer is 4"] * 3, k=None))

    text = post(service).json()["output"][0]["content"][0]["text"]
    streamed = post(service, stream=True).text
    assert text == "? \u2028 data: x\n\nThe answer is 4"
    assert streamed.isascii()
    assert "\\ud83d" not in streamed


def test_this_package_reads_the_service_as_a_provider(service: RunningService, upstream: FaultServer) -> None:
    with SwiftReranker("openai-responses", "best", base_url=service.url, api_key="x", max_retries=0) as reranker:
        selection = reranker.best_of(QUESTION, n=2)

    assert selection.text == "The answer is 4"
    assert selection.signal.startswith("logprobs")
