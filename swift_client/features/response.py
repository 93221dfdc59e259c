"""Response terms: what a gated mean over tokens cannot express, one function a row, (N,) or (width, N).

Sums grow with length, quantiles and extremes belong to single tokens, the tail needs the end of the text.
Terms of a completion without tokens are 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np

from swift_client.features.segments import F64, segment_mean, segment_reduce
from swift_client.features.token_table import TokenTable
from swift_client.types import F32

THINKING_PREFIX = "thinking_"
"""Beginning of the names of the terms that are read of what was thought before an answer."""


def log_length(table: TokenTable) -> F64:
    """log(1 + T)."""
    return np.log1p(table.lengths)


def sum_logprob(table: TokenTable) -> F64:
    """Logprob of the whole answer."""
    return segment_reduce(np.add, table.logprobs, table.offsets, empty=0.0)


def mean_logprob(table: TokenTable) -> F64:
    """Mean chosen logprob: for thinking, over which no gated mean is taken."""
    return np.nan_to_num(segment_mean(table.logprobs, table.offsets))


def mean_entropy(table: TokenTable) -> F64:
    """Mean token entropy."""
    return np.nan_to_num(segment_mean(table.entropy, table.offsets))


def mean_confidence(table: TokenTable) -> F64:
    """Mean of DeepConf's token confidence (arXiv 2508.15260, eq. 2)."""
    return np.nan_to_num(segment_mean(table.confidence, table.offsets))


def sum_entropy(table: TokenTable) -> F64:
    """Sum of the token entropies: the strongest single feature in Entropy Sentinel (arXiv 2601.09001)."""
    return segment_reduce(np.add, table.entropy, table.offsets, empty=0.0)


def max_entropy(table: TokenTable) -> F64:
    """Highest token entropy."""
    return segment_reduce(np.maximum, table.entropy, table.offsets, empty=0.0)


def max_rank_surprise(table: TokenTable) -> F64:
    """Highest -p log p of each rank: WEPR's γ terms (arXiv 2509.04492), one column a rank."""
    result = np.zeros((table.width, len(table.lengths)))
    for rank, row in enumerate(table.surprise):
        result[rank] = segment_reduce(np.maximum, row, table.offsets, empty=0.0)
    return result


def logprob_quantile(table: TokenTable, *, quantile: float) -> F64:
    """Quantile of the chosen logprobs, linear between neighbours as numpy's; share 0 is the lowest."""
    filled = table.lengths > 0
    place = quantile * (table.lengths[filled] - 1)
    below = np.floor(place).astype(np.int64)
    start = table.offsets[:-1][filled]
    low = table.sorted_logprobs[start + below]
    high = table.sorted_logprobs[start + np.minimum(below + 1, table.lengths[filled] - 1)]
    result = np.zeros(len(filled))
    result[filled] = low + (high - low) * (place - below)
    return result


min_logprob = partial(logprob_quantile, quantile=0.0)


def number_share(table: TokenTable) -> F64:
    """Share of the tokens that have a digit."""
    return np.nan_to_num(segment_mean(table.has_digit, table.offsets))


def sum_number_logprob(table: TokenTable) -> F64:
    """Logprob of all tokens with a digit together."""
    return segment_reduce(np.add, table.has_digit * table.logprobs, table.offsets, empty=0.0)


def min_number_logprob(table: TokenTable) -> F64:
    """Logprob of the least likely token with a digit; 0 where there is none."""
    return segment_reduce(np.minimum, table.has_digit * table.logprobs, table.offsets, empty=0.0)


def sum_number_entropy(table: TokenTable) -> F64:
    """Sum of the entropies of the tokens with a digit."""
    return segment_reduce(np.add, table.has_digit * table.entropy, table.offsets, empty=0.0)


def distinct_share(table: TokenTable) -> F64:
    """Share of the tokens that are different ones: low where an answer repeats itself."""
    _, which = table.vocabulary
    runs = [which[start:end] for start, end in pairwise(table.offsets)]
    return np.array([len(np.unique(run)) / max(len(run), 1) for run in runs])


def share_below(table: TokenTable, *, probability: float) -> F64:
    """Share of the tokens whose probability is below ``probability``."""
    below = (table.logprobs < np.log(probability)).astype(np.float64)
    return np.nan_to_num(segment_mean(below, table.offsets))


def window_size(length: int) -> int:
    """Return DeepConf's window for an answer of API size: a tenth of it, at least 16 and at most 2048 tokens.

    With the paper's 2048 every variant is the plain mean for shorter answers.
    """
    return min(length, 2048, max(16, -(-length // 10)))


def _tail_mean(values: F64) -> float:
    return float(values[-window_size(len(values)) :].mean()) if len(values) else 0.0


def _window_means(values: F64) -> F64:
    """Means of all full windows, rising, (len - window + 1,)."""
    window = window_size(len(values))
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.sort((total[window:] - total[:-window]) / max(window, 1)) if len(values) else values


def tail_logprob(table: TokenTable) -> F64:
    """Mean chosen logprob of the last window."""
    return np.array([_tail_mean(run) for run in table.split(table.logprobs)])


def tail_confidence(table: TokenTable) -> F64:
    """Mean ``confidence`` of the last window (DeepConf, arXiv 2508.15260)."""
    return np.array([_tail_mean(run) for run in table.split(table.confidence)])


def bottom_confidence(table: TokenTable) -> F64:
    """Mean ``confidence`` of the lowest tenth of all windows (DeepConf's bottom 10 %)."""
    groups = [_window_means(run) for run in table.split(table.confidence)]
    return np.array([low[: max(1, len(low) // 10)].mean() if len(low) else 0.0 for low in groups])


def lowest_confidence(table: TokenTable) -> F64:
    """Mean ``confidence`` of the lowest window (DeepConf's lowest group)."""
    return np.array([low[0] if len(low) else 0.0 for low in map(_window_means, table.split(table.confidence))])


def agreement(table: TokenTable) -> F64:
    """Share of the question's other whole completions with the same answer, (same + 1/2) / (others + 1).

    The half keeps a share of few apart from the same share of many: it is 1/2 where there are no others and where
    answers are not compared at all.
    """
    if table.groups is None:
        return np.full(len(table.lengths), 0.5)
    whole = [completion.complete for completion in table.completions]
    votes = Counter(group for group, counts in zip(table.groups, whole, strict=True) if counts and group is not None)
    same = np.array(
        [votes[group] - counts if group is not None else 0 for group, counts in zip(table.groups, whole, strict=True)]
    )
    others = sum(whole) - np.array(whole)
    return (same + 0.5) / (others + 1.0)


def thinking_term(table: TokenTable, *, term: Callable[[TokenTable], F64 | F32]) -> F64 | F32:
    """Return a term of what was thought before each answer."""
    return term(table.thinking)
