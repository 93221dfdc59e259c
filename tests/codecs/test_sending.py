"""Tests of providers with their own key headers: the same transport, the same errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import openai
import pytest

from swift_client import AsyncSwiftReranker, SwiftReranker
from swift_client.adapters import PROVIDERS, Request, Transport
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConnectionFailedError,
    MissingApiKeyError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
    SwiftClientError,
)
from tests.children import ROOT
from tests.codecs.logical import CASES, Case, LogicalCompletion
from tests.codecs.writers import WRITERS
from tests.servers import FaultServer, Received, Response, after, cut, hang, html, json_response, reset

KEY = "a-key-without-a-known-shape-4711"
REQUEST = Request(method="POST", path="/messages", body={"model": "m", "messages": []}, n=1)
WRITER_OF_CODEC = {writer.codec: writer for writer in WRITERS}
FOREIGN = ["anthropic", "gemini", "vertex"]

MakeTransport = Callable[..., Transport]


@pytest.fixture
async def make(fault_server: FaultServer) -> AsyncIterator[MakeTransport]:
    """Build Transports to the fault server, and close them after the test."""
    transports: list[Transport] = []

    def build(provider: str = "anthropic", **options: Any) -> Transport:
        row = replace(PROVIDERS[provider], base_url=options.pop("base_url", fault_server.url))
        transports.append(Transport(row, **{"api_key": KEY, **options}))
        return transports[-1]

    yield build
    for transport in transports:
        await transport.aclose()


async def send_and_fail(transport: Transport, request: Request = REQUEST, **options: Any) -> SwiftClientError:
    with pytest.raises(SwiftClientError) as excinfo:
        await transport.send(request, **options)
    assert excinfo.value.__cause__ is None, "a foreign exception would carry the request and its key along"
    assert excinfo.value.__context__ is None
    assert KEY not in str(excinfo.value)
    return excinfo.value


@pytest.mark.parametrize(
    ("provider", "header", "value"),
    [("anthropic", "x-api-key", KEY), ("gemini", "x-goog-api-key", KEY), ("vertex", "authorization", f"Bearer {KEY}")],
)
async def test_the_key_goes_in_the_rows_own_header_and_nowhere_else(
    make: MakeTransport, fault_server: FaultServer, provider: str, header: str, value: str
) -> None:
    fault_server.script(Response(200, b'{"x": 1}'))
    assert await make(provider).send(REQUEST) == b'{"x": 1}'
    (first_request,) = fault_server.requests
    assert first_request.headers[header] == value
    assert [name for name, header_value in first_request.headers.items() if KEY in header_value] == [header]
    assert KEY not in first_request.path
    assert first_request.json == dict(REQUEST.body)
    assert first_request.headers["content-type"] == "application/json"
    assert first_request.headers.get("anthropic-version") == ("2023-06-01" if provider == "anthropic" else None)


@pytest.mark.parametrize(
    ("answer", "kind", "fragment"),
    [
        (json_response({"type": "error", "error": {"type": "authentication_error", "message": f"bad {KEY}"}}, 401),
         AuthenticationError, "ANTHROPIC_API_KEY"),
        (json_response({"error": {"type": "rate_limit_error", "message": "slow"}}, 429, headers={"retry-after": "3"}),
         RateLimitError, "slow"),
        (json_response({"error": {"type": "overloaded_error", "message": "Too much"}}, 529), ServerError, "Too much"),
        (json_response({"error": {"code": 400, "message": "Unknown field"}}, 400), BadRequestError, "Unknown field"),
        (json_response({}, 302, headers={"location": "http://x/"}), ConnectionFailedError, "redirects"),
        (html(200), ResponseDecodeError, "web page"),
        (reset(), ConnectionFailedError, ""),
    ],
)  # fmt: skip
async def test_each_fault_is_one_clear_error(
    make: MakeTransport, fault_server: FaultServer, answer: Response, kind: type, fragment: str
) -> None:
    fault_server.script(answer)
    error = await send_and_fail(make())
    assert isinstance(error, kind)
    assert fragment in str(error)
    assert error.provider == "anthropic"
    if isinstance(error, RateLimitError):
        assert error.retry_after == 3


async def test_googles_word_for_a_wrong_key_is_an_authentication_error(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    message = "API key not valid. Please pass a valid API key."
    body = {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}}
    fault_server.script(json_response(body, 400))
    error = await send_and_fail(make("gemini"))
    assert isinstance(error, AuthenticationError)
    assert "GEMINI_API_KEY" in str(error)


async def test_a_timeout_and_a_refused_connection_are_ours(make: MakeTransport, fault_server: FaultServer) -> None:
    fault_server.script(hang())
    assert isinstance(await send_and_fail(make(), timeout=0.2), RequestTimeoutError)
    error = await send_and_fail(make(base_url="http://127.0.0.1:9/v1"))
    assert isinstance(error, ConnectionFailedError)
    assert "127.0.0.1:9" in str(error)


async def test_a_cut_reply_hands_over_what_came(make: MakeTransport, fault_server: FaultServer) -> None:
    fault_server.script(cut(Response(200, b'{"content": "' + b"x" * 5000)))
    error = await send_and_fail(make())
    assert isinstance(error, ConnectionFailedError)
    assert error.received.startswith(b'{"content"')


async def test_a_missing_key_names_its_variable_and_sends_nothing(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    error = await send_and_fail(make("gemini", api_key=None))
    assert isinstance(error, MissingApiKeyError)
    assert "GEMINI_API_KEY" in str(error)
    assert not fault_server.requests


async def test_a_body_that_is_not_json_is_refused_before_anything_is_sent(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    error = await send_and_fail(make(), replace(REQUEST, body={"x": object()}))
    assert isinstance(error, ConfigurationError)
    assert not fault_server.requests


def test_an_openai_client_is_refused_where_it_cannot_speak() -> None:
    with pytest.raises(ConfigurationError, match="client="):
        SwiftReranker("anthropic", client=openai.AsyncOpenAI(api_key="x"))


async def test_many_requests_run_at_once_and_never_more_than_the_limit(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.serve(lambda request: after(0.02, Response(200, b"{}")))
    transport = make(max_connections=5)
    await asyncio.gather(*(transport.send(REQUEST) for _ in range(30)))
    assert len(fault_server.requests) == 30
    assert fault_server.most_connections <= 5


def answer_as(codec: str, texts: list[str]) -> Callable[[Received], Response]:
    """Answer as that provider does, one text after the other, streamed where the request asks for it."""
    remaining = list(texts)

    def answer(request: Received) -> Response:
        body = request.json
        n = body.get("n", body.get("generationConfig", {}).get("candidateCount", 1))
        case = Case("x", tuple(LogicalCompletion(remaining.pop(0)) for _ in range(n)))
        streams = body.get("stream") or "alt=sse" in request.path
        return Response(
            200, WRITER_OF_CODEC[codec].write_stream(case, 1) if streams else WRITER_OF_CODEC[codec].write_body(case)
        )

    return answer


@pytest.mark.parametrize("deadline", [None, 20.0])
@pytest.mark.parametrize(
    ("provider", "calls"),
    [("anthropic", 4), ("gemini", 1), ("vertex", 1), ("openai-responses", 4), ("openai-completions", 1)],
)
async def test_best_of_works_from_the_question_to_the_choice(
    fault_server: FaultServer, provider: str, calls: int, deadline: float | None
) -> None:
    texts = ["The answer is 4", "The answer is 5", "It is 4. The answer is 4", "The answer is 4"]
    fault_server.serve(answer_as(PROVIDERS[provider].codec, texts))
    async with AsyncSwiftReranker(provider, "m", base_url=fault_server.url, api_key=KEY) as reranker:
        selection = await reranker.best_of("2+2?", n=4, deadline=deadline, max_tokens=20)
    assert (selection.answer, selection.signal, len(selection.candidates)) == ("4", "text", 4)
    assert len(fault_server.requests) == calls
    assert selection.usage.prompt_tokens == 7 * calls
    assert selection.model == "m"


@pytest.mark.parametrize("provider", ["anthropic", "openai-responses"])
async def test_a_seed_that_no_answer_would_obey_is_refused_before_anything_is_sent(
    fault_server: FaultServer, provider: str
) -> None:
    async with AsyncSwiftReranker(provider, "m", base_url=fault_server.url, api_key=KEY) as reranker:
        with pytest.raises(ConfigurationError, match="no seed"):
            await reranker.best_of("2+2?", n=4, seed=3)
    assert not fault_server.requests


async def test_vertexs_logprobs_score_the_candidates(fault_server: FaultServer) -> None:
    case = next(case for case in CASES if case.name == "three completions")
    fault_server.serve(lambda request: Response(200, WRITER_OF_CODEC["gemini"].write_body(case)))
    async with AsyncSwiftReranker("vertex", "m", base_url=fault_server.url, api_key=KEY) as reranker:
        selection = await reranker.best_of("2+2?", n=3)
    config = fault_server.requests[0].json["generationConfig"]
    assert config == {"candidateCount": 3, "responseLogprobs": True, "logprobs": 20}
    assert selection.signal.startswith("logprobs:")


async def test_a_model_that_takes_no_several_candidates_is_asked_one_by_one(fault_server: FaultServer) -> None:
    refusal = json_response({"error": {"code": 400, "message": "Multiple candidates is not enabled for this model",
                                    "status": "INVALID_ARGUMENT"}}, 400)  # fmt: skip
    answer = answer_as("gemini", ["The answer is 4"] * 8)
    fault_server.serve(lambda request: refusal if "candidateCount" in json.dumps(request.json) else answer(request))
    async with AsyncSwiftReranker("gemini", "m", base_url=fault_server.url, api_key=KEY) as reranker:
        selection = await reranker.best_of("2+2?", n=3)
    assert len(selection.candidates) == 3
    assert any("at most 1" in note for note in selection.notes)


@pytest.mark.parametrize("provider", ["anthropic", "openai", "vllm"])
def test_openai_is_not_loaded_unless_a_client_is_passed(provider: str) -> None:
    code = f"""
import sys
from swift_client import SwiftReranker
from swift_client.errors import SwiftClientError
reranker = SwiftReranker({provider!r}, "m", base_url="http://127.0.0.1:9/v1", api_key="x", max_retries=0)
try:
    reranker.best_of("hi", 1)
except SwiftClientError as error:
    print(type(error).__name__, "openai" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.strip() == "NoCompletionError False", run.stderr
