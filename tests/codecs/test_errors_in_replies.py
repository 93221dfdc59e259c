"""Errors that servers put into replies of status 200: in choices, in events, as sentences, as ``choices: null``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker
from swift_client.adapters.codecs import anthropic, gemini, openai_chat
from swift_client.adapters.transport.error_responses import error_from_object
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
)
from tests.servers import FaultServer, Response, chat, chat_body, json_response

UPSTREAM = {"code": 502, "message": "Upstream is gone"}


def failed_choice(index: int, error: Any = UPSTREAM, text: str = "") -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": None, "error": error}


def body_of(*choices: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "choices": list(choices), **fields}).encode()


def event_of(text: str, finish_reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason, **fields}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("The model is overloaded", ServerError),
        ("Request timed out", RequestTimeoutError),
        ("503 Service Unavailable", ServerError),
        ("upstream answered with status 504", ServerError),
        ("Engine loop crashed", ServerError),
        ("boom", ServerError),
        ("Too many requests, slow down", RateLimitError),
        ({"message": "Bad gateway", "code": "502"}, ServerError),
        ({"message": "slow", "statusCode": 429}, RateLimitError),
        ({"type": "error", "message": "The engine is busy"}, ServerError),
    ],
)
def test_errors_without_a_status_that_a_retry_can_cure_are_retryable(error: Any, kind: type[ProviderError]) -> None:
    built = error_from_object(error)
    assert type(built) is kind
    assert built.retryable


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("Invalid value for top_p", BadRequestError),
        ("The model `x` does not exist", BadRequestError),
        ("Incorrect API key provided", AuthenticationError),
        ({"type": "invalid_request_error", "message": "timeout must be positive"}, BadRequestError),
    ],
)
def test_errors_of_the_request_are_not_retried(error: Any, kind: type[ProviderError]) -> None:
    built = error_from_object(error)
    assert type(built) is kind
    assert not built.retryable


@pytest.mark.parametrize("error", [UPSTREAM, "502 Upstream is gone", {"code": "502", "message": "Upstream is gone"}])
def test_an_error_in_the_only_choice_is_raised_in_the_providers_words(error: Any) -> None:
    for data in (body_of(failed_choice(0, error)), event_of("", error=error) + b"data: [DONE]\n\n"):
        with pytest.raises(ServerError, match="Upstream is gone") as caught:
            openai_chat.parse(data)
        assert caught.value.retryable


def test_an_error_in_one_choice_costs_only_that_choice() -> None:
    whole = {"index": 1, "message": {"content": "4"}, "finish_reason": "stop"}
    reply = openai_chat.parse(body_of(failed_choice(0), whole, failed_choice(2, text="The ans")))
    completions = [(completion.text, completion.finish_reason) for completion in reply.completions]
    assert completions == [("4", "stop"), ("The ans", "error")]
    assert any("Completion 0, 2 failed: Upstream is gone" in note for note in reply.notes)


@pytest.mark.parametrize(
    "line",
    [
        b'error: {"code": 500, "message": "slot is gone"}\n\n',
        b'error:{"error": {"code": 500, "message": "slot is gone"}}\n\n',
        b"event: error\ndata: slot is gone\n\n",
        b"event:error\ndata: slot is\ndata: gone\n\n",
        b'event: error\ndata: "slot is gone"\n\n',
        b'event: error\ndata: {"message": "slot is gone"}\n\n',
        b'data: {"error": {"code": 500, "message": "slot is gone"}}\n\n',
    ],
)
@pytest.mark.parametrize("codec", [openai_chat, anthropic, gemini])
def test_an_error_field_or_event_of_a_stream_is_raised_or_noted(codec: Any, line: bytes) -> None:
    with pytest.raises(ServerError, match="slot is gone"):
        codec.parse(line)
    if codec is openai_chat:
        for cut in range(len(line)):
            assembler = codec.StreamAssembler()
            for chunk in (event_of("The ans") + line[:cut], line[cut:]):
                assembler.feed(chunk)
            reply = assembler.close()
            assert [completion.finish_reason for completion in reply.completions] == ["error"]
            assert "slot is gone" in str(reply.error)
            assert any("slot is gone" in note for note in reply.notes)


def test_a_stream_of_sentences_fails_with_its_own_words() -> None:
    with pytest.raises(ResponseDecodeError, match="worker 3 went away") as caught:
        openai_chat.parse(b"data: worker 3 went away\n\n")
    assert caught.value.retryable


@pytest.mark.parametrize(
    "response",
    [
        Response(body=body_of(failed_choice(0), failed_choice(1))),
        json_response({"choices": None, "model": "m"}),
        json_response({"error": "The model is overloaded"}),
        json_response({"choices": [], "error": {"message": "no slot", "code": "503"}}),
        Response(body=body_of({"index": 0, "message": {"content": ""}, "finish_reason": None}, error="boom")),
    ],
)
async def test_a_reply_that_is_an_error_is_retried(response: Response, fault_server: FaultServer) -> None:
    fault_server.script(response, chat(["The answer is 4.", "The answer is 4."]))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selection = await reranker.best_of("2 + 2?", n=2)
    assert [candidate.answer for candidate in selection.candidates] == ["4", "4"]
    assert len(fault_server.requests) == 2
    assert not selection.failures


@pytest.mark.parametrize(
    "tail",
    [
        b'error: {"code": 500, "message": "slot is gone"}\n\n',
        b"event: error\ndata: slot is gone\n\n",
        event_of("", error={"code": 502, "message": "slot is gone"}),
    ],
)
async def test_a_stream_that_ends_in_an_error_is_sampled_again(tail: bytes, fault_server: FaultServer) -> None:
    broken = Response(headers={"content-type": "text/event-stream"}, chunks=(event_of("The ans"), tail))
    fault_server.script(broken)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selection = await reranker.best_of("2 + 2?", n=1, deadline=20.0)
    assert [candidate.answer for candidate in selection.candidates] == ["4"]
    assert len(fault_server.requests) == 2


async def test_a_lost_choice_is_sampled_again_and_the_note_says_why(fault_server: FaultServer) -> None:
    body = chat_body(["The answer is 4.", "The answer is 5."])
    body["choices"][1] |= {"message": {"role": "assistant", "content": ""}, "logprobs": None, "error": UPSTREAM}
    fault_server.script(json_response(body))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selection = await reranker.best_of("2 + 2?", n=2)
    assert [candidate.answer for candidate in selection.candidates] == ["4", "4"]
    assert any("Upstream is gone" in note for note in selection.notes)


async def test_an_error_that_stays_is_a_failure_in_the_providers_words(fault_server: FaultServer) -> None:
    fault_server.serve(lambda request: Response(body=body_of(failed_choice(0, {"code": 400, "message": "No images"}))))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        with pytest.raises(BadRequestError, match="No images"):
            await reranker.best_of("2 + 2?", n=1)
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource"])
def test_a_choice_that_ended_with_an_error_before_its_first_token_is_retried(reason: str) -> None:
    failed = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": reason}
    for data in (body_of(failed), event_of("", reason) + b"data: [DONE]\n\n"):
        with pytest.raises(ServerError, match=reason) as caught:
            openai_chat.parse(data)
        assert caught.value.retryable
    whole = {"index": 1, "message": {"content": "4"}, "finish_reason": "stop"}
    reply = openai_chat.parse(body_of(failed, whole))
    assert [completion.text for completion in reply.completions] == ["4"]
    assert isinstance(reply.error, ServerError)
