"""The thread of a member: it ends and begins anew, may fail to start, and survives what a home answers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from swift_client import Budget, RateLimit
from swift_client.sampling import Cost
from swift_client.shared_limits import AccountState, Lease, LeaseRequest, grant, member
from tests.children import environment

ONE_CALL = Cost(calls=1)


class Home:
    """A home in this process; its first ``n_slow`` last messages of members take seconds."""

    def __init__(self, n_slow: int = 0) -> None:
        self.states: dict[str, AccountState] = {}
        self._n_slow, self._lock = n_slow, threading.Lock()

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        if request.leaves and self._n_slow:
            self._n_slow -= 1
            time.sleep(0.5)
        with self._lock:
            self.states[name], lease = grant(self.states.get(name), request, time.time())
            return lease


def test_a_budget_goes_on_after_a_pause_in_which_its_thread_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    older_threads = set(threading.enumerate())
    monkeypatch.setattr(member, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(member, "_END_SECONDS", 0.1)
    tracker = Budget(calls=640).open(shared=Home())
    tracker.reserve(ONE_CALL)
    tracker.commit(ONE_CALL, ONE_CALL)
    for thread in set(threading.enumerate()) - older_threads:
        thread.join(5.0)
        assert not thread.is_alive()
    time.sleep(1.1)  # longer than a request waits for an answer
    tracker.reserve(ONE_CALL)


def test_a_budget_may_be_used_after_it_was_closed() -> None:
    home = Home()
    tracker = Budget(calls=640).open(shared=home)
    for pause in (1.1, 0.0):
        tracker.reserve(ONE_CALL)
        tracker.commit(ONE_CALL, ONE_CALL)
        tracker.close()
        time.sleep(pause)  # longer than a request waits for an answer
    assert tracker.spent.calls == 2
    assert home.states["budget/default"].levels["calls"].in_use == 2


HANDOVER = """
import sys, threading, time
from swift_client import Budget
from swift_client.sampling import Cost
from swift_client.shared_limits import StoreLeases
from swift_client.store import FileAccountStore

class Slow:
    def __init__(self):
        self.leases, self.is_slow = StoreLeases(FileAccountStore(sys.argv[1])), True
    def lease(self, name, request):
        if request.leaves and self.is_slow:
            self.is_slow = False
            time.sleep(0.5)
        return self.leases.lease(name, request)

tracker = Budget(calls=640).open(shared=Slow())
tracker.reserve(Cost(calls=1))
tracker.commit(Cost(calls=1), Cost(calls=1))
threading.Thread(target=tracker.close).start()
time.sleep(0.1)
tracker.reserve(Cost(calls=1))  # by a new thread, while the last message of the first is under way
tracker.commit(Cost(calls=1), Cost(calls=1))
time.sleep(0.7)
"""


def test_a_thread_that_ends_leaves_the_exit_handler_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    subprocess.run([sys.executable, "-c", HANDOVER, os.fspath(path)], env=environment(), check=True, timeout=60)
    tracker = Budget(calls=640).open(shared=path)
    assert tracker.affordable(640, lambda n: Cost(calls=n)) == 638
    tracker.close()


class NoThread(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


async def test_a_rate_goes_on_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = RateLimit(4, requests_per_minute=6000, shared=Home()).for_this_process()
    with monkeypatch.context() as patch:
        patch.setattr(member.threading, "Thread", NoThread)
        await asyncio.wait_for(limiter.acquire(), 5.0)
        limiter.release()
        assert limiter.note
        assert "(no thread can be started)" in limiter.note
    await asyncio.wait_for(limiter.acquire(), 5.0)
    end = time.monotonic() + 5.0
    while limiter.note:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def test_a_budget_says_that_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Budget(calls=640).open(shared=Home())
    with monkeypatch.context() as patch:
        patch.setattr(member.threading, "Thread", NoThread)
        problem = tracker.shortfall(ONE_CALL)
    assert problem
    assert "no thread can be started" in problem
    assert tracker.shortfall(ONE_CALL) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"in_use": {"requests": "many"}},
        {"in_use": {"requests": float("nan")}},
        {"in_use": None},
        {"n_members": None},
        {"n_members": "2"},
        {"n_members": -1},
        {"n_members": 10**400},
        {"total_granted": [1]},
        {"account": 5},
        {"refusal": {"age": "x"}},
    ],
)
async def test_an_answer_with_a_wrong_field_does_not_end_the_thread(fields: dict[str, Any]) -> None:
    class Liar:
        def lease(self, name: str, request: LeaseRequest) -> Lease:
            answer: dict[str, Any] = {"account": "a", "total_granted": {}, "in_use": {}, "n_members": 1}
            return Lease(**(answer | fields))

    limiter = RateLimit(4, requests_per_minute=6000, shared=Liar()).for_this_process()
    await asyncio.wait_for(limiter.acquire(), 5.0)
    assert limiter.note
    assert "could not be reached" in limiter.note
    tracker = Budget(calls=5).open(shared=Liar())
    problem = tracker.shortfall(ONE_CALL)
    assert problem
    assert "cannot be reached" in problem
