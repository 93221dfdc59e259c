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

from swift_client.collect.budget import CappedRateLimiter, CollectBudget, Prices
from swift_client.collect.result import CollectFailure, CollectProgress, CollectResult
from swift_client.dataset.splits import hash_fraction
from swift_client.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    LogprobsUnavailableError,
    SwiftClientError,
)
from swift_client.sampling import CallContext, CallResult, create_sample_request, sample_completions
from swift_client.store import SampleStore, SampleTotals, StateFile, StoredQuestion
from swift_client.types import Completion, Usage

MAX_CONSECUTIVE_FAILURES = 8
"""Questions that may fail one after another, with nothing arriving in between, before all is given up."""
SEED_RANGE = 2**31 - 2**16
"""Seeds of a question's first completion lie below, so that the others fit every provider's 31 bits too."""
_FATAL_ERRORS = (AuthenticationError, ConfigurationError, LogprobsUnavailableError)
"""Errors that every other question would meet as well."""

logger = logging.getLogger(__name__)


def question_seed(question_id: str, seed: int) -> int:
    """Return the seed of the question's first completion.

    Each question has seeds of its own: with the same 16 for all, a local server draws the same random numbers for every
    question, and hundreds of questions vary together as if they were few.
    """
    return (seed + int(hash_fraction(f"seed:{question_id}") * SEED_RANGE)) % SEED_RANGE


