"""One run over the questions of a samples file: ask what is missing, keep each reply at once, know when to stop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from swift_client.collect.budget import Allowance, Prices, Purse
from swift_client.collect.result import CollectFailure, CollectProgress, CollectResult
from swift_client.dataset.splits import fraction
from swift_client.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    LogprobsUnavailableError,
    SwiftClientError,
)
from swift_client.sampling import Line, Outcome, draw, order
from swift_client.store import SampleStore, Spent, StateFile, StoredQuestion
from swift_client.types import Completion, Usage

GIVE_UP = 8
"""Questions that may fail one after another, with nothing arriving in between, before all is given up."""
SEEDS = 2**31 - 2**16
"""Seeds of a question's first completion lie below, so that the others fit every provider's 31 bits too."""
_FATAL = (AuthenticationError, ConfigurationError, LogprobsUnavailableError)
"""Errors that every other question would meet as well."""

logger = logging.getLogger(__name__)


def seed_of(question_id: str, seed: int) -> int:
    """Return the seed of the question's first completion.

    Each question has seeds of its own: with the same 16 for all, a local server draws the same random numbers for every
    question, and hundreds of questions vary together as if they were few.
    """
    return (seed + int(fraction(f"seed:{question_id}") * SEEDS)) % SEEDS


@dataclass(kw_only=True)
class Run:
    """What the workers of one run share. Call :meth:`all` once."""

    line: Line
    limit: Allowance
    """The line's limit, which also counts."""
    store: SampleStore
    n: int
    seed: int | None
    sampling: dict[str, Any]
    prices: Prices | None
    purse: Purse
    on_progress: Callable[[CollectProgress], None] | None
    before: Spent
    """What the whole file had cost before this run."""
    held: dict[str, set[int]]
    """Indices in the file by question."""
    states: StateFile | None = None
    """Where hidden states go, if any are captured."""
    wanted: int = 0
    had: int = 0
    """Samples of the asked questions before this run."""
    usage: Usage = field(default_factory=Usage)
    """Of this run."""
    added: int = 0
    stopped: str | None = None
    failures: list[CollectFailure] = field(default_factory=list)
    failed_in_a_row: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    async def all(self, questions: Sequence[StoredQuestion], *, workers: int) -> CollectResult:
        """Ask every question that lacks completions, ``workers`` at a time; leave no task behind."""
        self.had = sum(len(self._held(question)) for question in questions)
        self.wanted = self.had + sum(len(self._missing(question)) for question in questions)
        self._tell()
        lacking = iter([question for question in questions if self._missing(question)])
        tasks = [asyncio.create_task(self._worker(lacking)) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return CollectResult(
            path=str(self.store.path),
            questions=len(questions),
            added=self.added,
            samples=self.had + self.added,
            wanted=self.wanted,
            requests=self.limit.requests,
            usage=self.before.usage + self.usage,
            cost=self._cost(),
            stopped=self.stopped,
            failures=tuple(self.failures),
            notes=tuple(self.notes),
            elapsed=self._elapsed(),
        )

    async def _worker(self, questions: Iterator[StoredQuestion]) -> None:
        for question in questions:
            if self.stopped:
                return
            for gap in gaps(self._missing(question)):
                start, end = gap[0], gap[-1] + 1
                while start < end and not self.stopped:
                    start += await self._afforded(question, start, end - start)

    async def _afforded(self, question: StoredQuestion, start: int, count: int) -> int:
        """Ask for as many of ``count`` as there is money for; return how many those were."""
        prompt = self._prompt_cost(question)
        granted = await self.purse.hold(count, prompt=prompt)
        try:
            if not granted:
                self.stopped = self.stopped or "max_cost"
            if not self.stopped:  # it may have been, while this waited
                await self._ask(question, start, granted)
        finally:
            self.purse.release(granted, prompt=prompt)
        return granted

    async def _ask(self, question: StoredQuestion, start: int, count: int) -> None:
        seed = None if self.seed is None else seed_of(question.id, self.seed) + start
        asked = order(question.messages, count, seed=seed, sampling=self.sampling)
        try:
            drawn = await draw(self.line, asked, on_arrival=partial(self._keep, question, start))
        except _FATAL:
            raise
        except SwiftClientError as error:
            self._lost(question, count, error)
            self._count_failure(error)
        else:
            self.notes.update(dict.fromkeys(drawn.notes))
            for failure in drawn.failures:
                self._lost(question, failure.lost, failure.error)
        if self.limit.refused:
            self.stopped = "max_requests"
        self._tell()

    def _keep(self, question: StoredQuestion, start: int, outcome: Outcome) -> None:
        """Write one call's completions down, the moment they are here."""
        held = self._held(question)
        numbers: list[int] = []
        for wish in range(start + outcome.first, start + outcome.first + len(outcome.completions)):
            # Replies of another size than asked make calls overlap: then any free number is as good.
            taken = wish in held or wish in numbers
            free = (number for number in itertools.count() if number not in held and number not in numbers)
            numbers.append(next(free) if taken else wish)
        cost = self.prices.cost(outcome.usage) if self.prices else None
        usage = replace(outcome.usage, calls=1)
        seed = None if self.seed is None else seed_of(question.id, self.seed) + start + outcome.first
        completions: Sequence[Completion] = outcome.completions
        if self.states is not None:  # first of all, so that no sample in the file is without its states
            completions = self.states.append(question.id, numbers, completions)
        self.store.add_samples(question.id, completions, numbers=numbers, usage=usage, cost=cost, seed=seed)
        held.update(numbers)
        self.added += len(numbers)
        self.usage += usage
        self.purse.spent += cost or 0.0
        self.failed_in_a_row = 0
        self._tell()

    def _lost(self, question: StoredQuestion, lost: int, error: SwiftClientError) -> None:
        """Note what was lost, under the first cause that is not the budget's end: a draw may hold several."""
        causes = getattr(error, "causes", ()) or (error,)
        real = [cause for cause in causes if not isinstance(cause, BudgetExceededError)]
        if real:
            self.failures.append(CollectFailure(question_id=question.id, lost=lost, error=real[0]))

    def _count_failure(self, error: SwiftClientError) -> None:
        """Give up where question after question fails: a wrong model name would cost 5,000 requests to tell."""
        if self.limit.refused:
            return
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= GIVE_UP and not self.stopped:
            self.stopped = "failures"
            if not self.added:
                raise error

    def _held(self, question: StoredQuestion) -> set[int]:
        return self.held.setdefault(question.id, set())

    def _missing(self, question: StoredQuestion) -> list[int]:
        held = self._held(question)
        return [number for number in range(self.n) if number not in held]

    def _prompt_cost(self, question: StoredQuestion) -> float:
        return self.prices.dearest_prompt(question.messages) if self.prices else 0.0

    def _cost(self) -> float | None:
        return self.purse.spent if self.prices else None

    def _elapsed(self) -> float:
        return time.perf_counter() - self.started

    def _tell(self) -> None:
        """Report; a callback's own error may not cost replies that are under way."""
        if not self.on_progress:
            return
        samples, in_file, cost = self.had + self.added, self.before.samples + self.added, self._cost()
        still = max(0, self.wanted - samples)
        try:
            self.on_progress(
                CollectProgress(
                    samples=samples,
                    wanted=max(self.wanted, samples),
                    requests=self.limit.requests,
                    failures=sum(failure.lost for failure in self.failures),
                    usage=self.before.usage + self.usage,
                    cost=cost,
                    expected_cost=None if cost is None or not in_file else cost + cost / in_file * still,
                    elapsed=self._elapsed(),
                )
            )
        except Exception:
            logger.exception("on_progress failed; collecting goes on")


def gaps(numbers: Sequence[int]) -> list[list[int]]:
    """Cut rising numbers into runs without holes: 0 1 4 5 → 0 1, 4 5."""
    runs = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in run] for _, run in runs]
