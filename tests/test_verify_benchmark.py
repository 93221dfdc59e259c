"""Tests of the simulated judges and rules of ``benchmarks/verify.py``."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.verify import USELESS, Candidates, judge, measure
from swift_client.models.verifier_term import VerifierTerm

TERM = VerifierTerm(verifier="simulated", exponent=1.0, gain=0.0, low=0.0, high=0.0, questions=0)


def candidates(count: int, m: int = 8, seed: int = 0) -> Candidates:
    """Draw questions whose answer 0 is right."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(0, 4, (count, m))
    shape = answers.shape
    return Candidates(
        labels=(answers == 0).astype(np.float64),
        answers=answers,
        mean_logprobs=-rng.random(shape),
        tokens=np.full(shape, 30),
        scores=np.zeros(shape),
        probabilities=np.full(shape, 0.5),
    )


@pytest.mark.parametrize("auroc", [0.6, 0.75, 0.9])
def test_a_judge_orders_right_and_wrong_answers_with_the_stated_chance_and_means_what_it_says(auroc: float) -> None:
    drawn = candidates(8_000)
    judgements = judge(drawn, auroc, seed=1)
    right, wrong = judgements[:, 0], judgements[:, 1]
    has_right = drawn.right[:, 0] == 1
    assert (right > wrong)[has_right].mean() == pytest.approx(auroc, abs=0.02)
    # Of a pair that is judged together, the odds p / (1 - p) of both give the chance of the first.
    odds = [value / (1 - value) for value in (right[has_right], wrong[has_right])]
    chance = odds[0] / (odds[0] + odds[1])
    # Mirror each pair: half of the time the right one comes second.
    stated, came = np.concatenate([chance, 1 - chance]), np.concatenate([np.ones(len(chance)), np.zeros(len(chance))])
    sure = stated > 0.6
    assert came[sure].mean() == pytest.approx(stated[sure].mean(), abs=0.02)


def test_a_useless_judge_knows_nothing() -> None:
    drawn = candidates(8_000)
    judgements = judge(drawn, USELESS, seed=1)
    assert (judgements[:, 0] > judgements[:, 1]).mean() == pytest.approx(0.5, abs=0.02)
    assert judgements.std() > 0.15  # and is sure of it


def test_with_a_perfect_judge_every_rule_but_the_vote_is_as_good_as_the_best_candidate() -> None:
    drawn = candidates(200)
    outcome = measure(drawn, np.where(drawn.right > 0, 0.999, 0.001), 6, term=TERM, subsets=2, seed=0)
    assert outcome.judge.tolist() == outcome.oracle.tolist()
    assert outcome.fused.tolist() == outcome.oracle.tolist()
    assert outcome.doubt.mean() >= outcome.vote.mean()
    assert 0 < outcome.doubt_share < 1


def test_a_judge_without_opinions_leaves_the_vote_alone() -> None:
    drawn = candidates(200)
    outcome = measure(drawn, np.full(drawn.labels.shape, 0.5), 6, term=TERM, subsets=2, seed=0)
    assert outcome.fused.tolist() == outcome.vote.tolist() == outcome.doubt.tolist()
