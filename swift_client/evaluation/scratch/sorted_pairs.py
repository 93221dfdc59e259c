"""Pairs of a value and a label in a temporary file, which come back sorted by value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.evaluation.scratch.scratch_file import ScratchFile
from swift_client.features.segments import F64

PAIR = np.dtype([("value", "<f8"), ("label", "?")])
MAX_PAIRS_IN_MEMORY = 1 << 18
_MIN_BUFFER = 256  # pairs of a sorted run that are read at once

Pairs = NDArray[Any]  # (K,) of PAIR


class PairFile:
    """Values without NaN, with labels 0 or 1. Raises ConfigurationError as ``ScratchFile``."""

    def __init__(self, *, max_in_memory: int = MAX_PAIRS_IN_MEMORY) -> None:
        self._file, self._max_in_memory = ScratchFile(), max_in_memory

    def __len__(self) -> int:
        return self._file.size // PAIR.itemsize

    def append(self, values: F64, labels: F64) -> None:
        """Append pairs: values (K,) and labels (K,)."""
        pairs = np.empty(len(values), PAIR)
        pairs["value"], pairs["label"] = values, labels == 1
        self._file.append(pairs)

    def parts(self) -> Iterator[Pairs]:
        """Yield the pairs in the order in which they were appended."""
        for start in range(0, len(self), self._max_in_memory):
            count = min(self._max_in_memory, len(self) - start)
            yield self._file.read(start * PAIR.itemsize, count, PAIR)

    def sorted_parts(self) -> Iterator[Pairs]:
        """Yield the pairs in the order of their values, equal ones as they were appended."""
        if len(self) <= self._max_in_memory:
            yield from map(_sort, self.parts())
            return
        # External merge sort: sorted runs, each as large as fits in memory, then a merge of all of them.
        runs_file = ScratchFile()
        for part in self.parts():
            runs_file.append(_sort(part))
        starts = range(0, len(self), self._max_in_memory)
        buffer = max(_MIN_BUFFER, self._max_in_memory // len(starts))
        runs = [_Run(runs_file, start, min(start + self._max_in_memory, len(self)), buffer) for start in starts]
        yield from _merge(runs)


class _Run:
    """A sorted run in a file, of which the next pairs are in memory."""

    def __init__(self, file: ScratchFile, start: int, stop: int, buffer: int) -> None:
        self._file, self._stop, self._buffer = file, stop, buffer
        self._start = start  # of the pairs that are not in memory
        self.pairs: Pairs = np.empty(0, PAIR)

    @property
    def is_complete(self) -> bool:
        """True if all pairs that are left are in memory."""
        return self._start == self._stop

    def fill(self) -> None:
        """Read the next pairs if none are in memory."""
        if not len(self.pairs):
            count = min(self._buffer, self._stop - self._start)
            self.pairs = self._file.read(self._start * PAIR.itemsize, count, PAIR)
            self._start += count

    def take(self, bound: float, *, inclusive: bool) -> Pairs:
        """Remove and return the pairs in memory up to a value."""
        cut = int(np.searchsorted(self.pairs["value"], bound, side="right" if inclusive else "left"))
        pairs, self.pairs = self.pairs[:cut], self.pairs[cut:]
        return pairs


def _merge(runs: list[_Run]) -> Iterator[Pairs]:
    while runs:
        for run in runs:
            run.fill()
        # Nothing that is still in a file comes before the last pair in memory of its run. Of equal values, those of
        # earlier runs come first.
        bounds = [(float(run.pairs["value"][-1]), number) for number, run in enumerate(runs) if not run.is_complete]
        bound, last = min(bounds, default=(np.inf, len(runs)))
        pieces = [run.take(bound, inclusive=number <= last) for number, run in enumerate(runs)]
        yield _sort(np.concatenate(pieces))
        runs = [run for run in runs if len(run.pairs) or not run.is_complete]


def _sort(pairs: Pairs) -> Pairs:
    return pairs[np.argsort(pairs["value"], kind="stable")]
