"""Sums over questions drawn with replacement, of tables of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from swift_client.evaluation.scratch.scratch_file import ScratchFile
from swift_client.features.segments import F64

MAX_ROWS = 1 << 14  # rows of the table in memory; the sums of longer tables are added up slice by slice
_MAX_BLOCK_VALUES = 1 << 22  # counts of one matrix product
_MAX_DRAWS = 1 << 20  # draws in memory


def resample_rows(
    read: Callable[[slice], F64], count: int, *, resamples: int, seed: int, max_rows: int = MAX_ROWS
) -> F64:
    """Return the sums of all rows of a table, followed by those of resampled rows, (1 + R, C).

    All columns share the drawn rows, so differences between them are paired.

    Args:
        read: returns the rows of a slice, (K, C), finite.
        count: number of rows, 1 or more.
        resamples: R.
        seed: of the draws.
        max_rows: rows in memory.
    """
    counts_file = _count_draws(count, resamples, seed)
    sums: F64 | None = None
    for start in range(0, count, max_rows):
        table = np.array(read(slice(start, start + max_rows)))
        size, width = table.shape
        if sums is None:
            sums = np.zeros((1 + resamples, width))
        block = max(1, _MAX_BLOCK_VALUES // size)
        for first in range(0, resamples, block):
            last = min(first + block, resamples)
            counts = [counts_file.read(number * count + start, size, np.uint8) for number in range(first, last)]
            sums[1 + first : 1 + last] += np.array(counts, np.float64) @ table
        # Row by row, as one sum over all rows.
        if start:
            table[0] += sums[0]
        sums[0] = table.sum(axis=0)
    if sums is None:
        raise ValueError("there are no rows to resample")
    return sums


def _count_draws(count: int, resamples: int, seed: int) -> ScratchFile:
    """Return for each resample how often it draws each row, (R, count) uint8."""
    rng, file = np.random.default_rng(seed), ScratchFile()
    block = max(1, _MAX_DRAWS // count)
    for first in range(0, resamples, block):
        size = min(block, resamples - first)
        # No row is drawn 256 times: the probability is below 1e-500.
        counts = np.zeros(size * count, np.uint8)
        for start in range(0, size * count, _MAX_DRAWS):
            draws = rng.integers(count, size=min(_MAX_DRAWS, size * count - start))
            if size > 1:  # each resample has its own range of numbers
                draws += np.repeat(count * np.arange(size), count)
            np.add.at(counts, draws, np.uint8(1))
        file.append(counts)
    return file
