"""Limits that processes share: rates, refusals and budgets, with real processes, and homes that fail and come back."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Budget, Event, RateLimit
from swift_client.errors import BudgetExceededError, ConfigurationError, RateLimitError, ServerError
from swift_client.sampling import BudgetTracker, Cost
from swift_client.sampling.shared.leased_bucket import LeasedBucket
from swift_client.shared_limits import AccountState, Lease, LeaseRequest, grant
from tests.children import environment
from tests.servers import FaultServer, Received, Response, chat

ONE_CALL = Cost(calls=1)


@dataclass
class MemoryHome:
    """A home in this process, which can be out of reach."""

    is_down: bool = False
    delay: float = 0.0
    states: dict[str, AccountState] = field(default_factory=dict)
    n_messages: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        time.sleep(self.delay)
        with self.lock:
            if self.is_down:
                raise ServerError("the home is closed for the night")
            self.n_messages += 1
            self.states[name], lease = grant(self.states.get(name), request, time.time())
            return lease


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a script, whose standard input and output are pipes."""
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())


def spend_all(tracker: BudgetTracker) -> int:
    """Make calls until the budget has no more; return their number."""
    for count in range(2000):
        try:
            tracker.reserve(ONE_CALL)
        except BudgetExceededError:
            return count
        tracker.commit(ONE_CALL, ONE_CALL)
    raise AssertionError("the budget has no end")


