"""The shape of answers, told to the provider before, and insisted on after."""

from __future__ import annotations

from dataclasses import replace

from swift_client.errors import BadRequestError, NoCompletionError
from swift_client.sampling import Order
from swift_client.structured.schema import Shape
from swift_client.types import Selection


def told(question: Order, shape: Shape | None, codec: str) -> tuple[Order, tuple[str, ...]]:
    """Return the order with the fields that ask for the shape, and a note where the provider cannot be told."""
    if shape is None:
        return question, ()
    fields, note = shape.request(codec, question.sampling)
    ordered = replace(question, sampling={**fields, **question.sampling}) if fields else question
    return ordered, (note,) if note else ()


def about_the_shape(error: BadRequestError) -> bool:
    """Whether a refusal names the fields that :func:`told` adds: DeepSeek and older servers know no schemas."""
    said = error.message.lower()
    return any(word in said for word in ("response_format", "schema", "text.format", "grammar"))


def fitting(selection: Selection, shape: Shape) -> None:
    """Raise NoCompletionError where not one completion fits: none of them is an answer."""
    if selection.best.answer is not None:
        return
    raise NoCompletionError(
        f"None of {len(selection.candidates)} completions fits {shape.name}. {' '.join(selection.notes)}",
        completions=[candidate.completion for candidate in selection.candidates],
        hint="Say in the prompt what JSON is wanted, raise max_tokens=, or loosen the model.",
    )
