from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from swift_client.adapters import PROVIDERS, Request, Transport, resolve
from swift_client.adapters.transport.exceptions import error_from_exception
from swift_client.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    MissingApiKeyError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
    SwiftClientError,
)
from tests.servers import (
    FaultServer,
    Response,
    after,
    chat,
    chat_stream,
    cut,
    error,
    hang,
    html,
    json_response,
    reset,
    slow,
)

HTTP = importlib.import_module("httpx2" if int(openai.__version__.partition(".")[0]) >= 3 else "httpx")
"""The HTTP library under the openai client, which tests may run with an older version of."""
KEY = "a-key-without-a-known-shape-4711"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "n": 2, "logprobs": True, "top_logprobs": 3}
REQUEST = Request(method="POST", path="/chat/completions", body=BODY, n=2)
STREAM = replace(REQUEST, body={**BODY, "stream": True}, stream=True)

MakeTransport = Callable[..., Transport]


@pytest.fixture
async def make(fault_server: FaultServer) -> AsyncIterator[MakeTransport]:
    """Build Transports to the fault server, and close them after the test."""
    transports: list[Transport] = []

    def build(provider: str = "openai", **options: Any) -> Transport:
        base_url = None if "client" in options else options.pop("base_url", fault_server.url)
        row = replace(PROVIDERS[provider], base_url=base_url)
        transports.append(Transport(row, **options))
        return transports[-1]

    yield build
    for transport in transports:
        await transport.aclose()


async def failure(transport: Transport, request: Request = REQUEST, **options: Any) -> SwiftClientError:
    with pytest.raises(SwiftClientError) as excinfo:
        await transport.send(request, **options)
    assert excinfo.value.__cause__ is None, "a foreign exception would carry the request and its key along"
    assert excinfo.value.__context__ is None
    return excinfo.value


