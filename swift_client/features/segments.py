"""N completions laid end to end: one axis of ΣT tokens and offsets (N+1,), so that no work loops over tokens.

Every reduction here adds the same numbers in the same order wherever a completion stands among the others:
permuting the completions permutes the results, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def segment_offsets(lengths: Iterable[int]) -> I64:
    """Return the int64 offsets (N+1,) at which N runs of these lengths start and end."""
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)


def segment_reduce(combine: np.ufunc, values: F64, offsets: I64, *, empty: float) -> F64:
    """Combine ``values`` (ΣT,) within each run, float64 (N,); a run of no tokens gives ``empty``."""
    result = np.full(len(offsets) - 1, empty)
    filled = np.diff(offsets) > 0
    if filled.any():
        # reduceat misreads empty runs; without them, each run ends where the next one starts.
        result[filled] = combine.reduceat(values, offsets[:-1][filled])
    return result


def segment_mean(values: F64, offsets: I64) -> F64:
    """Return the mean within each run, float64 (N,); NaN for a run of no tokens."""
    return segment_reduce(np.add, values, offsets, empty=np.nan) / np.maximum(np.diff(offsets), 1)


def segment_positions(offsets: I64) -> I64:
    """Return each token's 0-based position in its run, int64 (ΣT,)."""
    lengths = np.diff(offsets)
    return np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths)


def rolling_reduce(combine: np.ufunc, values: F64, position: I64, window: int) -> F64:
    """Combine each token with up to ``window`` - 1 tokens before it in its run, (ΣT,).

    ``window`` is a power of two: a window of 2r is a window of r joined to the one that ends r tokens earlier.
    """
    result, reach = values, 1
    while reach < window:
        joined = result.copy()
        joined[reach:] = np.where(position[reach:] >= reach, combine(result[reach:], result[:-reach]), result[reach:])
        result, reach = joined, 2 * reach
    return result
