"""Parquet files of samples or replies as a source: tasks are row groups, or parts of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.settings import RankSettings
from swift_client.bulk.sources.recent_questions import RecentQuestions
from swift_client.bulk.sources.source import Kind, Task
from swift_client.bulk.table_ranking import (
    REPLY,
    REPLY_COLUMNS,
    check_sample_columns,
    columns_to_read,
    find_starts,
    rank_rows,
)
from swift_client.dataset.sample_columns import import_pyarrow, sample_schema
from swift_client.dataset.sample_columns.locations import FilePath, locate, translate_errors
from swift_client.dataset.sample_columns.row_groups import MAX_VALUES, OpenParquet, RowGroup, open_parquet
from swift_client.errors import ConfigurationError

_TASK_ROWS = 1024  # rows after which a task ends with the question: few enough that all cores have some


class _Piece(NamedTuple):
    """Rows of one row group; ``stop`` is None for all that follow ``start``."""

    file: int
    row_group: int
    start: int
    stop: int | None


class _Run(NamedTuple):
    """The place of the first row of a question, or of its first one in a batch."""

    file: int
    row_group: int
    row: int
    question: str | None  # None if it is not known
    share: float  # of the source up to this row


@dataclass(frozen=True)
class ParquetFiles:
    """The rows of Parquet files, one after the other.

    A task is a list of pieces: a whole row group, or about a thousand rows of a large one. A question whose rows
    continue in the next row group or file belongs to the task of its first row. All workers decode a large row group
    from its first row on, which costs a small part of the ranking.
    """

    path: str
    files: tuple[str, ...]
    kind: Kind = "auto"

    @classmethod
    def of_path(cls, path: FilePath, kind: Kind = "auto") -> ParquetFiles:
        """Return a file, or the files of a folder by name. Raises ConfigurationError if there is none."""
        return cls(os.fspath(path), tuple(locate(path).list_files()), kind)

    def tasks(self) -> Iterator[tuple[Task, float]]:
        """See ``Source``."""
        pieces: list[_Piece] = []
        piece: _Piece | None = None
        last_question: str | None = None
        seen = RecentQuestions()
        for run in self._runs():
            continues = run.question is not None and run.question == last_question
            if run.question is not None and not continues and not seen.add(run.question):
                raise ConfigurationError(
                    f"{self.files[run.file]}: the rows of question {run.question!r} are not next to each other.",
                    hint="Sort the rows by question.",
                )
            last_question = run.question
            if piece is not None:
                is_same_group = (piece.file, piece.row_group) == (run.file, run.row_group)
                if is_same_group and (continues or (not pieces and run.row - piece.start < _TASK_ROWS)):
                    continue
                pieces.append(piece._replace(stop=run.row if is_same_group else None))
            if pieces and not continues:
                yield tuple(pieces), run.share
                pieces = []
            piece = _Piece(run.file, run.row_group, run.row, None)
        if piece is not None:
            yield (*pieces, piece), 1.0

    @contextmanager
    def open(self, settings: RankSettings) -> Iterator[Callable[[Task], list[RankedRow]]]:
        """See ``Source``."""
        with _Reader(self) as reader:

            def rank(task: Task) -> list[RankedRow]:
                batches = (batch for piece in task for batch in reader.read(_Piece(*piece), settings))
                return [row for table in _whole_questions(batches) for row in rank_rows(table, settings)]

            yield rank

    def _runs(self) -> Iterator[_Run]:
        """Yield the runs of rows of one question in each batch; of replies, those of each task."""
        with _Reader(self) as reader:
            for file in range(len(self.files)):
                opened = reader.open(file)
                self._check(opened.schema, opened.name)
                find_runs = _find_tasks if REPLY in opened.schema.names else _find_questions
                n_groups = len(opened.row_groups)
                for number, row_group in enumerate(opened.row_groups):
                    n_rows = max(1, row_group.count_rows())
                    for row, question in find_runs(row_group):
                        share = (file + (number + min(1.0, row / n_rows)) / n_groups) / len(self.files)
                        yield _Run(file, number, row, question, share)

    def _check(self, schema: Any, name: str) -> None:
        """Raise ConfigurationError if a file has other columns than it should."""
        with translate_errors(name):
            if REPLY not in schema.names:
                check_sample_columns(schema)
            elif self.kind == "samples":
                raise ConfigurationError(f"It has the column {REPLY!r} of replies.", hint="Rank it as replies.")
            if REPLY not in schema.names and self.kind == "replies":
                raise ConfigurationError(f"It has no column {REPLY!r}.", hint="Rank it as samples.")


class _Reader:
    """Reads pieces. The file that was read last stays open, and a later piece of its row group goes on from there."""

    def __init__(self, source: ParquetFiles) -> None:
        self._files, self._location = source.files, locate(source.path)
        self._stack = ExitStack()
        self._number = -1
        self._opened: OpenParquet | None = None
        self._place = (-1, -1)  # file and row group of the batches
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._first = 0  # row of the batch's first row

    def open(self, number: int) -> OpenParquet:
        """Return a file. Raises ConfigurationError if it is not Parquet."""
        if self._opened is None or number != self._number:
            self._stack.close()
            known = {*sample_schema(1).names, *REPLY_COLUMNS}
            self._opened = self._stack.enter_context(open_parquet(self._location, self._files[number], known))
            self._number = number
        return self._opened

    def read(self, piece: _Piece, settings: RankSettings) -> Iterator[Any]:
        """Yield the rows of a piece in tables of bounded size."""
        if self._place != (piece.file, piece.row_group) or piece.start < self._first:
            self._begin(piece, settings)
        while self._batch is not None and (piece.stop is None or self._first < piece.stop):
            start, stop = max(0, piece.start - self._first), len(self._batch)
            if piece.stop is not None:
                stop = min(stop, piece.stop - self._first)
            if start < stop:
                yield self._batch.slice(start, stop - start)
            if stop < len(self._batch):
                return  # the rest is for the next piece
            self._first += len(self._batch)
            self._batch = next(self._batches, None)

    def _begin(self, piece: _Piece, settings: RankSettings) -> None:
        opened = self.open(piece.file)
        names = opened.schema.names
        columns = REPLY_COLUMNS if REPLY in names else columns_to_read(names, settings)
        self._batches = opened.row_groups[piece.row_group].read(columns)
        self._place, self._first = (piece.file, piece.row_group), 0
        self._batch = next(self._batches, None)

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _find_questions(row_group: RowGroup) -> Iterator[tuple[int, str | None]]:
    """Yield the first row and the question of each run of rows of one question, per batch."""
    first = 0
    for table in row_group.read(("question",)):
        starts = find_starts(table)
        questions = table.column("question").take(starts[:-1]).to_pylist()
        yield from zip((first + start for start in starts), questions, strict=False)
        first += len(table)


def _find_tasks(row_group: RowGroup) -> Iterator[tuple[int, None]]:
    """Yield the first row of each part of a row group of replies, of which each row is a question."""
    n_rows = row_group.count_rows()
    if n_rows > MAX_VALUES:
        raise ConfigurationError(
            f"{row_group.name}: a row group has {n_rows:,} rows; {MAX_VALUES:,} are the most.",
            hint="Write the file with smaller row groups.",
        )
    yield from ((row, None) for row in range(0, n_rows, _TASK_ROWS))


def _whole_questions(tables: Iterator[Any]) -> Iterator[Any]:
    """Yield tables of whole questions: the rows of a table's last one wait for the next table."""
    pyarrow = import_pyarrow()
    waiting: Any = None
    for table in tables:
        if REPLY in table.schema.names:
            yield table
            continue
        joined = table if waiting is None else pyarrow.concat_tables([waiting, table])
        last = find_starts(joined)[-2]
        waiting = joined.slice(last)
        if last:
            yield joined.slice(0, last)
    if waiting is not None:
        yield waiting
