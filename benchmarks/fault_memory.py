"""Memory for benchmarks/faults.py: replies that are made to fill it, one after another, against a stated limit."""

from __future__ import annotations

import asyncio
import gc
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType

from swift_client import AsyncSwiftReranker
from swift_client.errors import SwiftClientError

LIMIT = 2_000_000
"""``max_reply_bytes`` of these calls."""
_PART = 60_000
_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
_EVENT_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
_CHOICE = b'{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"'


def _endless(head: bytes, start: bytes, item: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a reply that repeats an item for ever."""

    def reply() -> Iterator[bytes]:
        yield head + b"\r\n"
        if start:  # an empty chunk would end the reply
            yield _chunk(start)
        part = _chunk(item * (_PART // len(item)))
        while True:
            yield part

    return reply


def _just_fits(head: bytes, start: bytes, item: bytes, end: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a valid reply that is a little shorter than the limit and made of one item."""

    def reply() -> Iterator[bytes]:
        # In parts: the server's memory is counted too.
        count = (LIMIT - len(start) - len(end) - 100) // len(item)
        per_part = _PART // len(item)
        yield head + b"\r\n"
        if start:
            yield _chunk(start)
        for index in range(0, count, per_part):
            yield _chunk(item * min(per_part, count - index))
        yield _chunk(end)
        yield b"0\r\n\r\n"

    return reply


def _bomb(item: bytes) -> Callable[[], Iterator[bytes]]:
    """Return a compressed reply of ten times the limit, made before memory is measured."""
    compressed = gzip.compress(b'{"choices": [' + item * (10 * LIMIT // len(item)), 1)

    def reply() -> Iterator[bytes]:
        yield _JSON_HEAD + b"content-encoding: gzip\r\n\r\n"
        yield _chunk(compressed)
        yield b"0\r\n\r\n"

    return reply


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKEN = b'{"token": "a", "logprob": -1, "top_logprobs": []},'
REPLIES: Mapping[str, Callable[[], Iterator[bytes]]] = MappingProxyType(
    {
        "endless blanks": _endless(_JSON_HEAD, b'{"choices": [', b" "),
        "endless list": _endless(_JSON_HEAD, b'{"choices": [', b"1,"),
        "endless text": _endless(_JSON_HEAD, b'{"choices": [' + _CHOICE + b"}, {", b"a"),
        "endless line": _endless(_EVENT_HEAD, b"data: ", b"a"),
        "endless comments": _endless(_EVENT_HEAD, b"", b": ping\n\n"),
        "endless events": _endless(
            _EVENT_HEAD, b"", b'data: {"choices": [{"index": 0, "delta": {"content": "aaaa"}}]}\n\n'
        ),
        "endless choices in a stream": _endless(_EVENT_HEAD, b"", b'data: {"choices": [{}, {}, {}, {}, {}, {}]}\n\n'),
        "endless error": _endless(_JSON_HEAD.replace(b"200 OK", b"500 Oh"), b'{"error": "', b"x"),
        "endless headers": lambda: iter([b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 1000 + b"\r\n"] * 9000]),
        "compressed blanks": _bomb(b" "),
        "compressed list": _bomb(b"[],"),
        "long text": _just_fits(
            _JSON_HEAD, b'{"choices": [{"message": {"content": "', b"a", b'"}, "finish_reason": "stop"}]}'
        ),
        "long text of escapes": _just_fits(
            _JSON_HEAD, b'{"choices": [{"message": {"content": "', b"\\u0151", b'"}, "finish_reason": "stop"}]}'
        ),
        "many choices": _just_fits(_JSON_HEAD, b'{"choices": [' + _CHOICE + b"}", b",{}", b"]}"),
        "many whole choices": _just_fits(_JSON_HEAD, b'{"choices": [' + _CHOICE + b"}", b"," + _CHOICE + b"}", b"]}"),
        "many tokens": _just_fits(
            _JSON_HEAD, b'{"choices": [' + _CHOICE + b', "logprobs": {"content": [', _TOKEN, _TOKEN[:-1] + b"]}}]}"
        ),
        "many events": _just_fits(
            _EVENT_HEAD, b"", b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n"
        ),
    }
)


@asynccontextmanager
async def _server(reply: Callable[[], Iterator[bytes]]) -> AsyncIterator[str]:
    """Serve one reply to all requests; yield the base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for data in reply():
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


async def _peak(reply: Callable[[], Iterator[bytes]], *, is_streamed: bool) -> tuple[float, str]:
    """Return the most memory of one call, over the limit; and what the call returned or raised."""
    async with (
        _server(reply) as url,
        AsyncSwiftReranker(
            "openai-compatible", "m", base_url=url, api_key="k", max_retries=0, max_reply_bytes=LIMIT, timeout=20
        ) as reranker,
    ):
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        try:
            selection = await reranker.best_of("q", n=1, deadline=30 if is_streamed else None)
            outcome = f"Selection of {len(selection.candidates)}"
            del selection
        except SwiftClientError as error:
            outcome = type(error).__name__
        except Exception as error:
            outcome = f"untyped {type(error).__name__}"
        _, peak = tracemalloc.get_traced_memory()
    return (peak - before) / LIMIT, outcome


def measure_memory(names: tuple[str, ...] = tuple(REPLIES)) -> dict[str, tuple[float, str]]:
    """Return the highest ratio of memory to limit per kind of reply, and the outcome."""
    peaks: dict[str, tuple[float, str]] = {}
    asyncio.run(_peak(REPLIES["long text"], is_streamed=False))  # imports the libraries of a first call
    tracemalloc.start()
    try:
        for name in names:
            for is_streamed in (False, True):
                result = asyncio.run(_peak(REPLIES[name], is_streamed=is_streamed))
                peaks[name] = max(peaks.get(name, (0.0, "")), result)
    finally:
        tracemalloc.stop()
    return peaks
