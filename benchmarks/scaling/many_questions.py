"""``best_of_many`` beside a hand-written ``asyncio.gather``, on an upstream that takes 50 ms.

The upstream gives 2 completions of 30 tokens with 20 alternatives each, in a process of its own; 16 requests run at
once. In each round, gather, ``best_of_many`` and ``best_of_many(in_order=False)`` answer the same number of questions
in turn; intervals are the lowest and the highest round. On a busy machine, compare the CPU time per question instead.
Memory is that of the process after a quarter of the questions of one more run, and the highest after that. Then the
iterator is closed while requests wait.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving.processes import run_upstream, upstream_counts
from swift_client import AsyncSwiftReranker

N = 2  # completions per question


def prompts(count: int) -> Iterator[str]:
    """Yield so many questions."""
    return (f"What is {number} * 24? End with: The answer is N." for number in range(count))


async def ask_by_gather(reranker: AsyncSwiftReranker, count: int) -> None:
    """Answer the questions as one would by hand: one task each, under the reranker's own limit."""
    await asyncio.gather(*(reranker.best_of(prompt, N) for prompt in prompts(count)))


async def ask_in_order(reranker: AsyncSwiftReranker, count: int) -> None:
    """Answer the questions by ``best_of_many``."""
    async for _ in reranker.best_of_many(prompts(count), N):
        pass


async def ask_unordered(reranker: AsyncSwiftReranker, count: int) -> None:
    """Answer the questions by ``best_of_many``, as they are ready."""
    async for _ in reranker.best_of_many(prompts(count), N, in_order=False):
        pass


WAYS: dict[str, Callable[[AsyncSwiftReranker, int], Coroutine[Any, Any, None]]] = {
    "gather": ask_by_gather,
    "in_order": ask_in_order,
    "unordered": ask_unordered,
}


class Speed(NamedTuple):
    """The speed of one way, per round."""

    rates: list[float]  # questions per second
    cpu_ms: list[float]  # CPU time of this process per question


async def measure_speeds(reranker: AsyncSwiftReranker, count: int, rounds: int) -> dict[str, Speed]:
    """Return the speed of each way; the order of the ways turns with the rounds."""
    speeds = {name: Speed([], []) for name in WAYS}
    orders = itertools.cycle(itertools.permutations(WAYS))
    for order in itertools.islice(orders, rounds):
        for name in order:
            start, cpu_start = time.perf_counter(), time.process_time()
            await WAYS[name](reranker, count)
            speeds[name].rates.append(count / (time.perf_counter() - start))
            speeds[name].cpu_ms.append(1000 * (time.process_time() - cpu_start) / count)
    return speeds


def memory_mb() -> float:
    """Return the resident memory of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure_memory(reranker: AsyncSwiftReranker, count: int) -> tuple[float, float]:
    """Return the memory after a quarter of the questions, and the highest after that, in MB."""
    first = highest = 0.0
    numbers = itertools.count(1)
    async for _ in reranker.best_of_many(prompts(count), N, in_order=False):
        number = next(numbers)
        if number == count // 4:
            first = highest = memory_mb()
        elif number > count // 4 and number % 50 == 0:
            highest = max(highest, memory_mb())
    return first, highest


async def measure_close(reranker: AsyncSwiftReranker, port: int) -> tuple[int, int]:
    """Close an iterator while requests wait; return the tasks and the requests that are left 0.1 s later."""
    async with aclosing(reranker.best_of_many(prompts(10_000), N)) as results:
        async for _ in results:
            break
    n_tasks = len(asyncio.all_tasks()) - 1
    await asyncio.sleep(0.1)
    return n_tasks, (await asyncio.to_thread(upstream_counts, port))["waiting"]


def ratio_bar(values: Sequence[float], base: Sequence[float], target: float) -> dict[str, Any]:
    """Return a bar of the rounds' ratios: their median, lowest and highest."""
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    return {
        "value": round(statistics.median(ratios), 3),
        "target": target,
        "unit": "questions per second / gather",
        "interval": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def measure_many_questions(questions: int = 10_000, rounds: int = 40) -> dict[str, Any]:
    """Return the bars, and the speeds of each way in all rounds, for so many questions per way."""
    with run_upstream() as port:
        return asyncio.run(_measure(port, questions, rounds))


async def _measure(port: int, count: int, rounds: int) -> dict[str, Any]:
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=f"http://127.0.0.1:{port}/v1") as reranker:
        await ask_unordered(reranker, 50)  # connections and imports
        speeds = await measure_speeds(reranker, max(1, count // rounds), rounds)
        first, highest = await measure_memory(reranker, count)
        n_tasks, n_waiting = await measure_close(reranker, port)
    bars = {
        "best_of_many_ratio": ratio_bar(speeds["in_order"].rates, speeds["gather"].rates, 0.95),
        "best_of_many_unordered_ratio": ratio_bar(speeds["unordered"].rates, speeds["gather"].rates, 0.95),
        "best_of_many_memory_growth": {
            "value": round(highest / first - 1, 4), "target": 0.1, "unit": f"share of {first:.0f} MB", "interval": None,
        },
        "tasks_left": {"value": n_tasks, "target": 0, "unit": "tasks after an early end", "interval": None},
        "requests_left": {"value": n_waiting, "target": 0, "unit": "requests 0.1 s after it", "interval": None},
    }  # fmt: skip
    details = {
        name: {
            "questions_per_s": [round(rate, 1) for rate in speed.rates],
            "cpu_ms": round(statistics.median(speed.cpu_ms), 2),
        }
        for name, speed in speeds.items()
    }
    return {"bars": bars, "details": details}
