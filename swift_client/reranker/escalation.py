"""What follows a choice that was not accepted: more is asked and both are told as one, or it is kept back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from swift_client.errors import RejectedError, SwiftClientError
from swift_client.sampling import SampleRequest
from swift_client.types import Completion, Selection

HARD_QUESTION_NOTE = (
    "The stated risk was measured on all questions, and this one was picked for being hard: among such, more of the "
    "accepted answers may be wrong."
)
"""Said of an answer that was accepted after an earlier one was not."""


async def escalate(
    selection: Selection,
    sample_request: SampleRequest,
    ask: Callable[[SampleRequest, Sequence[Completion]], Awaitable[Selection]],
) -> Selection:
    """Draw what a stopping rule left out, and choose again; where that fails, what there is comes back."""
    came = len(selection.candidates)
    if came >= sample_request.n:
        return selection
    left = None if sample_request.deadline is None else sample_request.deadline - selection.elapsed
    if left is not None and left <= 0:
        return with_note(selection, "The answer was not accepted, and the deadline left no time to draw the others.")
    begun = [candidate.completion for candidate in selection.candidates]
    try:
        more = await ask(replace(sample_request, deadline=left), begun)
    except SwiftClientError as error:
        return with_note(selection, f"The answer was not accepted, and drawing the others failed: {error}")
    return merge_selections(
        with_note(selection, f"The answer of {came} completions was not accepted: the others were drawn."), more
    )


def merge_selections(previous_selection: Selection, new_selection: Selection) -> Selection:
    """Return the later choice with what both cost, and all that is to be said of both."""
    doubt = (
        (HARD_QUESTION_NOTE,) if new_selection.accepted and HARD_QUESTION_NOTE not in previous_selection.notes else ()
    )
    return replace(
        new_selection,
        usage=previous_selection.usage + new_selection.usage,
        cost=None
        if previous_selection.cost is None or new_selection.cost is None
        else previous_selection.cost + new_selection.cost,
        failures=(*previous_selection.failures, *new_selection.failures),
        notes=tuple(dict.fromkeys((*previous_selection.notes, *new_selection.notes, *doubt))),
        reused=previous_selection.reused + new_selection.reused,
        elapsed=previous_selection.elapsed + new_selection.elapsed,
    )


def with_note(selection: Selection, note: str) -> Selection:
    """Return the choice with one more note."""
    return replace(selection, notes=(*selection.notes, note))


def rejection_error(selection: Selection) -> RejectedError:
    """Return the error that stands for a choice which is kept back."""
    why = "is not sure enough for the calibrated risk" if selection.accepted is False else "cannot be judged"
    last = "" if selection.accepted is False or not selection.notes else f" {selection.notes[-1]}"
    return RejectedError(
        f"The best of {len(selection.candidates)} answers {why}.{last}",
        selection=selection,
        hint="It is in the error's .selection; ask a person, or a stronger model (Cascade).",
    )
