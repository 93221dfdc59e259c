"""The choice by votes and judgements, for many draws of completions at once.

Each winner is the one that ``verification.verify`` chooses from the same completions, scores and judgements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.selection.voting import answer_odds, best_allowed, total_per_answer
from swift_client.types import Bool
from swift_client.verify.posterior import MAX_ODDS_RATIO, MIN_JUDGEMENT


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedVotes:
    """Votes and judgements of R draws of n completions, which give A answers at most.

    Attributes:
        groups: (R, n) equal numbers for equal answers, -1 for a completion that cannot win.
        scores: (R, n) scores of completions, NaN for no signal.
        vote_winners: (R,) positions of the winners without judgements.
        weights: (R, A) weight of each answer before it is judged; 0 for answers not given.
        judgements: (R, A) judgement of each answer, 0..1; NaN for those without one.
    """

    groups: I64
    scores: F64
    vote_winners: I64
    weights: F64
    judgements: F64

    @classmethod
    def create(
        cls,
        answers: I64,
        eligible: Bool,
        scores: F64,
        judgements: F64,
        *,
        vote_winners: I64,
        vote_weights: F64,
        probabilities: F64 | None = None,
        beta: float = 1.0,
    ) -> Self:
        """Weigh the answers of R draws; the arrays are (R, n).

        Args:
            answers: equal numbers for equal answers, -1 for a completion that does not vote. In draws without votes
                each eligible completion is an answer of its own.
            eligible: completions that may win without votes.
            scores: scores of the completions, NaN for no signal.
            judgements: judgement of each completion's answer, 0..1, NaN if unknown.
            vote_winners: (R,) positions of the winners without judgements.
            vote_weights: positive weights of the votes.
            probabilities: calibrated probabilities of a head; None without one.
            beta: the head's β.
        """
        has_votes = (answers >= 0).any(axis=1, keepdims=True)
        groups = np.where(has_votes, answers, np.where(eligible, np.arange(answers.shape[1]), -1))
        weights = total_per_answer(groups, vote_weights)
        if probabilities is not None:
            weights = np.where(has_votes, answer_odds(groups, probabilities, beta), weights)
        has_judgement = ~np.isnan(judgements)
        counts = total_per_answer(groups, has_judgement.astype(np.float64))
        with np.errstate(invalid="ignore"):
            means = total_per_answer(groups, np.where(has_judgement, judgements, 0.0)) / counts
        # Rounded, so that means of equal judgements are equal.
        return cls(
            groups=groups, scores=scores, vote_winners=vote_winners, weights=weights, judgements=np.round(means, 12)
        )

    def choose(self, exponent: float, *, missing: float | None = None) -> I64:
        """Return the positions (R,) of the winners by weight times odds of the judgement to the power of ``exponent``.

        Answers that are too far behind to win are not judged. Those without a judgement get the log odds ``missing``,
        by default the mean of the others; in draws without any judgement the choice stays.
        """
        clipped = np.clip(self.judgements, MIN_JUDGEMENT, 1 - MIN_JUDGEMENT)
        log_odds = np.where(self._is_open, np.log(clipped / (1 - clipped)), np.nan)
        is_judged = ~np.isnan(log_odds).all(axis=1)
        if missing is None:
            log_odds = _fill_with_mean(log_odds, self.weights > 0)
        else:
            log_odds = np.where(np.isnan(log_odds), missing, log_odds)
        with np.errstate(divide="ignore"):
            winners = self._choose_by(np.log(self.weights) + exponent * log_odds)
        return np.where(is_judged, winners, self.vote_winners)

    def choose_by_judgement(self) -> I64:
        """Return the positions (R,) of the winners by judgement alone; equal ones are told apart by weight."""
        values = np.where(self.weights > 0, _fill_with_mean(self.judgements, self.weights > 0), -np.inf)
        return self._choose_by(np.where(values == values.max(axis=1, keepdims=True), self.weights, -np.inf))

    def count_judged(self) -> I64:
        """Return the number of judged answers of each draw, (R,): those near enough to win that have a judgement."""
        return np.asarray((self._is_open & ~np.isnan(self.judgements)).sum(axis=1))

    @property
    def _is_open(self) -> Bool:
        """(R, A) True for an answer that may still win."""
        near = self.weights * MAX_ODDS_RATIO >= self.weights.max(axis=1, keepdims=True)
        return np.asarray(near & (self.weights > 0))

    def _choose_by(self, values: F64) -> I64:
        """Return the best-scored completion of the answer with the largest value (R, A); equal ones keep the choice."""
        is_best = values == values.max(axis=1, keepdims=True, initial=-np.inf)
        is_allowed = (self.groups >= 0) & np.take_along_axis(is_best, np.maximum(self.groups, 0), axis=1)
        keeps_vote = np.take_along_axis(is_allowed, self.vote_winners[:, None], axis=1)[:, 0] | ~is_allowed.any(axis=1)
        return np.where(keeps_vote, self.vote_winners, best_allowed(is_allowed, self.scores))


def _fill_with_mean(values: F64, voted: Bool) -> F64:
    """Replace NaN (R, A) by the mean of the row's other ``voted`` values; 0 if there are none."""
    has_judgement = voted & ~np.isnan(values)
    counts = has_judgement.sum(axis=1, keepdims=True)
    means = np.where(has_judgement, values, 0.0).sum(axis=1, keepdims=True) / np.maximum(counts, 1)
    return np.where(has_judgement, values, means)
