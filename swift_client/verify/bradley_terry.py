"""Strengths of candidates from pairwise preferences: the Bradley–Terry model with a prior and a position bias.

The chance that the first of two candidates is preferred is σ(s_first − s_second + b), with a strength s of each
candidate (Bradley and Terry 1952, https://en.wikipedia.org/wiki/Bradley–Terry_model) and b for the order in which the
two were shown (Davidson and Beaver 1977). A preference between 0 and 1 counts as a share of a win, by cross-entropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.features.segments import F64

# Standard deviations of the Gaussian priors: of a strength around its prior mean, and of the position bias around 0.
STRENGTH_DEVIATION, BIAS_DEVIATION = 1.0, 1.0
_MAX_STEPS, _MAX_HALVINGS, _TOLERANCE = 50, 30, 1e-10


@dataclass(frozen=True)
class Comparison:
    """Preference of a judge between two candidates."""

    first: int  # candidate in the first slot
    second: int
    preference: float  # chance 0..1 that the first is better


@dataclass(frozen=True, eq=False)
class StrengthFit:
    """Most probable strengths, and the Laplace approximation of how far they may be off."""

    strengths: F64  # (k,) log strengths, mean 0
    position_bias: float  # log odds by which the first slot is preferred
    covariance: F64  # (k, k) of the strengths

    def difference_variances(self) -> F64:
        """Return the variance of the difference between each two strengths, (k, k), 0 on the diagonal."""
        variances = np.diag(self.covariance)
        return np.asarray(variances[:, None] + variances[None, :] - 2 * self.covariance)

    def chances_to_beat(self) -> F64:
        """Return the chance that each row's strength exceeds each column's, (k, k), .5 on the diagonal."""
        deviations = np.sqrt(np.maximum(self.difference_variances(), 1e-12))
        differences = self.strengths[:, None] - self.strengths[None, :]
        return _normal_cdf(differences / deviations)

    def chances_to_lead(self) -> F64:
        """Return the approximate chance that each strength is the largest, (k,), summing to 1.

        The product of a candidate's chances to beat each other one, as if these were independent, scaled to sum to 1.
        """
        with np.errstate(divide="ignore"):
            logs = np.log(self.chances_to_beat()).sum(axis=1)
        chances = np.exp(logs - logs.max())
        return np.asarray(chances / chances.sum())


def fit_strengths(prior_means: F64, comparisons: Sequence[Comparison]) -> StrengthFit:
    """Return the most probable strengths and position bias, by Newton's method on the concave log posterior.

    Args:
        prior_means: (k,) mean of each strength's prior, with mean 0.
        comparisons: any number; a candidate in none of them keeps its prior mean.
    """
    k = len(prior_means)
    start = np.append(prior_means, 0.0)
    precisions = np.append(np.full(k, STRENGTH_DEVIATION**-2), BIAS_DEVIATION**-2)
    design = np.zeros((len(comparisons), k + 1))
    for row, comparison in zip(design, comparisons, strict=True):
        row[[comparison.first, comparison.second, k]] = 1.0, -1.0, 1.0
    preferences = np.array([comparison.preference for comparison in comparisons])

    def loss(values: F64) -> float:
        log_odds = design @ values
        cross_entropy = np.logaddexp(0, log_odds) - preferences * log_odds
        return float(cross_entropy.sum() + precisions @ (values - start) ** 2 / 2)

    def chances(values: F64) -> F64:
        return np.asarray(np.exp(-np.logaddexp(0, -design @ values)))

    def curvature(values: F64) -> F64:
        spread = chances(values) * (1 - chances(values))
        return np.asarray(design.T @ (spread[:, None] * design) + np.diag(precisions))

    values, current = start, loss(start)
    for _ in range(_MAX_STEPS):
        gradient = design.T @ (chances(values) - preferences) + precisions * (values - start)
        step = np.linalg.solve(curvature(values), gradient)
        # A full step may overshoot where the sigmoid is flat, so it is halved until the loss falls.
        for _ in range(_MAX_HALVINGS):
            if (lower := loss(values - step)) <= current:
                break
            step = step / 2
        else:
            break
        values, current = values - step, lower
        if np.abs(step).max() < _TOLERANCE:
            break
    covariance = np.asarray(np.linalg.inv(curvature(values)), np.float64)
    return StrengthFit(values[:k], float(values[k]), covariance[:k, :k])


def _normal_cdf(values: F64) -> F64:
    flat = [0.5 * math.erfc(-value / math.sqrt(2)) for value in values.ravel().tolist()]
    return np.array(flat).reshape(values.shape)
