"""Parquet files of samples or replies as a source: tasks are row groups, or parts of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.settings import RankSettings
from swift_client.bulk.sources.recent_questions import RecentQuestions
from swift_client.bulk.sources.source import Kind, Task
from swift_client.bulk.table_ranking import REPLY, check_sample_columns, find_starts, rank_rows
from swift_client.dataset.sample_columns import import_pyarrow
from swift_client.dataset.sample_columns.locations import FilePath, locate, translate_errors
from swift_client.errors import ConfigurationError

_BATCH_ROWS = 256  # rows that a worker has in memory, besides those of one question
# Columns that no choice depends on.
_UNREAD = ("answer", "answers", "family", "label", "verifier_scores", "seed", "cost", "mean_logprob")


class _Piece(NamedTuple):
    """Rows of one row group; ``stop`` is None for all that follow ``start``."""

    file: int
    row_group: int
    start: int
    stop: int | None


@dataclass(frozen=True)
class ParquetFiles:
    """The rows of Parquet files, one after the other.

    A task is a list of pieces, most often one whole row group. A question whose rows continue in the next row group or
    file belongs to the task of its first row.
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
        last_question: str | None = None
        seen = RecentQuestions()
        for file, row_group, questions, share in self._read_questions():
            if questions is None:  # replies: each row is a question
                if pieces:
                    yield tuple(pieces), share
                pieces = []
                yield (_Piece(file, row_group, 0, None),), share
                continue
            if not len(questions):
                continue
            starts = find_starts(questions)
            names = questions.column("question").take(starts[:-1]).to_pylist()
            continues = bool(pieces) and names[0] == last_question
            for name in names[continues:]:
                if name is not None and not seen.add(name):
                    raise ConfigurationError(
                        f"{self.files[file]}: the rows of question {name!r} are not next to each other.",
                        hint="Sort the rows by question.",
                    )
            last_question = names[-1]
            if continues:
                is_whole = len(starts) == 2  # one question all through, which may continue still further
                pieces.append(_Piece(file, row_group, 0, None if is_whole else starts[1]))
                if is_whole:
                    continue
            if pieces:
                yield tuple(pieces), share
            pieces = [_Piece(file, row_group, starts[1] if continues else 0, None)]
        if pieces:
            yield tuple(pieces), 1.0

    @contextmanager
    def open(self, settings: RankSettings) -> Iterator[Callable[[Task], list[RankedRow]]]:
        """See ``Source``."""
        with _OpenFile(self) as reader:

            def rank(task: Task) -> list[RankedRow]:
                batches = (batch for piece in task for batch in reader.read(_Piece(*piece), settings))
                return [row for table in _whole_questions(batches) for row in rank_rows(table, settings)]

            yield rank

    def _read_questions(self) -> Iterator[tuple[int, int, Any | None, float]]:
        """Yield file, row group, its column "question" (None: replies), and the share up to the row group's start."""
        with _OpenFile(self) as reader:
            for file in range(len(self.files)):
                opened = reader.open(file)
                count, has_replies = opened.metadata.num_row_groups, REPLY in opened.schema_arrow.names
                self._check(opened.schema_arrow, reader.name(file))
                for row_group in range(count):
                    questions = None if has_replies else reader.read_row_group(file, row_group, ["question"])
                    yield file, row_group, questions, (file + row_group / count) / len(self.files)

    def _check(self, schema: Any, name: str) -> None:
        """Raise ConfigurationError if a file has other columns than it should."""
        with translate_errors(name):
            if REPLY not in schema.names:
                check_sample_columns(schema)
            elif self.kind == "samples":
                raise ConfigurationError(f"It has the column {REPLY!r} of replies.", hint="Rank it as replies.")
            if REPLY not in schema.names and self.kind == "replies":
                raise ConfigurationError(f"It has no column {REPLY!r}.", hint="Rank it as samples.")


class _OpenFile:
    """Reads row groups; the file that was read last stays open."""

    def __init__(self, source: ParquetFiles) -> None:
        self._files, self._location = source.files, locate(source.path)
        self._number = -1
        self._file: Any = None

    def name(self, number: int) -> str:
        """Return the name of a file, as it may be shown."""
        return self._location.name if len(self._files) == 1 else f"{self._location.name}: {self._files[number]}"

    def open(self, number: int) -> Any:
        """Return a ``pyarrow.parquet.ParquetFile``. Raises ConfigurationError if it is not one."""
        if number != self._number:
            self.close()
            with translate_errors(self.name(number)):
                opened = self._location.filesystem.open_input_file(self._files[number])
                self._file = import_pyarrow().parquet.ParquetFile(opened)
            self._number = number
        return self._file

    def read_row_group(self, number: int, row_group: int, columns: Sequence[str]) -> Any:
        """Return columns of a row group as a table."""
        file = self.open(number)
        with translate_errors(self.name(number)):
            return file.read_row_group(row_group, columns=list(columns), use_threads=False)

    def read(self, piece: _Piece, settings: RankSettings) -> Iterator[Any]:
        """Yield the rows of a piece in tables of at most ``_BATCH_ROWS`` rows."""
        pyarrow = import_pyarrow()
        file = self.open(piece.file)
        columns = _columns_to_read(file.schema_arrow.names, settings)
        batches = file.iter_batches(
            batch_size=_BATCH_ROWS, row_groups=[piece.row_group], columns=columns, use_threads=False
        )
        first = 0
        while piece.stop is None or first < piece.stop:
            with translate_errors(self.name(piece.file)):
                batch = next(batches, None)
            if batch is None:
                return
            start, stop = max(0, piece.start - first), len(batch)
            if piece.stop is not None:
                stop = min(stop, piece.stop - first)
            if start < stop:
                yield pyarrow.Table.from_batches([batch.slice(start, stop - start)])
            first += len(batch)

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.close()
        self._file, self._number = None, -1

    def __enter__(self) -> _OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def _columns_to_read(names: Sequence[str], settings: RankSettings) -> list[str]:
    unread = {*_UNREAD}
    if not settings.reads_token_ids:
        unread.add("top_ids")
    if not settings.reads_hidden_states:
        unread |= {"hidden_states", "projections"}
    return [name for name in names if name not in unread]
