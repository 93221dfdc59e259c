"""Functions of the user that hang or raise odd things: they cost a note, never an answer, and never stop others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NoReturn

import pytest

from swift_client import AsyncSwiftReranker, Completion
from swift_client.adapters import user_threads
from swift_client.adapters.user_threads import UserThreads
from swift_client.answers import math_equality
from swift_client.errors import NoCompletionError
from tests.children import environment
from tests.servers import FaultServer

Make = Callable[..., AsyncSwiftReranker]


@pytest.fixture
async def reranker(fault_server: FaultServer) -> AsyncIterator[Make]:
    async with contextlib.AsyncExitStack() as stack:

        def make(**options: Any) -> AsyncSwiftReranker:
            options = {"api_key": "k", "base_url": fault_server.url, "require_logprobs": False, **options}
            best = AsyncSwiftReranker("openai-compatible", "m", **options)
            stack.push_async_callback(best.aclose)
            return best

        yield make


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that hung functions wait for, set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("name", ["judge", "external", "scorer", "answer", "api_key"])
async def test_a_function_that_hangs_stops_no_other_reranker(
    fault_server: FaultServer, reranker: Make, gate: threading.Event, name: str
) -> None:
    def hang(*_: object) -> Any:
        gate.wait(60)
        return None

    fault_server.answers = ("4", "5")
    bad = reranker(**{name: hang}, timeout=1.0, max_retries=0)
    good = reranker()
    started = time.monotonic()
    results = await asyncio.gather(*(bad.best_of("q", n=2) for _ in range(40)), return_exceptions=True)
    assert time.monotonic() - started < 5
    for result in results:
        if name == "api_key":
            assert isinstance(result, NoCompletionError)
        else:
            assert not isinstance(result, BaseException)
            assert any("took longer than 1 s and was ignored" in note for note in result.notes), result.notes
    started = time.monotonic()
    await good.best_of("q", n=2, deadline=2.0)
    assert time.monotonic() - started < 2


async def test_a_stopping_rule_does_not_wait_for_a_hung_scorer(reranker: Make, gate: threading.Event) -> None:
    def hang(completions: Sequence[Completion]) -> list[float]:
        gate.wait(60)
        return [0.0] * len(completions)

    started = time.monotonic()
    selection = await reranker(scorer=hang, timeout=0.2).best_of("q", n=4, stopping="auto", deadline=1.0)
    assert time.monotonic() - started < 2
    assert any("scorer= took longer" in note for note in selection.notes)


async def test_a_fast_scorer_counts_even_if_sampling_took_all_the_time(reranker: Make) -> None:
    selection = await reranker(scorer=lambda completions: [1.0] * len(completions)).best_of("q", n=2, deadline=1.0)
    assert not any("ignored" in note for note in selection.notes)


@pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3), KeyboardInterrupt(), MemoryError(), OSError(5)])
@pytest.mark.parametrize("name", ["judge", "external", "scorer"])
async def test_whatever_a_function_raises_costs_a_note(reranker: Make, name: str, error: BaseException) -> None:
    def fail(*_: object) -> NoReturn:
        raise error

    selection = await asyncio.wait_for(reranker(**{name: fail}).best_of("q", n=2), 10)
    assert any("failed" in note for note in selection.notes)


@pytest.mark.parametrize("value", [[10**400] * 2, 10**400, object(), ["1", "x"], [[1, 2], [3]]])
@pytest.mark.parametrize("name", ["judge", "external", "scorer"])
async def test_scores_that_are_no_numbers_cost_a_note(reranker: Make, name: str, value: object) -> None:
    selection = await reranker(**{name: lambda *_: value}).best_of("q", n=2)
    assert any("failed" in note for note in selection.notes)


async def test_threads_are_few_and_the_wait_for_one_is_part_of_the_call(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_threads, "MAX_THREADS", 3)
    threads, started = UserThreads(), []

    def hang() -> None:
        started.append(threading.current_thread())
        gate.wait(60)

    calls = [asyncio.create_task(threads.call(hang)) for _ in range(10)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(threads.call(hang), 0.2)
    assert len(started) == 3
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    gate.set()
    assert await asyncio.wait_for(threads.call(lambda: 4), 5) == 4
    assert len(started) == 3  # calls that were given up before their turn never ran


def test_a_process_ends_although_a_function_hangs() -> None:
    program = (
        "import asyncio, time\nfrom swift_client.adapters.user_threads import UserThreads\n"
        "async def main():\n"
        "    try: await asyncio.wait_for(UserThreads().call(time.sleep, 600), .1)\n"
        "    except TimeoutError: print('given up')\n"
        "asyncio.run(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "given up\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_fork_has_threads_of_its_own() -> None:
    threads = UserThreads()
    assert await threads.call(os.getpid) == os.getpid()
    pools: dict[int, Any] = threads._pools
    assert list(pools) == [os.getpid()]


TOWERS = [rf"\boxed{{9^{{9^{{9^{{{height}}}}}}}}}" for height in range(4, 12)]
HARD: dict[str, Callable[[int], str]] = {
    "towers": lambda number: TOWERS[number],
    "factorials": lambda number: rf"\boxed{{{number + 10**6}!!}}",
    "powers": lambda number: rf"\boxed{{(x+y+z+{number})^{{4000}}}}",
}


@pytest.mark.skipif(not math_equality.is_available(), reason="needs the extra math")
@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("stopping", [None, "auto"])
async def test_the_deadline_holds_while_formulas_are_compared(
    fault_server: FaultServer, reranker: Make, kind: str, stopping: str | None
) -> None:
    fault_server.answers = tuple(HARD[kind](number) for number in range(8))
    best = reranker()
    for deadline in (1.0, 0.5):
        started = time.monotonic()
        with contextlib.suppress(NoCompletionError):
            await best.best_of("q", n=8, deadline=deadline, stopping=stopping)
        assert time.monotonic() - started < deadline + 0.8


@pytest.mark.skipif(not math_equality.is_available(), reason="needs the extra math")
def test_a_start_that_outlasts_its_deadline_goes_on() -> None:
    worker = math_equality.FormulaWorker()
    started = time.monotonic()
    worker.prepare(started + 0.01)
    assert worker.are_equal("x+1", "1+x", wait_seconds=0.01) is None
    assert time.monotonic() - started < 1
    assert worker.are_equal("x+1", "1+x") is True
