"""Response terms: numbers of a whole completion that a gated mean over tokens cannot express.

Rows of RESPONSE_TERMS call these functions, which return (N,) or (width, N). Sums grow with length, quantiles and
extremes belong to single tokens, the tail needs the end of the text. Terms of a completion without tokens are 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np

from swift_client.features import token
from swift_client.features.segments import F64, segment_reduce, window_size
from swift_client.features.token_table import TokenTable
from swift_client.types import F32, completeness

# Name prefix of the terms that are computed over the thinking tokens.
THINKING_PREFIX = "thinking_"


def log_length(table: TokenTable) -> F64:
    """log(1 + T)."""
    return np.log1p(table.lengths)


def reduce_tokens(combine: np.ufunc, feature: token.TokenFeature, table: TokenTable) -> F64:
    """Sum, maximum or minimum of a token feature."""
    return segment_reduce(combine, feature(table), table.offsets, empty=0.0)


def mean_of_tokens(feature: token.TokenFeature, table: TokenTable) -> F64:
    """Mean of a token feature."""
    return segment_reduce(np.add, feature(table), table.offsets, empty=0.0) / np.maximum(table.lengths, 1)


sum_logprob = partial(reduce_tokens, np.add, token.logprob)


def max_rank_surprise(table: TokenTable) -> F64:
    """Highest -p log p of each rank: WEPR's γ terms (arXiv 2509.04492), one column per rank."""
    result = np.zeros((table.width, len(table.lengths)))
    filled = table.lengths > 0
    if filled.any():
        result[: len(table.surprise), filled] = np.maximum.reduceat(table.surprise, table.offsets[:-1][filled], axis=1)
    return result


def logprob_quantile(table: TokenTable, *, quantile: float) -> F64:
    """Quantile of the chosen logprobs, interpolated linearly as in numpy; quantile 0 is the minimum."""
    filled = table.lengths > 0
    rank = quantile * (table.lengths[filled] - 1)
    below = np.floor(rank).astype(np.int64)
    start = table.offsets[:-1][filled]
    low = table.sorted_logprobs[start + below]
    high = table.sorted_logprobs[start + np.minimum(below + 1, table.lengths[filled] - 1)]
    result = np.zeros(len(filled))
    result[filled] = low + (high - low) * (rank - below)
    return result


min_logprob = partial(logprob_quantile, quantile=0.0)


def distinct_share(table: TokenTable) -> F64:
    """Distinct tokens as a share of all tokens: low if an answer repeats itself."""
    return np.array([len({*c.tokens}) / max(len(c.tokens), 1) for c in table.completions])


def share_below(table: TokenTable, *, probability: float) -> F64:
    """Share of the tokens whose probability is below ``probability``."""
    below = (table.logprobs < np.log(probability)).astype(np.float64)
    return segment_reduce(np.add, below, table.offsets, empty=0.0) / np.maximum(table.lengths, 1)


def _mean(values: F64) -> float:
    """Return the mean, 0 of nothing; it has the bits of ``values.mean()``, which takes four times as long."""
    return float(np.add.reduce(values)) / len(values) if len(values) else 0.0


def _tail_mean(values: F64) -> float:
    return _mean(values[-window_size(len(values)) :])


def tail_logprob(table: TokenTable) -> F64:
    """Mean chosen logprob of the last window."""
    return np.array([_tail_mean(logprobs) for logprobs in table.split(table.logprobs)])


def tail_confidence(table: TokenTable) -> F64:
    """Mean ``confidence`` of the last window (DeepConf, arXiv 2508.15260)."""
    return np.array([_tail_mean(confidence) for confidence in table.split(table.confidence)])


def bottom_confidence(table: TokenTable) -> F64:
    """Mean ``confidence`` of the lowest tenth of all windows (DeepConf's bottom 10 %)."""
    return np.array([_mean(rising[: max(1, len(rising) // 10)]) for rising in table.rising_confidences])


def lowest_confidence(table: TokenTable) -> F64:
    """Mean ``confidence`` of the lowest window (DeepConf's lowest group)."""
    return np.array([rising[0] if len(rising) else 0.0 for rising in table.rising_confidences])


def agreement(table: TokenTable) -> F64:
    """Smoothed share of the question's other complete completions with the same answer, (same + 1/2) / (others + 1).

    The smoothing tells a share of few completions from the same share of many. The term is 1/2 if there are no
    others, or if answers are not compared.
    """
    if table.groups is None:
        return np.full(len(table.lengths), 0.5)
    complete = completeness(table.completions)
    pairs = list(zip(table.groups, complete, strict=True))
    votes = Counter(group for group, is_complete in pairs if is_complete and group is not None)
    same = np.array([votes[group] - is_complete if group is not None else 0 for group, is_complete in pairs])
    others = sum(complete) - np.array(complete)
    return (same + 0.5) / (others + 1.0)


def thinking_term(table: TokenTable, *, term: Callable[[TokenTable], F64 | F32]) -> F64 | F32:
    """Compute ``term`` over the thinking tokens before each answer."""
    return term(table.thinking)
