"""The pairs of candidates that a judge compares, and the strengths that follow; nothing is sent here.

A tournament of 1.5 comparisons per candidate instead of all pairs: first a ring, in which each candidate is once in the
first slot and once in the second, so that a preference for a slot cancels; then the pairs that may still change the
choice. Strengths are those of ``bradley_terry.py``, so opponents of different strength, pairs met twice and candidates
with fewer comparisons are weighed as they should be.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np

from swift_client.features.segments import F64
from swift_client.verify.bradley_terry import Comparison, StrengthFit, fit_strengths

ROUNDS = 2
"""Number of rounds, after the ring, among which the other comparisons are divided."""
PRIOR_WEIGHT, MAX_PRIOR_RANGE = 1.0, 3.0
"""Log odds of a strength's prior mean per log odds of the prior, and the most between the means of two candidates:
a judge that is sure can overrule any prior of three or more candidates within ``max_comparisons``."""
MAX_ENUMERATED = 4
"""Most comparisons of a last round whose results are all tried before it is sent; a longer round is always sent."""
EXPECTED_SHARE = 0.8
"""Share of the comparisons after the ring that judges of any quality take (``benchmarks/pairwise.py``)."""
CONFIDENCE = 0.9
"""Chance to be the best at which a leader is sure enough."""


def max_comparisons(k: int) -> int:
    """Return the largest number of comparisons for k candidates: 0, 2, 5, 6, 8, 9, 11 and 12 for 1 … 8."""
    if k < 2:
        return 0
    return 2 if k == 2 else math.ceil(1.5 * k)


def expected_comparisons(k: int) -> int:
    """Return the number of comparisons to expect: the ring, and four of five of the others, as measured."""
    return min(k, max_comparisons(k)) + math.ceil(EXPECTED_SHARE * max(0, max_comparisons(k) - k))


class PairwiseTournament:
    """Pairs of candidates to compare, and the best candidate so far.

    Ask for ``next_pairs()``, compare all of them at once, ``record()`` each result, and ask again until none are left::

        while pairs := tournament.next_pairs():
            for first, second in pairs:
                tournament.record(first, second, compare(first, second))
        best = tournament.strengths.argmax()

    It ends when the comparisons are used up, if no results of the last round could change the choice, if the chance
    that the leader is the best reaches ``confidence``, or if every comparison of the ring failed.
    """

    def __init__(
        self, log_priors: F64, *, limit: int | None = None, confidence: float = CONFIDENCE, rounds: int = ROUNDS
    ) -> None:
        """Begin a tournament of k candidates.

        Args:
            log_priors: (k,) finite log chance of each candidate before any comparison, up to a constant, such as the
                log of its share of the votes. They are scaled down if they differ by more than 3.
            limit: most comparisons, failed ones counted; None for ``max_comparisons(k)``.
            confidence: chance 0..1 of the leader to be the best at which no more comparisons are asked for.
            rounds: batches of comparisons after the ring.

        Raises:
            ValueError: there is no candidate, or a log prior is not finite.
        """
        log_priors = np.asarray(log_priors, np.float64)
        if log_priors.ndim != 1 or not len(log_priors) or not np.isfinite(log_priors).all():
            raise ValueError("A tournament needs one finite log prior per candidate, and at least one candidate.")
        self._prior_means = _scale_priors(log_priors)
        self._limit = max_comparisons(len(log_priors)) if limit is None else max(0, limit)
        self._confidence, self._rounds_left = confidence, rounds
        self._comparisons: list[Comparison] = []
        self._failed: list[tuple[int, int]] = []
        self._batch: list[tuple[int, int]] | None = None  # pairs without a result; None before the ring
        self._fit: StrengthFit | None = None

    @property
    def n_comparisons(self) -> int:
        """Number of recorded comparisons, failed ones counted."""
        return len(self._comparisons) + len(self._failed)

    @property
    def n_failed(self) -> int:
        """Number of comparisons that failed."""
        return len(self._failed)

    @property
    def strengths(self) -> F64:
        """Log strengths, (k,), mean 0, higher is better; a candidate without comparisons has that of its prior."""
        return self._fitted().strengths

    @property
    def probabilities(self) -> F64:
        """Approximate chance that each candidate is the strongest, (k,), given how few comparisons there were."""
        return self._fitted().chances_to_lead()

    @property
    def position_bias(self) -> float:
        """Log odds by which the first slot is preferred, which the strengths leave out; 0 before any comparison."""
        return self._fitted().position_bias

    def record(self, first: int, second: int, preference: float | None) -> None:
        """Add the result of one comparison.

        Args:
            first: the candidate in the first slot.
            second: the candidate in the second slot.
            preference: chance 0..1 that the first is better; None if the comparison failed, which tells nothing.

        Raises:
            ValueError: no two such candidates, or a preference outside 0..1.
        """
        k = len(self._prior_means)
        if first == second or not (0 <= first < k and 0 <= second < k):
            raise ValueError(f"Candidates {first} and {second} are no pair of {k} candidates.")
        if preference is not None and not 0 <= preference <= 1:
            raise ValueError(f"A preference is a chance from 0 to 1, not {preference}.")
        if self._batch and (first, second) in self._batch:
            self._batch.remove((first, second))
        if preference is None:
            self._failed.append((first, second))
            return
        self._comparisons.append(Comparison(first, second, preference))
        self._fit = None

    def next_pairs(self) -> list[tuple[int, int]]:
        """Return the pairs (first slot, second slot) to compare at once; those without a result; [] at the end."""
        if self._batch is None:
            self._batch = self._ring()[: self._limit]
        elif not self._batch:
            self._batch = self._next_round()
        return list(self._batch)

    def _ring(self) -> list[tuple[int, int]]:
        """Return the directed ring in order of the priors, so that neighbours are alike."""
        order = np.argsort(-self._prior_means, kind="stable").tolist()
        return [] if len(order) < 2 else list(zip(order, [*order[1:], order[0]], strict=True))

    def _next_round(self) -> list[tuple[int, int]]:
        n_left = self._limit - self.n_comparisons
        if n_left <= 0 or not self._rounds_left or not self._comparisons:
            return []
        if self.probabilities[self.strengths.argmax()] >= self._confidence:
            return []
        pairs = self._open_pairs(math.ceil(n_left / self._rounds_left))
        self._rounds_left -= 1
        is_last = not self._rounds_left or len(pairs) == n_left
        return [] if is_last and not self._may_change_choice(pairs) else pairs

    def _open_pairs(self, size: int) -> list[tuple[int, int]]:
        """Return the pairs whose comparison may change the choice most, none asked for before in these slots.

        A pair counts the chance of either to lead times the variance of the difference. The variance after a
        comparison does not depend on its result but through the strengths, so a batch is chosen one by one.
        """
        fit = self._fitted()
        chances = fit.chances_to_lead()
        is_open = ~np.eye(len(chances), dtype=bool)
        balance = np.zeros(len(chances))  # times in the first slot minus times in the second
        for first, second in [*((done.first, done.second) for done in self._comparisons), *self._failed]:
            is_open[first, second] = False
            balance[[first, second]] += 1, -1
        pairs: list[tuple[int, int]] = []
        while len(pairs) < size and is_open.any():
            worths = np.outer(chances, chances) * fit.difference_variances()
            # Between the two orders of a pair only: first is who was it less often, then the weaker one.
            turns = balance + np.tanh(fit.strengths) / 4
            worths *= 1 + 1e-6 * np.tanh(turns[None, :] - turns[:, None])
            first, second = divmod(int(np.where(is_open, worths, -1.0).argmax()), len(chances))
            pairs.append((first, second))
            is_open[first, second] = False
            balance[[first, second]] += 1, -1
            fit = _expect_comparison(fit, first, second)
        return pairs

    def _may_change_choice(self, pairs: list[tuple[int, int]]) -> bool:
        """Return False if every combination of the pairs' extreme results leaves the leader ahead."""
        if len(pairs) > MAX_ENUMERATED:
            return True
        leader = self.strengths.argmax()
        for results in product((0.0, 1.0), repeat=len(pairs)):
            extremes = [Comparison(*pair, result) for pair, result in zip(pairs, results, strict=True)]
            if fit_strengths(self._prior_means, [*self._comparisons, *extremes]).strengths.argmax() != leader:
                return True
        return False

    def _fitted(self) -> StrengthFit:
        if self._fit is None:
            self._fit = fit_strengths(self._prior_means, self._comparisons)
        return self._fit


def _scale_priors(log_priors: F64) -> F64:
    """Return prior means of strengths with mean 0: in the order of the priors, but near enough to be overruled."""
    weight = min(PRIOR_WEIGHT, MAX_PRIOR_RANGE / max(float(np.ptp(log_priors)), 1e-300))
    scaled = weight * (log_priors - log_priors.mean())
    return np.asarray(scaled - scaled.mean())


def _expect_comparison(fit: StrengthFit, first: int, second: int) -> StrengthFit:
    """Return the fit with the covariance that one more comparison leaves, whatever its result (Sherman–Morrison)."""
    change = fit.covariance[:, first] - fit.covariance[:, second]
    chance = 1 / (1 + math.exp(fit.strengths[second] - fit.strengths[first]))
    information = chance * (1 - chance)
    variance = float(change[first] - change[second])
    covariance = fit.covariance - np.outer(change, change) * information / (1 + information * variance)
    return replace(fit, covariance=covariance)
