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
from swift_client.sampling.call import Call, Outcome
from swift_client.sampling.context import Line, Progress
from swift_client.sampling.early_abort import Aborting
from swift_client.sampling.meter import Meter
from swift_client.sampling.request import Order
from swift_client.types import Completion, Event, Failure, Usage

Enough = Callable[[tuple[Completion, ...]], Awaitable[bool]]
"""Says of the completions so far, numbered 0.. in the order of the calls, whether there are enough."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Draw:
    """What a draw brought."""

    completions: tuple[Completion, ...]
    """Numbered 0.. in the order of the calls, not of arrival."""
    usage: Usage
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    reused: int = 0
    """How many of the completions, the first ones, were there before; ``usage`` does not count them."""
    cancelled: int = 0
    """Completions that were under way when there were enough; ``usage`` holds what they may cost."""
    longest_prompt: int = 0
    """Prompt tokens of one call, as counted by the provider."""
    over_budget: str | None = None
    """Why the budget ended the draw, where it did."""

    @property
    def tokens_each(self) -> float:
        """Mean completion tokens of those paid for here; where there are none, of those that were there before."""
        paid = len(self.completions) - self.reused + self.cancelled
        if paid:
            return self.usage.completion_tokens / paid
        return sum(len(each.tokens) for each in self.completions) / max(1, len(self.completions))


async def draw(
    line: Line,
    order: Order,
    *,
    on_arrival: Callable[[Outcome], None] | None = None,
    waves: Sequence[int] = (),
    enough: Enough | None = None,
    meter: Meter | None = None,
    first_alone: bool = False,
    aborting: Aborting | None = None,
    have: Mapping[int, Completion] = MappingProxyType({}),
) -> Draw:
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
    endpoint = line.endpoint
    if len(have) < order.n and line.must_have_logprobs and (silent := endpoint.silent(line.fields(order))):
        raise line.unavailable(silent)
    until = None if order.deadline is None else asyncio.get_running_loop().time() + order.deadline
    progress = Progress(order=order, until=until, meter=meter, aborting=aborting, arrived=bool(have))
    if endpoint.refusal:
        progress.notes.setdefault(f"The provider refused logprobs earlier: {endpoint.refusal}")
    if aborting:
        waves = waves or (aborting.rule.warmup, order.n)
        if not endpoint.streams:
            progress.notes.setdefault("No stream was closed early: this provider does not stream logprobs.")
    size = _singly if aborting else endpoint.size
    numbers = itertools.count()
    free = [number for number in range(order.n) if number not in have]

    def run(position: int) -> int:
        """Return how many numbers one call from this position on may bring; only with a seed do they matter."""
        number = free[position - len(have)]
        return min((taken - number for taken in have if taken > number and order.seed is not None), default=order.n)

    def wave(first: int, end: int) -> list[Call]:
        calls = []
        if meter:
            end = first + meter.room(end - first, size)
        while first < end:
            wanted = size(min(end - first, run(first)))
            calls.append(Call(line, progress, number=next(numbers), wanted=wanted, first=free[first - len(have)]))
            first += wanted
        return calls

    async def satisfied(before: Sequence[Outcome], came: Sequence[Outcome]) -> bool:
        completions = _completions([*before, *came])
        return enough is not None and len(completions) >= order.min_completions and await enough(completions)

    outcomes: list[Outcome] = []
    sizes = itertools.chain(waves, itertools.repeat(waves[-1] if waves else order.n))
    if have:
        outcomes += [Outcome(completions=tuple(have[number] for number in sorted(have)), reused=True)]
        if await satisfied((), outcomes):
            return _joined(outcomes, progress)
        covered = 0
        while covered < len(have):
            covered += next(sizes)
    elif line.must_have_logprobs and not endpoint.vouched:
        outcomes += (await _placed(wave(0, 1), on_arrival)).outcomes
        if outcomes and (failure := outcomes[0].failure):  # do not spend n on what one could not do
            outcomes = [replace(outcomes[0], failure=replace(failure, lost=order.n))]
    planned = 0
    while (settled := sum(map(_settled, outcomes))) < order.n:
        short = settled < planned
        planned = planned if short else min(settled + next(sizes), order.n)
        if not (calls := wave(settled, planned)):
            break
        if first_alone and all(outcome.reused for outcome in outcomes):
            del calls[1:]
        planned = settled + sum(call.wanted for call in calls)
        if short:
            message = f"{planned - settled} completions are missing; {len(calls)} more calls"
            line.tell(Event(kind="top_up", call=calls[0].number, n=planned - settled, message=message))
        placed = await _placed(calls, on_arrival, partial(satisfied, tuple(outcomes)))
        outcomes += placed.outcomes
        if placed.over:
            return replace(_joined(outcomes, progress, cancelled=placed.cancelled), over_budget=None)
    return _joined(outcomes, progress)


class _Placed(NamedTuple):
    outcomes: list[Outcome]
    """In the order of the calls."""
    cancelled: list[Call]
    over: bool
    """Whether there is enough."""


async def _placed(
    calls: Sequence[Call],
    on_arrival: Callable[[Outcome], None] | None,
    satisfied: Callable[[Sequence[Outcome]], Awaitable[bool]] | None = None,
) -> _Placed:
    """Make the calls at once; leave none behind when one of them, the caller, or ``satisfied`` puts an end to it."""

    async def place(call: Call) -> Outcome:
        outcome = await call.place()
        if on_arrival and outcome.completions and not outcome.closed:
            on_arrival(outcome)
        return outcome

    tasks = {asyncio.create_task(place(call)): call for call in calls}
    pending, over = set(tasks), False
    try:
        while pending and not over:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            came = [task.result() for task in tasks if task not in pending]
            if satisfied and any(task.result().completions for task in done):
                over = await satisfied(came)
        # What has come while ``satisfied`` made up its mind is paid for.
        ended = [task for task in tasks if task.done() and not task.exception()]
        return _Placed([task.result() for task in ended], [tasks[task] for task in tasks if task not in ended], over)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _singly(wanted: int) -> int:
    return min(wanted, 1)


def _settled(outcome: Outcome) -> int:
    return len(outcome.completions) + (outcome.failure.lost if outcome.failure else 0)


def _completions(outcomes: Iterable[Outcome]) -> tuple[Completion, ...]:
    """Return all completions, numbered 0.. in the order of the calls."""
    drawn = [completion for outcome in outcomes for completion in outcome.completions]
    return tuple(replace(completion, index=index) for index, completion in enumerate(drawn))


def _joined(outcomes: Sequence[Outcome], progress: Progress, *, cancelled: Sequence[Call] = ()) -> Draw:
    order = progress.order
    completions = _completions(outcomes)
    failures = tuple(outcome.failure for outcome in outcomes if outcome.failure)
    over_budget = progress.meter.ended if progress.meter and len(completions) < order.n else None
    if len(completions) < order.min_completions and not over_budget:
        raise _verdict(failures, completions, order)
    if len(completions) > order.n:
        progress.notes.setdefault(f"The provider sent {len(completions)} completions for {order.n}; all are kept.")
    if progress.meter:
        progress.notes.update(dict.fromkeys(progress.meter.notes()))
    if progress.aborting and (note := progress.aborting.note()):
        progress.notes.setdefault(note)
    usage = sum((outcome.usage for outcome in outcomes), Usage())
    lost = [call.wanted for call in cancelled if call.sent]
    if lost:
        usage += _estimated(lost, usage, [outcome for outcome in outcomes if not outcome.reused])
        progress.notes.setdefault(f"{len(lost)} calls were cancelled under way; what they cost is an estimate.")
    return Draw(
        completions=completions,
        usage=replace(usage, calls=progress.requests),
        failures=failures,
        notes=tuple(progress.notes),
        reused=sum(len(outcome.completions) for outcome in outcomes if outcome.reused),
        cancelled=sum(lost),
        longest_prompt=max((outcome.usage.prompt_tokens for outcome in outcomes), default=0),
        over_budget=over_budget,
    )


def _estimated(wanted: Sequence[int], usage: Usage, outcomes: Sequence[Outcome]) -> Usage:
    """Return what cancelled calls cost if the provider finishes them unheard, at the means of those that came."""
    answered = max(1, sum(bool(outcome.completions) for outcome in outcomes))
    came = max(1, sum(len(outcome.completions) for outcome in outcomes))
    return Usage(
        prompt_tokens=round(usage.prompt_tokens / answered * len(wanted)),
        completion_tokens=round(usage.completion_tokens / came * sum(wanted)),
        estimated=True,
    )


def _verdict(failures: Sequence[Failure], completions: Sequence[Completion], order: Order) -> SwiftClientError:
    """Return the one cause itself where nothing came and no retry can help, else an error that holds everything."""
    causes = [failure.error for failure in failures]
    distinct = {(type(cause), cause.status, cause.message) for cause in causes}
    if not completions and len(distinct) == 1 and not causes[0].retryable:
        return causes[0]
    wanted = f"at least {order.min_completions} of {order.n}" if order.min_completions > 1 else f"{order.n}"
    return NoCompletionError(
        f"{len(completions) or 'No'} completions came of {wanted} asked for.",
        causes=causes,
        completions=completions,
        hint=next((cause.hint for cause in causes if cause.hint), ""),
    )