async def wait_until(condition: Any, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


# --- rates

SENDER = """
import asyncio, sys, time
from swift_client import AsyncSwiftReranker, RateLimit
url, home, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
async def main():
    limit = RateLimit(8, requests_per_minute=300, shared=home)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=url, limit=limit, head=None) as reranker:
        await reranker.best_of("q", n=1)
        print("ready", flush=True)
        sys.stdin.readline()
        end = time.monotonic() + seconds
        async def ask():
            while time.monotonic() < end:
                await reranker.best_of("q", n=1)
        tasks = [asyncio.create_task(ask()) for _ in range(8)]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
asyncio.run(main())
"""


def test_two_processes_keep_one_rate_by_a_file(fault_server: FaultServer, tmp_path: Path) -> None:
    starts: list[float] = []

    def answer(request: Received) -> Response:
        starts.append(time.monotonic())
        return chat(["4"])

    fault_server.serve(answer)
    seconds = 4.0
    children = [start(SENDER, fault_server.url, str(tmp_path / "limits.db"), str(seconds)) for _ in range(2)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.communicate(b"go\n", timeout=30)
        assert child.returncode == 0
    elapsed = starts[-1] - starts[0]
    burst, rate, leases = 50, 5.0, 2  # ten seconds' worth at once; a lease has a single request at this rate
    assert len(starts) <= burst + rate * elapsed + leases
    assert len(starts) >= burst + rate * (seconds - 1.0)


async def start_requests(limit: RateLimit, count: int, *, seconds: float = 0.0) -> float:
    """Start requests one after another; return the seconds that it took."""
    limiter, begin = limit.for_this_process(), time.monotonic()
    for _ in range(count):
        await limiter.acquire()
        await asyncio.sleep(seconds)
        limiter.release()
    return time.monotonic() - begin


async def test_a_lease_that_is_not_used_goes_back() -> None:
    home = MemoryHome()
    limit = RateLimit(64, requests_per_minute=6000, shared=home)
    await asyncio.gather(*(start_requests(limit, 5) for _ in range(40)))
    share = next(iter(home.states["rate/default"].members.values())).shares["requests"]
    assert share.total_used <= 200
    await wait_until(
        lambda: sum(m.shares["requests"].balance for m in home.states["rate/default"].members.values()) == 0
    )
    share = next(iter(home.states["rate/default"].members.values())).shares["requests"]
    assert share.total_used == 200
    assert home.n_messages < 100


async def test_tokens_per_minute_are_shared() -> None:
    home = MemoryHome()
    limits = [RateLimit(4, tokens_per_minute=60_000, shared=home) for _ in range(2)]  # 10,000 at once, 1,000 per second

    async def send(limit: RateLimit) -> int:
        limiter, end, count = limit.for_this_process(), time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            try:
                await asyncio.wait_for(limiter.acquire(), end - time.monotonic())
            except TimeoutError:
                break
            limiter.on_usage(500)
            limiter.release()
            count += 1
            await asyncio.sleep(0)
        return count

    counts = await asyncio.gather(*map(send, limits))
    assert 20 <= sum(counts) <= 20 + 3 + 2  # a first request, whose size is not known, may overdraw the bucket


async def test_a_request_larger_than_the_bucket_waits_for_a_full_one() -> None:
    limit = RateLimit(4, tokens_per_minute=6000, shared=MemoryHome())  # 1,000 at once, 100 per second
    limiter = limit.for_this_process()
    await limiter.acquire()
    limiter.on_usage(1100)
    limiter.release()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(limiter.acquire(), 0.5)
    limiter.on_usage(0)  # the home counts 1,100 tokens of 1,000, so that a full bucket is there after 11 seconds
    assert limiter.state().wait_seconds == 0.0  # nothing waits for a time that this process knows


async def test_a_slow_home_does_not_block_the_event_loop() -> None:
    limit = RateLimit(4, requests_per_minute=600, shared=MemoryHome(delay=0.4))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticker = asyncio.create_task(tick())
    assert await start_requests(limit, 1) >= 0.4
    ticker.cancel()
    assert ticks >= 10


async def test_a_refusal_of_one_process_slows_the_others() -> None:
    home = MemoryHome()
    first, second = (RateLimit(16, requests_per_minute=60_000, shared=home).for_this_process() for _ in range(2))
    for limiter in (first, second):
        await limiter.acquire()
    begin = time.monotonic()
    error = RateLimitError("slow down", status=429, retryable=True)
    error.retry_after = 2.0
    change = first.on_error(error, started_at=first.now() - 0.1)
    assert change == "requests: at most 8 at once from now on; none for 2.00 s, and then one to try"
    await wait_until(lambda: home.states["rate/default"].throttle.paused_until > time.time())
    second.release()
    waiting = asyncio.create_task(second.acquire())  # which needs a lease, and so brings the news
    await wait_until(lambda: second.state().n_allowed == 8)
    assert 1.0 < second.state().wait_seconds < 2.0
    await waiting
    assert time.monotonic() - begin > 1.9
    sentence = second.on_success(started_at=second.now())
    assert sentence
    assert sentence.startswith("a process that shares the limit 'default' was refused; requests: at most 8 at once")
    assert first.state().n_allowed == second.state().n_allowed == 8  # one burst halves once


async def test_refusals_are_shared_without_a_rate() -> None:
    home = MemoryHome()
    first, second = (RateLimit(16, shared=home).for_this_process() for _ in range(2))
    await first.acquire()
    first.on_error(ServerError("overloaded", status=503, retryable=True), started_at=first.now() - 0.1)
    await wait_until(lambda: home.n_messages > 0)
    await second.acquire()  # it needs no lease, but asks for news
    await wait_until(lambda: second.state().n_allowed == 8)
    home.is_down = True
    await asyncio.sleep(0.6)
    second.release()
    await second.acquire()
    await wait_until(lambda: second.note is not None)
    assert second.note == (
        "The shared limit 'default' could not be reached (the home is closed for the night); this process went on with "
        "no news of refusals."
    )


async def test_a_home_out_of_reach_leaves_each_process_its_share(fault_server: FaultServer) -> None:
    home, events = MemoryHome(), list[Event]()
    limits = [RateLimit(16, requests_per_minute=600, shared=home, name="key 1") for _ in range(2)]
    for limit in limits:
        await start_requests(limit, 1)
    options: dict[str, Any] = {"base_url": fault_server.url, "head": None, "on_event": events.append}
    async with AsyncSwiftReranker("openai-compatible", "m", limit=limits[0], **options) as reranker:
        fault_server.n_max = 1
        selection = await reranker.best_of("q", n=4)
        assert not [note for note in selection.notes if "limit" in note]
        home.is_down = True
        await asyncio.sleep(1.2)
        selection = await reranker.best_of("q", n=8)
        assert len(selection.candidates) == 8
        selection = await reranker.best_of("q", n=8)
        (note,) = (note for note in selection.notes if "limit" in note)
        assert note == (
            "The shared limit 'key 1' could not be reached (the home is closed for the night); this process went on "
            "with at most 300 requests per minute."
        )
        home.is_down = False
        limiter = limits[0].for_this_process()
        await wait_until(lambda: limiter.note is None or asyncio.ensure_future(start_requests(limits[0], 1)) is None)
        selection = await reranker.best_of("q", n=4)
        assert not [note for note in selection.notes if "limit" in note]
    messages = [event.message for event in events if event.kind == "limit"]
    assert messages[0].startswith("the shared limit 'key 1' cannot be reached; at most 300 requests per minute")
    assert messages[-1] == "the shared limit 'key 1' is reached again"


async def test_an_own_share_refills_at_its_rate() -> None:
    home = MemoryHome(is_down=True)
    limit = RateLimit(16, requests_per_minute=1200, shared=home)  # 20 per second, and no member was seen but this one
    assert 0.4 < await start_requests(limit, 20) < 3.0


def test_what_starts_without_the_home_is_counted_when_it_is_back() -> None:
    bucket = LeasedBucket(600, request_size=lambda: 1.0, on_need=lambda: None, on_take=lambda: None)
    bucket.use_lease(10)
    bucket.take(4)
    bucket.use_own_share(2, now=0.0)
    assert bucket.wait_seconds(6, now=0.0) == 0.0  # the rest of the lease
    assert bucket.wait_seconds(11, now=0.0) == 1.0  # at 5 per second
    assert bucket.wait_seconds(26, now=4.0) == 0.0
    bucket.take(26)

    demand = bucket.demand(1, in_flight=0.0, gives_back=True)
    assert (demand.total_used, demand.total_returned) == (30, 0)
    _, lease = grant(None, LeaseRequest(member="m", number=1, demands={"units": demand}), 0.0)
    bucket.use_lease(lease.total_granted["units"])
    assert bucket.balance >= 0
    assert bucket.wait_seconds(50, now=9.0) > 0.0  # its own share is over


def test_a_long_outage_does_not_stop_all_when_it_is_over() -> None:
    home = MemoryHome()
    buckets = [
        LeasedBucket(600, request_size=lambda: 1.0, on_need=lambda: None, on_take=lambda: None) for _ in range(2)
    ]
    for bucket in buckets:
        bucket.use_own_share(2, now=0.0)
        for _ in range(150):  # 30 seconds at 5 per second
            bucket.take(1)
    for number, bucket in enumerate(buckets):
        demand = bucket.demand(0, in_flight=0.0, gives_back=False)
        home.lease("rate", LeaseRequest(member=f"m{number}", number=1, demands={"units": demand}))
    assert home.states["rate"].levels["units"].in_use <= 100  # the bucket is empty, and owes nothing


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"total_granted": 1e9}, "TypeError"),
        (Lease(account="a", total_granted={"requests": math.nan}, in_use={}, n_members=1), "ValueError"),
        (Lease(account="a", total_granted={}, in_use={}, n_members=1, wait_seconds=math.inf), "ValueError"),
    ],
)
async def test_an_object_that_gives_no_lease_is_a_home_out_of_reach(answer: Any, kind: str) -> None:
    class Liar:
        def lease(self, name: str, request: LeaseRequest) -> Any:
            return answer

    limit = RateLimit(4, requests_per_minute=6000, shared=Liar())
    await start_requests(limit, 3)
    note = limit.for_this_process().note
    assert note
    assert f"({kind})" in note


