"""Collecting on a cluster while kill -9 takes workers and the driver: nothing that is stored is lost or paid twice.

A provider on loopback answers late and refuses some requests; two actors share a limit on requests per minute. Workers
are killed at seeded times, and then the driver; the next run continues. The provider notes when it served which
completion, and the files say when each was stored.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from swift_client.shared_limits.account import LEASE_SECONDS
from tests.ray_clusters import (
    CountingServer,
    kill,
    local_cluster,
    times_of_serving,
    times_of_storing,
    worker_pids,
)

ROOT = Path(__file__).parents[2]
WORKERS, CONCURRENCY, N = 2, 4, 4
PER_MINUTE = 900.0
DRIVER = """
import sys
import ray
from benchmarks.scaling.cluster import collect_all
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
collect_all(ray, sys.argv[2], sys.argv[3], int(sys.argv[4]))
"""
T = TypeVar("T")


def collect_all(ray: Any, out: str, url: str, n_questions: int) -> Any:
    """Collect all questions into the folder ``out``."""
    from swift_client.ray import collect_shards

    rows = [{"id": f"q{number}", "prompt": f"What is {number}?"} for number in range(n_questions)]
    return collect_shards(
        ray.data.from_items(rows), out, provider="openai-compatible", model="m", base_url=url, api_key="k", n=N,
        seed=5, top_logprobs=3, workers=WORKERS, concurrency=CONCURRENCY, commit_seconds=1.0, max_retries=6,
        requests_per_minute=PER_MINUTE,
    )  # fmt: skip


def measure(n_questions: int = 500, *, worker_kills: int = 5, seed: int = 0) -> dict[str, Any]:
    """Return the bars and details of one run with its kills and of the run that continues it.

    Args:
        n_questions: questions of 4 completions each; 500 take two minutes.
        worker_kills: workers to kill, spread over the first two thirds of the completions.
        seed: of their times.
    """
    draw = random.Random(seed)
    n_wanted = n_questions * N
    marks = sorted(draw.uniform(0.05, 0.6) * n_wanted for _ in range(worker_kills))
    with tempfile.TemporaryDirectory() as folder, CountingServer(delay=0.2, refuse_every=11) as server:
        out = Path(folder) / "run"
        with local_cluster() as ray:
            started_at = time.time()
            address = ray.get_runtime_context().gcs_address
            line = [sys.executable, "-c", DRIVER, address, str(out), server.url, str(n_questions)]
            with subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT)}) as driver:
                for mark in marks:
                    _wait(driver, lambda mark=mark: len(server.served) >= mark)
                    kill(draw.choice(_wait(driver, worker_pids)))
                _wait(driver, lambda: len(server.served) >= 0.7 * n_wanted)
                kill(driver.pid)
            stored = times_of_storing(out)
            result = collect_all(ray, str(out), server.url, n_questions)
            seconds = time.time() - started_at
        final = times_of_storing(out)
    served = times_of_serving(server)
    n_again = len(served) - len({key for _, key in served})
    bars = {
        "lost": _bar(len(stored.keys() - final.keys()) + n_wanted - len(final), "completions"),
        "paid_twice": _bar(sum(served_at > final[key] for served_at, key in served), "completions"),
        "again_but_not_counted": _bar(max(0, n_again - result.lost_in_flight), "completions"),
        "limit_excess": _bar(_limit_excess(server.arrivals), "requests"),
    }
    details = {
        "completions": len(final), "killed_workers": worker_kills, "stored_before_the_driver_was_killed": len(stored),
        "requested_again": n_again, "counted_in_flight": result.lost_in_flight, "refused": server.n_refused,
        "seconds": round(seconds, 1),
    }  # fmt: skip
    return {"bars": bars, "details": details}


def _limit_excess(arrivals: list[float]) -> float:
    """Return the most requests of any span of time beyond the limit and the leases; 0 if there are none."""
    rate = PER_MINUTE / 60
    allowed = PER_MINUTE / 6 + WORKERS * rate * LEASE_SECONDS  # ten seconds' worth may go at once
    lowest, excess = float("inf"), 0.0
    for number, arrival in enumerate(sorted(arrivals)):
        lowest = min(lowest, number - rate * arrival)
        excess = max(excess, number + 1 - rate * arrival - lowest - allowed)
    return round(excess, 1)


def _bar(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "target": 0, "unit": unit, "interval": None}


def _wait(driver: subprocess.Popen[bytes], find: Callable[[], T], seconds: float = 120.0) -> T:
    """Return the first value of ``find()`` that is true."""
    end = time.monotonic() + seconds
    while not (value := find()):
        if driver.poll() is not None or time.monotonic() > end:
            raise RuntimeError("the driver has ended, or nothing happens")
        time.sleep(0.02)
    return value


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 500), indent=1))
