"""What follows a choice that was not accepted: more is asked and both are told as one, or it is kept back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from swift_client.errors import RejectedError, SwiftClientError
from swift_client.sampling import Order
from swift_client.types import Completion, Selection

PICKED = (
    "The stated risk was measured on all questions, and this one was picked for being hard: among such, more of the "
    "accepted answers may be wrong."
)
"""Said of an answer that was accepted after an earlier one was not."""


async def escalated(
    selection: Selection, question: Order, ask: Callable[[Order, Sequence[Completion]], Awaitable[Selection]]
) -> Selection:
    """Draw what a stopping rule left out, and choose again; where that fails, what there is comes back."""
    came = len(selection.candidates)
    if came >= question.n:
        return selection
    left = None if question.deadline is None else question.deadline - selection.elapsed
    if left is not None and left <= 0:
        return noted(selection, "The answer was not accepted, and the deadline left no time to draw the others.")
    begun = [candidate.completion for candidate in selection.candidates]
    try:
        more = await ask(replace(question, deadline=left), begun)
    except SwiftClientError as error:
        return noted(selection, f"The answer was not accepted, and drawing the others failed: {error}")
    return joined(noted(selection, f"The answer of {came} completions was not accepted: the others were drawn."), more)


def joined(before: Selection, after: Selection) -> Selection:
    """Return the later choice with what both cost, and all that is to be said of both."""
    doubt = (PICKED,) if after.accepted and PICKED not in before.notes else ()
    return replace(
        after,
        usage=before.usage + after.usage,
        cost=None if before.cost is None or after.cost is None else before.cost + after.cost,
        failures=(*before.failures, *after.failures),
        notes=tuple(dict.fromkeys((*before.notes, *after.notes, *doubt))),
        reused=before.reused + after.reused,
        elapsed=before.elapsed + after.elapsed,
    )


def noted(selection: Selection, note: str) -> Selection:
    """Return the choice with one more note."""
    return replace(selection, notes=(*selection.notes, note))


def rejected(selection: Selection) -> RejectedError:
    """Return the error that stands for a choice which is kept back."""
    why = "is not sure enough for the calibrated risk" if selection.accepted is False else "cannot be judged"
    last = "" if selection.accepted is False or not selection.notes else f" {selection.notes[-1]}"
    return RejectedError(
        f"The best of {len(selection.candidates)} answers {why}.{last}",
        selection=selection,
        hint="It is in the error's .selection; ask a person, or a stronger model (Cascade).",
    )