@pytest.mark.parametrize("shared", [5, b"limits.db", object()])
def test_only_a_place_can_be_shared(shared: Any) -> None:
    with pytest.raises(ConfigurationError, match="A shared limit is kept in"):
        RateLimit(shared=shared)
    with pytest.raises(ConfigurationError, match="A shared limit is kept in"):
        Budget(calls=1).open(shared=shared)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 129, 5])
def test_a_name_is_short_and_printable(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="printable"):
        RateLimit(shared=MemoryHome(), name=name)
    with pytest.raises(ConfigurationError, match="printable"):
        Budget(calls=1).open(shared=MemoryHome(), name=name)


def test_a_file_that_is_not_a_samples_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a text of some length")
    with pytest.raises(ConfigurationError, match="is not a samples file"):
        RateLimit(shared=path)
    with pytest.raises(ConfigurationError, match="is not a samples file"):
        Budget(calls=1).open(shared=path)


def test_the_limit_shows_its_name() -> None:
    shown = repr(RateLimit(16, requests_per_minute=3000, shared=MemoryHome(), name="key 1"))
    assert shown == "RateLimit(16, requests_per_minute=3000, shared as 'key 1')"


# --- budgets

SPENDER = """
import sys
from swift_client import Budget
from swift_client.sampling import Cost
tracker = Budget(calls=1280).open(shared=sys.argv[1], name="nightly")
tracker.reserve(Cost(calls=1))
tracker.commit(Cost(calls=1), Cost(calls=1))
print("spent", flush=True)
sys.stdin.readline()
"""


