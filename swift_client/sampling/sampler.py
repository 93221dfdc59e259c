"""N completions of one question: planned, drawn in waves, topped up, with every failure kept to itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from swift_client.errors import NoCompletionError, SwiftClientError
from swift_client.sampling.call import Call, CallResult
from swift_client.sampling.context import CallContext, DrawState
from swift_client.sampling.early_abort import AbortMonitor
from swift_client.sampling.meter import RequestBudget
from swift_client.sampling.request import SampleRequest
from swift_client.types import Completion, Event, Failure, Usage

StopCheck = Callable[[tuple[Completion, ...]], Awaitable[bool]]
"""Says of the completions so far, numbered 0.. in the order of the calls, whether there are enough."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SampleResult:
    """What a draw brought."""

    completions: tuple[Completion, ...]
    """Numbered 0.. in the order of the calls, not of arrival."""
    usage: Usage
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    n_reused: int = 0
    """How many of the completions, the first ones, were there before; ``usage`` does not count them."""
    n_cancelled: int = 0
    """Completions that were under way when there were enough; ``usage`` holds what they may cost."""
    max_prompt_tokens: int = 0
    """Prompt tokens of one call, as counted by the provider."""
    budget_stop_reason: str | None = None
    """Why the budget ended the draw, where it did."""

    @property
    def mean_completion_tokens(self) -> float:
        """Mean completion tokens of those paid for here; where there are none, of those that were there before."""
        paid = len(self.completions) - self.n_reused + self.n_cancelled
        if paid:
            return self.usage.completion_tokens / paid
        return sum(len(each.tokens) for each in self.completions) / max(1, len(self.completions))


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
    """Draw ``order.n`` completions, or fewer where these are enough.

    Waves of concurrent calls: without ``waves`` the first asks for all, each later one for what short replies left
    missing. Every call brings a completion or a failure, so that this ends after ``n`` waves at the very latest.
    Completions beyond ``n``, which some servers send unasked, are kept: they are paid for.

    Args:
        line: where the calls go.
        order: what is asked.
        on_arrival: called with each call's outcome as soon as it has brought completions, while others are under way;
            whatever it raises ends the draw.
        waves: how many completions each wave asks for; the last number repeats.
        enough: asked with all completions so far whenever calls have brought some, also in the middle of a wave.
            Where it says yes the draw ends; calls under way are cancelled, and what they may cost is estimated.
        first_alone: whether the first call is waited for before others start, so that they find its prompt cached.
        aborting: closes streams that lose confidence. Every call then asks for one completion and is streamed; the
            first wave is the warm-up, where ``waves`` are not given.
        have: completions of the same order that are there already, by number, ``order.n`` at most. They count, and come
            first; ``enough`` is asked about them before anything is sent. The numbers that are free are drawn.
        meter: keeps a budget: every wave is cut to what fits, and where nothing does the draw ends with what there is.

    Raises:
        NoCompletionError: fewer than ``order.min_completions`` came, and not because of the budget; every cause is
            inside.
        LogprobsUnavailableError: logprobs are a must and do not come; found out with one completion where neither
            the row nor an earlier reply vouches for them.
        SwiftClientError: the one cause of all failures, where no retry can help.
    """
    endpoint = context.endpoint
    if (
        len(existing_completions) < sample_request.n
        and context.must_have_logprobs
        and (silent := endpoint.no_logprobs_reason(context.fields(sample_request)))
    ):
        raise context.logprobs_unavailable_error(silent)
    until = None if sample_request.deadline is None else asyncio.get_running_loop().time() + sample_request.deadline
    progress = DrawState(
        sample_request=sample_request,
        deadline_at=until,
        request_budget=request_budget,
        abort_monitor=abort_monitor,
        has_completions=bool(existing_completions),
    )
    if endpoint.refusal:
        progress.notes.setdefault(f"The provider refused logprobs earlier: {endpoint.refusal}")
    if abort_monitor:
        wave_sizes = wave_sizes or (abort_monitor.rule.warmup, sample_request.n)
        if not endpoint.can_stream:
            progress.notes.setdefault("No stream was closed early: this provider does not stream logprobs.")
    size = _one_per_call if abort_monitor else endpoint.call_size
    numbers = itertools.count()
    free = [number for number in range(sample_request.n) if number not in existing_completions]

    def run(position: int) -> int:
        """Return how many numbers one call from this position on may bring; only with a seed do they matter."""
        number = free[position - len(existing_completions)]
        return min(
            (taken - number for taken in existing_completions if taken > number and sample_request.seed is not None),
            default=sample_request.n,
        )

    def wave(first: int, end: int) -> list[Call]:
        calls = []
        if request_budget:
            end = first + request_budget.affordable_completions(end - first, size)
        while first < end:
            wanted = size(min(end - first, run(first)))
            calls.append(
                Call(
                    context,
                    progress,
                    number=next(numbers),
                    n_requested=wanted,
                    first_index=free[first - len(existing_completions)],
                )
            )
            first += wanted
        return calls

    async def satisfied(before: Sequence[CallResult], came: Sequence[CallResult]) -> bool:
        completions = _reindex_completions([*before, *came])
        return (
            should_stop is not None
            and len(completions) >= sample_request.min_completions
            and await should_stop(completions)
        )

    outcomes: list[CallResult] = []
    sizes = itertools.chain(wave_sizes, itertools.repeat(wave_sizes[-1] if wave_sizes else sample_request.n))
    if existing_completions:
        outcomes += [
            CallResult(
                completions=tuple(existing_completions[number] for number in sorted(existing_completions)),
                from_cache=True,
            )
        ]
        if await satisfied((), outcomes):
            return _build_result(outcomes, progress)
        covered = 0
        while covered < len(existing_completions):
            covered += next(sizes)
    elif context.must_have_logprobs and not endpoint.logprobs_confirmed:
        outcomes += (await _run_calls(wave(0, 1), on_arrival)).call_results
        if outcomes and (failure := outcomes[0].failure):  # do not spend n on what one could not do
            outcomes = [replace(outcomes[0], failure=replace(failure, lost=sample_request.n))]
    planned = 0
    while (settled := sum(map(_count_settled, outcomes))) < sample_request.n:
        short = settled < planned
        planned = planned if short else min(settled + next(sizes), sample_request.n)
        if not (calls := wave(settled, planned)):
            break
        if first_alone and all(outcome.from_cache for outcome in outcomes):
            del calls[1:]
        planned = settled + sum(call.n_requested for call in calls)
        if short:
            message = f"{planned - settled} completions are missing; {len(calls)} more calls"
            context.emit_event(Event(kind="top_up", call=calls[0].number, n=planned - settled, message=message))
        placed = await _run_calls(calls, on_arrival, partial(satisfied, tuple(outcomes)))
        outcomes += placed.call_results
        if placed.should_stop:
            return replace(
                _build_result(outcomes, progress, cancelled_calls=placed.cancelled_calls), budget_stop_reason=None
            )
    return _build_result(outcomes, progress)


