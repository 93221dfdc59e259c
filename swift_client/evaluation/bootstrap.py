"""Intervals over questions: all numbers of a table share the resampled questions, so that differences are paired."""

from __future__ import annotations

import numpy as np

from swift_client.evaluation.result import Estimate
from swift_client.features.segments import F64

_MAX_BLOCK_VALUES = 1 << 22
"""Draws held at once."""


def resampled_sums(columns: F64, *, resamples: int, seed: int) -> F64:
    """Return sums over questions drawn with replacement, (R, C), for columns (Q, C) of finite numbers."""
    count = len(columns)
    rng = np.random.default_rng(seed)
    step = max(1, _MAX_BLOCK_VALUES // count)
    sums = []
    for start in range(0, resamples, step):
        many = min(step, resamples - start)
        draws = rng.integers(count, size=(many, count)) + count * np.arange(many)[:, None]
        times = np.bincount(draws.ravel(), minlength=many * count).reshape(many, count)
        sums.append(times @ columns)
    joined: F64 = np.concatenate(sums)
    return joined


def estimate(value: float, draws: F64) -> Estimate:
    """Return the value with its 95 % interval; draws that are NaN are left out."""
    known = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(known):
        return Estimate(float(value), np.nan, np.nan)
    low, high = np.quantile(known, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))