def start_spender(path: Path) -> subprocess.Popen[bytes]:
    child = start(SPENDER, str(path))
    assert child.stdout
    assert child.stdout.readline() == b"spent\n"
    return child


def test_a_killed_process_leaves_its_lease_spent_and_one_that_ends_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    killed = start_spender(path)
    killed.kill()
    killed.communicate()
    ended = start_spender(path)
    ended.communicate(b"\n", timeout=20)
    assert ended.returncode == 0
    tracker = Budget(calls=1280).open(shared=path, name="nightly")
    assert spend_all(tracker) == 1280 - 20 - 1  # one 64th, and one call
    with pytest.raises(BudgetExceededError) as failure:
        tracker.reserve(ONE_CALL)
    assert failure.value.message == (
        "The budget 'nightly' of 1,280 calls cannot cover 1 more: 1,280 are spent or leased by all processes."
    )
    tracker.close()
    assert Budget(calls=1281).open(shared=path, name="nightly").affordable(9, lambda n: Cost(calls=n)) == 1


MANY = """
import sys
from swift_client import Budget, SwiftReranker
from swift_client.errors import BudgetExceededError
url, home = sys.argv[1:]
tracker = Budget(calls=40).open(shared=home)
with SwiftReranker("openai-compatible", "m", base_url=url, head=None, store=None) as reranker:
    print("ready", flush=True)
    sys.stdin.readline()
    results = reranker.best_of_many([f"question {i}" for i in range(60)], n=1, budget=tracker, return_exceptions=True)
    print(sum(not isinstance(result, BudgetExceededError) for result in results))
"""


def test_a_budget_is_shared_by_the_many_questions_of_two_processes(fault_server: FaultServer, tmp_path: Path) -> None:
    children = [start(MANY, fault_server.url, str(tmp_path / "limits.db")) for _ in range(2)]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write(b"go\n")
        child.stdin.flush()
    answers = [int(child.communicate(timeout=40)[0]) for child in children]
    assert sum(answers) == len(fault_server.requests) <= 40
    assert sum(answers) >= 36


def test_threads_of_one_process_never_exceed_the_budget() -> None:
    home = MemoryHome()
    trackers = [Budget(usd=1.0, calls=500).open(shared=home) for _ in range(2)]
    cost = Cost(usd=0.01, calls=1)
    counts: list[int] = []

    def spend(tracker: BudgetTracker) -> None:
        count = 0
        while not tracker.shortfall(cost):
            try:
                tracker.reserve(cost)
            except BudgetExceededError:
                break
            tracker.commit(cost, cost)
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=spend, args=(tracker,)) for tracker in trackers * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 96 <= sum(counts) <= 100
    assert sum(tracker.spent.calls for tracker in trackers) == sum(counts)


