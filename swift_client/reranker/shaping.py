"""The shape of answers, told to the provider before, and insisted on after."""

from __future__ import annotations

from dataclasses import replace

from swift_client.errors import NoCompletionError
from swift_client.reranker.structured import Shape
from swift_client.sampling import Order
from swift_client.types import Selection


def told(question: Order, shape: Shape | None, codec: str) -> tuple[Order, tuple[str, ...]]:
    """Return the order with the fields that ask for the shape, and a note where the provider cannot be told."""
    if shape is None:
        return question, ()
    fields, note = shape.request(codec, question.sampling)
    return replace(question, sampling={**fields, **question.sampling}), (note,) if note else ()


def fitting(selection: Selection, shape: Shape) -> None:
    """Raise NoCompletionError where not one completion fits: none of them is an answer."""
    if selection.best.answer is not None:
        return
    raise NoCompletionError(
        f"None of {len(selection.candidates)} completions fits {shape.name}. {' '.join(selection.notes)}",
        completions=[candidate.completion for candidate in selection.candidates],
        hint="Say in the prompt what JSON is wanted, raise max_tokens=, or loosen the model.",
    )
