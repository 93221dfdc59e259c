"""Maps from a score to the probability that the answer is correct; training/calibration.py fits them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from swift_client.features.segments import F64
from swift_client.models.gated_linear import finite_scalar, finite_vector, sigmoid


class PlattCalibration:
    """sigmoid(a · score + b) with a ≥ 0: two parameters, for few labels."""

    def __init__(self, *, a: ArrayLike, b: ArrayLike) -> None:
        self.a = finite_scalar(a, "a")
        self.b = finite_scalar(b, "b")
        if self.a < 0:
            raise ValueError("Platt's a is negative: a higher score would mean a lower probability.")

    def __call__(self, scores: F64) -> F64:
        """Return probabilities (N,) for scores (N,); NaN stays NaN."""
        return sigmoid(self.a * scores + self.b)


class IsotonicCalibration:
    """Linear interpolation between the points (x, y), constant outside: for many labels.

    x rises, y never falls, 0 ≤ y ≤ 1.
    """

    def __init__(self, *, x: ArrayLike, y: ArrayLike) -> None:
        self.x = finite_vector(x, "x")
        self.y = finite_vector(y, "y", like=self.x)
        if not len(self.x) or (np.diff(self.x) <= 0).any() or (np.diff(self.y) < 0).any():
            raise ValueError("Isotonic points must have rising x and y that never falls.")
        if self.y[0] < 0 or self.y[-1] > 1:
            raise ValueError("Isotonic y must lie within 0 and 1.")

    def __call__(self, scores: F64) -> F64:
        """Return probabilities (N,) for scores (N,); NaN stays NaN."""
        # With a single point np.interp gives its y for NaN too.
        return np.where(np.isnan(scores), np.nan, np.interp(scores, self.x, self.y))


Calibration = PlattCalibration | IsotonicCalibration

# Calibration classes by the name that a head's file stores.
CALIBRATIONS: dict[str, type[PlattCalibration] | type[IsotonicCalibration]] = {
    "platt": PlattCalibration,
    "isotonic": IsotonicCalibration,
}
