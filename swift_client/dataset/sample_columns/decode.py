"""Arrow columns to samples, many at a time. Values are checked: anyone may have written them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from swift_client.dataset.sample_columns.arrays import Columns, as_numbers, join_lists, list_texts
from swift_client.dataset.sample_columns.contents import decode_completions
from swift_client.dataset.sample_columns.schema import import_pyarrow
from swift_client.errors import ConfigurationError
from swift_client.store import ReferenceAnswer, Sample, StoredQuestion
from swift_client.store.records import parse_question

_HINT = "Write samples with `swift-client collect --parquet`, or with swift_client.dataset.sample_columns."


def decode_samples(table: Any) -> list[Sample]:
    """Return the samples of a ``pyarrow.Table`` or record batch of ``sample_schema()``, in the order of its rows.

    Their arrays are views on the table's memory, or on arrays that all of them share, and equal those of a samples file
    to the last bit. Other columns are ignored; those that samples may lack need not be there.

    Raises:
        ConfigurationError: a column is missing or has another type, or a value is invalid.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    try:
        return _decode(Columns(arrow, table))
    except _errors(arrow) as error:
        raise _invalid_samples(error) from error


def group_samples(table: Any) -> Iterator[tuple[StoredQuestion, list[Sample]]]:
    """Yield each run of rows of one question, as a question with its samples in the order of their indices.

    Raises:
        ConfigurationError: as ``decode_samples()``; or a question's rows disagree on its messages, or share an index.
    """
    arrow = import_pyarrow()
    samples = decode_samples(table)
    try:
        columns = Columns(arrow, table)
        messages, families = columns.texts("messages"), columns.texts("family")
        answers = _decode_answers(columns)
    except _errors(arrow) as error:
        raise _invalid_samples(error) from error
    for start, end in find_runs([sample.question_id for sample in samples]):
        own_samples = samples[start:end]
        question_id = own_samples[0].question_id
        try:
            if any(text != messages[start] for text in messages[start:end]):
                raise ValueError(f"question {question_id!r} has several messages")
            question = parse_question((question_id, messages[start], answers[start], families[start]))
            yield question, sort_samples(own_samples)
        except (ValueError, TypeError, RecursionError) as error:
            raise _invalid_samples(error) from error


def find_runs(values: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the start and end of each run of equal values."""
    changes = [row for row, (value, following) in enumerate(pairwise(values), 1) if value != following]
    return list(pairwise([0, *changes, len(values)])) if values else []


def sort_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Return one question's samples by index. Raises ValueError if an index appears twice."""
    ordered = sorted(samples, key=lambda sample: sample.index)
    for sample, following in pairwise(ordered):
        if sample.index == following.index:
            raise ValueError(f"question {sample.question_id!r} has two samples with the index {sample.index}")
    return ordered


def _errors(arrow: Any) -> tuple[type[Exception], ...]:
    return (arrow.ArrowException, ValueError, TypeError, LookupError, OverflowError, RecursionError)


def _invalid_samples(error: Exception) -> ConfigurationError:
    return ConfigurationError(f"The columns hold no valid samples: {error}.", hint=_HINT)


def _decode(columns: Columns) -> list[Sample]:
    if not len(columns.table):
        return []
    arrow = columns.arrow
    indices = columns.required("index").cast(arrow.int64()).to_pylist()
    labels, seeds = columns.values("label", arrow.float64()), columns.values("seed", arrow.int64())
    costs, means = columns.values("cost", arrow.float64()), columns.values("mean_logprob", arrow.float64())
    if min(indices) < 0:
        raise ValueError("an index is negative")
    if not {None, 0.0, 1.0}.issuperset(labels):
        raise ValueError("a label is not 0 or 1")
    if any(cost is not None and not math.isfinite(cost) for cost in costs):
        raise ValueError("a cost is NaN or infinite")
    if any(mean is not None and not -math.inf < mean <= 0 for mean in means):
        raise ValueError("a mean logprob is NaN, infinite or above 0")
    rows = zip(
        columns.required_texts("question"),
        indices,
        decode_completions(columns, indices),
        seeds,
        labels,
        costs,
        means,
        _decode_scores(columns),
        strict=True,
    )
    return [
        Sample(
            question_id=question_id,
            index=index,
            completion=completion,
            seed=seed,
            label=label,
            cost=cost,
            mean_logprob=None if completion.tokens else mean,
            verifier_scores=scores,
        )
        for question_id, index, completion, seed, label, cost, mean, scores in rows
    ]


def _decode_scores(columns: Columns) -> list[Mapping[str, float]]:
    """Return the judgements of each sample by the identity of the verifier."""
    array = columns.array("verifier_scores")
    if array is None:
        return [{} for _ in range(len(columns.table))]
    if not columns.arrow.types.is_map(array.type):
        raise TypeError(f"verifier_scores are of type {array.type} instead of maps")
    if not len(array.keys):
        return [{} for _ in range(len(columns.table))]
    values = as_numbers(array.items, columns.arrow.float64())
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a judgement is not from 0 to 1")
    pairs: list[Any] = list(zip(list_texts(columns.arrow, array.keys), values.tolist(), strict=True))
    ranges = zip(pairwise(array.offsets.to_pylist()), array.is_valid().to_pylist(), strict=True)
    return [dict(pairs[start:end]) if is_there else {} for (start, end), is_there in ranges]


def _decode_answers(columns: Columns) -> list[ReferenceAnswer | None]:
    """Return the accepted answers of each row: one as text, several as a tuple."""
    array = columns.array("answers")
    if array is None:
        return list(columns.texts("answer"))
    texts, offsets = join_lists(columns.arrow, array)
    answers = list_texts(columns.arrow, texts) if len(texts) else []
    rows = [tuple(answers[start:end]) for start, end in pairwise(offsets.tolist())]
    if any(None in row for row in rows):
        raise ValueError("an accepted answer is missing")
    return [row if len(row) > 1 else next(iter(row), None) for row in rows]  # type: ignore[misc]