async def test_the_reply_comes_back_as_the_bytes_that_were_sent(make: MakeTransport, fault_server: FaultServer) -> None:
    reply = chat(["4", "5"], k=3)
    fault_server.script(reply)
    assert await make(api_key=KEY).send(REQUEST) == reply.body
    first_request = fault_server.requests[0]
    assert (first_request.method, first_request.path, first_request.json) == ("POST", "/v1/chat/completions", BODY)
    assert first_request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("response", "kind", "says"),
    [
        (error(401, f"Incorrect API key provided: {KEY}"), AuthenticationError, "OPENAI_API_KEY"),
        (error(429, "Please try again in 17.28s"), RateLimitError, "17.28s"),
        (html(502), ServerError, "Bad Gateway"),
        (html(200, "Sign in"), ResponseDecodeError, "Sign in"),
        (reset(), ConnectionFailedError, "No connection"),
        (hang(), RequestTimeoutError, "timeout="),
        (after(5, chat(["4"])), RequestTimeoutError, "timeout="),
        (slow(chat(["4"]), chunk=10, pause=0.1), RequestTimeoutError, "timeout="),
        (cut(chat(["4"])), ConnectionFailedError, "broke after"),
        (cut(slow(chat(["4"]), chunk=100, pause=0), reset=True), ConnectionFailedError, "connection"),
        (Response(307, headers={"location": "https://elsewhere/v1"}), ConnectionFailedError, "https://elsewhere/v1"),
        (Response(301, headers={"location": "/"}), ConnectionFailedError, "base_url"),
        (Response(headers={"content-encoding": "gzip"}, body=b"no gzip"), ResponseDecodeError, "decompress"),
        (Response(500, headers={"content-encoding": "gzip"}, body=b"no gzip"), ResponseDecodeError, "decompress"),
        (cut(error(500, "overloaded")), ConnectionFailedError, "connection"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_each_fault_is_one_clear_error(
    make: MakeTransport, fault_server: FaultServer, response: Response, kind: type[SwiftClientError], says: str
) -> None:
    fault_server.script(response)
    problem = await failure(make(api_key=KEY, timeout=0.5))
    assert type(problem) is kind
    assert says.lower() in str(problem).lower()
    assert KEY not in str(problem)
    assert len(fault_server.requests) == 1, "the SDK's own retries are off"


async def test_a_refused_connection_and_an_unknown_host_say_so(make: MakeTransport) -> None:
    error = await failure(make(api_key=KEY, base_url="http://127.0.0.1:9/v1"))
    assert isinstance(error, ConnectionFailedError)
    assert "http://127.0.0.1:9: connection refused" in str(error)
    assert error.retryable


async def test_plain_http_behind_https_is_a_tls_failure_that_names_the_remedy(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    problem = await failure(make(api_key=KEY, base_url=fault_server.url.replace("http:", "https:")))
    assert isinstance(problem, ConnectionFailedError)
    assert "SSL_CERT_FILE" in str(problem)
    assert not problem.retryable


@pytest.fixture
def untrusted_url(tmp_path: Path) -> Iterator[str]:
    """Serve TLS with a self-signed certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            openssl,
            *["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout"],
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FaultServer() as server:
        server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
        yield server.url.replace("http:", "https:")


async def test_an_untrusted_certificate_names_ssl_cert_file(make: MakeTransport, untrusted_url: str) -> None:
    problem = await failure(make(api_key=KEY, base_url=untrusted_url))
    assert isinstance(problem, ConnectionFailedError)
    assert "certificate" in problem.message.lower()
    assert "SSL_CERT_FILE" in problem.hint


async def test_a_13_mb_reply_that_is_cut_half_way_hands_over_what_came(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    reply = chat(["word " * 512] * 14, k=20)
    assert 13e6 < len(reply.body) < 20e6
    fault_server.script(cut(reply))
    problem = await failure(make(api_key=KEY))
    assert isinstance(problem, ConnectionFailedError)
    assert problem.retryable
    assert problem.received == reply.body[: len(reply.body) // 2]
    assert f"{len(problem.received):,} bytes" in str(problem)


async def test_a_setting_that_no_request_can_be_built_from_is_a_configuration_error(make: MakeTransport) -> None:
    async with openai.AsyncOpenAI(api_key=KEY, base_url="localhost:8000") as client:
        problem = await failure(make(client=client))
    assert isinstance(problem, ConfigurationError)
    assert "base_url" in problem.hint


async def test_the_loop_keeps_running_while_a_15_mb_reply_arrives_and_while_the_http_client_is_imported(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.script(chat(["word " * 512] * 16, k=20))
    gaps = []

    async def heartbeat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    beating = asyncio.create_task(heartbeat())
    await make(api_key=KEY).send(REQUEST)
    beating.cancel()
    assert len(gaps) > 3
    assert sorted(gaps)[len(gaps) * 9 // 10] < 0.05


async def test_a_stream_gives_chunks_as_they_come(make: MakeTransport, fault_server: FaultServer) -> None:
    reply = chat_stream(["a b c", "d"], pause=0.02)
    fault_server.script(reply)
    arrivals, data = [], b""
    async with make(api_key=KEY).stream(STREAM) as chunks:
        async for chunk in chunks:
            arrivals.append(time.perf_counter())
            data += chunk
    assert data == b"".join(reply.chunks or ())
    assert arrivals[-1] - arrivals[0] > 0.1
    assert fault_server.requests[0].json["stream"] is True


async def test_leaving_a_stream_early_closes_the_connection(make: MakeTransport, fault_server: FaultServer) -> None:
    fault_server.script(chat_stream(["a " * 500], pause=0.01))
    transport = make(api_key=KEY, max_connections=1)
    async with transport.stream(STREAM) as chunks:
        assert b"data:" in await anext(chunks)
    for _ in range(200):
        if fault_server.closed_early:
            break
        await asyncio.sleep(0.01)
    assert fault_server.closed_early == 1
    assert await transport.send(REQUEST), "and its slot is free again"


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (cut(chat_stream(["a b c d"])), ConnectionFailedError),
        (error(429, "slow down"), RateLimitError),
        (chat_stream(["a b c"], pause=1), RequestTimeoutError),
    ],
)
async def test_a_stream_that_breaks_raises_our_error_after_the_chunks_that_came(
    make: MakeTransport, fault_server: FaultServer, response: Response, kind: type[SwiftClientError]
) -> None:
    fault_server.script(response)
    async with make(api_key=KEY, timeout=0.3).stream(STREAM) as chunks:
        with pytest.raises(kind) as excinfo:
            async for _ in chunks:
                pass
    assert excinfo.value.__context__ is None


async def test_an_error_of_the_reader_passes_through_a_stream_untouched(make: MakeTransport) -> None:
    async def read_stream() -> None:
        async with make(api_key=KEY).stream(STREAM) as chunks:
            async for _ in chunks:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read_stream()


async def test_more_than_a_hundred_requests_run_at_once_and_never_more_than_the_limit(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.serve(lambda _: after(1.0, chat(["4"])))
    transport = make(api_key=KEY, max_connections=120, timeout=30)
    await asyncio.gather(*(transport.send(REQUEST) for _ in range(150)))
    assert len(fault_server.requests) == 150
    assert 100 < fault_server.most_connections <= 120


async def test_waiting_for_a_slot_does_not_count_against_the_timeout(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.serve(lambda _: after(0.2, chat(["4"])))
    transport = make(api_key=KEY, max_connections=1, timeout=0.6)
    await transport.send(REQUEST)
    await asyncio.gather(*(transport.send(REQUEST) for _ in range(5)))


# --- keys ----------------------------------------------------------------------------------------------------------


async def test_a_missing_key_names_its_variable_and_sends_nothing(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    problem = await failure(make())
    assert type(problem) is MissingApiKeyError
    assert "OPENAI_API_KEY" in str(problem)
    assert not fault_server.requests


async def test_the_environment_is_read_at_the_first_request_and_the_argument_wins(
    make: MakeTransport, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, explicit_transport = make(), make(api_key="given")
    monkeypatch.setenv("OPENAI_API_KEY", "  from-the-environment\n")
    await late.send(REQUEST)
    await explicit_transport.send(REQUEST)
    sent_keys = [request.headers["authorization"] for request in fault_server.requests]
    assert sent_keys == ["Bearer from-the-environment", "Bearer given"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_key_function_is_asked_for_every_request(
    make: MakeTransport, fault_server: FaultServer, kind: str
) -> None:
    turns = iter(range(9))

    def rotate() -> str:
        return f"key-{next(turns)}"

    async def rotate_async() -> str:
        return rotate()

    transport = make(api_key=rotate if kind == "sync" else rotate_async)
    for _ in range(3):
        await transport.send(REQUEST)
    assert [r.headers["authorization"] for r in fault_server.requests] == [f"Bearer key-{turn}" for turn in range(3)]


async def test_a_key_function_that_fails_or_gives_nothing_is_a_configuration_error(make: MakeTransport) -> None:
    def broken() -> str:
        raise OSError("vault is sealed")

    assert "vault is sealed" in str(await failure(make(api_key=broken)))
    assert type(await failure(make(api_key=lambda: ""))) is MissingApiKeyError
    assert type(await failure(make(api_key=""))) is MissingApiKeyError


async def test_keyless_servers_get_a_placeholder_and_no_other_vendors_secrets(
    make: MakeTransport, fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(variable, KEY)
    await make("vllm").send(REQUEST)
    assert KEY not in str(fault_server.requests[0].headers)


@pytest.mark.parametrize(("provider", "sent"), [("openai", ("org", "project")), ("together", (None, None))])
async def test_openais_organization_and_project_go_to_openai_alone(
    make: MakeTransport,
    fault_server: FaultServer,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    sent: tuple[str | None, str | None],
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    await make(provider, api_key=KEY).send(REQUEST)
    headers = fault_server.requests[0].headers
    assert (headers.get("openai-organization"), headers.get("openai-project")) == sent


async def test_the_key_is_in_no_repr_no_error_and_no_log(
    make: MakeTransport, fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    transport = make(api_key=KEY)
    fault_server.script(
        error(401, f"Incorrect API key provided: {KEY}. See the docs."),
        json_response({"error": KEY}, 400),
        cut(chat(["4"])),
    )
    texts = [repr(transport), str(transport)]
    for _ in range(3):
        problem = await failure(transport)
        texts += [str(problem), repr(problem), problem.message]
    connection_error = await failure(make(api_key=KEY, base_url="http://127.0.0.1:9/v1"))
    illegal = await failure(make(api_key=f"{KEY}\nX-Evil: yes"))
    texts += [str(connection_error), str(illegal), caplog.text]
    assert any("***" in text for text in texts)
    assert KEY not in "".join(texts)


async def test_a_file_is_sent_as_a_form_and_a_get_without_a_body(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.serve(lambda _: json_response({}))
    transport = make(api_key=KEY)
    upload = Request(
        method="POST", path="/files", body={"purpose": "batch"}, n=0, upload=("in.jsonl", BytesIO(b"{}\n"))
    )
    await transport.send(upload)
    await transport.send(Request(method="GET", path="/batches", body={}, n=0))
    form, get = fault_server.requests
    assert form.headers["content-type"].startswith("multipart/form-data")
    assert b'name="purpose"\r\n\r\nbatch' in form.body
    assert b'name="file"; filename="in.jsonl"\r\nContent-Type: application/jsonl\r\n\r\n{}\n' in form.body
    assert (get.method, get.body) == ("GET", b"")


# --- the caller's own client ---------------------------------------------------------------------------------------


def clients(url: str) -> dict[str, Any]:
    root = url.removesuffix("/v1")
    own: dict[str, Any] = {"api_key": KEY, "default_headers": {"X-Mine": "yes"}, "max_retries": 5}
    azure = {**own, "azure_endpoint": root, "api_version": "2024-10-21"}
    return {
        "AsyncOpenAI": openai.AsyncOpenAI(base_url=url, **own),
        "OpenAI": openai.OpenAI(base_url=url, **own),
        "AsyncAzureOpenAI": openai.AsyncAzureOpenAI(**azure),
        "AzureOpenAI": openai.AzureOpenAI(**azure),
    }


@pytest.mark.parametrize("kind", ["AsyncOpenAI", "OpenAI", "AsyncAzureOpenAI", "AzureOpenAI"])
async def test_the_callers_own_client_sends_with_its_key_headers_and_deployment_and_stays_unchanged(
    make: MakeTransport, fault_server: FaultServer, kind: str
) -> None:
    client = clients(fault_server.url)[kind]
    transport = make(client=client)
    reply = chat(["4", "5"])
    fault_server.script(reply, chat_stream(["a b"]), error(500, "no"))

    assert await transport.send(REQUEST) == reply.body
    async with transport.stream(STREAM) as chunks:
        streamed = b"".join([chunk async for chunk in chunks])
    assert streamed.endswith(b"data: [DONE]\n\n")
    assert isinstance(await failure(transport), ServerError)

    assert len(fault_server.requests) == 3, "its five retries are off for our requests"
    first_request = fault_server.requests[0]
    assert first_request.headers["x-mine"] == "yes"
    if "Azure" in kind:
        assert first_request.path == "/openai/deployments/m/chat/completions?api-version=2024-10-21"
        assert first_request.headers["api-key"] == KEY
    else:
        assert first_request.path == "/v1/chat/completions"
        assert first_request.headers["authorization"] == f"Bearer {KEY}"
    assert client.max_retries == 5
    await transport.aclose()
    assert not client.is_closed()
    closing = client.close()
    if inspect.isawaitable(closing):
        await closing


async def test_a_sync_client_never_holds_the_loop_and_works_at_full_width(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.serve(lambda _: after(0.3, chat(["4"])))
    with openai.OpenAI(api_key=KEY, base_url=fault_server.url) as client:
        transport = make(client=client, max_connections=16)
        start = time.perf_counter()
        await asyncio.gather(*(transport.send(REQUEST) for _ in range(16)))
        assert time.perf_counter() - start < 16 * 0.3 / 2
        assert fault_server.most_connections == 16


async def test_a_sync_client_times_out_and_is_cancelled_like_any_other(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    fault_server.serve(lambda _: after(0.5, chat(["4"])))
    with openai.OpenAI(api_key=KEY, base_url=fault_server.url) as client:
        transport = make(client=client, timeout=0.1)
        assert isinstance(await failure(transport), RequestTimeoutError)


def test_a_client_of_another_kind_or_with_other_settings_is_refused_at_once() -> None:
    row = resolve("openai")[0]
    with pytest.raises(ConfigurationError, match=r"takes an openai client.*not object"):
        Transport(row, client=object())
    with pytest.raises(ConfigurationError, match="its own key"):
        Transport(row, client=openai.OpenAI(api_key=KEY), api_key=KEY)


async def test_a_proxy_in_the_environment_is_not_asked_for_loopback(
    make: MakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert await make(api_key=KEY).send(REQUEST)


# --- nothing foreign escapes ---------------------------------------------------------------------------------------


def foreign_classes() -> list[type[Exception]]:
    """Find every exception class that openai, httpx2 and the library under openai define in public."""
    classes = {
        value
        for module in (openai, openai._exceptions, httpx2, HTTP)
        for value in list(vars(module).values())
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__.startswith(("openai", "httpx"))
    }
    return sorted(classes, key=lambda cls: (cls.__module__, cls.__name__))


def instance(kind: type[Exception]) -> Exception:
    """Build an exception as its library does, with the attributes that the library documents."""
    library = httpx2 if kind.__module__.startswith("httpx2") else HTTP
    request = library.Request("POST", "http://127.0.0.1/v1", headers={"authorization": f"Bearer {KEY}"})
    instance = kind.__new__(kind)
    Exception.__init__(instance, f"{kind.__name__} about {KEY}")
    if issubclass(kind, (openai.APIError, library.RequestError, library.HTTPStatusError)):
        instance.request = request  # type: ignore[attr-defined]
    if issubclass(kind, (openai.APIStatusError, openai.APIResponseValidationError, library.HTTPStatusError)):
        instance.response = library.Response(500, request=request, content=b"{}")  # type: ignore[attr-defined]
    return instance


class Raising(HTTP.AsyncBaseTransport):  # type: ignore[name-defined, misc]
    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    async def handle_async_request(self, request: object) -> object:
        raise self.problem


def test_the_walk_sees_the_whole_of_both_trees() -> None:
    names = {kind.__name__ for kind in foreign_classes()}
    assert {"APIStatusError", "RateLimitError", "APITimeoutError", "PoolTimeout", "InvalidURL", "StreamClosed"} <= names
    assert len(names) >= 45


@pytest.mark.parametrize("kind", foreign_classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
async def test_no_exception_of_openai_or_httpx2_escapes_unmapped(make: MakeTransport, kind: type[Exception]) -> None:
    mapped = error_from_exception(instance(kind), PROVIDERS["openai"], secrets=[KEY])
    assert isinstance(mapped, SwiftClientError)
    http = HTTP.AsyncClient(transport=Raising(instance(kind)))
    async with openai.AsyncOpenAI(api_key=KEY, base_url="http://127.0.0.1/v1", http_client=http) as client:
        problem = await failure(make(client=client))
    for error_of_ours in (mapped, problem):
        assert str(error_of_ours)
        assert KEY not in str(error_of_ours)


@pytest.mark.parametrize(
    "body", [{"messages": object()}, {"messages": {1, 2}}, {"messages": "\ud800"}, {"messages": float("nan")}]
)
async def test_a_body_that_is_not_json_is_a_configuration_error_before_anything_is_sent(
    make: MakeTransport, fault_server: FaultServer, body: dict[str, Any]
) -> None:
    assert isinstance(await failure(make(api_key=KEY), replace(REQUEST, body=body)), ConfigurationError)
    assert not fault_server.requests


# --- one loop, no leaks --------------------------------------------------------------------------------------------


async def test_a_second_loop_must_make_its_own_transport(make: MakeTransport) -> None:
    transport = make(api_key=KEY)
    await transport.send(REQUEST)
    excinfo: list[BaseException] = []

    def other() -> None:
        try:
            asyncio.run(transport.send(REQUEST))
        except SwiftClientError as problem:
            excinfo.append(problem)

    thread = threading.Thread(target=other)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert isinstance(excinfo[0], ConfigurationError)
    assert "loop" in str(excinfo[0])


async def test_a_local_server_starts_at_the_first_request_and_stops_with_the_transport(
    make: MakeTransport, fault_server: FaultServer
) -> None:
    class Local:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def start(self) -> str:
            self.calls.append("start")
            return fault_server.url

        def close(self) -> None:
            self.calls.append("close")

    local = Local()
    transport = Transport(PROVIDERS["pocket"], server=local)
    assert local.calls == []
    await asyncio.gather(transport.send(REQUEST), transport.send(REQUEST))
    await transport.aclose()
    assert local.calls == ["start", "close"]


async def test_a_cancelled_request_frees_its_slot(make: MakeTransport, fault_server: FaultServer) -> None:
    fault_server.script(hang())
    transport = make(api_key=KEY, max_connections=1)
    task = asyncio.create_task(transport.send(REQUEST))
    while not fault_server.requests:  # noqa: ASYNC110 - the other side is a thread
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await transport.send(REQUEST)