def test_without_its_home_a_budget_spends_its_lease_and_says_why_there_is_no_more() -> None:
    home = MemoryHome()
    tracker = Budget(calls=640).open(shared=home, name="nightly")
    tracker.reserve(ONE_CALL)
    home.is_down = True
    assert spend_all(tracker) == 9
    begin = time.monotonic()
    with pytest.raises(BudgetExceededError) as failure:
        tracker.reserve(ONE_CALL)
    assert time.monotonic() - begin < 0.5
    assert failure.value.message == (
        "The budget 'nightly' of 640 calls cannot cover 1 more: its account cannot be reached (the home is closed for "
        "the night), and what this process had leased is used."
    )
    assert tracker.problem == "the home is closed for the night"
    home.is_down = False
    time.sleep(1.3)
    tracker.reserve(ONE_CALL)
    assert tracker.problem is None


def test_a_home_that_does_not_answer_delays_a_request_by_a_second() -> None:
    home = MemoryHome(delay=4.0)
    tracker = Budget(calls=10).open(shared=home)
    begin = time.monotonic()
    for _ in range(3):
        with pytest.raises(BudgetExceededError, match="no answer in time") as failure:
            tracker.reserve(ONE_CALL)
        assert failure.value.hint == "Check the file or server that shares the budget."
    assert 0.9 < time.monotonic() - begin < 2.0
    assert tracker.problem == "no answer in time"


async def test_a_shared_budget_stops_best_of(fault_server: FaultServer) -> None:
    tracker = Budget(calls=3).open(shared=MemoryHome(), name="nightly")
    fault_server.n_max = 1
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, head=None) as reranker:
        selection = await reranker.best_of("q", n=5, budget=tracker)
        assert len(selection.candidates) == len(fault_server.requests) == 3
        assert any("The budget 'nightly' of 3 calls cannot cover" in note for note in selection.notes)


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from swift_client import Budget, RateLimit
from swift_client.sampling import Cost
tracker = Budget(calls=640).open(shared=sys.argv[1])
tracker.reserve(Cost(calls=4))
tracker.commit(Cost(calls=4), Cost(calls=4))
child = os.fork()
tracker.reserve(Cost(calls=2))
tracker.commit(Cost(calls=2), Cost(calls=2))
print(tracker.spent.calls, flush=True)
tracker.close()
if child:
    os.waitpid(child, 0)
else:
    os._exit(0)
"""


def test_a_forked_process_is_a_member_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    output, _ = start(FORK, str(path)).communicate(timeout=30)
    assert sorted(output.split()) == [b"2", b"6"]
    assert spend_all(Budget(calls=640).open(shared=path)) == 640 - 8


FORK_WITH_THREADS = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")
from swift_client import Budget
from swift_client.sampling import Cost
tracker = Budget(calls=640).open(shared=sys.argv[1])
tracker.reserve(Cost(calls=4))
tracker.commit(Cost(calls=4), Cost(calls=4))
begins, end = threading.Event(), threading.Event()
def hold():
    with tracker._lock:
        begins.set()
        end.wait()
threading.Thread(target=hold).start()
begins.wait()
if child := os.fork():
    end.set()
    os.waitpid(child, 0)
else:
    signal.alarm(20)
    sys.setswitchinterval(1e-6)
    print(tracker.spent.calls, flush=True)
    barrier = threading.Barrier(16)
    def spend():
        barrier.wait()
        for attempt in range(10):  # a busy machine may take more than a second to answer
            if tracker.shortfall(Cost(calls=1)) is None:
                break
        tracker.reserve(Cost(calls=1))
        tracker.commit(Cost(calls=1), Cost(calls=1))
    threads = [threading.Thread(target=spend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(tracker.spent.calls, flush=True)
    tracker.close()
    os._exit(0)
"""


def test_threads_of_a_forked_process_are_one_member_whatever_lock_was_taken_at_the_fork(tmp_path: Path) -> None:
    output, _ = start(FORK_WITH_THREADS, str(tmp_path / "limits.db")).communicate(timeout=60)
    assert output.split() == [b"0", b"16"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert len([thread for thread in threading.enumerate() if thread.name == "swift-client-limits"]) < 40


def test_json_is_what_a_file_stores(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "limits.db"
    Budget(calls=10).open(shared=path).reserve(ONE_CALL)
    with sqlite3.connect(path) as connection:
        ((name, state),) = connection.execute("SELECT name, state FROM account")
    connection.close()
    assert name == "budget/default"
    assert json.loads(state)["levels"]["calls"]["in_use"] == 1
