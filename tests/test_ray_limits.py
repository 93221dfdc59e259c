"""The actor of shared limits: several members keep one rate, also while kill -9 takes the actor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ray_clusters import kill, local_cluster

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from swift_client.ray.folder import Folder
from swift_client.ray.limits_actor import JournalStore, RayLeases
from swift_client.sampling import Budget, Cost, RateLimit
from swift_client.shared_limits import Demand, LeaseRequest, StoreLeases


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with local_cluster() as ray:
        yield ray


def request(number: int, *, used: float = 0.0, target: float = 10.0, account: str = "") -> LeaseRequest:
    demand = Demand(capacity=100.0, total_used=used, target=target)
    return LeaseRequest(member="m", number=number, account=account, demands={"usd": demand})


def test_a_new_process_continues_by_the_journal(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    first = StoreLeases(JournalStore(folder)).lease("a/b", request(1))
    second = StoreLeases(JournalStore(folder)).lease("a/b", request(2, used=10.0, account=first.account))
    assert first.account == second.account
    assert second.in_use["usd"] == second.total_granted["usd"] >= 20.0
    assert StoreLeases(JournalStore(None)).lease("a/b", request(3)).account != first.account


def test_two_members_keep_the_rate_and_the_budget_and_the_actor_may_be_killed(ray: Any, tmp_path: Path) -> None:
    per_minute, seconds = 3000.0, 6.0

    @ray.remote(num_cpus=1)
    class Member:
        async def start_requests(self, seconds: float) -> list[float]:
            leases = RayLeases("test", Folder(tmp_path))
            leases.connect()
            limiter = RateLimit(8, requests_per_minute=per_minute, shared=leases, name="rate").for_this_process()
            starts = []
            end = time.time() + seconds
            while time.time() < end:
                await limiter.acquire()
                starts.append(time.time())
                limiter.release()
            return starts

        def spend(self) -> int:
            leases = RayLeases("test", Folder(tmp_path))
            leases.connect()  # the actor may be starting again
            tracker = Budget(calls=40).open(shared=leases, name="calls")
            n = 0
            while tracker.affordable(1, lambda n: Cost(calls=n)):
                tracker.reserve(Cost(calls=1))
                tracker.commit(Cost(calls=1), Cost(calls=1))
                n += 1
            return n

    leases = RayLeases("test", Folder(tmp_path))
    leases.connect()
    members = [Member.remote(), Member.remote()]
    references = [member.start_requests.remote(seconds) for member in members]
    time.sleep(3.0)
    kill(ray.get(leases.start().pid.remote()))
    starts = sorted(start for group in ray.get(references, timeout=60) for start in group)
    elapsed = starts[-1] - starts[0]
    # At most a bucket of ten seconds' worth, the refill, and the leases of both.
    assert len(starts) <= per_minute / 6 + per_minute / 60 * elapsed + 2 * per_minute / 60 * 0.25
    assert len(starts) >= 0.8 * per_minute / 60 * elapsed
    spent = ray.get([member.spend.remote() for member in members], timeout=60)
    assert 36 <= sum(spent) <= 40
