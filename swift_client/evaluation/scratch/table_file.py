"""A table of numbers in a temporary file, written and read in slices of its rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from swift_client.evaluation.scratch.scratch_file import ScratchFile
from swift_client.evaluation.scratch.summation import SequentialReader, pairwise_sum
from swift_client.features.segments import F64

_ITEM_BYTES = 8
_ROWS_PER_SLICE = 4096


class TableFile:
    """Rows of ``width`` float64 numbers, (Q, width). Raises ConfigurationError as ``ScratchFile``."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._file = ScratchFile()

    def __len__(self) -> int:
        return self._file.size // (self.width * _ITEM_BYTES)

    def append(self, rows: F64) -> None:
        """Append rows, (K, width)."""
        if rows.shape[1:] != (self.width,):
            raise ValueError(f"rows of shape {rows.shape} do not belong to a table of {self.width} columns")
        self._file.append(rows.astype(np.float64, copy=False))

    def read(self, rows: slice) -> F64:
        """Return the rows of a slice, (K, width), read-only."""
        start, stop, _ = rows.indices(len(self))
        count = max(0, stop - start)
        values: F64 = self._file.read(start * self.width * _ITEM_BYTES, count * self.width, np.float64)
        return values.reshape(count, self.width)

    def slices(self) -> Iterator[F64]:
        """Yield all rows, (K, width) at a time."""
        for start in range(0, len(self), _ROWS_PER_SLICE):
            yield self.read(slice(start, start + _ROWS_PER_SLICE))

    def column(self, number: int) -> F64:
        """Return one column, (Q,), in memory."""
        return np.concatenate([np.zeros(0), *(rows[:, number] for rows in self.slices())])

    def sum(self, number: int) -> float:
        """Return the sum of one column, with the bits of ``np.sum`` of the column in memory."""
        reader = SequentialReader(np.ascontiguousarray(rows[:, number]) for rows in self.slices())
        return pairwise_sum(reader.take, len(self))

    def mean(self, number: int) -> float:
        """Return the mean of one column of a table with rows."""
        return self.sum(number) / len(self)
