"""A provider on loopback for benchmarks, in a process of its own: every reply is ready, and comes in 50 ms.

Replies have 30 tokens per choice, or as many as the command's argument says. ``GET /counts`` returns how many requests
came, and the monotonic times at which clients broke a request off. The process ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from functools import cache
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.child_server import serve_until_stdin_ends
from tests.servers import chat_body

DELAY = 0.05  # seconds before a reply
N_TOKENS = 30
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SLOW = b'"user":"slow"'  # a field of requests that are never answered


class Counts:
    """The requests so far."""

    def __init__(self) -> None:
        self.n_requests = 0
        self.n_waiting = 0
        self.broken_off: list[float] = []


@cache
def reply_body(n: int, k: int, variant: int, n_tokens: int = N_TOKENS) -> bytes:
    """Return a reply of ``n`` choices with ``k`` alternatives per token; 6 of 10 answers are equal."""
    chance = random.Random(f"{n} {k} {variant}")
    texts = []
    for _ in range(n):
        answer = 408 if chance.random() < 0.6 else chance.randrange(400, 420)
        words = [f"word{chance.randrange(1000)}" for _ in range(n_tokens - 4)]
        texts.append(" ".join([*words, "The", "answer", "is", str(answer)]))
    return json.dumps(chat_body(texts, k=k or None)).encode()


class Connection(asyncio.Protocol):
    """One connection, on which requests come one after the other."""

    def __init__(self, counts: Counts, n_tokens: int) -> None:
        self._counts, self._n_tokens, self._data, self._timer = counts, n_tokens, b"", None
        self._timer: asyncio.TimerHandle | None
        self._is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read a request, and plan its reply once it is complete."""
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._data = b""
        counts = self._counts
        if head.startswith(b"GET /counts"):
            fields = {"requests": counts.n_requests, "waiting": counts.n_waiting, "broken_off": counts.broken_off}
            self._write(json.dumps(fields).encode())
            return
        counts.n_requests += 1
        counts.n_waiting += 1
        self._is_waiting = True
        if _SLOW in body.replace(b" ", b""):
            return
        request = json.loads(body)
        k = request.get("top_logprobs", 1) if request.get("logprobs") else 0
        answer = reply_body(request.get("n", 1), k, counts.n_requests % 16, self._n_tokens)
        self._timer = asyncio.get_running_loop().call_later(DELAY, self._answer, answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Count a request that was not answered yet."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_waiting:
            self._counts.n_waiting -= 1
            self._counts.broken_off.append(monotonic())

    def _answer(self, body: bytes) -> None:
        self._is_waiting, self._timer = False, None
        self._counts.n_waiting -= 1
        self._write(body)

    def _write(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main() -> None:
    """Serve until standard input ends."""
    counts = Counts()
    n_tokens = int(sys.argv[1]) if len(sys.argv) > 1 else N_TOKENS
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counts, n_tokens), "127.0.0.1", 0, backlog=2048)
    await serve_until_stdin_ends(server)


if __name__ == "__main__":
    asyncio.run(main())
