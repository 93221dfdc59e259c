"""Rows of a samples file to records and back. What is read may have been written by anyone: every field is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import NoneType
from typing import Any, get_args

from swift_client.errors import ConfigurationError
from swift_client.store.packing import unpack
from swift_client.store.records import Meta, Sample, StoredQuestion
from swift_client.types import FinishReason


def meta_to_dict(meta: Meta) -> dict[str, Any]:
    """Return a file's facts as JSON has them."""
    return {**asdict(meta), "sampling": dict(meta.sampling)}


def to_json(value: object) -> str:
    """Return JSON. Raises ConfigurationError for what is none."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"A samples file cannot hold this: {error}.", hint="Give plain JSON values."
        ) from error


def parse_meta(text: str) -> Meta:
    """Read what :func:`facts_of` gave. Raises ValueError, TypeError or KeyError for anything else."""
    facts = json.loads(text)
    return Meta(
        provider=str(facts["provider"]),
        model=None if facts["model"] is None else str(facts["model"]),
        top_logprobs=int(facts["top_logprobs"]),
        sampling=dict(facts["sampling"]),
    )


def parse_source(text: str) -> tuple[str, str | None]:
    """Read provider and model. Raises ValueError, TypeError or KeyError where they are not there."""
    facts = json.loads(text)
    provider, model = (facts["provider"], facts["model"]) if isinstance(facts, Mapping) else (None, None)
    if not isinstance(provider, str) or not isinstance(model, (str, NoneType)):
        raise ValueError("a request names no model")
    return provider, model


def parse_question(row: Sequence[Any]) -> StoredQuestion:
    """Read (id, messages, answer, family). Raises ValueError for what is no question."""
    identity, messages, answer, family = row
    held = json.loads(messages)
    if not all(isinstance(value, (str, NoneType)) for value in row):
        raise ValueError(f"question {identity!r} has a field that is no text")
    if not isinstance(held, list) or not all(isinstance(message, dict) for message in held):
        raise ValueError(f"the messages of question {identity!r} are no list of messages")
    return StoredQuestion(id=identity, messages=tuple(held), answer=answer, family=family)


def parse_sample(question_id: str, row: Sequence[Any]) -> Sample:
    """Read (number, text, finish_reason, arrays, label, seed, cost). Raises ValueError for what is no sample."""
    number, text, finish_reason, arrays, label, seed, cost = row
    kinds = ((number, int), (text, str), (arrays, bytes), (seed, int | None), (cost, float | None))
    if not all(isinstance(value, kind) for value, kind in kinds) or number < 0:
        raise ValueError(f"a sample of question {question_id!r} has a field of another type")
    if finish_reason not in get_args(FinishReason) or label not in (None, 0, 1):
        raise ValueError(f"sample {question_id!r}, {number} ended {finish_reason!r} and has the label {label!r}")
    try:
        completion = unpack(arrays, text=text, index=number, finish_reason=finish_reason)
    except ValueError as error:
        raise ValueError(f"{error} (question {question_id}, index {number})") from error
    return Sample(
        question_id=question_id,
        index=number,
        completion=completion,
        seed=seed,
        label=label,
        cost=cost,
    )
