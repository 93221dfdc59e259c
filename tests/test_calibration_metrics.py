"""Tests of calibration metrics, against scikit-learn and cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from swift_client.training.metrics import brier, expected_calibration_error, pooled_auroc, reliability


def random_sample(seed: int, size: int = 900) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.beta(2, 1, size)
    return probabilities, (random.random(size) < probabilities**1.5).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_equal_scikit_learn(seed: int) -> None:
    probabilities, labels = random_sample(seed)
    coarse = probabilities.round(1)  # with ties
    assert brier(coarse, labels) == pytest.approx(sk.brier_score_loss(labels, coarse), rel=1e-12)
    assert pooled_auroc(coarse, labels) == pytest.approx(sk.roc_auc_score(labels, coarse), rel=1e-12)
    table = reliability(probabilities, labels, bins=10)
    came_true, mean_probabilities = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(table.predicted, mean_probabilities, rtol=1e-12)
    np.testing.assert_allclose(table.observed, came_true, rtol=1e-12)


def test_the_reliability_table_of_a_small_case_is_the_one_made_by_hand() -> None:
    probabilities = np.array([0.9, 0.1, 0.8, 0.3])
    labels = np.array([1.0, 0.0, 0.0, 1.0])
    table = reliability(probabilities, labels, bins=2)
    np.testing.assert_allclose(table.predicted, [0.2, 0.85])
    assert table.observed.tolist() == [0.5, 0.5]
    assert table.counts.tolist() == [2, 2]
    assert table.error == pytest.approx((0.3 + 0.35) / 2)
    assert table.error == pytest.approx(expected_calibration_error(probabilities, labels, bins=2))
    assert table.slope == pytest.approx(0.0)


def test_a_calibrated_table_has_slope_one_and_a_too_sure_one_less() -> None:
    random = np.random.default_rng(0)
    truth = random.random(200_000)
    labels = (random.random(200_000) < truth).astype(float)
    assert reliability(truth, labels).slope == pytest.approx(1.0, abs=0.02)
    assert reliability(truth, labels).error < 0.01
    too_sure = truth**3 / (truth**3 + (1 - truth) ** 3)
    assert reliability(too_sure, labels).slope < 0.8
    assert math.isnan(reliability(np.full(4, 0.5), labels[:4]).slope)


def test_more_bins_than_completions_leave_no_empty_bin() -> None:
    table = reliability(np.array([0.2, 0.7]), np.array([0.0, 1.0]), bins=15)
    assert table.counts.tolist() == [1, 1]
    assert table.error == pytest.approx(0.25)


def test_no_completions_have_no_table() -> None:
    with pytest.raises(ValueError, match="no completion"):
        reliability(np.zeros(0), np.zeros(0))


def test_pooled_auroc_counts_a_tie_as_half_and_is_nan_for_one_kind_of_label() -> None:
    assert pooled_auroc(np.array([0.5, 0.5, 0.9]), np.array([1.0, 0.0, 1.0])) == 0.75
    assert math.isnan(pooled_auroc(np.array([0.5, 0.6]), np.array([1.0, 1.0])))
