"""Token features: the functions in the rows of FEATURES, which read tokens up to their own only.

A function returns (S,), or (width, S) with one column per rank, in nats. If a token lists too few ranks for a row,
``swift_client.features.token_features()`` writes 0. The row ``listed`` counts the listed ranks, so that a head can
tell "no entropy" from "entropy unknown".
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.features.token_table import CHARACTERS, IS_SYMBOL, STARTS_WORD, TokenTable
from swift_client.types import F32

TokenFeature = Callable[[TokenTable], F64]  # a function of this module with one column

# Most tokens before a token that its features read; with these at hand they equal those of the whole text.
LOOKBACK = 63

# Columns of the hashed token identities (by crc32, which unlike hash() is the same in every process).
HASH_BUCKETS = 128


def logprob(table: TokenTable) -> F64:
    """Logprob of the chosen token."""
    return table.logprobs


def censored(table: TokenTable) -> F64:
    """1 if the provider hid the chosen token's logprob, so that ``logprob`` is an upper bound."""
    return table.censored.astype(np.float64)


def position(table: TokenTable) -> F64:
    """log(1 + t) for the 0-based position t; a share of the text would need its end."""
    return np.log1p(table.position)


def listed(table: TokenTable) -> F64:
    """Share of the rank columns that the provider filled; the mask of the rows that need ranks."""
    return table.listed_count / max(table.width, 1)


def log_rank(table: TokenTable) -> F64:
    """Log of the chosen token's rank, 1 + the alternatives above it; one past the list if it was hidden."""
    above = np.count_nonzero(table.is_listed & (table.top_logprobs > table.logprobs), axis=0)
    return np.log1p(np.where(table.censored, table.listed_count, above))


def gap_to_top(table: TokenTable) -> F64:
    """Logprob of the chosen token minus that of the best one; 0 if the best was chosen."""
    return table.logprobs - table.rank_logprob(0)


def margin(table: TokenTable) -> F64:
    """Logprob of the best token minus that of the second."""
    return table.rank_logprob(0) - table.rank_logprob(1)


def probability_margin(table: TokenTable) -> F64:
    """Probability of the best token minus that of the second."""
    return np.exp(table.rank_logprob(0)) - np.exp(table.rank_logprob(1))


def tail_mass(table: TokenTable) -> F64:
    """Probability mass outside the list, Q = 1 - Σp."""
    return table.tail_mass


def partial_entropy(table: TokenTable) -> F64:
    """H_K = -Σ p log p over the listed ranks, not renormalised: EPR's token term (arXiv 2509.04492)."""
    return table.partial_entropy


def entropy(table: TokenTable) -> F64:
    """H_K - Q log Q: the tail counts as one token, so the estimate never exceeds the true entropy."""
    return table.entropy


def renormalised_entropy(table: TokenTable) -> F64:
    """H_K / M + log M: entropy of the listed ranks alone, M = Σp."""
    return table.partial_entropy / table.listed_mass + np.log(table.listed_mass)


def varentropy(table: TokenTable) -> F64:
    """Variance of the surprise under the listed ranks alone; renormalising only shifts log p and does not change it."""
    squares = table.sum_ranks(-table.surprise * table.top_logprobs)
    return np.maximum(0.0, squares / table.listed_mass - (table.partial_entropy / table.listed_mass) ** 2)


def confidence(table: TokenTable) -> F64:
    """DeepConf's C = -mean of the listed logprobs (arXiv 2508.15260); high if one token dominates."""
    return table.confidence


def self_certainty(table: TokenTable) -> F64:
    """KL from uniform over the listed ranks, C - log k + log M (arXiv 2502.18581, top-k form)."""
    return table.confidence - np.log(np.maximum(table.listed_count, 1)) + np.log(table.listed_mass)


