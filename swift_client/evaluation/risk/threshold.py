"""The threshold above which answers may be taken: Learn then Test, with fixed-sequence testing.

For each threshold t the null hypothesis is that more than ``risk`` of the answers with a confidence of t or more are
wrong (the selective risk of Geifman & El-Yaniv, arXiv 1705.08500). Of the k calibration questions that t accepts, the
number of wrong ones is then at least Binomial(k, risk), so that its lower tail is a p-value, exact for every k.
Thresholds are tested from the strictest down and testing ends with the first that is not rejected: each keeps the
whole of 1 - ``confidence``, and none is paid for trying many (Angelopoulos et al., arXiv 2110.01052).

Why it is valid. Which thresholds are tested is settled by how many questions they accept: by counts that depend on
the number of questions, ``risk`` and ``confidence`` alone, and never on a label. Let t0 be the threshold below which
the risk is passed. Testing goes wrong only where the first count beyond t0 is rejected; given how many questions lie
above t0, those are independent draws that are wrong with probability ``risk``, and every one below is wrong with
at least that probability as long as an answer that is less sure is not more often right. So its p-value is below
1 - ``confidence`` with at most that probability. The guarantee is over calibration questions, and for questions of
the same kind, asked and judged the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from swift_client.features.segments import F64
from swift_client.types import Bool

_GROWTH_FACTOR = 1.1
"""Each threshold accepts so many times the questions of the one before."""
_TOLERATED_ERRORS = 2
"""Wrong answers that the first threshold can bear: with none, a single early slip would end the test."""


@dataclass(frozen=True, kw_only=True)
class ThresholdTest:
    """The last threshold that passed; where none did, the first one that was tested."""

    threshold: float | None
    """Natural log odds; None where none could be certified."""
    questions: int
    accepted: int
    """Questions that it accepts."""
    errors: int
    """Of these, wrong ones."""
    p_value: float
    """Probability of so few errors, were the risk passed; 1 where nothing could be tested."""


def certify(log_odds: F64, correct: Bool, *, risk: float, confidence: float) -> ThresholdTest:
    """Return the lowest threshold on ``sure`` (Q,), NaN for never, at which P(risk holds) >= ``confidence``.

    ``right`` (Q,) says which answers were right. Questions are independent draws of those to come.
    """
    known = ~np.isnan(log_odds)
    order = np.argsort(-log_odds[known], kind="stable")
    falling, wrong = log_odds[known][order], np.cumsum(~correct[known][order])
    questions = len(log_odds)
    found: ThresholdTest | None = None
    for count in acceptance_counts(questions, risk=risk, confidence=confidence):
        if count > len(falling):
            break
        threshold = float(falling[count - 1])
        accepted = int(np.searchsorted(-falling, -threshold, side="right"))  # all that tie with it
        errors = int(wrong[accepted - 1])
        p_value = binomial_cdf(errors, accepted, risk)
        passed = p_value <= 1 - confidence
        if passed or found is None:
            found = ThresholdTest(
                threshold=threshold if passed else None,
                questions=questions,
                accepted=accepted,
                errors=errors,
                p_value=p_value,
            )
        if not passed:
            break
    return found or ThresholdTest(threshold=None, questions=questions, accepted=0, errors=0, p_value=1.0)


def acceptance_counts(questions: int, *, risk: float, confidence: float) -> list[int]:
    """Return how many questions each tested threshold accepts, rising, from what is known before any label is."""
    least = min_accepted(0, risk=risk, confidence=confidence)
    # A third of the questions is not to be staked on the first test where they are few.
    count = max(least, min(min_accepted(_TOLERATED_ERRORS, risk=risk, confidence=confidence), questions // 3))
    found = []
    while count < questions:
        found.append(count)
        count = max(count + 1, int(count * _GROWTH_FACTOR))
    return [*found, questions] if questions >= least else []


def min_accepted(errors: int, *, risk: float, confidence: float) -> int:
    """Return the fewest accepted questions with which ``errors`` wrong ones still certify ``risk``."""
    high = 1
    while binomial_cdf(errors, high, risk) > 1 - confidence:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binomial_cdf(errors, middle, risk) > 1 - confidence else (low, middle)
    return high


def binomial_cdf(errors: int, count: int, risk: float) -> float:
    """Return P(Binomial(count, risk) <= errors)."""
    if errors >= count:
        return 1.0
    whole = math.lgamma(count + 1)
    logs = [
        whole - math.lgamma(i + 1) - math.lgamma(count - i + 1) + i * math.log(risk) + (count - i) * math.log1p(-risk)
        for i in range(errors + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))
