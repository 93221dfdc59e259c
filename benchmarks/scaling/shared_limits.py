"""Limits that processes share: how close two processes together come to 50 requests per second, and by what messages.

Each process holds up to 64 requests of 50 ms and always has more. Requests are counted from the end of
the burst of ten seconds' worth, at least two seconds after the start. The deviation is
``|requests / (50 * seconds) - 1|``. The excess is the largest number of requests in any window beyond
``50 * seconds + burst + leases``.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from swift_client import RateLimit
from swift_client.shared_limits import Lease, LeaseRequest
from swift_client.shared_limits.account import LEASE_SECONDS
from swift_client.shared_limits.homes import resolve_home

ROOT = Path(__file__).parents[2]
RATE = 50.0  # requests per second
BURST = 10 * RATE
CONCURRENCY, REQUEST_SECONDS = 64, 0.05
WARM_UP = 2.0  # seconds
BAR = 0.02
_CHILD = "import asyncio, sys; from benchmarks.scaling.shared_limits import send; asyncio.run(send(*sys.argv[1:]))"


class CountingHome:
    """A home that counts its messages."""

    def __init__(self, home: str) -> None:
        self.n_messages = 0
        self._source = resolve_home(home)()

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        """Pass a message on."""
        self.n_messages += 1
        return self._source.lease(name, request)


async def send(home: str, seconds: str) -> None:
    """Start requests for some seconds, and print when each of them began."""
    counting_home = CountingHome(home)
    limiter = RateLimit(CONCURRENCY, requests_per_minute=60 * RATE, shared=counting_home).for_this_process()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    starts: list[float] = []
    end, cpu_start = time.monotonic() + float(seconds), time.process_time()

    async def send_requests() -> None:
        while True:
            await limiter.acquire()
            try:
                starts.append(time.monotonic())
                await asyncio.sleep(REQUEST_SECONDS)
            finally:
                limiter.release()

    tasks = [asyncio.create_task(send_requests()) for _ in range(2 * CONCURRENCY)]
    await asyncio.sleep(end - time.monotonic())
    for task in tasks:
        task.cancel()
    cpu_ms = 1000 * (time.process_time() - cpu_start) / max(1, len(starts))
    print(json.dumps({"starts": starts, "messages": counting_home.n_messages, "cpu_ms": cpu_ms}), flush=True)


def measure_round(home: str, seconds: float, processes: int) -> dict[str, float]:
    """Return the figures of one run."""
    command = [sys.executable, "-c", _CHILD, home, str(WARM_UP + seconds)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(processes)
    ]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write(b"go\n")
        child.stdin.flush()
    replies = [json.loads(child.communicate()[0]) for child in children]
    starts = sorted(start for reply in replies for start in reply["starts"])
    leases = max(RATE * LEASE_SECONDS, processes)
    begin, end = end_of_burst(starts, leases), starts[0] + WARM_UP + seconds
    n_requests = bisect.bisect(starts, end) - bisect.bisect(starts, begin)
    return {
        "deviation": abs(n_requests / (RATE * (end - begin)) - 1),
        "messages_per_request": sum(reply["messages"] for reply in replies) / len(starts),
        "excess": largest_excess(starts, BURST + leases),
        "smallest_share": min(len(reply["starts"]) for reply in replies) / len(starts),
        "cpu_ms_per_request": statistics.mean(reply["cpu_ms"] for reply in replies),
    }


def end_of_burst(starts: list[float], leases: float) -> float:
    """Return the time at which the requests of the burst have started, which takes long on a busy machine."""
    for number, start in enumerate(starts):
        if number >= BURST + RATE * (start - starts[0]) - leases:
            return max(start, starts[0] + WARM_UP)
    raise RuntimeError("The burst did not end: give more seconds.")


def largest_excess(starts: list[float], allowance: float) -> float:
    """Return the most requests of any window beyond its seconds times the rate and the allowance."""
    # With s = number - RATE * time, a window from i to j has s_j - s_i + 1 requests beyond the rate.
    lowest, excess = float("inf"), float("-inf")
    for number, start in enumerate(starts):
        balance = number - RATE * start
        lowest = min(lowest, balance)
        excess = max(excess, balance - lowest + 1 - allowance)
    return excess


def measure(
    home: str | None = None, *, seconds: float = 20.0, rounds: int = 3, processes: int = 2, bar: str | None = None
) -> dict[str, Any]:
    """Return the bars and details of a shared limit.

    Args:
        home: a samples file or the address of a Redis; None: a new file.
        seconds: seconds of each round.
        rounds: number of rounds.
        processes: number of processes.
        bar: name of the bar.
    """
    bar = bar or ("redis_limit_error" if home and "://" in home else "shared_limit_file_error")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            results.append(measure_round(home or str(Path(folder, f"limits{number}.db")), seconds, processes))
            if home:
                time.sleep(BURST / RATE)  # until the bucket is full again
    deviations = [result["deviation"] for result in results]
    return {
        "bars": {
            bar: {
                "value": statistics.median(deviations),
                "target": BAR,
                "unit": "share of 50 requests per second",
                "interval": [min(deviations), max(deviations)],
            }
        },
        "details": {
            **{name: statistics.median(result[name] for result in results) for name in results[0]},
            "largest_excess": max(result["excess"] for result in results),
        },
    }


def measure_redis(**settings: Any) -> dict[str, Any]:
    """Return the figures with a redis-server on loopback, which ends with this call."""
    from tests.redis_servers import RedisServer

    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        return measure(server.url, **settings)
