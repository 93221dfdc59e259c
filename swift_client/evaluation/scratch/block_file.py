"""Arrays of many questions in a temporary file, stacked with those of questions with equally many completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from swift_client.evaluation.pools import ColumnKey, stack_columns
from swift_client.evaluation.scratch.scratch_file import ScratchFile
from swift_client.features.segments import F64, I64

QUESTIONS_PER_SLICE = 2048  # questions in memory


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """The B questions of one slice that have m completions each.

    Attributes:
        size: m.
        rows: (B,) their positions in the slice, rising.
        start: Position of the slice among all questions.
        columns: (B, m) their arrays.
    """

    size: int
    rows: I64
    start: int
    columns: dict[ColumnKey, F64]


class _Entry(NamedTuple):
    """The place of a block in the file."""

    start: int
    size: int
    questions: int
    keys: tuple[ColumnKey, ...]
    offset: int


class BlockFile:
    """Arrays of questions in slices of so many questions. Raises ConfigurationError as ``ScratchFile``."""

    def __init__(self, *, questions_per_slice: int = QUESTIONS_PER_SLICE) -> None:
        self._file, self._questions_per_slice = ScratchFile(), questions_per_slice
        self._waiting: list[Mapping[ColumnKey, F64]] = []  # the questions of the last slice
        self._entries: list[list[_Entry]] = []  # of each slice, by rising size
        self._known_keys: dict[tuple[ColumnKey, ...], tuple[ColumnKey, ...]] = {}
        self._count = 0
        # Hash of the numbers of completions, in order.
        self.shape = 0

    def __len__(self) -> int:
        return self._count

    def add(self, columns: Mapping[ColumnKey, F64]) -> None:
        """Add the arrays (m,) of one question; values that only some questions have are judgements."""
        self._waiting.append(columns)
        self._count += 1
        self.shape = hash((self.shape, _size_of(columns)))
        if len(self._waiting) == self._questions_per_slice:
            self._write_slice()

    def slices(self) -> Iterator[tuple[int, list[Block]]]:
        """Yield each slice's number of questions and its blocks, by rising size."""
        self._write_slice()
        for entries in self._entries:
            yield sum(entry.questions for entry in entries), [self._read(entry) for entry in entries]

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield the blocks of questions with ``size`` completions, in order."""
        self._write_slice()
        for entries in self._entries:
            for entry in entries:
                if entry.size == size:
                    yield self._read(entry)

    def _write_slice(self) -> None:
        if not self._waiting:
            return
        rows_by_size: defaultdict[int, list[int]] = defaultdict(list)
        for row, columns in enumerate(self._waiting):
            rows_by_size[_size_of(columns)].append(row)
        entries = []
        for size, rows in sorted(rows_by_size.items()):
            questions = [self._waiting[row] for row in rows]
            optional = {key: None for columns in questions for key in columns if key[0] == "judgements"}
            stacked = stack_columns(questions, sorted(optional))
            keys = self._known_keys.setdefault(tuple(stacked), tuple(stacked))
            offset = self._file.append(np.array(rows, np.int64))
            for values in stacked.values():
                self._file.append(values)
            entries.append(_Entry(self._count - len(self._waiting), size, len(rows), keys, offset))
        self._entries.append(entries)
        self._waiting = []

    def _read(self, entry: _Entry) -> Block:
        rows = self._file.read(entry.offset, entry.questions, np.int64)
        shape = (len(entry.keys), entry.questions, entry.size)
        values = self._file.read(entry.offset + rows.nbytes, int(np.prod(shape)), np.float64).reshape(shape)
        columns = dict(zip(entry.keys, values, strict=True))
        return Block(size=entry.size, rows=rows, start=entry.start, columns=columns)


def _size_of(columns: Mapping[ColumnKey, F64]) -> int:
    return len(next(iter(columns.values())))
