"""Tests of requests for models that are not virtual ones: sent as they are, and the reply back as it is."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import openai
import pytest

from swift_client.errors import ConfigurationError, MissingApiKeyError
from swift_client.server import parse_config, single_model
from swift_client.server.access.client_keys import NewKey, create_key
from swift_client.server.access.identity import check_address
from swift_client.server.app import Service
from swift_client.server.config import KeyConfig, LimitsConfig, PassthroughConfig, ServerConfig
from swift_client.server.passthrough.token_count import TokenCount
from tests.servers import FaultServer, Response, after, chat, chat_stream, cut, error, hang, html, json_response, sse
from tests.services import QUESTION, RunningService, model_config, run, service_config, wait_until

OWN_KEY = "sk-own-key-of-the-service-123456"
BODY = {"model": "other", "messages": QUESTION, "temperature": 0.5, "stop": None}
PLAIN = chat(["Plain."], k=None)


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer(("The answer is 4",)) as server:
        yield server


def config(upstream: FaultServer, *, server: Any = None, keys: Any = None, **settings: Any) -> Any:
    """Return a configuration with a virtual model and a passthrough in front of ``upstream``."""
    base = service_config(upstream, server=server, keys=keys)
    table = {"provider": "openai", "base_url": upstream.url, "key": "service"} | settings
    return msgspec.structs.replace(base, passthrough=msgspec.convert(table, PassthroughConfig))


@pytest.fixture
def service(upstream: FaultServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningService]:
    monkeypatch.setenv("OPENAI_API_KEY", OWN_KEY)
    with run(config(upstream)) as running:
        yield running


def test_a_reply_comes_back_byte_for_byte(
    service: RunningService, upstream: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.serve(lambda received: PLAIN)

    with caplog.at_level(logging.INFO, logger="swift_client.server"):
        reply = service.post(BODY)
        wait_until(lambda: "tokens=8" in caplog.text, seconds=2)

    assert (reply.status_code, reply.content) == (200, PLAIN.body)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    (request,) = upstream.requests
    assert (request.json, request.path) == (BODY, "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {OWN_KEY}"

    upstream.serve(lambda received: json_response({"object": "response", "any": ["thing"]}))
    answered = service.post({"model": "other", "input": "Hi", "previous_response_id": "resp_1"}, "/responses")
    assert answered.json() == {"object": "response", "any": ["thing"]}
    assert upstream.requests[-1].path == "/v1/responses"
    assert upstream.requests[-1].json["previous_response_id"] == "resp_1"


def test_a_stream_comes_back_byte_for_byte_and_at_once(service: RunningService, upstream: FaultServer) -> None:
    streamed = chat_stream(["The answer is 4"], k=2)
    upstream.serve(lambda received: streamed)
    assert service.post({**BODY, "stream": True}).content == b"".join(streamed.chunks or ())

    upstream.serve(lambda received: chat_stream(["one two three four"], k=None, pause=0.15))
    with service.openai().chat.completions.create(model="other", messages=QUESTION, stream=True) as chunks:
        times = [time.monotonic() for _ in chunks]
    assert times[-1] - times[0] > 0.5


def test_virtual_models_stay_virtual(service: RunningService, upstream: FaultServer) -> None:
    assert service.post({"model": "best", "messages": QUESTION}).json()["swift"]["method"] == "vote"
    assert [row.id for row in service.openai().models.list()] == ["best"]
    refused = service.post({**BODY, "swift": {"n": 2}})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "swift")
    assert service.post({"messages": QUESTION}).json()["error"]["param"] == "model"


def test_a_repeated_member_has_the_value_that_was_checked(service: RunningService, upstream: FaultServer) -> None:
    service.post(b'{"model": "best", "model": "other", "messages": []}')

    assert upstream.requests[0].body.count(b'"model"') == 1


@pytest.mark.parametrize("stream", [False, True])
def test_errors_come_back_as_they_are(service: RunningService, upstream: FaultServer, stream: bool) -> None:
    refusal = error(429, "slow down", headers={"retry-after": "7"})
    upstream.serve(lambda received: refusal)
    reply = service.post({**BODY, "stream": stream})
    assert (reply.status_code, reply.content, reply.headers["retry-after"]) == (429, refusal.body, "7")

    upstream.serve(lambda received: html(502))
    page = service.post({**BODY, "stream": stream})
    assert (page.status_code, page.headers["content-type"]) == (502, "text/plain")
    assert page.headers["x-content-type-options"] == "nosniff"

    upstream.serve(lambda received: Response(302, b"", {"location": "http://127.0.0.1:1/"}))
    assert service.post({**BODY, "stream": stream}).json()["error"]["code"] == "upstream_unreachable"


def test_the_services_own_key_is_never_shown(service: RunningService, upstream: FaultServer) -> None:
    for status in (401, 403):
        upstream.serve(lambda received, status=status: error(status, f"Incorrect API key: {OWN_KEY}"))
        reply = service.post(BODY)
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_authentication")
        assert OWN_KEY not in reply.text
    upstream.serve(lambda received: error(400, f"Odd: {received.headers['authorization']}"))
    reply = service.post(BODY)
    assert reply.json()["error"]["message"] == "Odd: Bearer ***"


def test_the_callers_own_key_goes_upstream(upstream: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OWN_KEY)
    refusal = error(401, "Incorrect API key: sk-mine")
    with run(config(upstream, key="caller")) as service:
        upstream.serve(lambda received: refusal)
        reply = service.post(BODY, headers={"authorization": "Bearer sk-mine"})
        missing = service.post(BODY)

    assert (reply.status_code, reply.content) == (401, refusal.body)
    assert [request.headers["authorization"] for request in upstream.requests] == ["Bearer sk-mine"]
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_broken_stream_ends_with_an_error_and_a_broken_body_is_a_502(
    service: RunningService, upstream: FaultServer
) -> None:
    upstream.serve(lambda received: cut(chat_stream(["one two three four"], k=None)))
    with (
        pytest.raises(openai.APIError, match="could not be reached, or the connection broke"),
        service.openai().chat.completions.create(model="other", messages=QUESTION, stream=True) as chunks,
    ):
        list(chunks)

    upstream.serve(lambda received: cut(PLAIN))
    assert (service.post(BODY).status_code, service.post(BODY).json()["error"]["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_cancels_its_request(
    service: RunningService, upstream: FaultServer, stream: bool
) -> None:
    slow = chat_stream(["one two three four five six"], k=None, pause=0.3) if stream else hang()
    upstream.serve(lambda received: slow)
    with pytest.raises(Exception, match="timed out"):  # old clients raise httpx.ReadTimeout within a stream
        list(service.openai().chat.completions.create(model="other", messages=QUESTION, stream=stream, timeout=0.2))  # type: ignore[call-overload]

    wait_until(lambda: service.service.models._n_requests == 0, seconds=0.5)
    assert len(upstream.requests) == 1


def test_a_full_queue_is_a_503_and_a_silent_provider_a_504(upstream: FaultServer) -> None:
    upstream.serve(lambda received: hang())
    limits = {"max_concurrency": 1, "max_queue": 0}
    statuses: list[int] = []
    with run(config(upstream, server=limits, provider="openai-compatible", timeout=0.5)) as service:
        first = threading.Thread(target=lambda: statuses.append(service.post(BODY).status_code))
        first.start()
        wait_until(lambda: upstream.requests)
        refused = service.post(BODY)
        first.join()

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "service_busy")
    assert statuses == [504]
    assert len(upstream.requests) == 1


def _keyed(upstream: FaultServer, key: NewKey, **options: Any) -> Any:
    keys = {"alice": KeyConfig(hash=key.hash, **options)}
    return run(config(upstream, keys=keys, provider="openai-compatible"))


def test_a_key_is_limited_to_its_models(upstream: FaultServer) -> None:
    key = create_key("alice")
    headers = {"authorization": f"Bearer {key.key}"}
    with _keyed(upstream, key, models=("other",)) as service:
        statuses = {name: service.post({**BODY, "model": name}, headers=headers) for name in ("other", "best", "third")}

    assert {name: reply.status_code for name, reply in statuses.items()} == {"other": 200, "best": 404, "third": 404}
    assert statuses["third"].json()["error"]["code"] == "model_not_found"
    assert len(upstream.requests) == 1
    assert key.key not in upstream.requests[0].headers.get("authorization", "")


@pytest.mark.parametrize("stream", [False, True])
def test_the_reported_tokens_count_for_the_key(upstream: FaultServer, stream: bool) -> None:
    key = create_key("alice")
    headers = {"authorization": f"Bearer {key.key}"}
    with _keyed(upstream, key, limits=LimitsConfig(tokens_per_minute=20)) as service:
        # 7 + 4 tokens each: the second request passes, the third does not.
        statuses = [service.post({**BODY, "stream": stream}, headers=headers).status_code for _ in range(3)]

    assert statuses == [200, 200, 429]


def test_tokens_are_read_or_estimated() -> None:
    def count(response: Response) -> Any:
        tokens = TokenCount(400)
        if response.chunks is None:
            tokens.add_body(response.body)
        else:
            data = b"".join(response.chunks)
            for start in range(0, len(data), 7):
                tokens.add_chunk(data[start : start + 7])
        usage = tokens.usage()
        return usage.prompt_tokens, usage.completion_tokens, usage.cached_prompt_tokens, usage.estimated

    usage = {"input_tokens": 5, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2}}
    events = [{"type": "response.output_text.delta", "delta": "x"}, {"response": {"usage": usage}}]
    without = [event for event in chat_stream(["a b c"], k=None).chunks or () if b'"usage"' not in event]

    assert count(PLAIN) == (7, 1, 0, False)
    assert count(chat_stream(["a b c"], k=None)) == (7, 3, 0, False)
    assert count(json_response({"usage": usage})) == (5, 3, 2, False)
    assert count(sse(events)) == (5, 3, 2, False)
    assert count(Response(chunks=tuple(without))) == (100, 6, 0, True)  # role, three words, the end, [DONE]
    assert count(Response(body=b"x" * 40)) == (100, 10, 0, True)
    assert count(json_response({"usage": "many"}))[3]
    assert count(json_response({"usage": {"prompt_tokens": -5}}))[:2] == (0, 0)


def test_a_line_without_end_is_not_kept() -> None:
    tokens = TokenCount(0)
    for _ in range(50):
        tokens.add_chunk(b"x" * 100_000)

    assert len(tokens._line) < 2_000_000


def test_the_table_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    models = "[models.a]\nprovider = 'openai'\n"
    whole = parse_config(models + "[passthrough]\nprovider = 'openai'\n[keys.bob]\nhash = 'x'\nmodels = ['gpt-4.1']")
    assert whole.passthrough is not None
    assert whole.passthrough.timeout == 600

    wrong = {
        "provider": "[passthrough]\n", "'modle' is unknown": "[passthrough]\nprovider = 'openai'\nmodle = 'x'",
        "cannot be combined": "[passthrough]\nprovider = 'openai'\nkey = 'caller'\napi_key_env = 'X'",
    }  # fmt: skip
    for message, text in wrong.items():
        with pytest.raises(ConfigurationError, match=message):
            parse_config(models + text)
    for settings, kind in (
        ({"provider": "anthropic"}, ConfigurationError), ({"provider": "openai-compatible"}, ConfigurationError),
        ({"provider": "nobody"}, ConfigurationError),
        ({"provider": "openai", "api_key_env": "NOT_SET_ANYWHERE"}, MissingApiKeyError),
    ):  # fmt: skip
        table = msgspec.convert(settings, PassthroughConfig)
        with pytest.raises(kind):
            Service(msgspec.structs.replace(whole, passthrough=table, keys={}))


def test_a_public_address_needs_keys_for_the_passthrough_too(upstream: FaultServer) -> None:
    public = ServerConfig(host="0.0.0.0")
    base = config(upstream, key="caller")
    callers = {"best": model_config(upstream, key="caller")}
    check_address(msgspec.structs.replace(base, server=public, models=callers))
    with pytest.raises(ConfigurationError, match="reachable from other machines"):
        check_address(msgspec.structs.replace(config(upstream), server=public, models=callers))


def test_a_reload_changes_the_provider(service: RunningService, upstream: FaultServer) -> None:
    with FaultServer(("From the second",)) as second:
        assert service.loop is not None
        asyncio.run_coroutine_threadsafe(service.service.reload(config(second)), service.loop).result(5)
        assert "From the second" in service.post(BODY).text
        asyncio.run_coroutine_threadsafe(service.service.reload(service_config(second)), service.loop).result(5)
        assert service.post(BODY).json()["error"]["code"] == "model_not_found"


def test_one_option_passes_other_models_to_the_same_provider(upstream: FaultServer) -> None:
    table = model_config(upstream)
    whole = single_model("m", table, passthrough=True)
    assert single_model("m", table).passthrough is None

    with run(msgspec.structs.replace(whole, server=ServerConfig(port=0))) as service:
        assert "swift" not in service.post(BODY).json()
        assert "swift" in service.post({**BODY, "model": "m"}).json()
    assert json.loads(upstream.requests[0].body)["model"] == "other"


def test_a_slow_head_is_awaited(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: after(0.3, PLAIN))

    assert service.post(BODY).status_code == 200
