"""Replies without an end, streams that only keep a connection alive, and keys and passwords that servers repeat."""

from __future__ import annotations

import asyncio
import base64
import gzip
import time
import traceback
import tracemalloc
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, SwiftReranker
from swift_client.adapters import PROVIDERS, Provider, Transport
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    ResponseDecodeError,
    ServerError,
    SwiftClientError,
)
from tests.servers import FaultServer, Response, after, chat, chat_stream, error, html, json_response, sse

KEY = "0f3a9c77d1e84b6aa2b1c0ffee5511aa"
SSE = {"content-type": "text/event-stream"}
Write = Callable[[bytes], Awaitable[None]]


def make(server: FaultServer, **options: Any) -> SwiftReranker:
    options = {"base_url": server.url, "api_key": KEY, "max_retries": 0, **options}
    return SwiftReranker("openai-compatible", "m", **options)


@asynccontextmanager
async def endless_server(head: str, body: bytes, pause: float = 0.0) -> AsyncIterator[str]:
    """Serve ``body`` again and again, and yield the base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            while True:
                writer.write(b"%x\r\n%s\r\n" % (len(body), body))
                await writer.drain()
                await asyncio.sleep(pause)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


# --- size ----------------------------------------------------------------------------------------------------------

JSON_HEAD = "200 OK\r\ncontent-type: application/json"
SSE_HEAD = "200 OK\r\ncontent-type: text/event-stream"
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "aaaa"}}]}\n\n'


@pytest.mark.parametrize(
    ("head", "body", "deadline"),
    [
        (JSON_HEAD, b" " * 60_000, None),
        (JSON_HEAD, b'{"choices": [' + b"1, " * 20_000, None),
        (SSE_HEAD, b"data: " + b"a" * 60_000, 60.0),
        (SSE_HEAD, (b": " + b"ping " * 100 + b"\n\n") * 100, 60.0),
        (SSE_HEAD, EVENT * 1000, 60.0),
        (SSE_HEAD, (b" " * 500 + b"\n") * 100, 60.0),
    ],
    ids=["white space", "list", "one line", "comments", "events", "empty lines"],
)
async def test_a_reply_without_an_end_is_an_error_that_names_the_limit(
    head: str, body: bytes, deadline: float | None
) -> None:
    async with endless_server(head, body) as url:
        reranker = AsyncSwiftReranker(
            "openai-compatible", "m", base_url=url, api_key="k", max_retries=0, max_reply_bytes=3_000_000
        )
        tracemalloc.start()
        try:
            with pytest.raises(ResponseDecodeError, match="max_reply_bytes=3_000_000"):
                await reranker.best_of("q", n=1, deadline=deadline)
            assert tracemalloc.get_traced_memory()[1] < 30_000_000
        finally:
            tracemalloc.stop()
            await reranker.aclose()


async def test_of_an_error_body_without_an_end_only_the_start_is_read() -> None:
    async with endless_server("500 Oh\r\ncontent-type: text/plain", b"overloaded " * 5000) as url:
        transport = Transport(PROVIDERS["openai"], base_url=url, api_key="k")
        reranker = AsyncSwiftReranker("openai-compatible", "m", base_url=url, api_key="k", max_retries=0)
        with pytest.raises(SwiftClientError, match="overloaded overloaded") as caught:
            await reranker.best_of("q", n=1)
        assert isinstance(caught.value.causes[0], ServerError)  # type: ignore[attr-defined]
        await reranker.aclose()
        await transport.aclose()


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "compress", "gzip,deflate"])
def test_only_compression_that_was_requested_is_read(fault_server: FaultServer, encoding: str) -> None:
    body = gzip.compress(gzip.compress(b" " * 1_000_000))
    fault_server.script(Response(headers={"content-encoding": encoding}, body=body))
    with make(fault_server) as reranker, pytest.raises(ResponseDecodeError, match="compressed in another way"):
        reranker.best_of("q", n=1)
    assert fault_server.requests[0].headers["accept-encoding"] == "gzip, deflate"


def test_a_compressed_body_counts_by_its_decompressed_size(fault_server: FaultServer) -> None:
    reply = chat(["4"], k=5)
    fault_server.script(
        Response(headers={"content-encoding": "gzip"}, body=gzip.compress(reply.body)),
        Response(headers={"content-encoding": "gzip"}, body=gzip.compress(b" " * 9_000_000)),
    )
    with make(fault_server, max_reply_bytes=1_000_000) as reranker:
        assert reranker.best_of("q", n=1).text == "4"
        with pytest.raises(ResponseDecodeError, match="max_reply_bytes=1_000_000"):
            reranker.best_of("q", n=1)


def test_completions_that_had_ended_before_a_stream_grew_too_long_are_kept(fault_server: FaultServer) -> None:
    reply = chat_stream(["The answer is 4"], done=False)
    fault_server.script(Response(headers=SSE, chunks=(*(reply.chunks or ()), b"data: " + b"a" * 400_000)))
    with make(fault_server, max_reply_bytes=300_000) as reranker:
        selection = reranker.best_of("q", n=1, deadline=20)
    assert selection.text == "The answer is 4"


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "256 MB"])
def test_a_limit_that_is_not_a_positive_int_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_reply_bytes"):
        SwiftReranker("openai", api_key="k", max_reply_bytes=value)


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "options", "call"),
    [
        (b": ping\n\n", {"abort": "deepconf"}, {}),
        (b"\r\n", {"abort": "deepconf"}, {}),
        (EVENT, {"abort": "deepconf"}, {}),
        (b": ping\n\n", {}, {"deadline": 30.0}),
        (b": OPENROUTER PROCESSING\r\n\r\n:\n\n", {}, {"deadline": 30.0}),
        (EVENT, {"timeout": 30.0}, {"deadline": 1.0}),
    ],
)
async def test_a_stream_ends_at_the_timeout_or_the_deadline(
    body: bytes, options: dict[str, Any], call: dict[str, Any]
) -> None:
    async with endless_server(SSE_HEAD, body, pause=0.1) as url:
        options = {"timeout": 1.0, "max_retries": 0, **options}
        reranker = AsyncSwiftReranker("openai-compatible", "m", base_url=url, api_key="k", **options)
        started = time.monotonic()
        with pytest.raises(SwiftClientError, match=r"timeout|deadline"):
            await reranker.best_of("q", n=2, **call)
        assert time.monotonic() - started < 3
        await reranker.aclose()


def test_a_stream_under_a_deadline_may_take_longer_than_the_timeout(fault_server: FaultServer) -> None:
    fault_server.script(chat_stream(["a b c d e f g h"], pause=0.1))
    with make(fault_server, timeout=0.5) as reranker:
        assert reranker.best_of("q", n=1, deadline=20).text == "a b c d e f g h"


# --- closing -------------------------------------------------------------------------------------------------------


async def test_closing_ends_running_calls_and_sends_nothing_more(fault_server: FaultServer) -> None:
    fault_server.serve(lambda _: after(1.0, chat_stream(["The answer is 4"])))
    reranker = AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, api_key="k")
    tasks = [asyncio.create_task(reranker.best_of("q", n=4, deadline=30)) for _ in range(30)]
    await asyncio.sleep(0.5)
    await reranker.aclose()
    await asyncio.sleep(0.3)  # requests that were on their way arrive
    n_sent = len(fault_server.requests)
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert {type(outcome) for outcome in outcomes} == {ConfigurationError}
    assert "closed while it worked" in str(outcomes[0])
    assert len(fault_server.requests) == n_sent
    fault_server.serve(lambda _: chat(["4"]))
    assert (await reranker.best_of("q", n=1)).text == "4", "it may be used again"
    await reranker.aclose()


# --- keys and passwords --------------------------------------------------------------------------------------------


def spellings(key: str) -> list[str]:
    """Return a key as it is, and with characters between its own that nobody sees."""
    return [
        key,
        *(
            gap.join((key[:11], key[11:]))
            for gap in ("\u200b", "\u00ad", "\ufeff", "\u2060", "\u200d", "\ufe0f", "\n", " ", "\x00")
        ),
        "\u200b".join(key),
    ]


def shown(problem: BaseException) -> str:
    """Return all that a log would show of an error, without the characters that nobody sees."""
    text = "".join(traceback.format_exception(problem)) + repr(problem) + repr(vars(problem))
    return "".join(char for char in text.replace("\\u200b", "") if char.isascii() and char.isprintable()).replace(
        " ", ""
    )


@pytest.mark.parametrize("echo", spellings(KEY))
def test_a_key_of_any_shape_is_struck_out_wherever_a_server_repeats_it(echo: str) -> None:
    responses = [
        (json_response({"error": {"message": f"invalid key {echo}"}}), {}),
        (json_response({"detail": f"key {echo} is unknown"}), {}),
        (json_response({"error": {"message": "x" * 580 + KEY}}), {}),
        (Response(200, f"key {echo} unknown".encode(), {"content-type": "text/plain"}), {}),
        (Response(200, ("z" * 60 + echo).encode(), {"content-type": "text/plain"}), {}),
        (html(200, f"key {echo} unknown"), {}),
        (error(400, f"no {echo}", param=echo), {}),
        (error(400, "no", headers={"x-request-id": f"req-{KEY}"}), {}),
        (sse([{"error": {"message": f"invalid key {echo}"}}]), {"deadline": 5.0}),
        (Response(307, headers={"location": f"https://elsewhere/v1?key={KEY}"}), {}),
    ]
    for response, options in responses:
        with FaultServer() as server:
            server.serve(lambda _, response=response: response)  # type: ignore[misc]
            events: list[Any] = []
            with make(server, on_event=events.append) as reranker, pytest.raises(SwiftClientError) as caught:
                reranker.best_of("q", n=1, **options)
            for problem in (caught.value, *(event.error for event in events if event.error)):
                text = shown(problem)
                assert KEY not in text
                assert KEY[:16] not in text


def test_a_key_in_the_error_of_a_stream_that_broke_is_not_in_the_notes(fault_server: FaultServer) -> None:
    reply = chat_stream(["The answer is 4"], done=False)
    ending = f'data: {{"error": {{"message": "quota of {KEY} ended"}}}}\n\n'.encode()
    fault_server.script(Response(headers=SSE, chunks=(*(reply.chunks or ()), ending)))
    with make(fault_server) as reranker:
        selection = reranker.best_of("q", n=1, deadline=20)
    assert any("quota of ***" in note for note in selection.notes)
    assert KEY not in str(selection)


@pytest.mark.parametrize("echo", spellings(KEY))
def test_the_error_of_a_key_function_shows_no_key(fault_server: FaultServer, echo: str) -> None:
    def read_key() -> str:
        raise RuntimeError(f"vault 17 refused (token={echo}) again")

    with make(fault_server, api_key=read_key) as reranker, pytest.raises(ConfigurationError) as caught:
        reranker.best_of("q", n=1)
    assert "vault 17 refused" in str(caught.value)
    if not any(gap in echo for gap in (" ", "\n")):
        assert KEY[:11] not in shown(caught.value)
    assert not fault_server.requests


@pytest.mark.parametrize("api_key", ["my-key-4711", None])
def test_a_password_in_an_address_is_never_shown_and_never_replaces_the_key(
    fault_server: FaultServer, api_key: str | None
) -> None:
    address = fault_server.url.replace("//", "//bob:hunter%402@")
    fault_server.script(error(400, "no hunter@2 for bob"), chat(["4"]))
    reranker = SwiftReranker("vllm", "m", base_url=address, api_key=api_key, max_retries=0)
    with reranker, pytest.raises(BadRequestError) as caught:
        reranker.best_of("q", n=1)
    row = reranker.pipeline.config.provider
    for text in (repr(reranker), repr(row), str(row), shown(caught.value)):
        assert "hunter" not in text
        assert base64.b64encode(b"bob:hunter@2").decode() not in text
    expected = f"Bearer {api_key}" if api_key else "Basic " + base64.b64encode(b"bob:hunter@2").decode()
    assert fault_server.requests[0].headers["authorization"] == expected


async def test_a_password_in_an_address_of_a_row_or_a_transport_is_hidden_too(fault_server: FaultServer) -> None:
    address = fault_server.url.replace("//", "//bob:hunter2@")
    own = Provider(
        name="own", base_url=address, key_variable=None, codec="openai_chat", default_model="m",
        capabilities=PROVIDERS["vllm"].capabilities,
    )  # fmt: skip
    assert "hunter2" not in repr(own)
    transport = Transport(PROVIDERS["openai"], base_url=address, api_key=KEY)
    assert "hunter2" not in repr(transport.provider)
    reranker = AsyncSwiftReranker(own, api_key=KEY)
    await reranker.best_of("q", n=1)
    assert fault_server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    await reranker.aclose()


@pytest.mark.parametrize(
    "address",
    ["http://[::1/v1", "http://[zz]/v1", 5, b"http://x/v1", "ftp://bob:hunter2@host/v1", "bob:hunter2@host", "http://h:p/v1",
     "http://bob:hunter2@host:port/v1", "http://h:99999/v1", "http://bob:hunter2@:80/v1", "http://h:0/v1", "http://"],
)  # fmt: skip
def test_a_malformed_address_is_a_clear_error_without_its_password(address: Any) -> None:
    with pytest.raises(ConfigurationError, match="not an address") as caught:
        SwiftReranker("openai-compatible", "m", base_url=address, api_key="k")
    assert "hunter2" not in shown(caught.value)


def test_an_address_given_as_provider_is_shown_without_its_password() -> None:
    address = "http://bob:hunter2@host/v1"
    with pytest.raises(ConfigurationError, match=r"http://\*\*\*@host/v1' is an address") as caught:
        SwiftReranker(address, "m")
    assert "hunter2" not in str(caught.value)


# --- control characters --------------------------------------------------------------------------------------------

CONTROL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202egnp.exe \x00 \x08 \u2028 \x7f"


def unsafe(text: str) -> list[str]:
    """Return the characters of a text that can change what a terminal shows."""
    return [
        char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in "\n\t"
    ]


@pytest.mark.parametrize(
    "response",
    [
        error(400, CONTROL),
        error(500, CONTROL, type=CONTROL),
        html(502, CONTROL),
        html(200, CONTROL),
        json_response({"error": {"message": CONTROL}}),
        Response(200, CONTROL.encode()),
        Response(307, headers={"location": "https://elsewhere/\x1b[2J"}),
        error(400, "no", headers={"x-request-id": "a\x1b[2Jb"}),
    ],
)
def test_no_server_writes_control_characters_into_an_error(fault_server: FaultServer, response: Response) -> None:
    fault_server.serve(lambda _: response)
    with make(fault_server) as reranker, pytest.raises(SwiftClientError) as caught:
        reranker.best_of("q", n=1)
    causes = getattr(caught.value, "causes", ())
    assert not unsafe(str(caught.value)), str(caught.value)
    assert not [char for cause in causes for char in unsafe(str(cause))]


def test_arguments_with_control_characters_are_escaped_in_errors() -> None:
    problem = SwiftClientError(f"a{CONTROL}", hint=CONTROL, provider="p\x1b", request_id="\x9b")
    assert not unsafe(str(problem))
    assert r"a\x1b[31mred" in str(problem)
    with pytest.raises(SwiftClientError) as caught:
        SwiftReranker("open\x1b[2Jai", "m")
    assert not unsafe(str(caught.value))


def test_notes_of_a_server_hold_no_control_characters(fault_server: FaultServer) -> None:
    reply = chat_stream(["The answer is 4"], done=False)
    ending = sse([{"error": {"message": CONTROL}}], done=False)
    fault_server.script(Response(headers=SSE, chunks=(*(reply.chunks or ()), *(ending.chunks or ()))))
    with make(fault_server) as reranker:
        selection = reranker.best_of("q", n=1, deadline=20)
    assert any("red" in note for note in selection.notes)
    assert not [char for note in selection.notes for char in unsafe(note)]
