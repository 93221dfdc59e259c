"""The estimate of a change's first and last question."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swift_client.diagnostics.drift.change_point import MIN_QUESTIONS, locate_change


def gain(values: np.ndarray) -> float:
    """Return the log-likelihood of values under their own mean and variance minus that under the standard normal."""
    variance = max(values.var(), 0.04)
    own = -0.5 * (np.log(2 * math.pi * variance) + (values - values.mean()) ** 2 / variance).sum()
    return float(own + 0.5 * (np.log(2 * math.pi) + values**2).sum())


def brute_force(scores: np.ndarray, alarm: int) -> tuple[float, int]:
    """Return the largest gain of a change that lasts until the end, and its start, by a plain loop."""
    candidates = []
    for start in range(alarm + 1):
        if len(scores) - start >= MIN_QUESTIONS:
            before = gain(scores[:start]) if start >= MIN_QUESTIONS else 0.0
            candidates.append((before + gain(scores[start:]), start))
    return max(candidates)


@pytest.mark.parametrize("seed", range(20))
def test_the_estimate_is_that_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=120)
    scores[70:] = 1.2 + rng.uniform(0.3, 1.5) * scores[70:]
    change = locate_change(scores, 90)
    assert change is not None
    best, start = brute_force(scores, 90)
    if change.end is None:
        assert change.start == start
        assert change.gain == pytest.approx(best)
    else:
        assert change.gain > best  # an earlier end must be clearly better


def test_the_confidence_set_has_the_true_question_in_95_of_100_series() -> None:
    rng = np.random.default_rng(7)
    hits, errors = 0, []
    for _ in range(400):
        scores = rng.normal(size=300)
        scores[150:] += 1.0
        change = locate_change(scores, 180)
        assert change is not None
        hits += change.low <= 150 <= change.high
        errors.append(abs(change.start - 150))
    # A coverage of .95 gives 368 or fewer with a probability of .005.
    assert hits >= 369
    assert np.median(errors) <= 3


def test_a_change_that_ended_has_an_end_and_one_that_lasts_has_none() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=400)
    scores[100:220] += 2.0
    change = locate_change(scores, 110)
    assert change is not None
    assert change.end is not None
    assert abs(change.start - 100) <= 3
    assert abs(change.end - 220) <= 6
    scores[220:] += 2.0
    lasting = locate_change(scores, 110)
    assert lasting is not None
    assert lasting.end is None


def test_a_series_that_differs_from_its_first_question_on_may_start_there() -> None:
    rng = np.random.default_rng(5)
    changes = [locate_change(rng.normal(size=300) + 1.0, 20) for _ in range(100)]
    assert sum(change is not None and change.low == 0 for change in changes) >= 95
    assert sum(change is not None and change.start == 0 for change in changes) >= 70


def test_missing_values_keep_their_numbers() -> None:
    rng = np.random.default_rng(11)
    scores = rng.normal(size=200)
    scores[120:] += 3.0
    sparse = np.repeat(scores, 2)
    sparse[1::2] = np.nan
    dense, thinned = locate_change(scores, 125), locate_change(sparse, 250)
    assert dense is not None
    assert thinned is not None
    assert (thinned.start, thinned.low, thinned.high) == (2 * dense.start, 2 * dense.low, 2 * dense.high)
    assert locate_change(np.full(50, np.nan), 10) is None
