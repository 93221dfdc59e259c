"""The server of benchmarks/faults.py, in a process of its own on loopback.

The prompt of a call says which fault to inject, and how often: ``{"call": 7, "fault": "idle", "seed": 1, "share": 0.8,
...}``. ``GET /account`` returns what was sent: the references of choices that have arrived whole, with the time of the
machine's monotonic clock, and the number of faults of each kind. The process ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.child_server import serve_until_stdin_ends
from benchmarks.fault_bodies import BODY_FAULTS, STREAM_FAULTS
from benchmarks.fault_kinds import CONNECTION_FAULTS, STATUS_FAULTS
from benchmarks.fault_replies import Draw, Ending, Paid, Steps, good, json_http

FAULTS = {**CONNECTION_FAULTS, **STATUS_FAULTS, **BODY_FAULTS, **STREAM_FAULTS}
_LONGEST_HANG = 20.0


class Endpoint:
    """Answers requests, and counts what it sent."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, float]] = []
        self.faults: Counter[str] = Counter()
        self._requests: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        writer.transport.set_write_buffer_limits(0)  # drain() then waits until the kernel has everything
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                if head.startswith("GET /account"):
                    account = {"arrived": self.arrived, "faults": self.faults}
                    steps: Steps = [json_http(account)]
                    self.arrived, self.faults = [], Counter()
                else:
                    steps = self._answer(json.loads(body), fields.get("authorization", ""))
                if await self._send(steps, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _answer(self, request: dict[str, Any], authorization: str) -> Steps:
        """Return the steps of one reply."""
        call = json.loads(request["messages"][0]["content"])
        number = self._requests[call["call"]]
        self._requests[call["call"]] += 1
        rng = random.Random(f"{call['seed']}-{number}")
        draw = Draw(
            rng=rng,
            call=call["call"],
            n=request.get("n", 1),
            k=request.get("top_logprobs", 1) if request.get("logprobs") else 0,
            is_streamed=bool(request.get("stream")),
            wants_object=call["wants_object"],
            limit=call["limit"],
            key=authorization.partition(" ")[2],
            n_drawn=100 * number,
        )
        if call["fault"] and rng.random() < call["share"]:
            self.faults[call["fault"]] += 1
            return FAULTS[call["fault"]](draw)
        return [rng.uniform(0, call["delay"]), *good(draw)]

    async def _send(self, steps: Steps, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send a reply; return True if the connection has ended."""
        for step in steps:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case float():
                    await asyncio.sleep(step)
                case Paid():
                    self.arrived += [(reference, monotonic()) for reference in step.references]
                case Ending():
                    await _end(step, reader, writer)
                    return True
        return False


async def _end(ending: Ending, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if ending is Ending.RESET:
        # Linger of zero seconds: close() sends RST instead of FIN.
        connection = writer.get_extra_info("socket")
        if connection.fileno() >= 0:  # unless the client has closed it
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    elif ending in (Ending.HALF_CLOSE, Ending.HANG):
        if ending is Ending.HALF_CLOSE:
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_HANG):
                await reader.read()  # until the client has had enough


class EndpointProcess:
    """The endpoint in a child process; ``url`` is its base URL."""

    def __enter__(self) -> Self:
        self._child = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdout
        self.port = int(self._child.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def account(self) -> dict[str, Any]:
        """Return what the endpoint has sent since the last call."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/account") as reply:
            account: dict[str, Any] = json.load(reply)
        return account

    def __exit__(self, *_: object) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe
            pipe.close()
        self._child.wait(10)


async def main() -> None:
    """Serve until standard input ends."""
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0, backlog=1024, limit=1 << 20)
    await serve_until_stdin_ends(server)


if __name__ == "__main__":
    asyncio.run(main())
