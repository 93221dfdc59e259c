"""The calls of benchmarks/faults.py: real clients, sync and async."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai

from benchmarks.fault_endpoint import FAULTS
from benchmarks.fault_hazards import HAZARDS, Scene, stored_texts
from swift_client import AsyncSwiftReranker, Selection, SwiftReranker
from swift_client.adapters import PROVIDERS, Provider
from swift_client.errors import SwiftClientError

LIMIT = 400_000
"""``max_reply_bytes``."""
TIMEOUT = 0.6
REFERENCE = re.compile(r"ref-\d+-\d+-\d+")
REPEAT = 10**6
"""Added to the numbers of calls that are repeated."""
CLIENTS = ("async", "async", "async", "sync", "sync", "own_async", "own_sync")
UNREACHABLE = ("refused", "tls_to_plain", "unknown_host")
_WARM_UP: Mapping[str, Any] = {
    "prompt": json.dumps(
        {"call": -1, "fault": None, "seed": 0, "share": 0, "limit": 0, "delay": 0, "wants_object": False}
    ),
    "n": 1,
}
"""A call that opens the connections of a client: reading the trust store takes longer than a deadline here."""
_BASE = PROVIDERS["openai-compatible"]
ROWS: Mapping[str, Provider] = {
    "one_request": _BASE,
    "one_each": replace(_BASE, capabilities=replace(_BASE.capabilities, n_max=1)),
    "no_streams": replace(_BASE, capabilities=replace(_BASE.capabilities, streams_logprobs=False)),
}


@dataclass(frozen=True)
class Call:
    """One call of ``best_of``."""

    number: int
    fault: str | None
    n: int
    deadline: float | None
    cut_at: float
    """Seconds after which it is cancelled, if it is."""
    options: Mapping[str, Any]

    def prompt(self, seed: int, *, wants_object: bool) -> str:
        """Return the prompt, which tells the endpoint what to do; a repeated call gets the same again."""
        return json.dumps(
            {"call": self.number, "fault": self.fault, "seed": f"{seed}-{self.number % REPEAT}", "share": 0.85,
             "limit": LIMIT, "delay": 0.02, "wants_object": wants_object}
        )  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Calls of one client at once."""

    seed: int
    client: str
    row: str
    hazard: str | None
    settings: Mapping[str, Any]
    calls: tuple[Call, ...]

    def repeated(self) -> Batch:
        """Return the same batch again, with other numbers."""
        return replace(self, calls=tuple(replace(call, number=call.number + REPEAT) for call in self.calls))


@dataclass
class Outcome:
    """The end of one call."""

    call: Call
    batch: Batch
    seconds: float
    ended_at: float
    value: Selection | BaseException
    was_cut: bool
    stored: frozenset[str] = frozenset()
    """References in the store, if calls that are cut short must be there."""


def draw_batches(seed: int, *, size: int) -> Iterator[Batch]:
    """Draw batches without end; every fault and every hazard comes before any comes again."""
    rng = random.Random(seed)
    faults, hazards = _shuffled(rng, [*FAULTS, *UNREACHABLE]), _shuffled(rng, list(HAZARDS))
    number = 0
    while True:
        hazard = next(hazards) if rng.random() < 0.4 else None
        calls = []
        for _ in range(size):
            fault = None if hazard and rng.random() < 0.5 else next(faults)
            calls.append(_draw_call(rng, number, fault))
            number += 1
        settings = {
            "max_retries": rng.choice([0, 0, 1, 2]),
            "answer": rng.choice(["auto", "auto", "number", "text", None]),
            "require_logprobs": rng.choice(["auto", "auto", False]),
        }
        yield Batch(rng.randrange(10**9), rng.choice(CLIENTS), rng.choice(list(ROWS)), hazard, settings, tuple(calls))


def _shuffled(rng: random.Random, names: list[str]) -> Iterator[str]:
    while True:
        rng.shuffle(names)
        yield from names


