"""Arrow columns to questions with their samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from swift_client.dataset.sample_columns.arrays import Columns, find_run_starts, join_lists, list_texts, refuse_invalid
from swift_client.dataset.sample_columns.decode import decode_samples
from swift_client.dataset.sample_columns.schema import import_pyarrow
from swift_client.store import ReferenceAnswer, Sample, StoredQuestion
from swift_client.store.records import parse_question


def group_samples(
    table: Any, *, only: Callable[[StoredQuestion], bool] | None = None
) -> Iterator[tuple[StoredQuestion, list[Sample]]]:
    """Yield each run of rows of one question, as a question with its samples in the order of their indices.

    Args:
        table: a ``pyarrow.Table`` or record batch of ``sample_schema()``.
        only: filter of the questions; the samples of others are not decoded.

    Raises:
        ConfigurationError: as ``decode_samples()``; or a question's rows disagree on its messages, or share an index.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    with refuse_invalid(arrow):
        columns = Columns(arrow, table)
        runs = [run for run in read_questions(columns) if only is None or only(run[0])]
        is_read = np.zeros(len(columns.table), np.bool_)
        for _, start, end in runs:
            is_read[start:end] = True
        rows = columns.table if is_read.all() else columns.table.filter(arrow.array(is_read))
    samples, first = decode_samples(rows), 0
    for question, start, end in runs:
        last = first + end - start
        with refuse_invalid(arrow):
            own_samples = sort_samples(samples[first:last])
        yield question, own_samples
        first = last


def read_questions(columns: Columns) -> list[tuple[StoredQuestion, int, int]]:
    """Return the question of each run of rows, with its first row and the one after its last.

    Raises:
        ValueError: a column is missing or has another type, or the rows of a question disagree on its messages.
    """
    if not len(columns.table):
        return []
    ids, messages = columns.required_texts("question"), columns.required_texts("messages")
    answers, families = _decode_answers(columns), columns.texts("family")
    runs = []
    for start, end in pairwise(find_run_starts(ids)):
        if any(text != messages[start] for text in messages[start:end]):
            raise ValueError(f"question {ids[start]!r} has several messages")
        question = parse_question((ids[start], messages[start], answers[start], families[start]))
        runs.append((question, start, end))
    return runs


def sort_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Return one question's samples by index. Raises ValueError if an index appears twice."""
    ordered = sorted(samples, key=lambda sample: sample.index)
    for sample, following in pairwise(ordered):
        if sample.index == following.index:
            raise ValueError(f"question {sample.question_id!r} has two samples with the index {sample.index}")
    return ordered


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
