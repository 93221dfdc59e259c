"""One collect run: sample what is missing, store each reply at once, and stop at a limit."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from swift_client.collect.joint_budget import JointBudget
from swift_client.collect.judging import ConnectedVerifier, SampleJudge
from swift_client.collect.result import CollectFailure, CollectProgress, CollectResult, CollectState
from swift_client.collect.setup import completion_seed
from swift_client.errors import AuthenticationError, ConfigurationError, LogprobsUnavailableError, SwiftClientError
from swift_client.sampling import Budget, BudgetTracker, CallContext, CallResult, Cost, RequestBudget, Sampler
from swift_client.store import StateFile, StoredQuestion
from swift_client.types import Completion, Failure

# Questions that may fail in a row, without any reply in between, before the run gives up.
MAX_CONSECUTIVE_FAILURES = 8
# Longest wait in seconds for the home of a shared budget that cannot be reached, and the time between two attempts.
_HOME_SECONDS, _HOME_PAUSE = 60.0, 0.5
# Errors that every other question would meet as well.
FATAL_ERRORS = (AuthenticationError, ConfigurationError, LogprobsUnavailableError)


class QuestionObserver(Protocol):
    """A listener to the questions of a run, which may note them before anything is paid for."""

    async def begin(self, question: StoredQuestion) -> None:
        """Take note that completions of ``question`` are about to be requested."""

    def end(self, question: StoredQuestion) -> None:
        """Take note that nothing more of ``question`` is requested in this run."""


@dataclass(kw_only=True)
class CollectRunner:
    """The state that the workers of one run share. Call ``run()`` once."""

    state: CollectState[Any]
    context: CallContext
    state_file: StateFile | None = None  # file for hidden states, if any are captured
    verifier: ConnectedVerifier | None = None  # judges the answers of complete questions
    observer: QuestionObserver | None = None
    costs: BudgetTracker | None = None  # limit on the cost that several runs share, instead of the setup's
    requests: BudgetTracker | None = None  # likewise, on the HTTP requests
    stop_reason: str | None = None
    consecutive_failures: int = 0

    def __post_init__(self) -> None:
        self.setup = self.state.setup
        max_cost, max_requests = self.setup.max_cost, self.setup.max_requests
        # The cost, of the whole file, is reserved per question, the requests, of this run, one by one.
        self._costs = self.costs or Budget(usd=sys.float_info.max if max_cost is None else max_cost).open()
        if self.costs is None:
            self._costs.commit(Cost(), Cost(usd=self.state.prior_cost))
        self._requests = self.requests or Budget(calls=sys.maxsize if max_requests is None else max_requests).open()
        self._sample_judge: SampleJudge | None = None
        if self.verifier:
            budget = JointBudget(self._costs, self._requests, has_cost_limit=max_cost is not None)
            self._sample_judge = SampleJudge(verifier=self.verifier, state=self.state, budget=budget)
        self._n_running = 0
        self._budget_freed = asyncio.Event()
        self._last_attempt = asyncio.Lock()

    async def run(self, *, workers: int) -> CollectResult:
        """Sample every question that lacks completions, ``workers`` at a time; leave no task behind."""
        if self._sample_judge:
            await self._sample_judge.require_price()
        self._report()
        # The workers take their questions from one iterator.
        questions = iter(self.setup.questions)
        tasks = [asyncio.create_task(self._work(questions)) for _ in range(workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        requests = self._requests.spent.calls
        return self.state.result(
            requests=requests,
            cost=self._cost(),
            stopped=self.stop_reason,
            judgements=self._sample_judge.result() if self._sample_judge else None,
        )

    async def _work(self, questions: Iterator[StoredQuestion]) -> None:
        for question in questions:
            if self.stop_reason:
                return
            missing_ranges = list(self.setup.missing_ranges(self.state.indices(question.id)))
            if self.observer and missing_ranges:
                await self.observer.begin(question)
            for start, end in missing_ranges:
                while start < end and not self.stop_reason:
                    start += await self._sample_affordable(question, start, end - start)
            if self.observer:
                self.observer.end(question)
            if self._sample_judge and not list(self.setup.missing_ranges(self.state.indices(question.id))):
                await self._judge(question, self._sample_judge)

    async def _judge(self, question: StoredQuestion, sample_judge: SampleJudge) -> None:
        """Judge the answers of a complete question; stop the run if the budget does not cover it."""
        if self.stop_reason or await self._judge_affordable(question, sample_judge) is None:
            return
        # Running questions may free a part of their reservations, so it is judged again when none is left. One question
        # at a time: two that do not fit would wake each other for ever.
        async with self._last_attempt:
            while self._n_running and not self.stop_reason:
                self._budget_freed.clear()
                await self._budget_freed.wait()
            if not self.stop_reason and await self._judge_affordable(question, sample_judge) is not None:
                self.stop_reason = "max_requests" if self._requests.shortfall(Cost(calls=1)) else "max_cost"

    async def _judge_affordable(self, question: StoredQuestion, sample_judge: SampleJudge) -> str | None:
        """Judge what the budget covers now; return why it did not cover the rest, None if it did."""
        self._n_running += 1
        try:
            return await sample_judge.judge_question(question)
        finally:
            self._n_running -= 1
            self._budget_freed.set()
            self._report()

    async def _sample_affordable(self, question: StoredQuestion, start: int, count: int) -> int:
        """Sample as many of ``count`` completions as the budget covers; return that number."""
        cost = self.setup.max_sample_cost(question) if self.setup.max_cost is not None else 0.0
        n = await self._reserve_cost(count, cost)
        try:
            if not n:
                self.stop_reason = self.stop_reason or "max_cost"
            if not self.stop_reason:  # another worker may have stopped the run meanwhile
                await self._sample(question, start, n)
        finally:
            self._costs.commit(Cost(usd=cost * n), Cost())
            self._n_running -= 1
            self._budget_freed.set()
        return n

    async def _reserve_cost(self, count: int, cost: float) -> int:
        """Reserve the worst case of up to ``count`` completions at ``cost`` each; return how many fit.

        Fewer than ``count`` are returned only if no running question can free a part of its reservation.
        """
        while True:
            n = self._costs.affordable(count, lambda n: Cost(usd=cost * n))
            if n == count or not self._n_running:
                is_home_lost = not n and self._costs.problem
                # Another question may begin during the wait: then it can free a part.
                if is_home_lost and (await self._wait_for_home(self._costs, Cost(usd=cost)) or self._n_running):
                    continue
                if n:
                    self._costs.reserve(Cost(usd=cost * n))
                self._n_running += 1
                return n
            self._budget_freed.clear()
            await self._budget_freed.wait()

    async def _wait_for_home(self, budget: BudgetTracker, cost: Cost) -> bool:
        """Wait while the home of a shared budget cannot be reached; return True if ``cost`` fits then."""
        end = time.monotonic() + _HOME_SECONDS
        while (reason := budget.shortfall(cost)) and budget.problem and time.monotonic() < end:
            if self.stop_reason:
                return False
            await asyncio.sleep(_HOME_PAUSE)
        return reason is None

    async def _sample(self, question: StoredQuestion, start: int, count: int) -> None:
        """Sample and store ``count`` completions; record what was lost."""
        request = self.setup.sample_request(question, count, start)
        budget = RequestBudget(self._requests, request.messages, self.context.fields(request), None)
        on_arrival = partial(self._store_reply, question, start)
        try:
            result = await Sampler(self.context, request, request_budget=budget, on_arrival=on_arrival).run()
        except FATAL_ERRORS:
            raise
        except SwiftClientError as error:
            causes = getattr(error, "causes", ()) or (error,)
            self.state.failures.append(CollectFailure(question_id=question.id, lost=count, error=causes[0]))
            self._count_failure(error)
        else:
            self.state.notes.update(dict.fromkeys(result.notes))
            self.state.failures += [
                CollectFailure(question_id=question.id, lost=failure.lost, error=failure.error)
                for failure in result.failures
                if not result.budget_stop_reason or self._is_final(failure)
            ]
            if result.budget_stop_reason and await self._wait_for_home(self._requests, Cost(calls=1)):
                await self._sample_rest(question, start, start + count)
            elif result.budget_stop_reason:
                self.stop_reason = "max_requests"
        self._report()

    async def _sample_rest(self, question: StoredQuestion, start: int, end: int) -> None:
        """Sample the completions from ``start`` to ``end`` that a budget without its home did not cover."""
        for first, last in list(self.setup.missing_ranges(self.state.indices(question.id))):
            count = min(last, end) - max(first, start)
            if count > 0 and not self.stop_reason:
                await self._sample(question, max(first, start), count)

    def _is_final(self, failure: Failure) -> bool:
        """Return False if the limit on requests cut a call's retries short: the call itself may still succeed."""
        return not failure.error.retryable or failure.attempts > self.context.max_retries

    def _store_reply(self, question: StoredQuestion, start: int, result: CallResult) -> None:
        """Store one call's completions as soon as they have arrived."""
        existing = self.state.indices(question.id)
        first_index = start + result.first_index
        # Calls overlap if replies have another size than requested: then any free index will do.
        used_indices, indices = set(existing), list[int]()
        for index in range(first_index, first_index + len(result.completions)):
            free = next(i for i in itertools.count() if i not in used_indices) if index in used_indices else index
            used_indices.add(free)
            indices.append(free)
        seed = completion_seed(question.id, self.setup.seed, first_index)
        completions: Sequence[Completion] = result.completions
        if self.state_file is not None:  # states first, so no sample in the file lacks its states
            completions = self.state_file.append(question.id, indices, completions)
        cost = self.state.add(question.id, completions, indices, result.usage, prices=self.setup.prices, seed=seed)
        self._costs.commit(Cost(), Cost(usd=cost))
        self.consecutive_failures = 0
        self._report()

    def _count_failure(self, error: SwiftClientError) -> None:
        """Give up if question after question fails: a wrong model name would cost thousands of requests."""
        self.consecutive_failures += 1
        if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES and not self.stop_reason:
            self.stop_reason = "failures"
            if not self.state.added_samples:
                raise error

    def _cost(self) -> float | None:
        return self._costs.spent.usd if self.setup.prices else None

    def _report(self) -> None:
        self.state.report(self._progress)

    def _progress(self) -> CollectProgress:
        state, cost = self.state, self._cost()
        in_file = state.prior_totals.samples + state.added_samples
        n_missing = max(0, state.target_samples - state.samples)
        return CollectProgress(
            samples=state.samples,
            wanted=max(state.target_samples, state.samples),
            requests=self._requests.spent.calls,
            failures=sum(failure.lost for failure in state.failures),
            usage=state.usage,
            cost=cost,
            expected_cost=None if cost is None or not in_file else cost + cost / in_file * n_missing,
            elapsed=state.elapsed,
            judged=self._sample_judge.n_judged if self._sample_judge else 0,
        )