def _draw_call(rng: random.Random, number: int, fault: str | None) -> Call:
    options: dict[str, Any] = {}
    if rng.random() < 0.1:
        options["stopping"] = rng.choice(["auto", "beta"])
    if rng.random() < 0.2:
        options["seed"] = rng.randrange(100)
    n = rng.choice([1, 2, 3, 4])
    if rng.random() < 0.1:
        options["min_completions"] = n
    deadline = rng.uniform(0.25, 0.8) if rng.random() < 0.75 else None
    return Call(number, fault, n, deadline, rng.uniform(0, 0.5), options)


# --- running -------------------------------------------------------------------------------------------------------


def run_batch(batch: Batch, port: int, folder: Path, key: str) -> tuple[list[Outcome], dict[str, int]]:
    """Run the calls of a batch at once; return their outcomes, and the faults that were injected here."""
    scene = Scene(folder, random.Random(batch.seed))
    if batch.hazard:
        HAZARDS[batch.hazard](scene)
    faults: dict[str, int] = {}
    try:
        with scene.around:
            run = _run_async if "async" in batch.client else _run_sync
            outcomes = run(batch, scene, port, key, faults)
    except BaseException as error:  # it ended the loop
        outcomes = [Outcome(call, batch, 0.0, time.monotonic(), error, False) for call in batch.calls]
    finally:
        scene.release.set()
    if batch.hazard:
        faults[batch.hazard] = len(batch.calls) if scene.per_call or scene.cuts_short == "close" else scene.n_injected
        if scene.cuts_short == "cancel":
            faults[batch.hazard] = sum(outcome.was_cut for outcome in outcomes)
    if scene.keeps_store:
        gc.collect()
        stored = frozenset(find_references(" ".join(_wait_for_store(str(scene.constructor["store"]), outcomes))))
        for outcome in outcomes:
            outcome.stored = stored
    return outcomes, faults


def _wait_for_store(path: str, outcomes: list[Outcome]) -> list[str]:
    """Return the texts in a store once no more arrive."""
    texts: list[str] = []
    for _ in range(20):
        time.sleep(0.1)
        found = stored_texts(path)
        if len(found) == len(texts):
            break
        texts = found
    return texts


def _arguments(batch: Batch, scene: Scene, port: int, key: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "provider": ROWS[batch.row],
        "model": "m",
        "timeout": TIMEOUT,
        "max_reply_bytes": LIMIT,
        "top_logprobs": 2,
        **batch.settings,
        **scene.constructor,
    }
    if arguments["require_logprobs"] is False:
        del arguments["top_logprobs"]
    url = f"http://127.0.0.1:{port}/v1"
    if batch.client.startswith("own") and "api_key" not in scene.constructor:
        kind = openai.AsyncOpenAI if batch.client == "own_async" else openai.OpenAI
        return {**arguments, "client": kind(base_url=url, api_key=key)}
    return {"base_url": url, "api_key": key, **arguments}


def _unreachable(arguments: dict[str, Any], fault: str) -> dict[str, Any]:
    """Return the arguments for an address at which nobody answers."""
    own = {name: value for name, value in arguments.items() if name != "client"}
    url = own.pop("base_url", "http://127.0.0.1:1/v1")
    addresses = {
        "refused": "http://127.0.0.1:9/v1",
        "tls_to_plain": url.replace("http:", "https:"),
        "unknown_host": "http://does-not-exist.invalid/v1",
    }
    return {"api_key": "k" * 20, **own, "base_url": addresses[fault]}


def _best_of_arguments(batch: Batch, scene: Scene, call: Call) -> dict[str, Any]:
    prompt = call.prompt(batch.seed, wants_object="response_model" in scene.call)
    return {"prompt": prompt, "n": call.n, "deadline": call.deadline, **call.options, **scene.call}


