"""Vectorised votes: rules that choose one of n completions, for one question or for many draws of many questions.

A rule takes ``groups`` (..., n) int64, equal numbers for equal answers and -1 for a completion that does not vote
(unreadable, truncated, refused), and ``scores`` (..., n) float64, higher is better, NaN for no signal. It returns the
positions (...,) of the winners. Weights are summed, never averaged. Equal sums go to the answer with the best-scored
member, then to the lower position. If no completion votes, the best score wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from math import inf, perm, prod
from types import MappingProxyType

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.types import Bool

# (groups (..., n), scores (..., n)) -> positions (...,) of the winners, 0..n-1.
Rule = Callable[[I64, F64], I64]

# Smallest weight of a vote by probability, also for NaN, so that each readable completion counts; and the distance that
# probabilities keep from 0 and 1 before they become odds.
MIN_WEIGHT = 1e-3

# Values of β that training chooses from: 0 is the majority, 1 weighs by odds, infinity takes the best score.
BETAS = (0.0, 0.5, 1.0, 2.0, 4.0, inf)

# Values that stand for β = 0 and β = infinity in ``answer_odds``: odds to these powers are neither 1 nor infinite.
_FINITE_BETAS = (1e-3, 50.0)
_MAX_COUNT_POWER = 2.0

_LOWEST = np.finfo(np.float64).min


def best(groups: I64, scores: F64) -> I64:
    """Return the position of the best score, whatever the answers; NaN never wins against a number."""
    return best_allowed(np.ones(scores.shape, np.bool_), scores)


def majority(groups: I64, scores: F64) -> I64:
    """Return the first member of the most frequent answer; ties go to the answer that appears first."""
    return vote(groups, np.zeros(scores.shape), np.ones(scores.shape))


def majority_with_ties(groups: I64, scores: F64) -> I64:
    """Return the best member of the most frequent answer; ties go to the best score ("Tie" of arXiv 2502.06233)."""
    return vote(groups, scores, np.ones(scores.shape))


def borda(power: float | None = None) -> Rule:
    """Return a rule that weighs the r-th best of V voters by (V - r + 1)^power (Self-Certainty, arXiv 2502.18581).

    Equal scores are ranked in order. Power 0 is the majority, a large one the best score. None is the paper's rule of
    thumb: 0.3 below 32 completions, 1.2 from 32 on.
    """

    def rule(groups: I64, scores: F64) -> I64:
        voters = groups >= 0
        value = np.where(voters, _replace_nan(scores), -np.inf)
        # An abstainer and a voter without a score are both -inf; the sort by two keys puts voters first.
        order = np.lexsort((~voters, -value), axis=-1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.broadcast_to(np.arange(groups.shape[-1]), order.shape), axis=-1)
        exponent = (0.3 if groups.shape[-1] < 32 else 1.2) if power is None else power
        points = np.maximum(voters.sum(axis=-1, keepdims=True) - rank, 1).astype(np.float64)
        return vote(groups, scores, points**exponent)

    return rule


def cisc(temperature: float = 1.0) -> Rule:
    """Return a rule that weighs each vote by exp(score / temperature), a softmax per question (CISC, arXiv 2502.06233).

    Scores are not standardized. A missing score counts as the lowest. Raises ValueError unless temperature > 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, not {temperature}.")

    def rule(groups: I64, scores: F64) -> I64:
        voters = groups >= 0
        has_score = voters & np.isfinite(scores)
        lowest = np.where(has_score, scores, np.inf).min(axis=-1, keepdims=True)
        value = np.where(has_score, scores, np.where(np.isfinite(lowest), lowest, 0.0))
        # Subtracting the highest value keeps exp from overflowing.
        highest = np.where(voters, value, -np.inf).max(axis=-1, keepdims=True)
        gap = np.where(voters, value - np.where(np.isfinite(highest), highest, 0.0), -np.inf)
        return vote(groups, scores, np.exp(gap / temperature))

    return rule


# Rules of the evaluation table by name, those without a parameter to tune.
RULES = MappingProxyType({"majority": majority, "majority_with_ties": majority_with_ties, "borda": borda()})


