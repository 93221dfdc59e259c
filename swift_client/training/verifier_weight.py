"""The weight of a verifier's judgements beside a head's votes, learnt on completions that no weight was fitted to.

An answer weighs odds · (j / (1 - j))^w, where j is its judgement. Accuracy changes little with w, so the grid is
coarse, and w is shrunk towards 0: the gain over the vote alone, less its standard error, decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from swift_client.features.segments import F64, I64, segment_blocks
from swift_client.selection.voting import draw_orders, odds_weights, vote
from swift_client.training.vote_exponent import MAX_SUBSETS, NS
from swift_client.verify.judged_votes import JudgedVotes
from swift_client.verify.posterior import judgement_log_odds

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
MIN_QUESTIONS = 30  # judged questions below which no weight is learnt


@dataclass(frozen=True, kw_only=True)
class LearntWeight:
    """The chosen w, and what it was chosen by."""

    weight: float
    accuracy: dict[float, float]  # per w: share of right choices, mean over n and the questions; empty without any
    questions: int  # judged questions with two or more completions
    mean_log_odds: float = 0.0  # mean of the judgements, clipped, over the completions

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as stored in the head's file."""
        accuracy = {f"{weight:g}": round(share, 6) for weight, share in self.accuracy.items()}
        mean = round(self.mean_log_odds, 6)
        return {"weight": self.weight, "questions": self.questions, "mean_log_odds": mean, "accuracy": accuracy}


def learn_weight(
    scores: F64,
    probabilities: F64,
    labels: F64,
    answers: I64,
    question: I64,
    judgements: F64,
    *,
    beta: float,
    margin: float = 1.0,
    seed: int = 0,
) -> LearntWeight:
    """Return the w of WEIGHTS whose choice is right most often, shrunk towards 0.

    Args:
        scores: (N,) scores of completions by a head that was not fitted to their questions.
        probabilities: (N,) their calibrated probabilities.
        labels: (N,) 1 right, 0 wrong.
        answers: (N,) equal numbers for equal answers of one question, -1 for none.
        question: (N,) numbers that rise; the completions of one question are contiguous.
        judgements: (N,) judgement of each completion's answer, 0..1, NaN if unknown; questions without any are left
            out.
        beta: the head's β.
        margin: number of standard errors of its gain that a weight has to be better than the vote alone.
        seed: of the draws.
    """
    present = judgements[~np.isnan(judgements)]
    mean = float(judgement_log_odds(present.tolist()).mean()) if len(present) else 0.0
    shares = np.concatenate(
        [
            np.zeros((0, len(WEIGHTS))),
            *_shares(scores, probabilities, labels, answers, question, judgements, mean, beta=beta, seed=seed),
        ]
    )
    if len(shares) < MIN_QUESTIONS:
        return LearntWeight(weight=0.0, accuracy={}, questions=len(shares), mean_log_odds=mean)
    gains = shares - shares[:, [0]]
    shrunk = gains.mean(axis=0) - margin * gains.std(axis=0, ddof=1) / math.sqrt(len(gains))
    return LearntWeight(
        weight=WEIGHTS[int(shrunk.argmax())] if shrunk.max() > 0 else 0.0,
        accuracy=dict(zip(WEIGHTS, shares.mean(axis=0).tolist(), strict=True)),
        questions=len(shares),
        mean_log_odds=mean,
    )


def _shares(
    scores: F64,
    probabilities: F64,
    labels: F64,
    answers: I64,
    question: I64,
    judgements: F64,
    missing: float,
    *,
    beta: float,
    seed: int,
) -> Iterator[F64]:
    """Yield the shares of right choices (Q, |WEIGHTS|) of questions with equally many completions."""
    _, first, sizes = np.unique(question, return_index=True, return_counts=True)
    if not len(first):
        return
    usable = (sizes > 1) & np.logical_or.reduceat(~np.isnan(judgements), first)
    for rows in segment_blocks(first[usable], sizes[usable]):
        yield _block_shares(
            scores[rows],
            probabilities[rows],
            labels[rows],
            answers[rows],
            judgements[rows],
            missing,
            beta=beta,
            seed=seed,
        )


def _block_shares(
    scores: F64,
    probabilities: F64,
    labels: F64,
    answers: I64,
    judgements: F64,
    missing: float,
    *,
    beta: float,
    seed: int,
) -> F64:
    """Return the shares of one block; all arrays are (Q, m)."""
    size = scores.shape[1]
    shares = []
    for n in (n for n in NS if n <= size):
        draws = draw_orders(size, n, max_subsets=MAX_SUBSETS, seed=seed)
        drawn_answers = answers[:, draws].reshape(-1, n)
        drawn_scores, drawn_probabilities, drawn_judgements = (
            column[:, draws].reshape(-1, n) for column in (scores, probabilities, judgements)
        )
        vote_weights = odds_weights(drawn_probabilities, drawn_scores, drawn_answers >= 0, beta)
        vote_winners = vote(drawn_answers, drawn_scores, vote_weights)
        votes = JudgedVotes.create(
            drawn_answers,
            np.ones(drawn_answers.shape, np.bool_),
            drawn_scores,
            drawn_judgements,
            vote_winners=vote_winners,
            vote_weights=vote_weights,
            probabilities=drawn_probabilities,
            beta=beta,
        )
        # The weight 0 is the vote itself; for β = 0 the odds of answers would order them otherwise.
        winners = np.stack(
            [vote_winners if weight == 0 else votes.choose(weight, missing=missing) for weight in WEIGHTS], axis=1
        )
        right = np.take_along_axis(labels[:, draws].reshape(-1, n), winners, axis=1)
        shares.append(right.reshape(len(scores), len(draws), len(WEIGHTS)).mean(axis=1))
    return np.asarray(np.mean(shares, axis=0))