def _run_async(batch: Batch, scene: Scene, port: int, key: str, faults: dict[str, int]) -> list[Outcome]:
    async def run_call(reranker: AsyncSwiftReranker, call: Call) -> Outcome:
        started, was_cut = time.monotonic(), False
        if call.fault in UNREACHABLE:
            faults[call.fault] = faults.get(call.fault, 0) + 1
            reranker = AsyncSwiftReranker(**_unreachable(_arguments(batch, scene, port, key), call.fault))
        task = asyncio.create_task(reranker.best_of(**_best_of_arguments(batch, scene, call)))
        if scene.cuts_short == "cancel":
            await asyncio.wait([task], timeout=call.cut_at)
            was_cut = task.cancel()
        try:
            value: Selection | BaseException = await task
        except BaseException as error:
            value = error
        ended_at = time.monotonic()
        if call.fault in UNREACHABLE:
            await reranker.aclose()
        return Outcome(call, batch, ended_at - started, ended_at, value, was_cut)

    async def run_all() -> list[Outcome]:
        arguments = _arguments(batch, scene, port, key)
        reranker = AsyncSwiftReranker(**arguments)
        with suppress(SwiftClientError):
            await reranker.best_of(**_WARM_UP)
        calls = [asyncio.create_task(run_call(reranker, call)) for call in batch.calls]
        closed_at = None
        if scene.cuts_short == "close":
            await asyncio.sleep(batch.calls[0].cut_at)
            closed_at = time.monotonic()
            await reranker.aclose()
        outcomes = await asyncio.gather(*calls)
        for outcome in outcomes:
            outcome.was_cut |= closed_at is not None and outcome.ended_at > closed_at
        await reranker.aclose()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left and "own" not in batch.client:
            await asyncio.wait(left, timeout=0.5)
            faults["leaked_tasks"] = len(asyncio.all_tasks()) - 1
        if "client" in arguments:
            await arguments["client"].close()
        return outcomes

    return asyncio.run(run_all())


def _run_sync(batch: Batch, scene: Scene, port: int, key: str, faults: dict[str, int]) -> list[Outcome]:
    arguments = _arguments(batch, scene, port, key)
    reranker = SwiftReranker(**arguments)
    with suppress(SwiftClientError):
        reranker.best_of(**_WARM_UP)
    closed_at: list[float] = []

    def run_call(call: Call) -> Outcome:
        started = time.monotonic()
        with (
            SwiftReranker(**_unreachable(arguments, call.fault))
            if call.fault in UNREACHABLE
            else _Borrowed(reranker) as own
        ):
            if call.fault in UNREACHABLE:
                faults[call.fault] = faults.get(call.fault, 0) + 1
            try:
                value: Selection | BaseException = own.best_of(**_best_of_arguments(batch, scene, call))
            except BaseException as error:
                value = error
            ended_at = time.monotonic()
        return Outcome(call, batch, ended_at - started, ended_at, value, False)

    def close() -> None:
        closed_at.append(time.monotonic())
        reranker.close()

    timer = threading.Timer(batch.calls[0].cut_at, close)
    if scene.cuts_short == "close":
        timer.start()
    with ThreadPoolExecutor(len(batch.calls)) as threads:
        outcomes = list(threads.map(run_call, batch.calls))
    reranker.close()
    if scene.cuts_short == "close":
        timer.join()
        for outcome in outcomes:
            outcome.was_cut = outcome.ended_at > closed_at[0]
    if "client" in arguments:
        arguments["client"].close()
    return outcomes


class _Borrowed:
    """A client that stays open after the block."""

    def __init__(self, reranker: SwiftReranker) -> None:
        self._reranker = reranker

    def __enter__(self) -> SwiftReranker:
        return self._reranker

    def __exit__(self, *_: object) -> None:
        pass


def find_references(text: str) -> list[str]:
    """Return the references of completions that a text holds."""
    return REFERENCE.findall(text)


Runner = Callable[[Batch], tuple[list[Outcome], dict[str, int]]]