def rank_surprise(table: TokenTable) -> F32:
    """-p log p of each rank (WEPR's terms, arXiv 2509.04492), one column per rank.

    A sorted logprob has no sensible value for a rank that is not listed: 0 would mean certainty. -p log p tends to 0
    with p, so that a missing rank and a vanishing one look alike.
    """
    if len(table.surprise) == table.width:
        return table.surprise
    padding = np.zeros((table.width - len(table.surprise), len(table.logprobs)), np.float32)
    return np.concatenate([table.surprise, padding])


def decision_entropy(table: TokenTable) -> F64:
    """Entropy of the choice between the chosen token and its best alternative (HALT, arXiv 2602.02888)."""
    return table.decision_entropy


def decision_entropy_change(table: TokenTable) -> F64:
    """``decision_entropy`` minus that of the previous token; 0 on the first token."""
    current = decision_entropy(table)
    previous = np.concatenate([current[:1], current[:-1]])
    return np.where(table.position > 0, current - previous, 0.0)


def window_mean(feature: TokenFeature, window: int, table: TokenTable) -> F64:
    """Mean ``feature`` of this token and up to ``window`` - 1 before it; ``window`` must be a power of two.

    The mean ``confidence`` is DeepConf's group confidence, for short answers.
    """
    return table.rolling(np.add, feature, window) / np.minimum(table.position + 1, window)


def window_min(feature: TokenFeature, window: int, table: TokenTable) -> F64:
    """Lowest ``feature`` of this token and up to ``window`` - 1 before it; ``window`` must be a power of two."""
    return table.rolling(np.minimum, feature, window)


def number(table: TokenTable) -> F64:
    """1 for a token with a digit: a wrong digit is a wrong answer, while a word has synonyms."""
    return table.has_digit


def number_logprob(table: TokenTable) -> F64:
    """Logprob of the chosen token if it has a digit, else 0."""
    return table.has_digit * table.logprobs


def number_entropy(table: TokenTable) -> F64:
    """``entropy`` if the chosen token has a digit, else 0."""
    return table.has_digit * table.entropy


def symbol(table: TokenTable) -> F64:
    """1 for a token without letters and digits."""
    return (table.text_facts & IS_SYMBOL > 0).astype(np.float64)


def starts_word(table: TokenTable) -> F64:
    """1 for a token that begins with a space."""
    return (table.text_facts & STARTS_WORD > 0).astype(np.float64)


def characters(table: TokenTable) -> F64:
    """log(1 + characters), without surrounding white space."""
    return np.log1p(table.text_facts // CHARACTERS)


def token_hash(table: TokenTable) -> F32:
    """One-hot bucket of the chosen token's text, crc32(utf-8) modulo 128."""
    bucket = table.map_texts(lambda text: zlib.crc32(text.encode("utf-8", "surrogatepass")) % HASH_BUCKETS)
    return _sum_buckets(bucket[None], np.ones((1, len(bucket)), np.float32))


def alternatives_hash(table: TokenTable) -> F32:
    """Probability of the listed alternatives per bucket of their ``top_ids``; 0 if a completion has no ids."""
    buckets = np.zeros(table.top_logprobs.shape, np.int64)
    has_id = table.is_listed.copy()
    for completion, (start, end) in zip(table.completions, pairwise(table.offsets), strict=True):
        if completion.top_ids is None:
            has_id[:, start:end] = False
        else:
            ranks = completion.top_ids[:, : len(buckets)].T
            buckets[: len(ranks), start:end] = ranks % HASH_BUCKETS
    return _sum_buckets(buckets, table.probability * has_id)


def _sum_buckets(buckets: I64, weights: F32) -> F32:
    """Add weights (k, S) into their buckets, (HASH_BUCKETS, S), rank by rank."""
    result = np.zeros((HASH_BUCKETS, buckets.shape[1]), np.float32)
    token = np.arange(buckets.shape[1])
    for bucket, weight in zip(buckets, weights, strict=True):
        result[bucket, token] += weight
    return result
