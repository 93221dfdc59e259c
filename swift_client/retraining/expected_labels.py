"""Expected labels of answers about which nobody said anything, by the odds that the head in use gives them.

Feedback that a choice is wrong says nothing about the other answers, and of some choices nobody says anything. There
the head in use stands for the truth: the odds of the answers that are not known to be wrong, beside the odds 1 of all
answers that nobody gave. A new head gains little by it, since the head in use chose the answer with the largest odds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from swift_client.evaluation.pools import Pool
from swift_client.features.segments import F64
from swift_client.models import AnyHead
from swift_client.selection.voting import MIN_WEIGHT, answer_odds


def with_expected_labels(pool: Pool, head: AnyHead) -> Pool:
    """Return a pool whose unknown labels are probabilities, 0..1; its scores are those of ``head``."""
    unknown = np.isnan(pool.labels) & pool.complete
    if not unknown.any():
        return pool
    probabilities = _completion_probabilities(pool)
    odds, has_answer = _odds_per_answer(pool, probabilities, head.beta), pool.answers >= 0
    known_wrong = {int(answer) for answer in pool.answers[has_answer & (pool.labels == 0)]}
    possible = [answer for answer in range(len(odds)) if answer not in known_wrong]
    total = 1 + odds[possible].sum()
    by_answer = np.array([0.0 if answer in known_wrong else odds[answer] / total for answer in range(len(odds))])
    expected = probabilities.copy()  # of completions whose answer cannot be compared
    expected[has_answer] = by_answer[pool.answers[has_answer]]
    return replace(pool, labels=np.where(unknown, expected, pool.labels))


def answer_probability(pool: Pool, position: int, head: AnyHead) -> float:
    """Return the probability by ``head`` that the answer of a completion is right, before anything is known, 0..1."""
    probabilities = _completion_probabilities(pool)
    if pool.answers[position] < 0 or not pool.complete[position]:
        return float(probabilities[position])
    odds = _odds_per_answer(pool, probabilities, head.beta)
    return float(odds[pool.answers[position]] / (1 + odds.sum()))


def _completion_probabilities(pool: Pool) -> F64:
    """Return the head's probability of each completion (m,); ½ without one, so that odds count votes."""
    probabilities = pool.probabilities.get("head", np.full(len(pool.labels), 0.5))
    clipped = np.clip(np.nan_to_num(probabilities, nan=MIN_WEIGHT), MIN_WEIGHT, 1 - MIN_WEIGHT)
    return np.asarray(clipped, np.float64)


def _odds_per_answer(pool: Pool, probabilities: F64, beta: float) -> F64:
    """Return the odds of each answer number, (A,)."""
    voters = np.where(pool.complete, pool.answers, -1)
    if not (voters >= 0).any():
        return np.zeros(int(pool.answers.max(initial=-1)) + 1)
    odds: F64 = answer_odds(voters[None], probabilities[None], beta)[0]
    return np.concatenate([odds, np.zeros(max(0, int(pool.answers.max()) + 1 - len(odds)))])
