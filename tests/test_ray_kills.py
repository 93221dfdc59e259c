"""kill -9 of a worker and of the driver, and of the actor of limits: nothing is paid twice, and no run stops."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swift_client.collect.collect import Prices
from tests.children import environment
from tests.ray_clusters import (
    CountingServer,
    actor_pids,
    kill,
    local_cluster,
    times_of_serving,
    times_of_storing,
    worker_pids,
)

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from swift_client.ray import collect_shards

N_QUESTIONS, N = 48, 4
DRIVER = """
import sys, warnings
warnings.simplefilter("ignore")
import ray
from tests.test_ray_kills import collect_all
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
collect_all(ray, sys.argv[2], sys.argv[3])
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with local_cluster() as ray:
        yield ray


def collect_all(ray: Any, out: str, url: str, **changes: Any) -> Any:
    rows = [{"id": f"q{number}", "prompt": f"What is {number}?"} for number in range(N_QUESTIONS)]
    return collect_shards(
        ray.data.from_items(rows), out, provider="openai-compatible", model="m", base_url=url, api_key="k", n=N,
        seed=5, top_logprobs=3, workers=2, concurrency=2, commit_seconds=0.3, max_retries=4, **changes,
    )  # fmt: skip


def wait_for(find: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := find()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return value


def test_a_killed_worker_and_a_killed_driver_pay_for_nothing_twice(ray: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with CountingServer(delay=0.25, refuse_every=7) as server:
        address = ray.get_runtime_context().gcs_address
        line = [sys.executable, "-c", DRIVER, address, str(out), server.url]
        with subprocess.Popen(line, env={**environment(), "PYTHONWARNINGS": ""}, cwd=tmp_path) as driver:
            pids = wait_for(lambda: len(server.served) >= 8 and worker_pids())
            kill(pids[0])
            n_served = len(server.served)
            wait_for(lambda: len(server.served) >= n_served + 24 and times_of_storing(out))
            kill(driver.pid)
        stored = times_of_storing(out)
        result = collect_all(ray, str(out), server.url)
    assert result.complete
    assert result.samples == N_QUESTIONS * N
    times = times_of_storing(out)
    assert len(times) == N_QUESTIONS * N
    assert stored
    assert stored.items() <= times.items()
    served = times_of_serving(server)
    assert not [key for served_at, key in served if served_at > times[key]], "paid for although it was stored"
    assert 0 < len(served) - len(times) <= result.lost_in_flight <= 2 * 2 * 2 * 2 * 4 * N
    assert not list((out / "in_flight").iterdir())
    assert server.n_refused


def test_a_killed_actor_of_limits_stops_no_run(ray: Any, tmp_path: Path) -> None:
    with CountingServer(delay=0.1) as server, ThreadPoolExecutor(1) as pool:
        prices = Prices(prompt=1e6, completion=1e6)
        run = pool.submit(
            collect_all, ray, str(tmp_path), server.url, prices=prices, max_cost=2500.0, max_tokens=8,
            max_requests=N_QUESTIONS * N,
        )  # fmt: skip
        for n_served in (20, 60):
            pids = wait_for(lambda least=n_served: len(server.served) >= least and actor_pids("LimitsActor"))
            kill(pids[0])
        result = run.result(timeout=120)
    assert (result.stopped, result.complete) == (None, True)
    assert len(server.served) == N_QUESTIONS * N
