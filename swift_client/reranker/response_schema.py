"""The shape of answers, told to the provider before, and insisted on after."""

from __future__ import annotations

from dataclasses import replace

from swift_client.errors import BadRequestError, NoCompletionError
from swift_client.sampling import SampleRequest
from swift_client.structured.schema import ResponseSchema
from swift_client.types import Selection


def add_schema_fields(
    sample_request: SampleRequest, response_schema: ResponseSchema | None, codec: str
) -> tuple[SampleRequest, tuple[str, ...]]:
    """Return the order with the fields that ask for the shape, and a note where the provider cannot be told."""
    if response_schema is None:
        return sample_request, ()
    fields, note = response_schema.request_fields(codec, sample_request.sampling)
    ordered = replace(sample_request, sampling={**fields, **sample_request.sampling}) if fields else sample_request
    return ordered, (note,) if note else ()


def is_schema_error(error: BadRequestError) -> bool:
    """Whether a refusal names the fields that :func:`told` adds: DeepSeek and older servers know no schemas."""
    said = error.message.lower()
    return any(word in said for word in ("response_format", "schema", "text.format", "grammar"))


def require_match(selection: Selection, response_schema: ResponseSchema) -> None:
    """Raise NoCompletionError where not one completion fits: none of them is an answer."""
    if selection.best.answer is not None:
        return
    raise NoCompletionError(
        f"None of {len(selection.candidates)} completions fits {response_schema.name}. {' '.join(selection.notes)}",
        completions=[candidate.completion for candidate in selection.candidates],
        hint="Say in the prompt what JSON is wanted, raise max_tokens=, or loosen the model.",
    )
