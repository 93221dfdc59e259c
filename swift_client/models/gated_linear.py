"""The SWIFT head: a gated mean of token rewards (arXiv 2505.12225), with its standardizer and its number checks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from swift_client.features.segments import F64, I64, segment_offsets, segment_reduce
from swift_client.types import F32

# Floor of the sum of gates: with all gates shut the score is 0, not NaN (the reference code's epsilon).
GATE_SUM_EPS = 1e-8
# Bound of every stored number, and 1 / MAX_MAGNITUDE of every scale: within it no float32 score overflows.
MAX_MAGNITUDE = 1e9


class Standardizer:
    """Map from columns to mean 0 and deviation 1: (x - mean) / scale.

    Raises ValueError for a scale that is not positive.
    """

    def __init__(self, *, mean: ArrayLike, scale: ArrayLike) -> None:
        self.mean = finite_vector(mean, "mean")
        self.scale = finite_vector(scale, "scale", like=self.mean)
        if not (self.scale >= 1 / MAX_MAGNITUDE).all():
            raise ValueError(f"scale holds a number below {1 / MAX_MAGNITUDE:g}.")

    @classmethod
    def fit(cls, values: ArrayLike) -> Standardizer:
        """Take mean and deviation from the rows of ``values`` (S, d); a constant column gets scale 1."""
        rows = np.asarray(values, np.float64)
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        # The deviation of a constant column is rounding, not 0.
        return cls(mean=mean, scale=np.where(scale > np.maximum(1.0, np.abs(mean)) / MAX_MAGNITUDE, scale, 1.0))

    def __call__(self, values: ArrayLike) -> F64:
        """Return the rows (S, d) standardized, float64."""
        scaled: F64 = np.asarray(values) - self.mean
        scaled /= self.scale
        return scaled


class GatedLinearHead:
    """Two linear maps of each token's d features: its gate (how much it counts) and its reward.

    Raises ValueError if the weights are not two finite vectors of one length.
    """

    def __init__(
        self, *, gate_weight: ArrayLike, gate_bias: ArrayLike, reward_weight: ArrayLike, reward_bias: ArrayLike
    ) -> None:
        self.gate_weight = finite_vector(gate_weight, "gate_weight")
        self.gate_bias = finite_scalar(gate_bias, "gate_bias")
        self.reward_weight = finite_vector(reward_weight, "reward_weight", like=self.gate_weight)
        self.reward_bias = finite_scalar(reward_bias, "reward_bias")

    @property
    def width(self) -> int:
        """Number of features d."""
        return len(self.gate_weight)

    def token_gates(self, features: ArrayLike) -> F64:
        """Return g = sigmoid(X · gate_weight + gate_bias), (T,) float64 in 0..1, for X (T, d)."""
        return sigmoid(weigh(features, self.gate_weight) + self.gate_bias)

    def token_rewards(self, features: ArrayLike) -> F64:
        """Return r = X · reward_weight + reward_bias, (T,) float64, for X (T, d)."""
        return weigh(features, self.reward_weight) + self.reward_bias

    def score(self, features: ArrayLike) -> float:
        """Return R = Σ g·r / max(Σ g, 1e-8) for the tokens X (T, d) of one completion; NaN if T is 0."""
        return float(self.logits(features, segment_offsets([len(np.asarray(features))]))[0])

    def scores(self, values: ArrayLike, offsets: I64) -> F32:
        """Return R of N completions laid end to end, (N,) float32, for ``values`` (ΣT, d) and ``offsets`` (N+1,)."""
        return self.logits(values, offsets).astype(np.float32)

    def logits(self, values: ArrayLike, offsets: I64) -> F64:
        """Return ``scores()`` in float64, as calibration and response terms take it."""
        gates, rewards = weigh_all(values, np.stack([self.gate_weight, self.reward_weight]))
        return gated_mean(sigmoid(gates + self.gate_bias), rewards + self.reward_bias, offsets)


def gated_mean(gates: F64, rewards: F64, offsets: I64) -> F64:
    """Return Σ g·r / max(Σ g, 1e-8) per segment, (N,) float64, for (ΣT,) tokens; NaN for an empty segment."""
    total = segment_reduce(np.add, gates * rewards, offsets, empty=np.nan)
    return total / np.maximum(segment_reduce(np.add, gates, offsets, empty=np.nan), GATE_SUM_EPS)


def sigmoid(logits: F64) -> F64:
    """Return 1 / (1 + e^-x) without overflow on either side."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def weigh(rows: ArrayLike, weight: F64) -> F64:
    """Return ``rows`` (S, d) · ``weight`` (d,), float64 (S,); see ``weigh_all()``."""
    total: F64 = weigh_all(rows, weight[None])[0]
    return total


def weigh_all(rows: ArrayLike, weights: F64) -> F64:
    """Return ``weights`` (m, d) · the transposed ``rows`` (S, d), float64 (m, S).

    The sum runs column by column. The order of a BLAS product depends on the row's position, the memory layout and the
    number of threads.
    """
    matrix = np.asarray(rows)
    if matrix.ndim != 2 or matrix.shape[1] != weights.shape[1]:
        raise ValueError(f"Features have shape {matrix.shape}, expected (T, {weights.shape[1]}).")
    total = np.zeros((len(weights), len(matrix)))
    product = np.empty_like(total)
    for column, factors in zip(matrix.T, weights.T, strict=True):
        total += np.multiply(column, factors[:, None], out=product)
    return total


def finite_vector(values: ArrayLike, name: str, *, like: F64 | None = None) -> F64:
    """Return ``values`` as a float64 vector.

    Raises ValueError if it is not a vector, holds a number beyond MAX_MAGNITUDE, or differs from ``like`` in length.
    """
    vector = np.array(values, np.float64)
    if vector.ndim != 1 or (like is not None and vector.shape != like.shape):
        raise ValueError(f"{name} has shape {vector.shape}, expected {'(d,)' if like is None else like.shape}.")
    if not (np.abs(vector) <= MAX_MAGNITUDE).all():
        raise ValueError(f"{name} holds a number that is not finite or is beyond {MAX_MAGNITUDE:g}.")
    return vector


def finite_scalar(value: ArrayLike, name: str) -> float:
    """Return ``value`` as a float; raise ValueError if it is not one finite number."""
    scalar = np.array(value, np.float64)
    if scalar.ndim != 0 or not abs(scalar) <= MAX_MAGNITUDE:
        raise ValueError(f"{name} is not one finite number within {MAX_MAGNITUDE:g}.")
    return float(scalar)
