"""Reductions over segments: N completions on one axis of ΣT tokens, with offsets (N+1,), without loops over tokens.

Every reduction adds the same numbers in the same order, wherever a completion stands among the others. Permuting the
completions therefore permutes the results, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


def segment_offsets(lengths: Iterable[int]) -> I64:
    """Return the int64 offsets (N+1,) at which N segments of these lengths start and end."""
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)


def segment_blocks(starts: I64, lengths: I64, *, max_segments: int = 256) -> Iterator[I64]:
    """Yield the rows (B, m) of segments of equal length m, at most ``max_segments`` at once.

    Args:
        starts: (S,) first row of each segment.
        lengths: (S,) rows of each segment.
    """
    for length in np.unique(lengths):
        same_length = starts[lengths == length]
        for begin in range(0, len(same_length), max_segments):
            yield same_length[begin : begin + max_segments, None] + np.arange(length)


def segment_reduce(combine: np.ufunc, values: F64, offsets: I64, *, empty: float) -> F64:
    """Combine ``values`` (ΣT,) within each segment, float64 (N,); an empty segment gives ``empty``."""
    starts, ends = offsets[:-1], offsets[1:]
    filled = ends > starts
    # reduceat misreads empty segments; without them, each segment ends where the next one starts.
    if filled.all() and len(starts):
        reduced: F64 = combine.reduceat(values, starts).astype(np.float64, copy=False)
        return reduced
    result = np.full(len(starts), empty)
    if filled.any():
        result[filled] = combine.reduceat(values, starts[filled])
    return result


def segment_mean(values: F64, offsets: I64) -> F64:
    """Return the mean within each segment, float64 (N,); NaN for an empty segment."""
    means: F64 = segment_reduce(np.add, values, offsets, empty=np.nan) / np.maximum(offsets[1:] - offsets[:-1], 1)
    return means


def segment_positions(offsets: I64) -> I64:
    """Return each token's 0-based position in its segment, int64 (ΣT,)."""
    return np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], offsets[1:] - offsets[:-1])


def rolling_reduce(combine: np.ufunc, values: F64, position: I64, window: int, *, size: int = 1) -> F64:
    """Combine each token with up to ``window`` - 1 tokens before it in its segment, (ΣT,).

    ``window`` must be a power of two: a window of 2s tokens is one of s joined to the one that ends s tokens earlier.
    ``values`` may be the result for a smaller window, ``size``.
    """
    result = values
    while size < window:
        doubled = result.copy()
        doubled[size:] = np.where(position[size:] >= size, combine(result[size:], result[:-size]), result[size:])
        result, size = doubled, 2 * size
    return result


def window_size(length: int) -> int:
    """Return DeepConf's window for an answer of API size: a tenth of it, at least 16 and at most 2048 tokens.

    With the paper's fixed 2048 every variant would be the plain mean for shorter answers.
    """
    return min(length, 2048, max(16, -(-length // 10)))


def full_window_means(values: F64, window: int) -> F64:
    """Return the means of all windows of ``window`` values, (len - window + 1,); none if there are no values."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[window:] - total[:-window]) / window if window else values


def rolling_mean(values: F64, window: int) -> F64:
    """Return the mean of each value and up to ``window`` - 1 values before it, (T,), for one completion.

    The means of full windows, DeepConf's group confidences, begin at index ``window`` - 1.
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(total))
    starts = np.maximum(ends - window, 0)
    means: F64 = (total[ends] - total[starts]) / (ends - starts)
    return means