def draw_orders(pool_size: int, n: int, *, max_subsets: int = 500, seed: int = 0) -> I64:
    """Return distinct ordered draws (S, n) of n positions of a pool; all if there are at most ``max_subsets``.

    Draws are ordered, so that ties that go to the first position are won by each completion equally often. The same
    draws serve every question, since the completions of a question are exchangeable. Raises ValueError unless
    1 <= n <= pool_size.
    """
    if not 1 <= n <= pool_size:
        raise ValueError(f"{n} completions cannot be drawn from {pool_size}.")
    if perm(pool_size, n) <= max_subsets:
        return np.array(list(permutations(range(pool_size), n)), np.int64)
    rng = np.random.default_rng(seed)
    subsets = np.zeros((0, n), np.int64)
    while len(subsets) < max_subsets:
        candidates = np.concatenate([subsets, rng.random((max_subsets, pool_size)).argsort(axis=1)[:, :n]])
        _, first = np.unique(candidates, axis=0, return_index=True)
        subsets = candidates[np.sort(first)]
    return subsets[:max_subsets]


def vote(groups: I64, scores: F64, weights: F64) -> I64:
    """Return the best-scored member of the answer with the largest sum of ``weights`` (..., n)."""
    # If nobody votes, all totals are -inf and every position is allowed.
    totals = total_per_completion(groups, weights)
    return best_allowed(totals == totals.max(axis=-1, keepdims=True), scores)


def clamp_weights(probabilities: F64) -> F64:
    """Return the weights of votes with these probabilities, at least MIN_WEIGHT; NaN counts MIN_WEIGHT."""
    return np.where(probabilities > MIN_WEIGHT, probabilities, MIN_WEIGHT)


def odds_weights(probabilities: F64, scores: F64, voters: Bool, beta: float) -> F64:
    """Return the weights exp(β · log odds) of votes, (..., n), positive.

    For β = infinity a vote weighs twice as much as the next one by score, which is more than all lower ones together:
    the best-scored voter wins.

    Args:
        probabilities: (..., n) calibrated probabilities, clipped to MIN_WEIGHT .. 1 - MIN_WEIGHT; NaN counts as 0.
        scores: (..., n) the scores that they come from, read for β = infinity only.
        voters: (..., n) the completions that vote.
        beta: β, 0 or more.
    """
    if beta == inf:
        value = np.where(voters, _replace_nan(scores), -np.inf)
        order = np.lexsort((~voters, -value), axis=-1)
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.broadcast_to(np.arange(scores.shape[-1]), order.shape), axis=-1)
        # Numbers below 2^-1000 would be 0; so low a rank decides nothing.
        return np.asarray(0.5 ** np.minimum(rank, 1000))
    return np.asarray(_odds(np.nan_to_num(probabilities, nan=0.0)) ** beta)


def answer_odds(groups: I64, probabilities: F64, beta: float) -> F64:
    """Return the odds of each answer, (R, A): the sum of its votes' weights, to the power of 1/β; 0 without votes.

    The power undoes that of the weights exp(β · log odds): one vote gives its own odds, for any β. With β = 1 the odds
    of votes that agree add up; the larger β is, the less further votes count, and for infinity the largest odds are the
    answer's. The sum is the number of votes times their mean weight, and the power of the number is at most 2, which
    also defines β = 0: the geometric mean of the odds, times the number squared.

    Args:
        groups: (R, n) equal numbers for equal answers, -1 for a completion that does not vote.
        probabilities: (R, n) as in ``odds_weights``.
        beta: β, 0 or more.
    """
    beta = min(max(beta, _FINITE_BETAS[0]), _FINITE_BETAS[1])
    counts = total_per_answer(groups)
    weights = _odds(np.nan_to_num(probabilities, nan=0.0)) ** beta
    means = total_per_answer(groups, weights) / np.maximum(counts, 1)
    return np.asarray(means ** (1 / beta) * counts ** min(1 / beta, _MAX_COUNT_POWER))


def answer_probabilities(groups: I64, probabilities: F64, beta: float) -> F64:
    """Return the probability that each answer is correct, (R, A): its share of the odds of all answers.

    The odds of all answers that nobody gave count 1, so that a single vote has its own probability.
    """
    odds = answer_odds(groups, probabilities, beta)
    return np.asarray(odds / (1 + odds.sum(axis=1, keepdims=True)))


def _odds(probabilities: F64) -> F64:
    clipped = np.clip(probabilities, MIN_WEIGHT, 1 - MIN_WEIGHT)
    return np.asarray(clipped / (1 - clipped))


