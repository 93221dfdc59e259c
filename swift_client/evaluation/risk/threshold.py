"""Acceptance threshold with a guaranteed risk: Learn then Test, with fixed-sequence testing.

For each threshold t, the null hypothesis is that more than ``risk`` of the answers with a confidence of t or more are
wrong (the selective risk of Geifman & El-Yaniv, arXiv 1705.08500). Of the k calibration questions that t accepts, the
number of wrong ones is then at least Binomial(k, risk), so its lower tail is a p-value, exact for every k. Thresholds
are tested from the strictest down, and testing ends with the first that is not rejected: each test uses the whole of
1 - ``confidence``, and nothing is paid for trying many (Angelopoulos et al., arXiv 2110.01052).

Validity: the tested thresholds are defined by the number of questions that they accept. These counts depend on the
number of questions, ``risk`` and ``confidence`` only, never on a label. Let t0 be the threshold below which the risk is
exceeded. Testing errs only if the first count beyond t0 is rejected. Given the number of questions above t0, those are
independent draws that are wrong with probability ``risk``, and every one below is wrong with at least that probability,
provided that less confident answers are not more often right. So the p-value is below 1 - ``confidence`` with at most
that probability. The guarantee is over calibration questions, and for questions of the same kind, sampled and scored
the same way.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from swift_client.features.segments import F64
from swift_client.types import Bool

_GROWTH_FACTOR = 1.1  # ratio of the questions that successive thresholds accept
# Wrong answers that the first threshold tolerates; with none, a single early one would end the test.
_TOLERATED_ERRORS = 2


@dataclass(frozen=True, kw_only=True)
class ThresholdTest:
    """The last threshold that passed; if none did, the first one that was tested."""

    threshold: float | None  # natural log odds; None if none could be certified
    questions: int
    accepted: int  # questions above the threshold
    errors: int  # wrong answers among these
    # Probability of so few errors if the risk were exceeded; 1 if nothing could be tested.
    p_value: float


def certify(log_odds: F64, correct: Bool, *, risk: float, confidence: float) -> ThresholdTest:
    """Return the lowest threshold at which P(risk holds) >= ``confidence``.

    Args:
        log_odds: (Q,) confidence in each answer, NaN for never accepted. Questions are independent draws.
        correct: (Q,) correctness of each answer.
        risk: tolerated share of wrong answers among the accepted ones.
        confidence: probability that the risk is kept.
    """
    # Rank the answers by confidence, and count the errors above each rank.
    has_log_odds = ~np.isnan(log_odds)
    order = np.argsort(-log_odds[has_log_odds], kind="stable")
    descending, cumulative_errors = log_odds[has_log_odds][order], np.cumsum(~correct[has_log_odds][order])
    questions = len(log_odds)
    result: ThresholdTest | None = None
    for count in acceptance_counts(questions, risk=risk, confidence=confidence):
        if count > len(descending):
            break
        threshold = float(descending[count - 1])
        accepted = int(np.searchsorted(-descending, -threshold, side="right"))  # includes ties
        errors = int(cumulative_errors[accepted - 1])
        p_value = binomial_cdf(errors, accepted, risk)
        # The first failure ends the sequence; it is reported only if nothing passed before.
        passed = p_value <= 1 - confidence
        if passed or result is None:
            result = ThresholdTest(
                threshold=threshold if passed else None,
                questions=questions,
                accepted=accepted,
                errors=errors,
                p_value=p_value,
            )
        if not passed:
            break
    return result or ThresholdTest(threshold=None, questions=questions, accepted=0, errors=0, p_value=1.0)


def acceptance_counts(questions: int, *, risk: float, confidence: float) -> list[int]:
    """Return the number of questions that each tested threshold accepts, rising; independent of labels."""
    minimum = min_accepted(0, risk=risk, confidence=confidence)
    count = first_count(questions, risk=risk, confidence=confidence)
    counts = []
    while count < questions:
        counts.append(count)
        count = max(count + 1, int(count * _GROWTH_FACTOR))
    return [*counts, questions] if questions >= minimum else []


def first_count(questions: int, *, risk: float, confidence: float) -> int:
    """Return the number of questions that the first test accepts.

    If there are few questions, at most a third of them is staked on it, but never fewer than can pass.
    """
    minimum, usual = (min_accepted(errors, risk=risk, confidence=confidence) for errors in (0, _TOLERATED_ERRORS))
    return max(minimum, min(usual, questions // 3))


def min_accepted(errors: int, *, risk: float, confidence: float) -> int:
    """Return the smallest number of accepted questions that certifies ``risk`` despite ``errors`` wrong ones."""

    def certifies(count: int) -> bool:
        return binomial_cdf(errors, count, risk) <= 1 - confidence

    # Double until enough, then bisect between the last two.
    high = 1
    while not certifies(high):
        high *= 2
    return bisect_left(range(high), True, lo=high // 2 + 1, key=certifies)


def binomial_cdf(errors: int, count: int, risk: float) -> float:
    """Return P(Binomial(count, risk) <= errors)."""
    if errors >= count:
        return 1.0
    log_factorial = math.lgamma(count + 1)
    # Sum in logarithms, since binomial coefficients overflow.
    logs = [
        log_factorial
        - math.lgamma(i + 1)
        - math.lgamma(count - i + 1)
        + i * math.log(risk)
        + (count - i) * math.log1p(-risk)
        for i in range(errors + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))
