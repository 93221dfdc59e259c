"""The rules that choose one of n completions, over many subsets of many questions at once, for evaluation tables.

A rule takes ``groups`` (..., n) int64, equal numbers for equal answers and -1 for a completion that does not vote
(unreadable, cut, refused), and ``scores`` (..., n) float64, higher is better, NaN for no signal; it returns the
positions (...,) of the winners. One question and a million subsets take the same code. Weights are summed, never
averaged. Equal sums go to the answer with the best-scored member, then to the lower position; where nobody votes the
best score wins. ``swift_client.selection.choose`` serves one question by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import perm
from types import MappingProxyType

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.selection.choose import MIN_WEIGHT

Rule = Callable[[I64, F64], I64]
"""(groups (..., n), scores (..., n)) -> positions (...,) of the winners, 0..n-1."""

_MAX_BLOCK_VALUES = 1 << 16
"""Values of one block of subsets, small enough to stay in a processor's cache."""


def best(groups: I64, scores: F64) -> I64:
    """Return the best score, whatever the answers; NaN never wins against a number."""
    return _best_allowed(np.ones(scores.shape, np.bool_), scores)


def majority(groups: I64, scores: F64) -> I64:
    """Return the first member of the most frequent answer; ties go to the answer that appears first."""
    return vote(groups, np.zeros(scores.shape), np.ones(scores.shape))


def majority_with_ties(groups: I64, scores: F64) -> I64:
    """Return the best member of the most frequent answer; ties go to the best score ("Tie" of arXiv 2502.06233)."""
    return vote(groups, scores, np.ones(scores.shape))


def weighted_vote(groups: I64, scores: F64) -> I64:
    """Weigh each vote by its score, a probability 0..1, as ``selection.choose`` does with a calibrated head."""
    return vote(groups, scores, np.where(scores > MIN_WEIGHT, scores, MIN_WEIGHT))


def borda(power: float | None = None) -> Rule:
    """Weigh the r-th best of V voters by (V - r + 1)^power (Self-Certainty, arXiv 2502.18581); equal scores in order.

    Power 0 is the majority, a great one the best score. None is the paper's rule of thumb: 0.3 below 32 completions,
    1.2 from there on.
    """

    def rule(groups: I64, scores: F64) -> I64:
        voters = groups >= 0
        value = np.where(voters, _replace_nan(scores), -np.inf)
        # an abstainer and a voter without a score are both -inf: the stable sort by two keys puts voters first
        order = np.lexsort((~voters, -value), axis=-1)
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.broadcast_to(np.arange(groups.shape[-1]), order.shape), axis=-1)
        exponent = (0.3 if groups.shape[-1] < 32 else 1.2) if power is None else power
        points = np.maximum(voters.sum(axis=-1, keepdims=True) - place, 1).astype(np.float64)
        return vote(groups, scores, points**exponent)

    return rule


def cisc(temperature: float = 1.0, *, standardize: bool = True) -> Rule:
    """Weigh each vote by exp(score / temperature), a softmax within the question (CISC, arXiv 2502.06233).

    With ``standardize`` scores are first brought to mean 0 and deviation 1 among the question's voters, so that one
    temperature fits any scorer. A missing score counts as the lowest. Raises ValueError unless temperature > 0.
    """
    if not temperature > 0:
        raise ValueError(f"A temperature is greater than 0, not {temperature}.")

    def rule(groups: I64, scores: F64) -> I64:
        voters = groups >= 0
        known = voters & np.isfinite(scores)
        lowest = np.where(known, scores, np.inf).min(axis=-1, keepdims=True)
        value = np.where(known, scores, np.where(np.isfinite(lowest), lowest, 0.0))
        if standardize:
            count = np.maximum(voters.sum(axis=-1, keepdims=True), 1)
            value = value - np.where(voters, value, 0.0).sum(axis=-1, keepdims=True) / count
            spread = np.sqrt(np.where(voters, value**2, 0.0).sum(axis=-1, keepdims=True) / count)
            value = value / np.where(spread > 0, spread, 1.0)
        top = np.where(voters, value, -np.inf).max(axis=-1, keepdims=True)
        gap = np.where(voters, value - np.where(np.isfinite(top), top, 0.0), -np.inf)
        return vote(groups, scores, np.exp(gap / temperature))

    return rule


