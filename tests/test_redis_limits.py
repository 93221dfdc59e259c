"""Processes that share limits by a real Redis: rates, budgets, and a server that dies in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from swift_client import Budget, RateLimit
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.sampling import Cost
from tests.servers import FaultServer, Received, Response, chat
from tests.test_shared_limits import MANY, SENDER, SPENDER, spend_all, start

redis_servers = pytest.importorskip("tests.redis_servers", reason="the extra 'redis' is not installed")
if redis_servers.REDIS_SERVER is None:
    pytest.skip("redis-server is not installed", allow_module_level=True)

from tests.redis_servers import RedisServer  # noqa: E402


def wait_for_line(child: subprocess.Popen[bytes], line: bytes) -> None:
    assert child.stdout
    assert child.stdout.readline().strip() == line


def record_starts(server: FaultServer) -> list[float]:
    """Let a server answer everything, and return the list of the times at which it will have done so."""
    starts: list[float] = []

    def answer(request: Received) -> Response:
        starts.append(time.monotonic())
        return chat(["The answer is 4"])

    server.serve(answer)
    return starts


def test_four_processes_keep_one_rate(redis_server: RedisServer, fault_server: FaultServer) -> None:
    starts, seconds, n_processes = record_starts(fault_server), 3.0, 4
    children = [start(SENDER, fault_server.url, redis_server.url, str(seconds)) for _ in range(n_processes)]
    for child in children:
        wait_for_line(child, b"ready")
    for child in children:
        assert child.stdin
        child.stdin.write(b"go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=30)
        assert child.returncode == 0

    elapsed = starts[-1] - starts[0]
    burst, rate, leases = 50, 5.0, n_processes  # ten seconds' worth at once; a lease has one request at this rate
    assert len(starts) <= burst + rate * elapsed + leases
    assert len(starts) >= burst + rate * (seconds - 1.0)


WORKER = """
import asyncio, json, sys
from swift_client import AsyncSwiftReranker, RateLimit
url, home = sys.argv[1:]
async def main():
    events, notes, count = [], set(), 0
    limit = RateLimit(8, requests_per_minute=600, shared=home, name="key 1")
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=url, limit=limit, head=None, store=home, on_event=events.append
    ) as reranker:
        print("ready", flush=True)
        running = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        async def ask(number):
            nonlocal count
            while not running.done():
                selection = await reranker.best_of(f"{number} {count} {id(limit)}", n=1)
                count += len(selection.candidates)
                notes.update(selection.notes)
        await asyncio.gather(*map(ask, range(4)))
    print(json.dumps({
        "count": count, "notes": sorted(notes), "events": [e.message for e in events if e.kind == "limit"],
    }))
asyncio.run(main())
"""


def test_a_server_that_dies_leaves_each_process_its_share_and_loses_no_answer(
    redis_server: RedisServer, fault_server: FaultServer
) -> None:
    starts = record_starts(fault_server)
    children = [start(WORKER, fault_server.url, redis_server.url) for _ in range(2)]
    for child in children:
        wait_for_line(child, b"ready")
    wait_until(lambda: len(starts) > 100)  # the burst is over: 10 s of 10 requests per second
    redis_server.kill()
    killed_at = time.monotonic()
    time.sleep(4.0)
    redis_server.start()
    started_at = time.monotonic()
    wait_until(lambda: b"key 1" in b"".join(keys(redis_server)))
    time.sleep(3.0)
    ended_at = time.monotonic()
    results = []
    for child in children:
        output, _ = child.communicate(b"stop\n", timeout=30)
        assert child.returncode == 0
        results.append(json.loads(output))

    assert sum(result["count"] for result in results) == len(starts)
    alone = [moment for moment in starts if killed_at + 1 < moment < started_at]
    assert 0.5 * 10 * 3 < len(alone) <= 1.2 * 10 * 3 + 2
    again = [moment for moment in starts if started_at + 1 < moment < ended_at]
    assert len(again) <= 1.2 * 10 * (ended_at - started_at) + 4  # not the burst of a new account
    for result in results:
        assert any("cannot be reached; at most 300 requests per minute" in event for event in result["events"])
        assert result["events"][-1] == "the shared limit 'key 1' is reached again"
        assert any("The shared limit 'key 1' could not be reached" in note for note in result["notes"])
        assert any("not stored" in note for note in result["notes"])


def keys(server: RedisServer) -> list[bytes]:
    with server.client() as client:
        names: Any = client.keys("swift:account:*")
    return list(names)


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_processes_keep_one_budget(redis_server: RedisServer, fault_server: FaultServer) -> None:
    children = [start(MANY, fault_server.url, redis_server.url) for _ in range(3)]
    for child in children:
        wait_for_line(child, b"ready")
    for child in children:
        assert child.stdin
        child.stdin.write(b"go\n")
        child.stdin.flush()
    answers = [int(child.communicate(timeout=40)[0]) for child in children]

    assert sum(answers) == len(fault_server.requests) <= 40
    assert sum(answers) >= 36


def test_a_killed_process_leaves_its_lease_spent_and_one_that_ends_gives_it_back(redis_server: RedisServer) -> None:
    for is_killed in (True, False):
        child = start(SPENDER, redis_server.url)
        wait_for_line(child, b"spent")
        if is_killed:
            child.kill()
        child.communicate(b"\n", timeout=20)
    tracker = Budget(calls=1280).open(shared=redis_server.url, name="nightly")

    assert spend_all(tracker) == 1280 - 20 - 1  # one 64th, and one call
    tracker.close()


def test_a_budget_survives_a_server_that_has_forgotten_it(redis_server: RedisServer) -> None:
    tracker = Budget(calls=640).open(shared=redis_server.url, name="nightly")
    for _ in range(5):
        tracker.reserve(Cost(calls=1))
        tracker.commit(Cost(calls=1), Cost(calls=1))
    redis_server.kill()
    redis_server.start()

    assert spend_all(tracker) == 635  # what this process has spent counts
    tracker.close()


@pytest.mark.parametrize("url", ["redis://", "http://secret@h", "redis://:secret@h?ttl=5"])
def test_a_wrong_url_is_refused_at_once_and_not_shown(url: str) -> None:
    for share in (lambda: RateLimit(shared=url), lambda: Budget(calls=1).open(shared=url)):
        with pytest.raises(ConfigurationError, match="Redis") as caught:
            share()
        assert "secret" not in str(caught.value)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match="'redis'"):
        RateLimit(shared="redis://127.0.0.1:1/0")
