"""Load for benchmarks/serve.py: requests at random times or from a number of waiting clients, and their latencies.

The HTTP client is a small one, so that the load costs little of the two cores that it shares with what it measures.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

Ask = Callable[[], Awaitable[object]]


async def open_loop(ask: Ask, *, rate: float, seconds: float, seed: int) -> list[float]:
    """Call ``ask`` at the times of a Poisson process of ``rate`` per second; return the latencies in seconds.

    A latency begins at the planned time, so that a late start counts (no coordinated omission).
    """
    chance, latencies, tasks = random.Random(seed), [], set()
    start = planned = time.perf_counter()

    async def measure(planned: float) -> None:
        await ask()
        latencies.append(time.perf_counter() - planned)

    while (planned := planned + chance.expovariate(rate)) < start + seconds:
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        tasks.add(asyncio.create_task(measure(planned)))
    await asyncio.gather(*tasks)
    return latencies


async def closed_loop(ask: Ask, *, clients: int, seconds: float) -> float:
    """Let ``clients`` call ``ask`` again and again; return the calls per second, without those that warm up."""
    n_calls, end, start = 0, time.perf_counter() + seconds, time.perf_counter() + seconds * 0.2

    async def client() -> None:
        nonlocal n_calls
        while (now := time.perf_counter()) < end:
            await ask()
            n_calls += now >= start

    await asyncio.gather(*(client() for _ in range(clients)))
    return n_calls / (time.perf_counter() - start)


class HttpClient:
    """Posts one body again and again over connections that stay open."""

    def __init__(self, port: int, body: bytes, *, path: str = "/v1/chat/completions") -> None:
        self._port = port
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._idle: list[_Exchange] = []

    async def __call__(self) -> bytes:
        """Send the request; return the body of the reply. Raises RuntimeError unless the status is 200."""
        while self._idle and self._idle[-1].transport.is_closing():  # closed by the server, which waits 5 s only
            self._idle.pop()
        exchange = self._idle.pop() if self._idle else await self._connect()
        head, body = await exchange.send(self._request)
        self._idle.append(exchange)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head[:40]!r} {body[:300]!r}")
        return body

    async def break_off(self, seconds: float) -> float:
        """Send the request, hang up after ``seconds`` without a reply, and return the monotonic time of the end."""
        exchange = await self._connect()
        with suppress(TimeoutError):
            await asyncio.wait_for(exchange.send(self._request), seconds)
        exchange.transport.abort()
        return time.monotonic()

    async def _connect(self) -> _Exchange:
        _, exchange = await asyncio.get_running_loop().create_connection(_Exchange, "127.0.0.1", self._port)
        return exchange

    def close(self) -> None:
        """Close the connections."""
        for exchange in self._idle:
            exchange.transport.close()


class _Exchange(asyncio.Protocol):
    """One connection with one request at a time."""

    transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._reply: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._parts: list[bytes] = []
        self._missing = -1  # bytes of the body that have not come; -1 before its head is complete

    async def send(self, request: bytes) -> tuple[bytes, bytes]:
        self._reply = asyncio.get_running_loop().create_future()
        self._head, self._parts, self._missing = b"", [], -1
        self.transport.write(request)
        return await self._reply

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._head += data
            head, separator, data = self._head.partition(b"\r\n\r\n")
            if not separator:
                return
            length = _LENGTH.search(head)
            self._head, self._missing = head, int(length[1]) if length else 0
        self._parts.append(data)
        self._missing -= len(data)
        if self._missing <= 0 and self._reply is not None and not self._reply.done():
            self._reply.set_result((self._head, b"".join(self._parts)))

    def connection_lost(self, error: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error or ConnectionResetError("the connection was closed"))
