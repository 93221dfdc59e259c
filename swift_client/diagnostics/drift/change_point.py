"""The questions at which a statistic left its reference, and returned to it, by maximum likelihood.

The values of T questions are given as normal scores: standard normal under the reference. Those before the change and
those of the change are normal with a mean and a spread of their own, since later questions differ a little from those
of a reference without any change. The gain is the log-likelihood ratio against the reference, in nats; the segment with
the largest gain is the estimate (Siegmund 1988, "Confidence sets in change-point problems").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

MIN_QUESTIONS = 5
"""Fewest questions of a segment."""
_MIN_VARIANCE = 0.04  # of normal scores, so that equal values in a row have no infinite likelihood
_ENDS = 200  # ends of segments that are tried
_START_NATS = 2.0
_END_GAIN = 4.0  # nats that an earlier end must gain against "until now"
# Near the true change the gain is a Brownian motion with drift on either side, whose maximum above its value there is
# exponential on each: P(both <= c) = (1 - e^-c)² = 0.95.
_SET_NATS = -math.log(1 - math.sqrt(0.95))


@dataclass(frozen=True, kw_only=True)
class ChangePoint:
    """A segment of changed questions; numbers count from 0.

    Attributes:
        start: the first changed question.
        low: first question of the 95 % confidence set of ``start``.
        high: its last question.
        end: the question after the last changed one; None if the change lasts until the end.
        gain: log-likelihood ratio against the reference, nats.
    """

    start: int
    low: int
    high: int
    end: int | None
    gain: float


def locate_change(scores: F64, alarm: int) -> ChangePoint | None:
    """Return the likeliest segment around an alarm; None if no segment has enough values.

    Args:
        scores: (T,) float64, standard normal under the reference; NaN where a question does not have the statistic.
        alarm: the question that raised the alarm, 0..T-1.
    """
    places = np.flatnonzero(np.isfinite(scores))
    values = scores[places]
    count = len(values)
    last = int(np.searchsorted(places, alarm, side="right"))  # values up to the alarm
    if last < 1 or count < MIN_QUESTIONS:
        return None
    sums, squares = (np.concatenate([[0.0], np.cumsum(values**power)]) for power in (1, 2))
    first_end = min(max(last, MIN_QUESTIONS), count)
    ends = np.unique(np.linspace(first_end, count, _ENDS).round().astype(int))
    best = [(gains := _gains(sums, squares, last, end), float(gains.max()), int(end)) for end in ends]
    gains, gain, end = max(best, key=lambda item: item[1])
    if best[-1][1] >= gain - _END_GAIN:  # nothing speaks clearly for an end before the last question
        gains, gain, end = best[-1]
    if not math.isfinite(gain):
        return None
    likely = np.flatnonzero(gains >= gain - _SET_NATS)
    # A change at the first question needs no distribution before it; a later one gains something by chance, as the
    # best of many.
    if gains[0] >= gain - _SET_NATS:
        likely = gains = np.zeros(1, int)
    elif gains[0] >= gain - math.log(count) - _START_NATS:
        likely = np.concatenate([[0], likely])
    return ChangePoint(
        start=int(places[gains.argmax()]),
        low=int(places[likely[0]]),
        high=int(places[likely[-1]]),
        end=None if end == count else int(places[end]),
        gain=gain,
    )


def _gains(sums: F64, squares: F64, last: int, end: int) -> F64:
    """Return the gain of the segments start..end for each start below ``last``, -inf for those that are too short."""
    starts = np.arange(min(last, end))
    after = _segment_gains(end - starts, sums[end] - sums[starts], squares[end] - squares[starts])
    before = _segment_gains(starts, sums[starts], squares[starts])
    gains: F64 = after + np.where(starts < MIN_QUESTIONS, 0.0, before)
    return gains


def _segment_gains(counts: NDArray[np.int_], sums: F64, squares: F64) -> F64:
    """Return the gains of segments by their number of values, their sum and sum of squares; -inf for short ones."""
    n = np.maximum(counts, 1).astype(np.float64)
    deviations = np.maximum(squares - sums**2 / n, 0.0)
    variance = np.maximum(deviations / n, _MIN_VARIANCE)
    gains = 0.5 * (squares - n * np.log(variance) - deviations / variance)
    return np.where(counts < MIN_QUESTIONS, -np.inf, gains)
