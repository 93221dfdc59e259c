"""What a stopping rule sees, and what it says: for one question, or for many replays of many questions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.selection.choose import MIN_WEIGHT
from swift_client.types import Bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Votes:
    """The first t of n completions in the order of their arrival, of R questions; R is 1 where it is served.

    What was cut, filtered or refused is spent, but has no answer, no probability and no score.
    """

    answers: I64
    """(R, t) equal numbers for equal answers, -1 for a completion that does not vote."""
    n: int
    """How many completions are planned."""
    probabilities: F64 | None = None
    """(R, t) calibrated probability of being right, NaN where there is none; None without a calibrated head."""
    scores: F64 | None = None
    """(R, t) higher is better, NaN for no signal; None without a scorer."""

    @classmethod
    def from_lists(
        cls,
        answers: Sequence[int | None],
        *,
        n: int,
        probabilities: Sequence[float | None] | None = None,
        scores: Sequence[float | None] | None = None,
    ) -> Votes:
        """Return the ballots of one question, None for what is not there. ``answers`` as ``answers.read`` groups them.

        Raises ValueError for lengths that differ, or more completions than n.
        """
        lengths = {len(each) for each in (answers, probabilities, scores) if each is not None}
        if len(lengths) != 1 or not len(answers) <= n:
            raise ValueError(f"{len(answers)} answers of {n}: every list needs one entry a completion.")
        return cls(
            answers=np.array([[-1 if answer is None else answer for answer in answers]], np.int64),
            n=n,
            probabilities=_to_row(probabilities),
            scores=_to_row(scores),
        )

    @property
    def n_seen(self) -> int:
        """How many completions have come: t."""
        return int(self.answers.shape[1])

    @property
    def vote_counts(self) -> I64:
        """(R,) how many of them vote."""
        return np.asarray((self.answers >= 0).sum(axis=1))

    @property
    def weights(self) -> F64:
        """(R, t) what each adds to its answer, as ``selection.choose`` counts it; 0 where it does not vote."""
        weights = np.ones(self.answers.shape)
        if self.probabilities is not None:
            weights = np.where(self.probabilities > MIN_WEIGHT, self.probabilities, MIN_WEIGHT)
        return np.where(self.answers >= 0, weights, 0.0)

    def totals(self, values: F64 | None = None) -> F64:
        """Return the sums of ``values`` (R, t), by default 1, of each answer: (R, A), 0 for answers not given."""
        kinds = int(self.answers.max(initial=-1)) + 2  # kind 0 gathers those who do not vote
        cell = self.answers + 1 + kinds * np.arange(len(self.answers))[:, None]
        weights = None if values is None else values.ravel()
        sums = np.bincount(cell.ravel(), weights, minlength=kinds * len(self.answers))
        totals: F64 = sums.reshape(-1, kinds)[:, 1:].astype(np.float64)
        return totals


class Verdicts(NamedTuple):
    """What a rule says of R questions."""

    stop: Bool
    """(R,)"""
    posterior: F64
    """(R,) the probability or share that the rule compares, NaN where it has none."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule says of one question."""

    stop: bool
    posterior: float | None
    """The probability or share that the rule compares; None where it has none."""
    reason: str
    """The same in one sentence."""


def top_two(totals: F64) -> tuple[F64, F64]:
    """Return the largest and the second largest of each row, (R,) each; 0 where there is none."""
    padded = np.concatenate([totals, np.zeros((len(totals), 2))], axis=1)
    ordered = np.partition(padded, -2, axis=1)
    return ordered[:, -1], ordered[:, -2]


def _to_row(values: Sequence[float | None] | None) -> F64 | None:
    return None if values is None else np.array([[np.nan if value is None else value for value in values]])
