"""The SWIFT head: a gated mean of token rewards (arXiv 2505.12225, equations in ``score``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from swift_client.features.segments import F64, I64, segment_offsets, segment_reduce
from swift_client.models.validation import finite_scalar, finite_vector, weigh
from swift_client.types import F32

GATE_SUM_EPS = 1e-8
"""Floor of the sum of gates: with all gates shut the score is 0, not NaN (the reference code's epsilon)."""


class GatedLinearHead:
    """Two linear maps of each token's features: how much it counts, and what it says. d is the number of features.

    Raises ValueError where the weights are not two finite vectors of one length.
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
        """Return R = Σ g·r / max(Σ g, 1e-8) for the tokens X (T, d) of one completion; NaN where T is 0."""
        return float(self.logits(features, segment_offsets([len(np.asarray(features))]))[0])

    def scores(self, values: ArrayLike, offsets: I64) -> F32:
        """Return R of N completions laid end to end, (N,) float32, for values (ΣT, d) and offsets (N+1,)."""
        return self.logits(values, offsets).astype(np.float32)

    def logits(self, values: ArrayLike, offsets: I64) -> F64:
        """Return :meth:`scores` in float64, as calibration and response terms take it."""
        return gated_mean(self.token_gates(values), self.token_rewards(values), offsets)


def gated_mean(gates: F64, rewards: F64, offsets: I64) -> F64:
    """Return Σ g·r / max(Σ g, 1e-8) within each run, (N,) float64, for (ΣT,) tokens; NaN for a run of no tokens."""
    total = segment_reduce(np.add, gates * rewards, offsets, empty=np.nan)
    return total / np.maximum(segment_reduce(np.add, gates, offsets, empty=np.nan), GATE_SUM_EPS)


def sigmoid(logits: F64) -> F64:
    """Return 1 / (1 + e^-x) without overflow on either side."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
