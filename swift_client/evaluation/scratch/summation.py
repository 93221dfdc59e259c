"""Sums of more numbers than fit in memory, with the bits of ``np.sum`` of all of them in one array."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.features.segments import F64

_MAX_VALUES = 1 << 17  # numbers that are summed in one array; at least 128, the size of numpy's own blocks


def pairwise_sum(take: Callable[[int], F64], count: int, *, max_values: int = _MAX_VALUES) -> float:
    """Return the sum of ``count`` numbers, which ``take(n)`` returns n at a time, in order.

    The range is halved as by numpy's pairwise summation: at a multiple of 8.
    """
    if not count:
        return 0.0
    if count <= max_values:
        return float(np.sum(take(count)))
    half = count // 2
    half -= half % 8
    return pairwise_sum(take, half, max_values=max_values) + pairwise_sum(take, count - half, max_values=max_values)


class SequentialReader:
    """Parts of one long array, read in pieces of any size."""

    def __init__(self, parts: Iterable[NDArray[Any]]) -> None:
        self._parts = iter(parts)
        self._part: NDArray[Any] = np.zeros(0)
        self._position = 0

    def take(self, count: int) -> NDArray[Any]:
        """Return the next ``count`` values, 1 or more. Raises StopIteration if fewer are left."""
        pieces = []
        while count:
            if self._position == len(self._part):
                self._part, self._position = next(self._parts), 0
            piece = self._part[self._position : self._position + count]
            pieces.append(piece)
            self._position += len(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
