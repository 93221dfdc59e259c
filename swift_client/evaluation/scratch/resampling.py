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
    fill: Callable[[slice, F64], None],
    shape: tuple[int, int],
    *,
    resamples: int,
    seed: int,
    max_rows: int = MAX_ROWS,
) -> F64:
    """Return the sums of all rows of a table (Q, C), followed by those of resampled rows, (1 + R, C).

    All columns share the drawn rows, so differences between them are paired.

    Args:
        fill: writes the rows of a slice, finite numbers, into an array (K, C).
        shape: (Q, C), Q is 1 or more.
        resamples: R.
        seed: of the draws.
        max_rows: rows in memory.
    """
    count, width = shape
    counts_file = _count_draws(count, resamples, seed)
    sums = np.zeros((1 + resamples, width))
    # Both are used for all slices: memory that is given back and asked for again stays with the process in part.
    table = np.empty((min(count, max_rows), width))
    block = min(resamples, max(1, _MAX_BLOCK_VALUES // len(table)))
    counts = np.empty(block * len(table))
    for start in range(0, count, max_rows):
        rows = table[: min(max_rows, count - start)]
        fill(slice(start, start + len(rows)), rows)
        for first in range(0, resamples, block):
            size = min(block, resamples - first)
            drawn = counts[: size * len(rows)].reshape(size, len(rows))
            for number in range(size):
                drawn[number] = counts_file.read((first + number) * count + start, len(rows), np.uint8)
            sums[1 + first : 1 + first + size] += drawn @ rows
        # Row by row, as one sum over all rows.
        if start:
            rows[0] += sums[0]
        sums[0] = rows.sum(axis=0)
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
