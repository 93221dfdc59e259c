"""Features on one scale: mean 0, deviation 1 over the training tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from swift_client.features.segments import F64
from swift_client.models.validation import MAX_MAGNITUDE, finite_vector


class Standardizer:
    """(x - mean) / scale by column; ValueError for a scale that is not positive."""

    def __init__(self, *, mean: ArrayLike, scale: ArrayLike) -> None:
        self.mean = finite_vector(mean, "mean")
        self.scale = finite_vector(scale, "scale", like=self.mean)
        if not (self.scale >= 1 / MAX_MAGNITUDE).all():
            raise ValueError(f"scale holds a number below {1 / MAX_MAGNITUDE:g}.")

    @classmethod
    def fit(cls, values: ArrayLike) -> Standardizer:
        """Take mean and deviation from the rows of values (S, d); a column that never varied gets scale 1."""
        rows = np.asarray(values, np.float64)
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        # The deviation of a constant column is rounding, not 0.
        return cls(mean=mean, scale=np.where(scale > np.maximum(1.0, np.abs(mean)) / MAX_MAGNITUDE, scale, 1.0))

    def __call__(self, values: ArrayLike) -> F64:
        """Return the rows (S, d) standardized, float64."""
        scaled: F64 = np.asarray(values) - self.mean
        scaled /= self.scale
        return scaled
