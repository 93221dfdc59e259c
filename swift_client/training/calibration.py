"""Calibration: maps from scores to probabilities, fitted here and applied by ``models/calibration.py``."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from swift_client.features.segments import F64
from swift_client.models import Calibration, IsotonicCalibration, PlattCalibration

# Labelled completions from which isotonic regression is better than Platt's two parameters.
MIN_ISOTONIC_LABELS = 500


def calibrate(scores: F64, labels: F64, weights: F64 | None = None) -> Calibration:
    """Fit the map that suits the number of labels.

    Args:
        scores: (N,) finite, N ≥ 1.
        labels: (N,) 0 or 1.
        weights: (N,) above 0, about 1 on average; None is 1 for all.
    """
    return (fit_isotonic if len(scores) >= MIN_ISOTONIC_LABELS else fit_platt)(scores, labels, weights)


def fit_platt(scores: F64, labels: F64, weights: F64 | None = None) -> PlattCalibration:
    """Fit sigmoid(a · score + b), a ≥ 0, with Platt's softened targets (Platt 1999, Lin 2007); see ``calibrate()``."""
    weights = np.ones(len(scores)) if weights is None else weights
    n_right = (weights * labels).sum()
    n_wrong = weights.sum() - n_right
    target = np.where(labels == 1, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    mean, scale = scores.mean(), max(float(scores.std()), 1e-6)
    # A soft target t is a right completion of weight t and a wrong one of weight 1 - t.
    logistic = LogisticRegression(C=1e9, solver="newton-cholesky", tol=1e-10).fit(
        np.tile((scores - mean) / scale, 2)[:, None],
        np.repeat([1, 0], len(scores)),
        sample_weight=np.concatenate([weights * target, weights * (1 - target)]),
    )
    a, intercept = logistic.coef_[0, 0] / scale, logistic.intercept_[0]
    if a <= 0:
        share = np.average(target, weights=weights)
        return PlattCalibration(a=0.0, b=np.log(share / (1 - share)))
    return PlattCalibration(a=a, b=intercept - a * mean)


def fit_isotonic(scores: F64, labels: F64, weights: F64 | None = None) -> IsotonicCalibration:
    """Fit isotonic regression: rising steps, whose centres are joined by lines; see ``calibrate()``.

    One label with the value of the overall share is added to each step, so no probability is 0 or 1.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    x, position = np.unique(scores, return_inverse=True)
    weight = np.bincount(position, weights=weights)
    right = np.bincount(position, weights=weights * labels)
    steps = isotonic_regression(right / weight, sample_weight=weight)
    # Rounding joins steps whose shares are equal but for the last bit.
    _, step = np.unique(steps.round(12), return_inverse=True)
    n_right, n, score_sum = (np.bincount(step, weights=column) for column in (right, weight, x * weight))
    share = np.average(labels, weights=weights)
    centre = score_sum / n
    # The added label can move a small step slightly past its neighbour.
    level = np.maximum.accumulate((n_right + share) / (n + 1))
    is_new = np.concatenate([[True], np.diff(centre) > 0])
    return IsotonicCalibration(x=centre[is_new], y=level[is_new])
