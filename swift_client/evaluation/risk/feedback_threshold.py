"""Acceptance threshold from feedback that is more frequent on some choices than on others.

The exact test of ``threshold.py`` needs a random sample of all choices. Feedback is thinned to one: each choice with
feedback is kept with a probability of its weight over the largest weight above the threshold, where the weight is
1 / share of the choices that look alike which have feedback. What is kept stands for all choices above the threshold,
as if each of them had been drawn with the same probability (rejection sampling, as in PAC prediction sets under
covariate shift: Park et al., arXiv 2106.09848). The errors of the kept ones are then at least Binomial(k, risk) if the
risk is exceeded, and fixed-sequence testing holds as it does there.

- Nothing is claimed where no feedback exists: a choice that looks like none with feedback is kept with probability
  1 / largest weight, and counts as wrong. A threshold below such choices fails the test.
- Weights are not clipped. A region with little feedback has a large weight, so few are kept, and the test fails there.
- Shares are estimated from the same file, which makes the kept sample a stratified one: its strata have the same
  expected sizes with less variance, so errors are no more dispersed than binomial ones (Hoeffding 1956).
- Thinning draws by the hash of the question's id, so the result is the same each time.

What no test can see: within a stratum, feedback must not depend on whether the answer is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.dataset.splits import hash_fraction
from swift_client.evaluation.risk.threshold import ThresholdTest, binomial_cdf, first_count
from swift_client.features.segments import F64
from swift_client.types import Bool

_GROWTH_FACTOR = 1.1  # ratio of the choices that successive thresholds accept


@dataclass(frozen=True, eq=False, kw_only=True)
class FeedbackCoverage:
    """Known choices among Q, and how many look like each.

    Attributes:
        is_known: (Q,) True for a choice with feedback or a grade.
        propensities: (Q,) share of the choices that look like this one which are known, 0..1; 0 without overlap.
        question_ids: (Q,) all different.
    """

    is_known: Bool
    propensities: F64
    question_ids: Sequence[str]

    def share_right(self, correct: Bool) -> float:
        """Return the share of right choices (Q,), each known one standing for those like it; NaN without any."""
        weights = 1 / self.propensities[self.is_known]
        return float(np.average(correct[self.is_known], weights=weights)) if len(weights) else np.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class ThinningTable:
    """Choices in falling order of confidence, with what thinning needs.

    Attributes:
        log_odds: (C,) natural log odds of each choice that may be accepted, falling.
        weights: (C,) 1 / propensity of known choices, 1 without overlap, 0 for choices that others stand for.
        is_wrong: (C,) True for an answer that is not known to be right.
        draws: (C,) uniform numbers 0..1.
        choices: Number of all choices, also of those that are never accepted.
    """

    log_odds: F64
    weights: F64
    is_wrong: Bool
    draws: F64
    choices: int

    @classmethod
    def from_choices(cls, log_odds: F64, correct: Bool, coverage: FeedbackCoverage) -> ThinningTable:
        """Create it from Q choices; arguments as of ``certify_from_feedback()``."""
        is_known, propensities = coverage.is_known, coverage.propensities
        eligible = np.flatnonzero(~np.isnan(log_odds))
        order = eligible[np.argsort(-log_odds[eligible], kind="stable")]
        has_overlap = propensities[order] > 0
        inverse = 1 / np.where(has_overlap, propensities[order], 1.0)
        return cls(
            log_odds=log_odds[order],
            weights=np.where(is_known[order] | ~has_overlap, inverse, 0.0),
            is_wrong=~(correct[order] & is_known[order]),
            draws=np.array([hash_fraction(f"thin:{coverage.question_ids[position]}") for position in order]),
            choices=len(log_odds),
        )

    def with_ties(self, count: int) -> int:
        """Return how many choices are at least as confident as the ``count``-th."""
        return int(np.searchsorted(-self.log_odds, -self.log_odds[count - 1], side="right"))

    def kept_mask(self, count: int) -> Bool:
        """Return which of the first ``count`` choices are kept, (count,)."""
        weights = self.weights[:count]
        largest = weights.max(initial=0.0)
        return np.asarray(self.draws[:count] * largest < weights)


def certify_from_feedback(
    log_odds: F64, correct: Bool, coverage: FeedbackCoverage, *, risk: float, confidence: float
) -> ThresholdTest:
    """Return the lowest threshold at which P(risk holds for all choices) >= ``confidence``.

    Args:
        log_odds: (Q,) confidence in each answer, NaN for never accepted. Choices are independent draws.
        correct: (Q,) correctness of each known answer.
        coverage: which choices are known, and how many like them.
        risk: tolerated share of wrong answers among the accepted ones.
        confidence: probability that the risk is kept.

    Returns:
        The test; ``accepted`` and ``errors`` count kept choices, and ``questions`` so many more as there are choices
        below the threshold for each above it.
    """
    table = ThinningTable.from_choices(log_odds, correct, coverage)
    total = len(table.log_odds)
    # The first test waits for as many kept choices as ``threshold.py`` wants; counts depend on no label.
    needed = first_count(int(table.kept_mask(total).sum()), risk=risk, confidence=confidence)
    result: ThresholdTest | None = None
    count = min(needed, total)
    while count:
        accepted = table.with_ties(count)
        kept_mask = table.kept_mask(accepted)
        n_kept = int(kept_mask.sum())
        if result is not None or n_kept >= needed:
            errors = int(table.is_wrong[:accepted][kept_mask].sum())
            p_value = binomial_cdf(errors, n_kept, risk)
            passed = p_value <= 1 - confidence
            if passed or result is None:
                result = ThresholdTest(
                    threshold=float(table.log_odds[count - 1]) if passed else None,
                    questions=round(n_kept * table.choices / accepted),
                    accepted=n_kept,
                    errors=errors,
                    p_value=p_value,
                )
            if not passed:
                break
        if accepted >= total:
            break
        count = min(total, max(accepted + 1, int(count * _GROWTH_FACTOR)))
    return result or ThresholdTest(threshold=None, questions=table.choices, accepted=0, errors=0, p_value=1.0)