@dataclass(frozen=True, kw_only=True)
class WeightRow:
    """One row of LABEL_FREE_WEIGHTS: how votes weigh without a head, and the replies that it is for.

    Attributes:
        weigh: From mean and summed logprobs (..., n) to positive weights (..., n).
        max_tokens: At least half of the voters have at most so many tokens.
        max_certain: The largest share of voters whose probability is exactly 1. Sampling filters such as top-p leave
            many of them, and their odds mean nothing.
        note: The note of a Selection; None for the plain row.
    """

    weigh: Callable[[F64, F64], F64]
    max_tokens: float = inf
    max_certain: float = 1.0
    note: str | None = None


# The first row that fits is used. docs/benchmarks.md has the measurements behind it.
LABEL_FREE_WEIGHTS = (
    WeightRow(
        weigh=lambda mean, total: _odds(np.exp(total)),
        max_tokens=8,
        max_certain=0.5,
        note="The replies are short, so a vote weighs p / (1 - p), where p is the probability of the whole reply.",
    ),
    WeightRow(weigh=lambda mean, total: np.asarray(np.exp(mean))),
)


def label_free_weights(mean_logprobs: F64, lengths: I64, voters: Bool) -> tuple[F64, I64]:
    """Return the weights of votes without a head, (..., n), and the row of LABEL_FREE_WEIGHTS behind them, (...,).

    A voter without logprobs weighs as much as the least probable one; if none has any, each weighs 1.

    Args:
        mean_logprobs: (..., n) mean logprob of the tokens, NaN without logprobs.
        lengths: (..., n) number of tokens.
        voters: (..., n) the completions that vote.
    """
    scored = voters & ~np.isnan(mean_logprobs)
    mean = np.where(scored, mean_logprobs, -np.inf)
    total = np.where(scored, mean_logprobs * lengths, -np.inf)
    count = scored.sum(axis=-1)
    rows = np.full(count.shape, len(LABEL_FREE_WEIGHTS) - 1, np.int64)
    weights = np.ones(mean.shape)
    for number, row in reversed(list(enumerate(LABEL_FREE_WEIGHTS))):
        n_short = (scored & (lengths <= row.max_tokens)).sum(axis=-1)
        n_certain = (scored & (mean_logprobs >= 0)).sum(axis=-1)
        fits = (count > 0) & (2 * n_short >= count) & (n_certain <= row.max_certain * count)
        rows = np.where(fits, number, rows)
        weights = np.where(fits[..., None], row.weigh(mean, total), weights)
    lowest = np.where(scored, weights, np.inf).min(axis=-1, keepdims=True)
    return np.where(scored, weights, np.where(np.isfinite(lowest), lowest, 1.0)), rows


def total_per_completion(groups: I64, weights: F64) -> F64:
    """Return the total weight of each completion's answer, (..., n); -inf for completions that do not vote."""
    totals, cells = _bincount(groups, weights)
    return np.where(groups >= 0, totals[cells], -np.inf)


def total_per_answer(groups: I64, weights: F64 | None = None) -> F64:
    """Return the sum of ``weights`` (R, n), by default 1 each, per answer: (R, A), 0 for answers not given."""
    totals, _ = _bincount(groups, weights)
    return totals.reshape(len(groups), -1)[:, 1:]


def best_allowed(allowed: Bool, scores: F64) -> I64:
    """Return the first ``allowed`` position (..., n) with the best score."""
    value = np.where(allowed, _replace_nan(scores), -np.inf)
    winner: I64 = (allowed & (value == value.max(axis=-1, keepdims=True))).argmax(axis=-1)
    return winner


def _bincount(groups: I64, weights: F64 | None) -> tuple[F64, I64]:
    """Sum weights by answer for all R rows of ``groups`` (..., n) at once.

    Return the sums of R * (A + 1) cells, and the cell of each completion, (..., n). The first cell of each row
    gathers the completions that do not vote.
    """
    cells = groups + 1
    width, n_rows = int(cells.max(initial=0)) + 1, prod(groups.shape[:-1])
    if n_rows > 1:
        cells += width * np.arange(n_rows).reshape(*groups.shape[:-1], 1)
    totals = np.bincount(cells.ravel(), None if weights is None else weights.ravel(), minlength=width * n_rows)
    return totals.astype(np.float64, copy=False), cells


def _replace_nan(scores: F64) -> F64:
    """Replace NaN by -inf, and -inf by the lowest finite number, which is above it."""
    value: F64 = np.where(np.isnan(scores), -np.inf, np.maximum(scores, _LOWEST))
    return value
