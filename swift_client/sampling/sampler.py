"""Sampling of N completions of one prompt: planned in waves of calls, topped up, with isolated failures."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from swift_client.errors import NoCompletionError, SwiftClientError
from swift_client.sampling.budget import RequestBudget
from swift_client.sampling.call import Call, CallResult
from swift_client.sampling.context import CallContext, DrawState, SampleRequest
from swift_client.sampling.early_abort import AbortMonitor
from swift_client.types import Completion, Event, Failure, Usage

# (completions so far, numbered 0.. in the order of the calls) to True if they are enough.
StopCheck = Callable[[tuple[Completion, ...]], Awaitable[bool]]


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleResult:
    """The completions of one ``best_of``, with their usage and failures."""

    completions: tuple[Completion, ...]  # Numbered 0.. in the order of the calls, not of arrival.
    usage: Usage
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    # Number of completions that existed before. They come first, and ``usage`` does not count them.
    n_reused: int = 0
    # Completions that were cancelled when there were enough; ``usage`` includes their estimated
    # cost.
    n_cancelled: int = 0
    max_prompt_tokens: int = 0  # prompt tokens of one call, as counted by the provider
    budget_stop_reason: str | None = None  # why the budget ended sampling; None if it did not

    @property
    def mean_completion_tokens(self) -> float:
        """Mean tokens of the completions paid for here; if there are none, of the reused ones."""
        n_paid = len(self.completions) - self.n_reused + self.n_cancelled
        if n_paid:
            return self.usage.completion_tokens / n_paid
        return sum(len(completion.tokens) for completion in self.completions) / max(1, len(self.completions))


async def sample_completions(
    context: CallContext,
    sample_request: SampleRequest,
    *,
    on_arrival: Callable[[CallResult], None] | None = None,
    wave_sizes: Sequence[int] = (),
    should_stop: StopCheck | None = None,
    request_budget: RequestBudget | None = None,
    first_alone: bool = False,
    abort_monitor: AbortMonitor | None = None,
    existing_completions: Mapping[int, Completion] = MappingProxyType({}),
) -> SampleResult:
    """Sample ``sample_request.n`` completions, or fewer if these are enough.

    Calls run concurrently in waves. Without ``wave_sizes`` the first wave asks for all completions, and each later one
    for those that short replies left missing. Every call brings a completion or a failure, so sampling ends after
    ``n`` waves at the latest. Completions beyond ``n``, which some servers send, are kept, since they are paid for.

    Args:
        context: the endpoint, and the rules for calls.
        sample_request: the prompt, and how to sample it.
        on_arrival: called with the result of each call that brought completions, while others are running; an error
            that it raises ends sampling.
        wave_sizes: completions per wave; the last number repeats.
        should_stop: called with all completions so far whenever calls have brought some, also in the middle of a wave.
            If it returns True, running calls are cancelled, and their cost is estimated.
        request_budget: every wave is cut to what it can afford; if that is nothing, sampling ends.
        first_alone: True to start the other calls only after the first one, when its prompt is cached.
        abort_monitor: closes streams that lose confidence. Every call then asks for one completion and is streamed;
            without ``wave_sizes`` the first wave is the warm-up.
        existing_completions: at most n completions of the same request, by number. They count, and come first; only
            the missing numbers are sampled. ``should_stop`` sees them before anything is sent.

    Raises:
        NoCompletionError: fewer than ``min_completions`` came, and not because of the budget; holds all causes.
        LogprobsUnavailableError: logprobs are required and do not come. If it is not known beforehand whether they
            come, this costs one completion.
        SwiftClientError: the single cause of all failures, if no retry can help.
    """
    # Fail before anything is sent if required logprobs cannot come.
    endpoint = context.endpoint
    reason = endpoint.no_logprobs_reason(context.fields(sample_request))
    if reason and context.must_have_logprobs and len(existing_completions) < sample_request.n:
        raise context.logprobs_unavailable_error(reason)

    deadline = sample_request.deadline
    state = DrawState(
        sample_request=sample_request,
        deadline_at=None if deadline is None else asyncio.get_running_loop().time() + deadline,
        request_budget=request_budget,
        abort_monitor=abort_monitor,
        has_completions=bool(existing_completions),
    )
    if endpoint.refusal:
        state.notes.setdefault(f"The provider refused logprobs earlier: {endpoint.refusal}")
    if abort_monitor:
        wave_sizes = wave_sizes or (abort_monitor.rule.warmup, sample_request.n)
        if not endpoint.can_stream:
            state.notes.setdefault("No stream was closed early: this provider does not stream logprobs.")

    call_size = (lambda n: min(n, 1)) if abort_monitor else endpoint.call_size
    call_numbers = itertools.count()
    missing_numbers = [number for number in range(sample_request.n) if number not in existing_completions]

    def max_run(number: int) -> int:
        """Return how many completions one call may bring from this number on: with a seed, up to the next existing."""
        later = [other for other in existing_completions if other > number and sample_request.seed is not None]
        return min(later, default=number + sample_request.n) - number

    def create_calls(start: int, end: int) -> list[Call]:
        """Return the calls for completions ``start`` to ``end``, as far as the budget reaches."""
        calls = []
        if request_budget:
            end = start + request_budget.affordable_completions(end - start, call_size)
        while start < end:
            number = missing_numbers[start - len(existing_completions)]
            n = call_size(min(end - start, max_run(number)))
            calls.append(Call(context, state, number=next(call_numbers), n_requested=n, first_index=number))
            start += n
        return calls

    async def has_enough(earlier_results: Sequence[CallResult], new_results: Sequence[CallResult]) -> bool:
        if should_stop is None:
            return False
        completions = _reindex_completions([*earlier_results, *new_results])
        return len(completions) >= sample_request.min_completions and await should_stop(completions)

    # Start with the existing completions, or test with one call whether required logprobs come.
    results: list[CallResult] = []
    sizes = itertools.chain(wave_sizes, itertools.repeat(wave_sizes[-1] if wave_sizes else sample_request.n))
    if existing_completions:
        completions = tuple(existing_completions[number] for number in sorted(existing_completions))
        results = [CallResult(completions=completions, from_cache=True)]
        if await has_enough((), results):
            return _build_result(results, state)
        n_covered = 0
        while n_covered < len(existing_completions):
            n_covered += next(sizes)
    elif context.must_have_logprobs and not endpoint.logprobs_confirmed:
        results = (await _run_calls(create_calls(0, 1), on_arrival)).call_results
        if results and (failure := results[0].failure):  # do not spend n calls on what one could not do
            results = [replace(results[0], failure=replace(failure, lost=sample_request.n))]

    # Send waves until every completion has come or failed. A wave that brought less than planned is topped up.
    n_planned = 0
    while (n_settled := sum(result.n_settled for result in results)) < sample_request.n:
        is_top_up = n_settled < n_planned
        n_planned = n_planned if is_top_up else min(n_settled + next(sizes), sample_request.n)
        if not (calls := create_calls(n_settled, n_planned)):
            break
        if first_alone and all(result.from_cache for result in results):
            del calls[1:]
        n_planned = n_settled + sum(call.n_requested for call in calls)
        if is_top_up:
            message = f"{n_planned - n_settled} completions are missing; {len(calls)} more calls"
            context.emit_event(Event(kind="top_up", call=calls[0].number, n=n_planned - n_settled, message=message))
        wave = await _run_calls(calls, on_arrival, partial(has_enough, tuple(results)))
        results += wave.call_results
        if wave.should_stop:
            result = _build_result(results, state, cancelled_calls=wave.cancelled_calls)
            return replace(result, budget_stop_reason=None)
    return _build_result(results, state)


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


def _build_result(
    call_results: Sequence[CallResult], state: DrawState, *, cancelled_calls: Sequence[Call] = ()
) -> SampleResult:
    """Join the results of all calls; raise if too few completions came for other reasons than the budget."""
    request, budget = state.sample_request, state.request_budget
    completions = _reindex_completions(call_results)
    failures = tuple(result.failure for result in call_results if result.failure)
    budget_stop_reason = budget.stop_reason if budget and len(completions) < request.n else None
    if len(completions) < request.min_completions and not budget_stop_reason:
        raise _sampling_error(failures, completions, request)
    # Collect the notes.
    if len(completions) > request.n:
        state.notes.setdefault(f"The provider sent {len(completions)} completions for {request.n}; all are kept.")
    if budget:
        state.notes.update(dict.fromkeys(budget.notes()))
    if state.abort_monitor and (note := state.abort_monitor.note()):
        state.notes.setdefault(note)
    # Add up the usage, with an estimate for cancelled calls.
    usage = sum((result.usage for result in call_results), Usage())
    cancelled_sizes = [call.n_requested for call in cancelled_calls if call.attempts]
    if cancelled_sizes:
        usage += _estimate_usage(cancelled_sizes, usage, [result for result in call_results if not result.from_cache])
        state.notes.setdefault(f"{len(cancelled_sizes)} calls were cancelled; their cost is an estimate.")
    return SampleResult(
        completions=completions,
        usage=replace(usage, calls=state.n_requests),
        failures=failures,
        notes=tuple(state.notes),
        n_reused=sum(len(result.completions) for result in call_results if result.from_cache),
        n_cancelled=sum(cancelled_sizes),
        max_prompt_tokens=max((result.usage.prompt_tokens for result in call_results), default=0),
        budget_stop_reason=budget_stop_reason,
    )


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
    """Return the single cause if nothing came and no retry can help, else an error that holds all causes."""
    causes = [failure.error for failure in failures]
    distinct = {(type(cause), cause.status, cause.message) for cause in causes}
    if not completions and len(distinct) == 1 and not causes[0].retryable:
        return causes[0]
    minimum = f"at least {sample_request.min_completions} of " if sample_request.min_completions > 1 else ""
    return NoCompletionError(
        f"{len(completions) or 'No'} completions came of {minimum}{sample_request.n} requested.",
        causes=causes,
        completions=completions,
        hint=next((cause.hint for cause in causes if cause.hint), ""),
    )
