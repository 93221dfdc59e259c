"""Samples of Parquet files, question by question."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np

from swift_client.dataset.sample_columns.arrays import Columns, refuse_invalid
from swift_client.dataset.sample_columns.groups import group_samples, read_questions, sort_samples
from swift_client.dataset.sample_columns.locations import FilePath, locate, translate_errors
from swift_client.dataset.sample_columns.question_index import (
    Hashes,
    QuestionIndex,
    find_runs,
    hash_question,
    index_questions,
)
from swift_client.dataset.sample_columns.row_groups import RowGroup, read_row_groups
from swift_client.dataset.sample_columns.schema import import_pyarrow
from swift_client.store import Sample, StoredQuestion
from swift_client.types import Usage

WINDOW_ROWS = 4096  # rows of divided questions that are in memory at a time

Groups = Iterator[tuple[StoredQuestion, list[Sample]]]
Only = Callable[[StoredQuestion], bool]

_QUESTION_COLUMNS = ("question", "messages", "answer", "answers", "family")


class ParquetSamples:
    """The samples of a Parquet file, or of all Parquet files of a folder and its folders. Each iteration reads again.

    Files that are added later are not read. One batch of rows is in memory at a time, and tens of bytes per
    question while the questions are counted.

    Questions whose rows are not one after the other, for example in several files, come after all others, a few
    thousand rows at a time. For each of these parts all ids are read again, and about a hundred bytes per such question
    are in memory. If there are many of them, sort the rows by question first.

    Args:
        path: the file, the folder, or the URL of either on a file system of pyarrow or fsspec, such as
            ``s3://bucket/samples``.
        skip: names of columns that need not be read, such as ``top_ids``, a third of the bytes.

    Raises:
        ConfigurationError: nothing is there, or a file is not Parquet, is damaged, or has no valid samples; here or in
            a later call.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: FilePath, *, skip: Collection[str] = ()) -> None:
        self._arrow = import_pyarrow()
        self._location = locate(path)
        self._skip = frozenset(skip)
        self._files = self._location.list_files()
        # The path or URL, without user, password and query.
        self.name = self._location.name
        # Parquet files have neither of these.
        self.sampling: Mapping[str, Any] = {}
        self.usage = Usage()

    @cached_property
    def _index(self) -> QuestionIndex:
        with translate_errors(self.name), refuse_invalid(self._arrow):
            return index_questions(self._row_groups())

    @property
    def sources(self) -> frozenset[tuple[str, str]]:
        """The pairs of provider and model of the samples."""
        return self._index.sources

    def questions(self) -> Iterator[StoredQuestion]:
        """Yield each question once, in the order of their first rows, without reading samples."""
        divided, seen, last_id = frozenset(self._index.divided.tolist()), set(), None
        for row_group in self._row_groups():
            for table in row_group.read(_QUESTION_COLUMNS):
                with translate_errors(row_group.name), refuse_invalid(self._arrow):
                    runs = read_questions(Columns(self._arrow, table))
                for question, _, _ in runs:
                    is_new, last_id = question.id != last_id and question.id not in seen, question.id
                    if is_new:
                        yield question
                    if divided and hash_question(question.id) in divided:
                        seen.add(question.id)

    def __iter__(self) -> Groups:
        return self.groups()

    def groups(self, only: Only = lambda question: True) -> Groups:
        """Yield the questions for which ``only`` is true, each with its samples in the order of their indices."""
        divided = frozenset(self._index.divided.tolist())
        if not divided:
            yield from self._join_runs(self._read(self._row_groups(), only))
            return

        def is_undivided(question: StoredQuestion) -> bool:
            return hash_question(question.id) not in divided and only(question)

        yield from self._join_runs(self._read(self._row_groups(), is_undivided))
        windows = np.cumsum(self._index.rows) // WINDOW_ROWS
        for window in np.unique(windows):
            yield from self._read_window(self._index.divided[windows == window], only)

    def _row_groups(self) -> Iterator[RowGroup]:
        return read_row_groups(self._location, self._files, skip=self._skip)

    def _read(self, row_groups: Iterable[RowGroup], only: Only) -> Groups:
        """Yield the runs of rows of one question in each batch."""
        for row_group in row_groups:
            for table in row_group.read():
                with translate_errors(row_group.name):
                    groups = list(group_samples(table, only=only))
                yield from groups

    def _join_runs(self, runs: Groups) -> Groups:
        """Yield whole questions from runs of which those of one question follow each other."""
        for _, parts in groupby(runs, key=lambda run: run[0].id):
            yield self._join(list(parts))

    def _read_window(self, hashes: Hashes, only: Only) -> Groups:
        """Yield the questions with these hashes, wherever their rows are."""
        keys = frozenset(hashes.tolist())
        parts: dict[str, list[tuple[StoredQuestion, list[Sample]]]] = {}

        def is_wanted(question: StoredQuestion) -> bool:
            return hash_question(question.id) in keys and only(question)

        for row_group in self._row_groups():
            if any(np.isin(found, hashes).any() for found, _ in find_runs(row_group)):
                for question, samples in self._read([row_group], is_wanted):
                    parts.setdefault(question.id, []).append((question, samples))
        for question_id in list(parts):
            yield self._join(parts.pop(question_id))

    def _join(self, parts: list[tuple[StoredQuestion, list[Sample]]]) -> tuple[StoredQuestion, list[Sample]]:
        question = parts[0][0]
        if len(parts) == 1:
            return parts[0]
        with translate_errors(self.name), refuse_invalid(self._arrow):
            if any(other.messages != question.messages for other, _ in parts):
                raise ValueError(f"question {question.id!r} has several messages")
            return question, sort_samples([sample for _, samples in parts for sample in samples])