class _WaveResult(NamedTuple):
    call_results: list[CallResult]
    """In the order of the calls."""
    cancelled_calls: list[Call]
    should_stop: bool
    """Whether there is enough."""


async def _run_calls(
    calls: Sequence[Call],
    on_arrival: Callable[[CallResult], None] | None,
    should_stop: Callable[[Sequence[CallResult]], Awaitable[bool]] | None = None,
) -> _WaveResult:
    """Make the calls at once; leave none behind when one of them, the caller, or ``satisfied`` puts an end to it."""
    tasks = {asyncio.create_task(call.run(on_arrival)): call for call in calls}
    pending, over = set(tasks), False
    try:
        while pending and not over:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            came = [task.result() for task in tasks if task not in pending]
            if should_stop and any(task.result().completions for task in done):
                over = await should_stop(came)
        # What has come while ``satisfied`` made up its mind is paid for.
        ended = [task for task in tasks if task.done() and not task.exception()]
        return _WaveResult(
            [task.result() for task in ended], [tasks[task] for task in tasks if task not in ended], over
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _one_per_call(n_requested: int) -> int:
    return min(n_requested, 1)


def _count_settled(result: CallResult) -> int:
    return len(result.completions) + (result.failure.lost if result.failure else 0)


def _reindex_completions(call_results: Iterable[CallResult]) -> tuple[Completion, ...]:
    """Return all completions, numbered 0.. in the order of the calls."""
    drawn = [completion for outcome in call_results for completion in outcome.completions]
    return tuple(replace(completion, index=index) for index, completion in enumerate(drawn))


def _build_result(
    call_results: Sequence[CallResult], state: DrawState, *, cancelled_calls: Sequence[Call] = ()
) -> SampleResult:
    order = state.sample_request
    completions = _reindex_completions(call_results)
    failures = tuple(outcome.failure for outcome in call_results if outcome.failure)
    over_budget = state.request_budget.stop_reason if state.request_budget and len(completions) < order.n else None
    if len(completions) < order.min_completions and not over_budget:
        raise _sampling_error(failures, completions, order)
    if len(completions) > order.n:
        state.notes.setdefault(f"The provider sent {len(completions)} completions for {order.n}; all are kept.")
    if state.request_budget:
        state.notes.update(dict.fromkeys(state.request_budget.notes()))
    if state.abort_monitor and (note := state.abort_monitor.note()):
        state.notes.setdefault(note)
    usage = sum((outcome.usage for outcome in call_results), Usage())
    lost = [call.n_requested for call in cancelled_calls if call.was_sent]
    if lost:
        usage += _estimate_cancelled_usage(lost, usage, [outcome for outcome in call_results if not outcome.from_cache])
        state.notes.setdefault(f"{len(lost)} calls were cancelled under way; what they cost is an estimate.")
    return SampleResult(
        completions=completions,
        usage=replace(usage, calls=state.n_requests),
        failures=failures,
        notes=tuple(state.notes),
        n_reused=sum(len(outcome.completions) for outcome in call_results if outcome.from_cache),
        n_cancelled=sum(lost),
        max_prompt_tokens=max((outcome.usage.prompt_tokens for outcome in call_results), default=0),
        budget_stop_reason=over_budget,
    )


def _estimate_cancelled_usage(call_sizes: Sequence[int], usage: Usage, call_results: Sequence[CallResult]) -> Usage:
    """Return what cancelled calls cost if the provider finishes them unheard, at the means of those that came."""
    answered = max(1, sum(bool(outcome.completions) for outcome in call_results))
    came = max(1, sum(len(outcome.completions) for outcome in call_results))
    return Usage(
        prompt_tokens=round(usage.prompt_tokens / answered * len(call_sizes)),
        completion_tokens=round(usage.completion_tokens / came * sum(call_sizes)),
        estimated=True,
    )


def _sampling_error(
    failures: Sequence[Failure], completions: Sequence[Completion], sample_request: SampleRequest
) -> SwiftClientError:
    """Return the one cause itself where nothing came and no retry can help, else an error that holds everything."""
    causes = [failure.error for failure in failures]
    distinct = {(type(cause), cause.status, cause.message) for cause in causes}
    if not completions and len(distinct) == 1 and not causes[0].retryable:
        return causes[0]
    wanted = (
        f"at least {sample_request.min_completions} of {sample_request.n}"
        if sample_request.min_completions > 1
        else f"{sample_request.n}"
    )
    return NoCompletionError(
        f"{len(completions) or 'No'} completions came of {wanted} asked for.",
        causes=causes,
        completions=completions,
        hint=next((cause.hint for cause in causes if cause.hint), ""),
    )
