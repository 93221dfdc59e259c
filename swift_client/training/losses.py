"""Training losses, one function per row of LOSSES. Scores are logits (N,), higher is better.

A mean over completions or questions is that of loss times weight; weights are about 1 on average over all batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from swift_client.features.segments import F64, I64
from swift_client.training.metrics import make_pairs

ALPHA = 0.01  # temperature α of InfoNCA and NCA, as in the official code


class Labels(NamedTuple):
    """Labels of N completions, and the P pairs of a right and a wrong one of the same question."""

    values: Tensor  # (N,) 1 right, 0 wrong
    right_positions: Tensor  # (P,) positions of the right completions
    wrong_positions: Tensor  # (P,) positions of the wrong completions
    pair_weights: Tensor  # (P,) weight / pairs of the question, so that each mixed question counts once
    question: Tensor  # (N,) number of the question, 0..Q-1
    weights: Tensor  # (N,) weight of the completion's question

    @classmethod
    def from_arrays(
        cls, labels: F64, question: I64, *, dtype: torch.dtype, device: torch.device, weights: F64 | None = None
    ) -> Labels:
        """Pair right and wrong completions by their ``labels`` (N,) within each ``question`` (N,).

        ``weights`` (N,) are equal within a question, and about 1 on average; None is 1 for all.
        """
        weights = np.ones(len(labels)) if weights is None else weights
        pairs = make_pairs(labels, question)
        _, owner, count = np.unique(question[pairs.positives], return_inverse=True, return_counts=True)
        return cls(
            torch.as_tensor(labels, dtype=dtype, device=device),
            torch.as_tensor(pairs.positives, device=device),
            torch.as_tensor(pairs.negatives, device=device),
            torch.as_tensor(weights[pairs.positives] / count[owner], dtype=dtype, device=device),
            torch.as_tensor(np.unique(question, return_inverse=True)[1], device=device),
            torch.as_tensor(weights, dtype=dtype, device=device),
        )


def bce(scores: Tensor, labels: Labels) -> Tensor:
    """Return the cross-entropy of sigmoid(score) and label, mean over completions (SWIFT, arXiv 2505.12225)."""
    return binary_cross_entropy_with_logits(scores, labels.values, weight=labels.weights)


def pairwise(scores: Tensor, labels: Labels) -> Tensor:
    """Return -log sigmoid(right - wrong) (Bradley-Terry), mean over a question's pairs, then over mixed questions.

    A question's difficulty cancels, so only differences between its completions are learned. 0 without mixed questions.
    """
    if not len(labels.right_positions):
        return scores.sum() * 0.0
    loss = softplus(scores[labels.wrong_positions] - scores[labels.right_positions])
    return (loss * labels.pair_weights).sum() / labels.pair_weights.sum()


def bce_and_pairwise(scores: Tensor, labels: Labels) -> Tensor:
    """Return the mean of ``bce()``, which sets the level of the scores, and ``pairwise()``, their order."""
    return (bce(scores, labels) + pairwise(scores, labels)) / 2


def hinge(scores: Tensor, labels: Labels) -> Tensor:
    """Return max(0, 1 - y·score) with y = ±1, mean over completions."""
    return (labels.weights * (1 - (2 * labels.values - 1) * scores).clamp(min=0)).mean()


def infonca(scores: Tensor, labels: Labels) -> Tensor:
    """Return the cross-entropy of softmax(score) and softmax(label / α) within a question, mean over questions.

    InfoNCA (arXiv 2402.05369, eq. 7): with α near 0 the right completions share the weight evenly.
    """
    target, count = _target_weights(labels)
    return -(labels.weights * target * _log_softmax(scores, labels.question)).sum() / count


def nca(scores: Tensor, labels: Labels) -> Tensor:
    """Return -Σ softmax(label / α)·log σ(score) - mean log σ(-score) of a question, mean over questions.

    NCA (arXiv 2402.05369, eq. 12), which also sets the level of the scores.
    """
    target, count = _target_weights(labels)
    size = torch.bincount(labels.question).to(scores.dtype)[labels.question]
    return (labels.weights * (target * softplus(-scores) + softplus(scores) / size)).sum() / count


def _target_weights(labels: Labels) -> tuple[Tensor, int]:
    """Return softmax(label / α) of each completion within its question, and the number of questions."""
    return _log_softmax(labels.values / ALPHA, labels.question).exp(), int(labels.question.max()) + 1


def _log_softmax(values: Tensor, question: Tensor) -> Tensor:
    """Return log softmax over the values of the same question, (N,)."""
    count = int(question.max()) + 1
    top = values.new_full((count,), -torch.inf).scatter_reduce(0, question, values.detach(), "amax")
    shifted = values - top[question]
    return shifted - values.new_zeros(count).index_add(0, question, shifted.exp()).log()[question]


Loss = Callable[[Tensor, Labels], Tensor]

LOSSES: Mapping[str, Loss] = MappingProxyType(
    {"bce": bce, "pairwise": pairwise, "both": bce_and_pairwise, "hinge": hinge, "infonca": infonca, "nca": nca}
)
