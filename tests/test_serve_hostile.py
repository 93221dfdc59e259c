"""Tests of the service under hostile requests: typed errors, bounded time and memory, no key or path shown."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import FaultServer, after, chat
from tests.services import QUESTION, RunningService, run, service_config, wait_until

LIMITS = {"max_body_bytes": 10_000, "body_timeout": 0.5, "header_timeout": 0.5, "keep_alive": 0.2}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture(scope="module")
def service(upstream: FaultServer) -> Iterator[RunningService]:
    with run(service_config(upstream, server=LIMITS)) as running:
        yield running


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"a": NaN}', b"[" * 5000, b'{"a":' * 1500,
        b'{"model": "best", "messages": [{"role": "user", "content": "\xff"}]}',
    ],
    ids=range(11),
)  # fmt: skip
def test_a_body_that_is_not_a_json_object_is_a_400(service: RunningService, body: bytes) -> None:
    reply = service.post(body)

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 3}, "model"), ({"model": None}, "model"), ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"), ({"messages": [1]}, "messages"), ({"n": 0}, "n"), ({"n": True}, "n"),
        ({"n": 10**30}, "n"), ({"n": 1.5}, "n"), ({"n": 4}, "n"), ({"stream": "yes"}, "stream"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**70}, "seed"), ({"stream_options": 1}, "stream_options"), ({"logprobs": 1}, "logprobs"),
        ({"swift": 1}, "swift"), ({"swift": {"nn": 1}}, "swift"), ({"swift": {"n": "3"}}, "swift"),
        ({"swift": {"n": 1000}}, "swift.n"), ({"swift": {"n": -1}}, "swift.n"),
        ({"swift": {"deadline": -1}}, "swift.deadline"), ({"swift": {"budget": {"usd": -1}}}, "swift"),
        ({"swift": {"budget": {"eur": 1}}}, "swift"), ({"swift": {"on_reject": "explode"}}, "swift"),
    ],
    ids=str,
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_a_400_that_names_it(
    service: RunningService, change: dict[str, Any], param: str
) -> None:
    reply = service.post({"model": "best", "messages": QUESTION, **change})

    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("swift", [{"stopping": "nonsense"}, {"stopping": "auto:x=1"}])
def test_a_value_that_best_of_refuses_is_a_400(service: RunningService, swift: dict[str, Any]) -> None:
    reply = service.post({"model": "best", "messages": QUESTION, "swift": swift})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")


def test_another_content_type_is_a_415_so_that_pages_cannot_post_across_origins(service: RunningService) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        reply = service.post({"model": "best", "messages": QUESTION}, headers={"content-type": kind})
        assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")
    packed = service.post({"model": "best", "messages": QUESTION}, headers={"content-encoding": "gzip"})
    assert packed.status_code == 415


def test_a_name_that_resolves_to_this_machine_is_refused_without_keys(service: RunningService) -> None:
    for host, status in (("evil.example", 403), (f"localhost:{service.port}", 200), ("[::1]:80", 200), ("", 403)):
        assert service.get("/v1/models", host=host).status_code == status, host


def test_a_body_that_is_too_long_is_a_413_before_it_is_read(service: RunningService) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    promised = service.raw(head + b"content-length: 100000000\r\n\r\n{")
    chunked = service.raw(
        head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(4))
    )

    for received in (promised, chunked):
        assert received.startswith(b"HTTP/1.1 413 "), received[:200]
        assert b'"code":"body_too_long"' in received


def test_slow_headers_and_slow_bodies_end_in_time(service: RunningService) -> None:
    started = time.monotonic()
    no_byte = service.raw(b"")
    half_head = service.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localh")
    half_body = service.raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: 100\r\n\r\n{"
    )

    assert time.monotonic() - started < 6
    for received in (no_byte, half_head, half_body):
        assert received.startswith(b"HTTP/1.1 408 "), received
        assert b"request_timeout" in received


def test_a_drip_of_header_bytes_does_not_hold_a_connection(service: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        started = time.monotonic()
        try:
            for byte in b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        except ConnectionError:
            pass

        assert time.monotonic() - started < 3


def test_a_hundred_thousand_headers_are_refused(service: RunningService) -> None:
    headers = b"".join(b"x-%d: y\r\n" % i for i in range(100_000))

    received = service.raw(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n" + headers + b"\r\n")

    # The service closes while bytes still arrive, so the system may drop its reply with a reset.
    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")
    assert service.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/x\r\n\r\n", b"\r\n" * 50]
)
def test_bytes_that_are_not_http_are_refused(service: RunningService, garbage: bytes) -> None:
    received = service.raw(garbage)

    assert received == b"" or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "//v1/models",
        "/v1/chat/completions/",
        "/v1/models/%00", "/V1/MODELS", "/.env", "/v1/models/best/..", "/%ff", "/" + "a" * 5000,
    ],
    ids=range(10),
)  # fmt: skip
def test_path_tricks_find_nothing(service: RunningService, path: str) -> None:
    received = service.raw(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    status = int(received.split(b" ", 2)[1])
    body = json.loads(received.partition(b"\r\n\r\n")[2])

    assert status in (404, 405)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert b"root:" not in received


def test_methods_that_are_not_allowed_are_405(service: RunningService) -> None:
    assert service.get("/v1/chat/completions").status_code == 405


def test_a_full_queue_and_a_long_wait_are_503_with_retry_after(upstream: FaultServer) -> None:
    upstream.serve(lambda received: after(1.0, chat(["The answer is 4"] * 3)))
    limits = {"max_concurrency": 1, "max_queue": 1, "queue_timeout": 0.3}
    statuses: list[tuple[int, str | None, str]] = []

    with run(service_config(upstream, server=limits)) as service:

        def ask() -> None:
            reply = service.post({"model": "best", "messages": QUESTION})
            statuses.append((reply.status_code, reply.headers.get("retry-after"), reply.text))

        threads = []
        for _ in range(3):
            threads.append(threading.Thread(target=ask))
            threads[-1].start()
            time.sleep(0.1)
        wait_until(lambda: service.get("/readyz").status_code in (200, 503))
        for thread in threads:
            thread.join()
        assert service.get("/readyz").status_code == 200
    upstream.serve(upstream.obey)

    assert sorted(status for status, _, _ in statuses) == [200, 503, 503]
    refused = [(retry, text) for status, retry, text in statuses if status == 503]
    assert all(retry == "1" for retry, _ in refused)
    assert {"service_busy"} == {json.loads(text)["error"]["code"] for _, text in refused}


def test_no_content_and_no_key_is_logged(service: RunningService, caplog: pytest.LogCaptureFixture) -> None:
    secret = "the-secret-of-the-prompt"
    with caplog.at_level(logging.DEBUG, logger="swift_client.server"):
        service.post(
            {"model": "best", "messages": [{"role": "user", "content": secret}], "user": secret},
            headers={"authorization": f"Bearer sk-{secret}", "x-request-id": "mine-1"},
        )
        service.get(f"/{secret}?key={secret}")
        service.post(
            {"model": secret, "messages": QUESTION},
            headers={"x-request-id": f"bad id {secret}\u00e9".encode("latin-1")},
        )  # type: ignore[dict-item]

    assert "mine-1 POST /v1/chat/completions 200" in caplog.text
    assert secret not in "".join(record.getMessage() for record in caplog.records if "server" in record.name)


def test_connections_beyond_the_limit_are_503(upstream: FaultServer) -> None:
    with run(service_config(upstream, server={"max_connections": 2})) as service:
        first = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(2)]
        time.sleep(0.1)
        received = service.raw(b"")
        for connection in first:
            connection.close()
        wait_until(lambda: not service.server.server_state.connections)

        assert received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1\r\n" in received
        assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == "service_busy"
        assert service.get("/healthz").status_code == 200
