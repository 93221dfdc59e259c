"""From scores to probabilities, fitted on validation completions; ``models/calibration.py`` applies what is fitted."""

from __future__ import annotations

import numpy as np

from swift_client.features.segments import F64
from swift_client.models import Calibration, IsotonicCalibration, PlattCalibration
from swift_client.models.gated_linear import sigmoid

MIN_ISOTONIC_LABELS = 500
"""Labelled completions from which a free monotone curve beats two numbers."""


def calibrate(scores: F64, labels: F64) -> Calibration:
    """Fit the map that suits the number of labels. scores (N,) finite, labels (N,) 0 or 1, N ≥ 1."""
    return (fit_isotonic if len(scores) >= MIN_ISOTONIC_LABELS else fit_platt)(scores, labels)


def fit_platt(scores: F64, labels: F64) -> PlattCalibration:
    """Fit sigmoid(a · score + b), a ≥ 0, by Newton's method with Platt's softened targets (Platt 1999, Lin 2007)."""
    right = labels.sum()
    wrong = len(labels) - right
    target = np.where(labels == 1, (right + 1) / (right + 2), 1 / (wrong + 2))
    middle, spread = scores.mean(), max(float(scores.std()), 1e-6)
    columns = np.stack([(scores - middle) / spread, np.ones(len(scores))], axis=1)
    weights = np.array([0.0, np.log((right + 1) / (wrong + 1))])
    for _ in range(100):
        chance = sigmoid(columns @ weights)
        # The ridge keeps the step finite where one weight has no effect.
        curvature = (columns * (chance * (1 - chance))[:, None]).T @ columns + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, columns.T @ (target - chance))
        weights = weights + step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    a = weights[0] / spread
    if a <= 0:
        share = target.mean()
        return PlattCalibration(a=0.0, b=np.log(share / (1 - share)))
    return PlattCalibration(a=a, b=weights[1] - a * middle)


def fit_isotonic(scores: F64, labels: F64) -> IsotonicCalibration:
    """Fit the rising steps nearest to the labels by pooling adjacent violators; lines join the middles of the steps.

    Each step is drawn towards the share of all by one label, so that no probability is 0 or 1.
    """
    x, at = np.unique(scores, return_inverse=True)
    weight = np.bincount(at).astype(np.float64)
    total = np.bincount(at, weights=labels)
    blocks: list[tuple[float, float, float]] = []  # labels right, labels, sum of scores
    for right, count, score in zip(total, weight, x * weight, strict=True):
        block = (float(right), float(count), float(score))
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    share = labels.mean()
    pooled = np.array(blocks)
    centre = pooled[:, 2] / pooled[:, 1]
    # Drawing small steps to the share may cross a neighbour by a hair.
    level = np.maximum.accumulate((pooled[:, 0] + share) / (pooled[:, 1] + 1))
    apart = np.concatenate([[True], np.diff(centre) > 0])
    return IsotonicCalibration(x=centre[apart], y=level[apart])
