"""The input and output of stopping rules: votes and verdicts, of one question or of many replays at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from swift_client.features.segments import F64, I64
from swift_client.selection.voting import answer_probabilities, odds_weights, total_per_answer
from swift_client.types import Bool

# Pairs (points, cost) for heads that have none of their own, as a head of the packaged model learns them: other models
# lose less at these costs, and save less.
DEFAULT_COSTS = ((0.0, 0.0), (4.0, 0.1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Votes:
    """The first t of n completions of R questions, in order of arrival; R is 1 in ``best_of``.

    A completion that was cut, filtered or refused counts, but has no answer, no probability and no score.
    """

    answers: I64  # (R, t) equal numbers for equal answers, -1 for a completion that does not vote
    n: int  # number of completions planned
    # (R, t) calibrated probability of being right, NaN if missing; None without a calibrated head.
    probabilities: F64 | None = None
    # (R, t) higher is better, NaN without a signal; None without a scorer.
    scores: F64 | None = None
    # (R, t) positive weights of the votes; None: the odds of the probabilities, or 1 each without these.
    vote_weights: F64 | None = None
    # Exponent of the weights of a head's votes, and its pairs (points, cost), as ``HeadArtifact`` has them.
    beta: float = 1.0
    costs: tuple[tuple[float, float], ...] = ()

    @classmethod
    def from_lists(
        cls,
        answers: Sequence[int | None],
        *,
        n: int,
        probabilities: Sequence[float | None] | None = None,
        scores: Sequence[float | None] | None = None,
        vote_weights: Sequence[float | None] | None = None,
        beta: float = 1.0,
        costs: tuple[tuple[float, float], ...] = (),
    ) -> Votes:
        """Return the votes of one question; None stands for a missing value.

        Args:
            answers: the group of each completion's answer, as ``answers.read`` numbers them.
            n: number of completions planned.
            probabilities: one per completion.
            scores: one per completion.
            vote_weights: one per completion.
            beta: as the field.
            costs: as the field.

        Raises:
            ValueError: the lengths differ, or there are more completions than n.
        """
        lengths = {len(values) for values in (answers, probabilities, scores, vote_weights) if values is not None}
        if len(lengths) != 1 or not len(answers) <= n:
            raise ValueError(f"{len(answers)} answers of {n}: every list needs one entry per completion.")
        return cls(
            answers=np.array([[-1 if answer is None else answer for answer in answers]], np.int64),
            n=n,
            probabilities=_to_row(probabilities),
            scores=_to_row(scores),
            vote_weights=_to_row(vote_weights),
            beta=beta,
            costs=costs,
        )

    @property
    def n_seen(self) -> int:
        """Number of completions so far: t."""
        return int(self.answers.shape[1])

    @property
    def vote_counts(self) -> I64:
        """(R,) number of completions that vote."""
        return np.asarray((self.answers >= 0).sum(axis=1))

    @property
    def weights(self) -> F64:
        """(R, t) weight of each vote, as in ``selection.choose``; 0 for a completion that does not vote."""
        voters, weights = self.answers >= 0, np.ones(self.answers.shape)
        if self.vote_weights is not None:
            weights = self.vote_weights
        elif self.probabilities is not None:
            weights = odds_weights(self.probabilities, self.probabilities, voters, self.beta)
        return np.where(voters, weights, 0.0)

    @property
    def weight_limit(self) -> F64:
        """(R,) the largest weight that a vote to come can have; infinite if it weighs by odds, as with a head."""
        if self.probabilities is not None:
            return np.full(len(self.answers), np.inf)
        return np.where((self.weights <= 1).all(axis=1), 1.0, np.inf)

    def answer_probabilities(self) -> F64:
        """Return the probability that each answer is correct, (R, A), 0 for answers without votes.

        Votes without a probability are taken for wrong.
        """
        values = np.zeros(self.answers.shape) if self.probabilities is None else self.probabilities
        return answer_probabilities(self.answers, values, self.beta)

    def cost_of(self, points: float) -> float:
        """Return the cost at which "auto" gives up at most so many points of the vote over all n."""
        pairs = np.array(self.costs or DEFAULT_COSTS)
        return float(np.interp(points, pairs[:, 0], pairs[:, 1]))

    def select_rows(self, rows: I64) -> Votes:
        """Return the votes of some of the questions."""

        def pick(values: F64 | None) -> F64 | None:
            return None if values is None else values[rows]

        return replace(
            self,
            answers=self.answers[rows],
            probabilities=pick(self.probabilities),
            scores=pick(self.scores),
            vote_weights=pick(self.vote_weights),
        )

    def totals(self, values: F64 | None = None) -> F64:
        """Return the sum of ``values`` (R, t), by default 1, per answer: (R, A), 0 for answers without votes."""
        return total_per_answer(self.answers, values)


class Verdicts(NamedTuple):
    """The verdicts of a rule on R questions."""

    stop: Bool  # (R,)
    posterior: F64  # (R,) the number that the rule compares with its threshold, NaN if it has none


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of a rule on one question."""

    stop: bool
    # The number that the rule compares with its threshold; None if it has none.
    posterior: float | None
    reason: str  # the verdict in one sentence


def top_two(totals: F64) -> tuple[F64, F64]:
    """Return the largest and the second largest value of each row, (R,) each; 0 if missing."""
    padded = np.concatenate([totals, np.zeros((len(totals), 2))], axis=1)
    ordered = np.partition(padded, -2, axis=1)
    return ordered[:, -1], ordered[:, -2]


def _to_row(values: Sequence[float | None] | None) -> F64 | None:
    return None if values is None else np.array([[np.nan if value is None else value for value in values]])
