"""Metrics of scores and probabilities: discrimination, calibration, and the usefulness test of a head.

Scores (N,) and probabilities (N,) are float64, labels (N,) 0 or 1; completions of one question share a number in
``question`` (N,). All in numpy, since evaluation works without the extra "train".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.models import NO_BETTER_VERDICT

RESAMPLES = 1000
LOWER_QUANTILE = 0.05  # share of the resamples below the lower bound of a usefulness test


class Pairs(NamedTuple):
    """P pairs of a right and a wrong completion of the same question, as positions."""

    positives: I64  # (P,) positions of the right ones
    negatives: I64  # (P,) positions of the wrong ones


def make_pairs(labels: F64, question: I64) -> Pairs:
    """Return all pairs; none for a question whose completions are all right or all wrong."""
    _, question = np.unique(question, return_inverse=True)
    order = np.argsort(question, kind="stable")
    positives, negatives = order[labels[order] == 1], order[labels[order] == 0]
    # Repeat each right completion once per wrong one of its question, and number the repeats: 0, 1, 2, ...
    n_negatives = np.bincount(question[negatives], minlength=int(question.max(initial=-1)) + 1)
    first_negative = np.cumsum(n_negatives) - n_negatives
    n_partners = n_negatives[question[positives]]
    repeated = np.repeat(positives, n_partners)
    partner = np.arange(len(repeated)) - np.repeat(np.cumsum(n_partners) - n_partners, n_partners)
    return Pairs(repeated, negatives[first_negative[question[repeated]] + partner])


def pair_wins(scores: F64, labels: F64, question: I64, *, questions: int) -> tuple[F64, F64]:
    """Return won pairs (a tie counts half) and all pairs per question, numbered 0..questions-1."""
    pairs = make_pairs(labels, question)
    right, wrong = scores[pairs.positives], scores[pairs.negatives]
    owner = question[pairs.positives]
    wins = np.bincount(owner, weights=(right > wrong) + 0.5 * (right == wrong), minlength=questions)
    return wins.astype(np.float64), np.bincount(owner, minlength=questions).astype(np.float64)


def within_question_auroc(scores: F64, labels: F64, question: I64) -> float:
    """Return P(right scores above wrong) within questions, ties counted half; NaN without pairs.

    Pairs are pooled over questions: the within-question discrimination of CISC (arXiv 2502.06233). It measures directly
    whether scores can help to choose between the completions of a question.
    """
    wins, pairs = _mixed_pair_wins(scores, labels, question)
    return float(wins.sum() / pairs.sum()) if pairs.any() else np.nan


def bootstrap_auroc(scores: F64, labels: F64, question: I64, *, seed: int = 0) -> F64:
    """Return within-question AUROC of RESAMPLES draws of the questions with replacement; empty without pairs."""
    wins, pairs = _mixed_pair_wins(scores, labels, question)
    if not len(pairs):
        return np.zeros(0)
    draws = np.random.default_rng(seed).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    aurocs: F64 = wins[draws].sum(axis=1) / pairs[draws].sum(axis=1)
    return aurocs


def _mixed_pair_wins(scores: F64, labels: F64, question: I64) -> tuple[F64, F64]:
    """Return ``pair_wins()`` of the questions that have pairs."""
    numbers, question = np.unique(question, return_inverse=True)
    wins, pairs = pair_wins(scores, labels, question.astype(np.int64), questions=len(numbers))
    return wins[pairs > 0], pairs[pairs > 0]


def pooled_auroc(scores: F64, labels: F64, weights: F64 | None = None) -> float:
    """Return AUROC over all completions of all questions, weighted by (N,) if given; NaN if all labels are equal."""
    weights = np.ones(len(scores)) if weights is None else weights
    _, value_index = np.unique(scores, return_inverse=True)
    right, wrong = (np.bincount(value_index, weights=weights * (labels == label)) for label in (1, 0))
    wrong_below = np.cumsum(wrong) - wrong / 2  # ties count half
    total = right.sum() * wrong.sum()
    return float((right * wrong_below).sum() / total) if total else np.nan


def brier(probabilities: F64, labels: F64, weights: F64 | None = None) -> float:
    """Return the mean squared distance of the probabilities from the labels, weighted by (N,) if given."""
    return float(np.average((probabilities - labels) ** 2, weights=weights))


def expected_calibration_error(probabilities: F64, labels: F64, weights: F64 | None = None, *, bins: int = 15) -> float:
    """Return ECE over ``bins`` bins of equally many: mean |mean probability - share right|, weighted by bin size.

    With ``weights`` (N,) all three are weighted.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    excess = weights * (probabilities - labels)
    parts = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    return float(sum(abs(excess[part].sum()) for part in parts) / weights.sum())


@dataclass(frozen=True, eq=False, kw_only=True)
class Reliability:
    """A reliability table of B bins of equal mass, in order of probability."""

    predicted: F64  # (B,) mean probability in the bin
    observed: F64  # (B,) share of right completions in the bin
    counts: I64  # (B,) completions in the bin; counts differ by one at most

    @property
    def error(self) -> float:
        """Expected calibration error: mean |predicted - observed|, weighted by bin size."""
        return float((abs(self.predicted - self.observed) * self.counts).sum() / self.counts.sum())

    @property
    def slope(self) -> float:
        """Weighted least-squares slope of observed on predicted: 1 is calibrated, below 1 overconfident."""
        weight = self.counts / self.counts.sum()
        deviation = self.predicted - (weight * self.predicted).sum()
        variance = float((weight * deviation**2).sum())
        return float((weight * deviation * self.observed).sum() / variance) if variance else np.nan


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


@dataclass(frozen=True, kw_only=True)
class UsefulnessTest:
    """Within-question discrimination of a head without the help of agreement, tested against chance."""

    # Within-question AUROC; NaN without a question that has both right and wrong completions.
    auroc: float
    lower_bound: float  # lower 5 % bound of the AUROC over resampled questions; NaN likewise
    mixed_questions: int  # questions with both right and wrong completions

    @property
    def beats_chance(self) -> bool:
        """True if the lower bound is above chance, 0.5."""
        return self.lower_bound > 0.5

    @property
    def verdict(self) -> str:
        """The result in words, as stored in the head's file; its wording is frozen."""
        return "better than chance within a question" if self.beats_chance else NO_BETTER_VERDICT

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        return {
            "auroc": json_number(self.auroc),
            "low": json_number(self.lower_bound),  # historical name of the lower bound, stored in heads
            "mixed_questions": self.mixed_questions,
        }


def measure_usefulness(scores: F64, labels: F64, question: I64, *, seed: int = 0) -> UsefulnessTest:
    """Test scores (N,) from which the contribution of agreement was removed: majority vote has that already."""
    aurocs = bootstrap_auroc(scores, labels, question, seed=seed)
    mixed = set(question[labels == 1].tolist()) & set(question[labels == 0].tolist())
    return UsefulnessTest(
        auroc=within_question_auroc(scores, labels, question),
        lower_bound=float(np.quantile(aurocs, LOWER_QUANTILE)) if len(aurocs) else np.nan,
        mixed_questions=len(mixed),
    )


def json_number(value: float) -> float | None:
    """Return a number rounded to six decimals for JSON, None for NaN."""
    return None if np.isnan(value) else round(float(value), 6)
