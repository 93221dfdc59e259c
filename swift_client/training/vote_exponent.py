"""The exponent β of a head's votes, learnt on completions that no weight was fitted to.

A vote weighs exp(β · calibrated log odds). Between the majority (0) and the best score (infinity) the best β depends on
the model and on how far its probabilities can be trusted. Accuracy changes little with β, so the grid is coarse, and
another value than the default must be better by more than the standard error of the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from swift_client.features.segments import F64, I64, segment_blocks
from swift_client.selection.voting import BETAS, draw_orders, odds_weights, vote

NS = (2, 4, 8, 16)  # completions to choose from
MAX_SUBSETS = 48  # draws per question and n


@dataclass(frozen=True, kw_only=True)
class LearntExponent:
    """The chosen β, and what it was chosen by."""

    beta: float
    accuracy: dict[float, float]  # per β: share of right choices, mean over n and the questions; empty without any
    questions: int  # questions with two or more completions that vote

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as stored in the head's file."""
        accuracy = {
            "inf" if beta == math.inf else f"{beta:g}": round(share, 6) for beta, share in self.accuracy.items()
        }
        return {"questions": self.questions, "accuracy": accuracy}


def learn_beta(
    scores: F64,
    probabilities: F64,
    labels: F64,
    answers: I64,
    question: I64,
    *,
    default: float = 1.0,
    margin: float = 1.0,
    seed: int = 0,
) -> LearntExponent:
    """Return the β of BETAS whose vote is right most often, shrunk towards ``default``.

    Args:
        scores: (N,) scores of completions by a head that was not fitted to their questions.
        probabilities: (N,) their calibrated probabilities.
        labels: (N,) 1 right, 0 wrong.
        answers: (N,) equal numbers for equal answers of one question, -1 for none.
        question: (N,) numbers that rise; the completions of one question are contiguous.
        default: the β of BETAS that another one must beat.
        margin: by how many standard errors of the difference.
        seed: of the draws.
    """
    # Per question and β, the share of right choices, mean over n.
    shares = np.concatenate(
        [np.zeros((0, len(BETAS))), *_shares(scores, probabilities, labels, answers, question, seed)]
    )
    if not len(shares):
        return LearntExponent(beta=default, accuracy={}, questions=0)
    gains = shares - shares[:, [BETAS.index(default)]]
    error = gains.std(axis=0, ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else np.full(len(BETAS), np.inf)
    with np.errstate(invalid="ignore"):
        shrunk = np.where(np.array(BETAS) == default, 0.0, gains.mean(axis=0) - margin * error)
    return LearntExponent(
        beta=BETAS[int(shrunk.argmax())] if shrunk.max() > 0 else default,
        accuracy=dict(zip(BETAS, shares.mean(axis=0).tolist(), strict=True)),
        questions=len(shares),
    )


def _shares(scores: F64, probabilities: F64, labels: F64, answers: I64, question: I64, seed: int) -> Iterator[F64]:
    """Yield the shares of right choices (Q, |BETAS|) of questions with equally many completions."""
    _, first, sizes = np.unique(question, return_index=True, return_counts=True)
    can_vote = np.add.reduceat(answers >= 0, first) > 1 if len(first) else first > 0
    for rows in segment_blocks(first[can_vote], sizes[can_vote]):
        yield _block_shares(scores[rows], probabilities[rows], labels[rows], answers[rows], seed)


def _block_shares(scores: F64, probabilities: F64, labels: F64, answers: I64, seed: int) -> F64:
    """Return the shares of one block; all arrays are (Q, m)."""
    size = scores.shape[1]
    shares = []
    for n in (n for n in NS if n <= size):
        draws = draw_orders(size, n, max_subsets=MAX_SUBSETS, seed=seed)
        drawn_answers, drawn_scores = answers[:, draws], scores[:, draws]
        drawn_labels, drawn_probabilities = labels[:, draws], probabilities[:, draws]
        by_beta = []
        for beta in BETAS:
            weights = odds_weights(drawn_probabilities, drawn_scores, drawn_answers >= 0, beta)
            winners = vote(drawn_answers, drawn_scores, weights)
            by_beta.append(np.take_along_axis(drawn_labels, winners[..., None], axis=-1)[..., 0].mean(axis=1))
        shares.append(np.stack(by_beta, axis=1))
    return np.asarray(np.mean(shares, axis=0))