RULES = MappingProxyType(
    {
        "best": best,
        "majority": majority,
        "majority_with_ties": majority_with_ties,
        "borda": borda(),
        "cisc": cisc(),
        "weighted": weighted_vote,
    }
)
"""One row for each rule of the evaluation table."""


def draw_subsets(pool_size: int, n: int, *, max_subsets: int = 500, seed: int = 0) -> I64:
    """Return different draws (S, n) of a pool of completions, in the order drawn: all of them where S <= ``most``.

    The order decides who is first, so a tie that goes to the first is as often won by any other. The same draws serve
    every question: completions of a question are exchangeable. Raises ValueError unless 1 <= n <= pool.
    """
    if not 1 <= n <= pool_size:
        raise ValueError(f"{n} completions cannot be drawn from {pool_size}.")
    if perm(pool_size, n) <= max_subsets:
        return np.array(list(permutations(range(pool_size), n)), np.int64)
    rng = np.random.default_rng(seed)
    found = np.zeros((0, n), np.int64)
    while len(found) < max_subsets:
        drawn = rng.random((max_subsets, pool_size)).argsort(axis=1)[:, :n]
        _, first = np.unique(np.concatenate([found, drawn]), axis=0, return_index=True)
        found = np.concatenate([found, drawn])[np.sort(first)]
    return found[:max_subsets]


def choose_from_subsets(rule: Rule, groups: I64, scores: F64, subsets: I64) -> I64:
    """Return for each question and subset the pool position of the winner, (Q, S), for pools of m completions.

    groups (Q, m) and scores (Q, m) as for a rule, subsets (S, n) of different positions 0..m-1.
    """
    winners = np.empty((len(groups), len(subsets)), np.int64)
    step = max(1, _MAX_BLOCK_VALUES // max(1, subsets.size))
    drawn = np.arange(len(subsets))
    for start in range(0, len(groups), step):
        block = slice(start, start + step)
        won = rule(groups[block][:, subsets], scores[block][:, subsets])
        winners[block] = subsets[drawn, won]
    return winners


def accuracy(rule: Rule, groups: I64, scores: F64, labels: F64, subsets: I64) -> F64:
    """Return for each question the share of subsets whose winner is right, (Q,); labels (Q, m) 1 right, 0 wrong.

    NaN where a winner's label is unknown. With ``best`` and the labels as scores this is any-of-n, the oracle.
    """
    share: F64 = np.take_along_axis(labels, choose_from_subsets(rule, groups, scores, subsets), axis=1).mean(axis=1)
    return share


def vote(groups: I64, scores: F64, weights: F64) -> I64:
    """Return the best-scored member of the answer with the greatest sum of weights (..., n)."""
    n = groups.shape[-1]
    rows = groups.reshape(-1, n)
    kinds = int(rows.max(initial=-1)) + 2  # kind 0 gathers those who do not vote
    cell = rows + 1 + kinds * np.arange(len(rows))[:, None]
    sums = np.bincount(cell.ravel(), weights.ravel(), minlength=kinds * len(rows))
    total = np.where(rows >= 0, sums[cell], -np.inf).reshape(groups.shape)
    return _best_allowed(total == total.max(axis=-1, keepdims=True), scores)


def _best_allowed(allowed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], scores: F64) -> I64:
    """Return the first allowed position with the best score."""
    value = np.where(allowed, _replace_nan(scores), -np.inf)
    winner: I64 = (allowed & (value == value.max(axis=-1, keepdims=True))).argmax(axis=-1)
    return winner


def _replace_nan(scores: F64) -> F64:
    """NaN becomes -inf, and a score of -inf stays above it."""
    value: F64 = np.where(np.isnan(scores), -np.inf, np.maximum(scores, np.finfo(np.float64).min))
    return value
