"""Sampling of N completions of one prompt: planned in waves of calls, topped up, with isolated failures."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import NamedTuple

from swift_client.errors import BudgetExceededError, NoCompletionError, SwiftClientError
from swift_client.sampling.call import Call, CallResult
from swift_client.sampling.context import CallContext, DrawState, SampleRequest
from swift_client.sampling.early_abort import AbortMonitor
from swift_client.sampling.request_budget import RequestBudget
from swift_client.types import Completion, Failure, Selection, Stopped, Usage

# (completions so far, numbered 0.. in the order of the calls) to True if they are enough.
StopCheck = Callable[[tuple[Completion, ...]], Awaitable[bool]]


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleResult:
    """The completions of one ``best_of``, with their usage and failures."""

    completions: tuple[Completion, ...]  # Numbered 0.. in the order of the calls, not of arrival.
    usage: Usage
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    # Completions that existed before, the caller's and the store's. They come first, and ``usage``
    # does not count them.
    n_existing: int = 0
    # Completions cancelled when there were enough; ``usage`` includes their estimated cost.
    n_cancelled: int = 0
    max_prompt_tokens: int = 0  # prompt tokens of one call, as counted by the provider
    budget_stop_reason: str | None = None  # why the budget ended sampling; None if it did not
    fingerprints: tuple[str, ...] = ()  # models and system fingerprints that the replies name

    @property
    def mean_completion_tokens(self) -> float:
        """Mean tokens of the completions paid for here; if there are none, of the existing ones."""
        n_paid = len(self.completions) - self.n_existing + self.n_cancelled
        if n_paid:
            return self.usage.completion_tokens / n_paid
        return sum(len(completion.tokens) for completion in self.completions) / max(1, len(self.completions))


@dataclass(eq=False)
class Sampler:
    """Samples ``sample_request.n`` completions, or fewer if these are enough.

    Calls run concurrently in waves. Without ``wave_sizes`` the first wave asks for all completions, and each later one
    for those that short replies left missing. Every call brings a completion or a failure, so sampling ends after
    ``n`` waves at the latest. Completions beyond ``n``, which some servers send, are kept, since they are paid for.

    Attributes:
        context: The endpoint, and the rules for calls.
        sample_request: The prompt, and how to sample it.
        deadline_at: The deadline in the running loop's time; None: ``sample_request.deadline`` counts from now.
        on_arrival: Called with the result of each call that brought completions, while others are running; an error
            that it raises ends sampling.
        wave_sizes: Completions per wave; the last number repeats.
        should_stop: Called with all completions so far whenever calls have brought some, also in the middle of a
            wave. If it returns True, running calls are cancelled, and their cost is estimated.
        request_budget: Every wave is cut to what it can afford; if that is nothing, sampling ends.
        first_alone: True to start the other calls only after the first one, when its prompt is cached.
        abort_monitor: Closes streams that lose confidence. Every call then asks for one completion and is streamed;
            without ``wave_sizes`` the first wave is the warm-up.
        existing_completions: At most n completions of the same request, by number. They count, and come first; only
            the missing numbers are sampled. ``should_stop`` sees them before anything is sent.
    """

    context: CallContext
    sample_request: SampleRequest
    _: KW_ONLY
    deadline_at: float | None = None
    on_arrival: Callable[[CallResult], None] | None = None
    wave_sizes: Sequence[int] = ()
    should_stop: StopCheck | None = None
    request_budget: RequestBudget | None = None
    first_alone: bool = False
    abort_monitor: AbortMonitor | None = None
    existing_completions: Mapping[int, Completion] = field(default_factory=dict)

    def __post_init__(self) -> None:
        request = self.sample_request
        self._state = DrawState(
            sample_request=request,
            deadline_at=request.deadline_at() if self.deadline_at is None else self.deadline_at,
            request_budget=self.request_budget,
            abort_monitor=self.abort_monitor,
            has_completions=bool(self.existing_completions),
        )
        self._results: list[CallResult] = []
        # Numbers below n whose completion has neither arrived nor failed for good; the seed of one
        # is the request's seed plus its number.
        self._open_numbers = set(range(request.n)) - self.existing_completions.keys()
        self._n_planned = 0  # completions that the waves so far were to bring, with those before them
        self._call_numbers = itertools.count()
        warmup_sizes = (self.abort_monitor.rule.warmup, request.n) if self.abort_monitor else (request.n,)
        sizes = self.wave_sizes or warmup_sizes
        self._sizes = itertools.chain(sizes, itertools.repeat(sizes[-1]))

    async def run(self) -> SampleResult:
        """Sample, and return all completions, their usage and the failures.

        Raises:
            NoCompletionError: fewer than ``min_completions`` arrived, and not because of the budget; holds all causes.
            LogprobsUnavailableError: logprobs are required and do not come. If it is not known beforehand whether
                they come, this costs one completion.
            SwiftClientError: the single cause of all failures, if no retry can help.
        """
        endpoint = self.context.endpoint
        self._require_possible_logprobs()
        if endpoint.refusal:
            self._state.add_note(f"The provider refused logprobs earlier: {endpoint.refusal}")
        if self.abort_monitor and not endpoint.can_stream:
            self._state.add_note("No stream was closed early: this provider does not stream logprobs.")

        if self.existing_completions:
            self._take_existing()
            if await self._has_enough():
                return self._build_result()
        elif self.context.must_have_logprobs and not endpoint.logprobs_confirmed:
            await self._probe()
        while calls := self._plan_wave():
            wave = await _run_calls(calls, self.on_arrival, self._has_enough)
            self._settle(wave.call_results)
            if wave.should_stop:
                return replace(self._build_result(wave.cancelled_calls), budget_stop_reason=None)
        return self._build_result()

    def _require_possible_logprobs(self) -> None:
        """Raise, before anything is sent, if required logprobs cannot come."""
        reason = self.context.endpoint.no_logprobs_reason(self.context.fields(self.sample_request))
        is_incomplete = len(self.existing_completions) < self.sample_request.n
        if reason and self.context.must_have_logprobs and is_incomplete:
            raise self.context.logprobs_unavailable_error(reason)

    def _take_existing(self) -> None:
        """Count the existing completions, and skip the waves that would have brought them."""
        existing = self.existing_completions
        completions = tuple(existing[number] for number in sorted(existing))
        self._results.append(CallResult(completions=completions, from_cache=True))
        n_skipped = 0
        while n_skipped < len(existing):
            n_skipped += next(self._sizes)

    async def _probe(self) -> None:
        """Ask for one completion to see if required logprobs come; if it fails, all n count as lost."""
        for result in (await _run_calls(self._create_calls(1), self.on_arrival)).call_results:
            if result.failure:  # do not spend n calls on what one could not do
                result = replace(result, failure=replace(result.failure, lost=self.sample_request.n))
            self._settle([result])

    def _plan_wave(self) -> list[Call]:
        """Return the calls of the next wave; none if nothing is missing or the budget affords no more.

        A wave that brought less than planned is topped up before the next one.
        """
        n_settled = sum(result.n_settled for result in self._results)
        if n_settled >= self.sample_request.n:
            return []
        is_top_up = n_settled < self._n_planned
        if not is_top_up:
            self._n_planned = min(n_settled + next(self._sizes), self.sample_request.n)
        calls = self._create_calls(self._n_planned - n_settled)
        if self.first_alone and all(result.from_cache for result in self._results):
            del calls[1:]
        n_requested = sum(call.n_requested for call in calls)
        self._n_planned = n_settled + n_requested
        if is_top_up and calls:
            message = f"{n_requested} completions are missing; {len(calls)} more calls"
            self.context.emit_event("top_up", calls[0].number, n_requested, message)
        return calls

    def _create_calls(self, count: int) -> list[Call]:
        """Return calls for the first ``count`` open numbers, as far as the budget reaches."""
        if self.request_budget:
            count = self.request_budget.affordable_completions(count, self._call_size)
        numbers = sorted(self._open_numbers)[:count]
        calls = []
        while numbers:
            # Servers give choice j of a call the call's seed plus j, so a seeded call may only ask for
            # consecutive numbers.
            n = len(numbers) if self.sample_request.seed is None else _leading_run(numbers)
            call = Call(
                self.context,
                self._state,
                number=next(self._call_numbers),
                n_requested=self._call_size(n),
                first_index=numbers[0],
            )
            calls.append(call)
            del numbers[: call.n_requested]
        return calls

    def _call_size(self, n_requested: int) -> int:
        return min(n_requested, 1) if self.abort_monitor else self.context.endpoint.call_size(n_requested)

    def _settle(self, call_results: Iterable[CallResult]) -> None:
        """Add the results of calls, and close the numbers that they brought or lost."""
        for result in call_results:
            self._results.append(result)
            self._open_numbers.difference_update(range(result.first_index, result.first_index + result.n_settled))

    async def _has_enough(self, new_results: Sequence[CallResult] = ()) -> bool:
        """Return True if the completions so far, with those of the running wave, are enough."""
        if self.should_stop is None:
            return False
        completions = _reindex_completions([*self._results, *new_results])
        return len(completions) >= self.sample_request.min_completions and await self.should_stop(completions)

    def _build_result(self, cancelled_calls: Sequence[Call] = ()) -> SampleResult:
        """Join the results of all calls; raise if too few completions arrived for other reasons than the budget."""
        request, budget, state = self.sample_request, self.request_budget, self._state
        completions = _reindex_completions(self._results)
        failures = tuple(result.failure for result in self._results if result.failure)
        budget_stop_reason = budget.stop_reason if budget and len(completions) < request.n else None
        if len(completions) < request.min_completions and not budget_stop_reason:
            raise _sampling_error(failures, completions, request)
        # Collect the notes.
        if len(completions) > request.n:
            state.add_note(f"The provider sent {len(completions)} completions for {request.n}; all are kept.")
        for note in budget.notes() if budget else ():
            state.add_note(note)
        if self.abort_monitor and (abort_note := self.abort_monitor.note()):
            state.add_note(abort_note)
        # Add up the usage, with an estimate for cancelled calls.
        usage = sum((result.usage for result in self._results), Usage())
        cancelled_sizes = [call.n_requested for call in cancelled_calls if call.attempts]
        if cancelled_sizes:
            new_results = [result for result in self._results if not result.from_cache]
            usage += _estimate_usage(cancelled_sizes, usage, new_results)
            state.add_note(f"{len(cancelled_sizes)} calls were cancelled; their cost is an estimate.")
        return SampleResult(
            completions=completions,
            usage=replace(usage, calls=state.n_requests),
            failures=failures,
            notes=tuple(state.notes),
            n_existing=len(self.existing_completions),
            n_cancelled=sum(cancelled_sizes),
            max_prompt_tokens=max((result.usage.prompt_tokens for result in self._results), default=0),
            budget_stop_reason=budget_stop_reason,
            fingerprints=tuple(dict.fromkeys(name for result in self._results for name in result.fingerprints)),
        )


class _WaveResult(NamedTuple):
    call_results: list[CallResult]  # in the order of the calls
    cancelled_calls: list[Call]
    should_stop: bool


async def _run_calls(
    calls: Sequence[Call],
    on_arrival: Callable[[CallResult], None] | None,
    should_stop: Callable[[Sequence[CallResult]], Awaitable[bool]] | None = None,
) -> _WaveResult:
    """Run the calls concurrently; cancel the rest when ``should_stop``, an error or the caller ends the wave."""
    tasks = {asyncio.create_task(call.run(on_arrival)): call for call in calls}
    pending, stops = set(tasks), False
    try:
        while pending and not stops:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            results = [task.result() for task in tasks if task not in pending]
            if should_stop and any(task.result().completions for task in done):
                stops = await should_stop(results)
        # Completions that arrived while ``should_stop`` was deciding are paid for, and kept.
        finished = [task for task in tasks if task.done() and not task.exception()]
        cancelled = [call for task, call in tasks.items() if task not in finished]
        return _WaveResult([task.result() for task in finished], cancelled, stops)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reindex_completions(call_results: Iterable[CallResult]) -> tuple[Completion, ...]:
    """Return all completions, numbered 0.. in the order of the calls."""
    completions = [completion for result in call_results for completion in result.completions]
    return tuple(replace(completion, index=index) for index, completion in enumerate(completions))


def _leading_run(numbers: Sequence[int]) -> int:
    """Return how many of the first sorted numbers are consecutive."""
    return next((i for i, number in enumerate(numbers) if number != numbers[0] + i), len(numbers))


def _estimate_usage(call_sizes: Sequence[int], usage: Usage, call_results: Sequence[CallResult]) -> Usage:
    """Return the usage of cancelled calls, if the provider finishes them: the means of the completed ones."""
    n_answered = max(1, sum(bool(result.completions) for result in call_results))
    n_completions = max(1, sum(len(result.completions) for result in call_results))
    return Usage(
        prompt_tokens=round(usage.prompt_tokens / n_answered * len(call_sizes)),
        completion_tokens=round(usage.completion_tokens / n_completions * sum(call_sizes)),
        estimated=True,
    )


def _sampling_error(
    failures: Sequence[Failure], completions: Sequence[Completion], sample_request: SampleRequest
) -> SwiftClientError:
    """Return the single cause if nothing arrived and no retry can help, else an error that holds all causes."""
    causes = [failure.error for failure in failures]
    distinct = {(type(cause), cause.status, cause.message) for cause in causes}
    if not completions and len(distinct) == 1 and not causes[0].retryable:
        return causes[0].with_traceback(None)  # the frames of the call and its retries explain nothing
    if completions:
        minimum = f"min_completions={sample_request.min_completions}"
        message = f"Only {len(completions)} of {sample_request.n} completions arrived; {minimum}."
    else:
        message = f"None of {sample_request.n} completions arrived."
    hint = "Lower min_completions=, raise max_retries= or deadline=, and see .causes."
    return NoCompletionError(
        message, causes=causes, completions=completions, hint=next((cause.hint for cause in causes if cause.hint), hint)
    )


def budget_error(result: SampleResult, request: SampleRequest, best: Selection | None) -> BudgetExceededError:
    """Return the error for a budget that ended before enough completions arrived; ``best`` is the choice so far."""
    count = len(result.completions)
    needed = f" of the {request.min_completions} that are needed" if request.min_completions > 1 else ""
    cause = result.failures[-1].error if result.failures else None
    error = BudgetExceededError(
        f"{result.budget_stop_reason} {count or 'No'} completion{'s' * (count != 1)}{needed} arrived."
        + (f" The last failure: {cause.message}" if cause else ""),
        best=best,
        hint="Raise the budget, or lower max_tokens= or n=.",
    )
    error.__cause__ = cause
    return error


def budget_stop(result: SampleResult, request: SampleRequest) -> Stopped | None:
    """Return ``Selection.stopped`` of a result that the budget ended; None for others."""
    if result.budget_stop_reason is None:
        return None
    count = len(result.completions)
    return Stopped(
        rule="budget",
        after=count,
        planned=request.n,
        posterior=None,
        reason=result.budget_stop_reason,
        saved_tokens=round(result.mean_completion_tokens * max(0, request.n - count - result.n_cancelled)),
    )
