"""How far probabilities can be believed: the reliability table, of which ``metrics``' ECE is the mean distance.

Probabilities (N,) are 0..1 and labels (N,) 0 or 1, both float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swift_client.features.segments import F64, I64


@dataclass(frozen=True, eq=False, kw_only=True)
class Reliability:
    """B bins of equal mass in order of probability: what was said beside what came true."""

    predicted: F64
    """(B,) mean probability in the bin."""
    observed: F64
    """(B,) share of right ones in the bin."""
    counts: I64
    """(B,) completions in the bin; counts differ by one at most."""

    @property
    def error(self) -> float:
        """Expected calibration error: mean |said - came true|, weighted by bin size."""
        return float((abs(self.predicted - self.observed) * self.counts).sum() / self.counts.sum())

    @property
    def slope(self) -> float:
        """Least-squares slope of came_true on said, weighted: 1 is calibrated, below 1 too sure; NaN for one value."""
        weight = self.counts / self.counts.sum()
        said = self.predicted - (weight * self.predicted).sum()
        spread = float((weight * said**2).sum())
        return float((weight * said * self.observed).sum() / spread) if spread else np.nan


def reliability(probabilities: F64, labels: F64, *, bins: int = 15) -> Reliability:
    """Return the reliability table of at most ``bins`` bins, none empty. Raises ValueError without completions."""
    if not len(labels):
        raise ValueError("There is no completion to make a reliability table of.")
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        predicted=np.array([probabilities[part].mean() for part in parts]),
        observed=np.array([labels[part].mean() for part in parts]),
        counts=np.array([len(part) for part in parts], np.int64),
    )