@dataclass(kw_only=True)
class CollectRunner:
    """What the workers of one run share. Call :meth:`all` once."""

    context: CallContext
    limiter: CappedRateLimiter
    """The line's limit, which also counts."""
    store: SampleStore
    n: int
    seed: int | None
    sampling: dict[str, Any]
    prices: Prices | None
    budget: CollectBudget
    on_progress: Callable[[CollectProgress], None] | None
    prior_totals: SampleTotals
    """What the whole file had cost before this run."""
    existing_indices: dict[str, set[int]]
    """Indices in the file by question."""
    state_file: StateFile | None = None
    """Where hidden states go, if any are captured."""
    target_samples: int = 0
    initial_samples: int = 0
    """Samples of the asked questions before this run."""
    usage: Usage = field(default_factory=Usage)
    """Of this run."""
    added_samples: int = 0
    stop_reason: str | None = None
    failures: list[CollectFailure] = field(default_factory=list)
    consecutive_failures: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    start_time: float = field(default_factory=time.perf_counter)

    async def run(self, questions: Sequence[StoredQuestion], *, workers: int) -> CollectResult:
        """Ask every question that lacks completions, ``workers`` at a time; leave no task behind."""
        self.initial_samples = sum(len(self._indices_in_file(question)) for question in questions)
        self.target_samples = self.initial_samples + sum(len(self._missing_indices(question)) for question in questions)
        self._report()
        lacking = iter([question for question in questions if self._missing_indices(question)])
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
            added=self.added_samples,
            samples=self.initial_samples + self.added_samples,
            wanted=self.target_samples,
            requests=self.limiter.requests,
            usage=self.prior_totals.usage + self.usage,
            cost=self._cost(),
            stopped=self.stop_reason,
            failures=tuple(self.failures),
            notes=tuple(self.notes),
            elapsed=self._elapsed(),
        )

    async def _worker(self, questions: Iterator[StoredQuestion]) -> None:
        for question in questions:
            if self.stop_reason:
                return
            for gap in contiguous_ranges(self._missing_indices(question)):
                start, end = gap[0], gap[-1] + 1
                while start < end and not self.stop_reason:
                    start += await self._sample_affordable(question, start, end - start)

    async def _sample_affordable(self, question: StoredQuestion, start: int, count: int) -> int:
        """Ask for as many of ``count`` as there is money for; return how many those were."""
        prompt = self._max_prompt_cost(question)
        granted = await self.budget.reserve(count, max_prompt_cost=prompt)
        try:
            if not granted:
                self.stop_reason = self.stop_reason or "max_cost"
            if not self.stop_reason:  # it may have been, while this waited
                await self._sample(question, start, granted)
        finally:
            self.budget.release(granted, max_prompt_cost=prompt)
        return granted

    async def _sample(self, question: StoredQuestion, start: int, count: int) -> None:
        seed = None if self.seed is None else question_seed(question.id, self.seed) + start
        asked = create_sample_request(question.messages, count, seed=seed, sampling=self.sampling)
        try:
            drawn = await sample_completions(
                self.context, asked, on_arrival=partial(self._store_reply, question, start)
            )
        except _FATAL_ERRORS:
            raise
        except SwiftClientError as error:
            self._record_loss(question, count, error)
            self._count_failure(error)
        else:
            self.notes.update(dict.fromkeys(drawn.notes))
            for failure in drawn.failures:
                self._record_loss(question, failure.lost, failure.error)
        if self.limiter.exhausted:
            self.stop_reason = "max_requests"
        self._report()

    def _store_reply(self, question: StoredQuestion, start: int, outcome: CallResult) -> None:
        """Write one call's completions down, the moment they are here."""
        held = self._indices_in_file(question)
        numbers: list[int] = []
        for wish in range(start + outcome.first_index, start + outcome.first_index + len(outcome.completions)):
            # Replies of another size than asked make calls overlap: then any free number is as good.
            taken = wish in held or wish in numbers
            free = (number for number in itertools.count() if number not in held and number not in numbers)
            numbers.append(next(free) if taken else wish)
        cost = self.prices.cost(outcome.usage) if self.prices else None
        usage = replace(outcome.usage, calls=1)
        seed = None if self.seed is None else question_seed(question.id, self.seed) + start + outcome.first_index
        completions: Sequence[Completion] = outcome.completions
        if self.state_file is not None:  # first of all, so that no sample in the file is without its states
            completions = self.state_file.append(question.id, numbers, completions)
        self.store.add_samples(question.id, completions, numbers=numbers, usage=usage, cost=cost, seed=seed)
        held.update(numbers)
        self.added_samples += len(numbers)
        self.usage += usage
        self.budget.total_cost += cost or 0.0
        self.consecutive_failures = 0
        self._report()

    def _record_loss(self, question: StoredQuestion, count: int, error: SwiftClientError) -> None:
        """Note what was lost, under the first cause that is not the budget's end: a draw may hold several."""
        causes = getattr(error, "causes", ()) or (error,)
        real = [cause for cause in causes if not isinstance(cause, BudgetExceededError)]
        if real:
            self.failures.append(CollectFailure(question_id=question.id, lost=count, error=real[0]))

    def _count_failure(self, error: SwiftClientError) -> None:
        """Give up where question after question fails: a wrong model name would cost 5,000 requests to tell."""
        if self.limiter.exhausted:
            return
        self.consecutive_failures += 1
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES and not self.stop_reason:
            self.stop_reason = "failures"
            if not self.added_samples:
                raise error

    def _indices_in_file(self, question: StoredQuestion) -> set[int]:
        return self.existing_indices.setdefault(question.id, set())

    def _missing_indices(self, question: StoredQuestion) -> list[int]:
        held = self._indices_in_file(question)
        return [number for number in range(self.n) if number not in held]

    def _max_prompt_cost(self, question: StoredQuestion) -> float:
        return self.prices.max_prompt_cost(question.messages) if self.prices else 0.0

    def _cost(self) -> float | None:
        return self.budget.total_cost if self.prices else None

    def _elapsed(self) -> float:
        return time.perf_counter() - self.start_time

    def _report(self) -> None:
        """Report; a callback's own error may not cost replies that are under way."""
        if not self.on_progress:
            return
        samples, in_file, cost = (
            self.initial_samples + self.added_samples,
            self.prior_totals.samples + self.added_samples,
            self._cost(),
        )
        still = max(0, self.target_samples - samples)
        try:
            self.on_progress(
                CollectProgress(
                    samples=samples,
                    wanted=max(self.target_samples, samples),
                    requests=self.limiter.requests,
                    failures=sum(failure.lost for failure in self.failures),
                    usage=self.prior_totals.usage + self.usage,
                    cost=cost,
                    expected_cost=None if cost is None or not in_file else cost + cost / in_file * still,
                    elapsed=self._elapsed(),
                )
            )
        except Exception:
            logger.exception("on_progress failed; collecting goes on")


def contiguous_ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Cut rising numbers into runs without holes: 0 1 4 5 → 0 1, 4 5."""
    runs = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    return [[number for _, number in run] for _, run in runs]
