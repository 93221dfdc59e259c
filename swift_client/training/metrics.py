"""How well scores tell right from wrong, all in numpy. Scores (N,), labels (N,) 0 or 1, question (N,) equal numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from swift_client.features.segments import F64, I64
from swift_client.training.calibration_metrics import reliability


class Pairs(NamedTuple):
    """Every right completion beside every wrong one of the same question. P pairs."""

    positives: I64
    """(P,) positions of the right ones."""
    negatives: I64
    """(P,) positions of the wrong ones."""


def make_pairs(labels: NDArray[np.float64], question: I64) -> Pairs:
    """Return the pairs; none for a question whose completions are all right or all wrong."""
    _, question = np.unique(question, return_inverse=True)
    order = np.argsort(question, kind="stable")
    rights, wrongs = order[labels[order] == 1], order[labels[order] == 0]
    per_question = np.bincount(question[wrongs], minlength=int(question.max(initial=-1)) + 1)
    first = np.cumsum(per_question) - per_question
    partners = per_question[question[rights]]
    right = np.repeat(rights, partners)
    nth = np.arange(len(right)) - np.repeat(np.cumsum(partners) - partners, partners)
    return Pairs(right, wrongs[first[question[right]] + nth])


def within_question_auroc(scores: F64, labels: F64, question: I64) -> float:
    """Return P(score of a right one > score of a wrong one of the same question), ties a half; NaN without pairs.

    Pairs are pooled over questions: CISC's within-question discrimination (arXiv 2502.06233). Of all measures it is
    the one that says whether scores can help to choose.
    """
    won, pairs = _mixed_pair_wins(scores, labels, question)
    return float(won.sum() / pairs.sum()) if pairs.any() else np.nan


def bootstrap_auroc(scores: F64, labels: F64, question: I64, *, resamples: int = 1000, seed: int = 0) -> F64:
    """Return within-question AUROC of ``resamples`` draws of questions with replacement; none without pairs."""
    won, pairs = _mixed_pair_wins(scores, labels, question)
    if not len(pairs):
        return np.zeros(0)
    draws = np.random.default_rng(seed).integers(len(pairs), size=(resamples, len(pairs)))
    drawn: F64 = won[draws].sum(axis=1) / pairs[draws].sum(axis=1)
    return drawn


def pooled_auroc(scores: F64, labels: F64) -> float:
    """Return AUROC over all completions, whatever their question; NaN where all labels are equal."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    right = int((labels == 1).sum())
    wrong = len(labels) - right
    return float((rank[labels == 1].sum() - right * (right + 1) / 2) / (right * wrong)) if right and wrong else np.nan


def brier(probabilities: F64, labels: F64) -> float:
    """Return the mean squared distance of the probabilities from the labels."""
    return float(np.mean((probabilities - labels) ** 2))


def expected_calibration_error(probabilities: F64, labels: F64, *, bins: int = 15) -> float:
    """Return ECE with ``bins`` bins of equal mass: mean |mean probability - share right|, weighted by bin size."""
    return reliability(probabilities, labels, bins=bins).error


def pair_wins(scores: F64, labels: F64, question: I64, *, questions: int) -> tuple[F64, F64]:
    """Return for each question, numbered 0..questions-1, the pairs won (ties a half) and the pairs there are."""
    pairs = make_pairs(labels, question)
    left, right = scores[pairs.positives], scores[pairs.negatives]
    owner = question[pairs.positives]
    won = np.bincount(owner, weights=(left > right) + 0.5 * (left == right), minlength=questions).astype(np.float64)
    return won, np.bincount(owner, minlength=questions).astype(np.float64)


def _mixed_pair_wins(scores: F64, labels: F64, question: I64) -> tuple[F64, F64]:
    """Return the same for mixed questions only, whatever their numbers."""
    known, number = np.unique(question, return_inverse=True)
    won, pairs = pair_wins(scores, labels, number.astype(np.int64), questions=len(known))
    return won[pairs > 0], pairs[pairs > 0]
