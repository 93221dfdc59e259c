"""The costs of the stopping rule "auto", learnt on completions that no weight was fitted to.

"auto" stops if the next completion corrects the answer with a probability of at most a cost. A model that agrees with
itself has little to gain from further completions, and another much, so the cost that loses a point of accuracy differs
between heads. Here it is measured: completions are replayed in many orders, as ``best_of`` samples them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from swift_client.features.segments import F64, I64, segment_blocks
from swift_client.selection.voting import draw_orders, majority, odds_weights, vote
from swift_client.stopping import STOPPING_RULES, Votes, correction_chance
from swift_client.stopping.monitor import arrival_counts

# Percentage points that may be lost, and costs that are tried. At a cost of 0 nothing stops early, so nothing is lost.
POINTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
COSTS = np.array([0.0, *np.round(np.geomspace(0.004, 0.4, 160), 5)])
MIN_QUESTIONS = 100  # with fewer, a point of accuracy is within chance
MIN_COMPLETIONS = 4
ORDERS = 24  # per question


@dataclass(frozen=True, kw_only=True)
class LearntCosts:
    """The costs per number of points, and what each rests on.

    Attributes:
        pairs: (points, cost) from (0, 0) on, as ``HeadArtifact.stopping_costs``; empty with too few questions.
        questions: Questions that were replayed.
        token_shares: Per number of points, completion tokens divided by those of all n.
        minus_vote: Per number of points, accuracy less that of the vote over all n, in points.
        minus_majority: Per number of points, accuracy less that of a majority over all n, in points.
    """

    pairs: tuple[tuple[float, float], ...]
    questions: int
    token_shares: tuple[float, ...] = ()
    minus_vote: tuple[float, ...] = ()
    minus_majority: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as stored in the head's file."""
        columns = zip(self.token_shares, self.minus_vote, self.minus_majority, strict=True)
        names = ("token_share", "minus_vote", "minus_majority")
        figures = [dict(zip(names, (round(value, 4) for value in row), strict=True)) for row in columns]
        names_of_points = [f"{points:g}" for points, _ in self.pairs[1:]]
        return {"questions": self.questions, "points": dict(zip(names_of_points, figures, strict=True))}


def describe_costs(facts: Mapping[str, Any]) -> str:
    """Return a clause on what "auto" stopping cost and saved; ``facts`` are of ``LearntCosts.to_dict()``."""
    points = STOPPING_RULES["auto"].parameters["points"]
    figures = facts["points"].get(f"{points:g}")
    if figures is None:
        return (
            f"auto stopping uses the usual costs, since {facts['questions']} held-out questions are too few for its own"
        )
    return (
        f"auto stopping took {100 * figures['token_share']:.0f} % of the tokens of {facts['questions']} held-out "
        f"questions, at {figures['minus_vote']:+.1f} points against its vote over all n and "
        f"{figures['minus_majority']:+.1f} against a majority"
    )


def learn_costs(
    scores: F64,
    probabilities: F64,
    labels: F64,
    answers: I64,
    question: I64,
    lengths: I64,
    *,
    beta: float,
    seed: int = 0,
) -> LearntCosts:
    """Return the highest cost at which "auto" loses at most so many points against the vote over all n.

    Args:
        scores: (N,) scores of completions by a head that was not fitted to their questions.
        probabilities: (N,) their calibrated probabilities.
        labels: (N,) 1 right, 0 wrong.
        answers: (N,) equal numbers for equal answers of one question, -1 for none.
        question: (N,) numbers that rise; the completions of one question are contiguous.
        lengths: (N,) tokens.
        beta: exponent of the votes' weights.
        seed: of the orders.
    """
    columns = scores, probabilities, labels, answers, lengths
    replays = list(_replays(columns, question, beta, seed))
    n_questions = sum(len(replay) for replay in replays)
    if n_questions < MIN_QUESTIONS:
        return LearntCosts(pairs=(), questions=n_questions)
    accuracy, tokens, vote_accuracy, majority_accuracy, all_tokens = np.moveaxis(np.concatenate(replays), 1, 0)
    # Points lost at each cost; a higher cost that happens to lose less must not hide the loss before it.
    losses = np.maximum.accumulate(100 * (vote_accuracy - accuracy).mean(axis=0))
    indices = np.searchsorted(losses, POINTS, side="right") - 1
    return LearntCosts(
        pairs=((0.0, 0.0), *zip(POINTS, COSTS[indices].tolist(), strict=True)),
        questions=n_questions,
        token_shares=tuple((tokens.sum(axis=0) / all_tokens.sum(axis=0))[indices].tolist()),
        minus_vote=tuple((100 * (accuracy - vote_accuracy).mean(axis=0))[indices].tolist()),
        minus_majority=tuple((100 * (accuracy - majority_accuracy).mean(axis=0))[indices].tolist()),
    )


def _replays(columns: tuple[F64, F64, F64, I64, I64], question: I64, beta: float, seed: int) -> Iterator[F64]:
    """Yield the figures (Q, 5, |COSTS|) of questions with equally many completions, as ``_replay`` returns them."""
    _, first, sizes = np.unique(question, return_index=True, return_counts=True)
    scores, probabilities, labels, answers, lengths = columns
    is_usable = sizes >= MIN_COMPLETIONS
    for rows in segment_blocks(first[is_usable], sizes[is_usable]):
        yield _replay(
            scores[rows], probabilities[rows], labels[rows], answers[rows], lengths[rows], beta=beta, seed=seed
        )


def _replay(scores: F64, probabilities: F64, labels: F64, answers: I64, lengths: I64, *, beta: float, seed: int) -> F64:
    """Return means over the orders of each question, (Q, 5, |COSTS|).

    They are accuracy and tokens at each cost, and accuracy of the vote and of a majority over all n, and all tokens.
    """
    n_questions, n = scores.shape
    draws = draw_orders(n, n, max_subsets=ORDERS, seed=seed)
    # One row per question and order.
    drawn_scores, chances, drawn_labels = (
        column[:, draws].reshape(-1, n) for column in (scores, probabilities, labels)
    )
    groups = answers[:, draws].reshape(-1, n)
    tokens = np.cumsum(lengths[:, draws].reshape(-1, n), axis=1)
    weights = odds_weights(chances, drawn_scores, groups >= 0, beta)
    shape = (len(groups), len(COSTS))
    accuracy, token_counts, active = np.zeros(shape), np.zeros(shape), np.ones(shape, np.bool_)
    for n_seen in arrival_counts(n):
        winners = vote(groups[:, :n_seen], drawn_scores[:, :n_seen], weights[:, :n_seen])
        is_right = np.take_along_axis(drawn_labels, winners[:, None], axis=1)
        votes = Votes(
            answers=groups[:, :n_seen],
            n=n,
            probabilities=chances[:, :n_seen],
            vote_weights=weights[:, :n_seen],
            beta=beta,
        )
        chance, _ = correction_chance(votes)
        ending = active & ((chance[:, None] <= COSTS) | (n_seen == n))
        accuracy = np.where(ending, is_right, accuracy)
        token_counts = np.where(ending, tokens[:, n_seen - 1 : n_seen], token_counts)
        active &= ~ending
    first_majority = np.take_along_axis(drawn_labels, majority(groups, drawn_scores)[:, None], axis=1)
    whole = (is_right, first_majority, tokens[:, -1:])
    figures = (accuracy, token_counts, *(np.broadcast_to(column, shape) for column in whole))
    return np.stack([figure.reshape(n_questions, -1, len(COSTS)).mean(axis=1) for figure in figures], axis=1)
