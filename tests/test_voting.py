"""Tests of the voting rules of evaluation tables, against scorio, plain loops and ``best_of``."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scorio import agg

from swift_client.answers import Answers
from swift_client.selection.choose import choose
from swift_client.selection.voting import (
    RULES,
    Rule,
    best,
    borda,
    cisc,
    clamp_weights,
    draw_orders,
    majority,
    majority_with_ties,
    vote,
)
from swift_client.types import Completion

NAN = float("nan")


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def random_votes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 17))
    return random.integers(-1, 4, count), random.normal(size=count)


def named(groups: np.ndarray) -> list[str | None]:
    return [None if group < 0 else "abcdefgh"[group] for group in groups]


def weighted_vote(groups: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return vote(groups, probabilities, clamp_weights(probabilities))


# Rules with their names; ``best`` and a weighted vote are called by their functions in ``evaluation.methods``.
ALL_RULES: dict[str, Rule] = {**RULES, "best": best, "cisc": cisc(), "weighted": weighted_vote}


def choose_from_subsets(rule: Rule, groups: np.ndarray, scores: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    return subsets[np.arange(len(subsets)), rule(groups[:, subsets], scores[:, subsets])]


def accuracy(rule: Rule, groups: np.ndarray, scores: np.ndarray, labels: np.ndarray, subsets: np.ndarray) -> np.ndarray:
    winners = choose_from_subsets(rule, groups, scores, subsets)
    return np.take_along_axis(labels, winners, axis=1).mean(axis=1)


@pytest.mark.parametrize("seed", range(60))
def test_rules_agree_with_scorio(seed: int) -> None:
    groups, scores = random_votes(seed)
    groups[-1] = max(0, groups[-1])  # where nobody votes scorio has no winner
    answers, chances = named(groups), 1 / (1 + np.exp(-scores))
    assert majority(groups, scores) == agg.majority_vote(answers, return_index=True)[1]
    for power in (0.3, 0.5, 1.0, 1.2, 2.0):
        expected = agg.rank_weighted_vote(answers, scores, p=power)
        winner = answers[int(borda(power)(groups, scores))]
        if winner != expected:  # they break equal sums by appearance, we by the best score
            assert points(answers, scores, power, winner) == pytest.approx(points(answers, scores, power, expected))
    for temperature in (0.05, 0.5, 1.0, 7.0):
        assert (
            cisc(temperature)(groups, scores)
            == (agg.softmax_weighted_vote(answers, scores, temperature=temperature, return_index=True)[1])
        )
    assert weighted_vote(groups, chances) == agg.weighted_majority_vote(answers, chances, return_index=True)[1]


def points(answers: list[str | None], scores: np.ndarray, power: float, answer: str | None) -> float:
    voters = sorted(
        (index for index in range(len(answers)) if answers[index]), key=lambda index: (-scores[index], index)
    )
    return sum((len(voters) - rank) ** power for rank, index in enumerate(voters) if answers[index] == answer)


@given(st.lists(st.tuples(st.integers(-1, 3), st.sampled_from([NAN, -np.inf, 0.0, 0.2, 0.5, 1.0])), min_size=1))
def test_votes_are_the_ones_that_best_of_takes(rows: list[tuple[int, float]]) -> None:
    groups, scores = ids(*(row[0] for row in rows)), np.array([row[1] for row in rows])
    completions = [Completion(text="", index=index) for index in range(len(rows))]  # equally short
    answers = Answers(values=tuple(named(groups)), groups=tuple(None if group < 0 else int(group) for group in groups))

    def winner_of(method, weights=None) -> int:
        return choose(completions, scores, answers=answers, method=method, weights=weights).winner

    assert best(groups, scores) == winner_of("best")
    assert majority_with_ties(groups, scores) == winner_of("vote")
    if len(rows) < 8:  # beyond, equal sums may differ in the last bit: choose() adds in the order of the weights
        assert weighted_vote(groups, scores) == winner_of("vote", clamp_weights(scores))


def test_plain_majority_looks_at_no_score_and_goes_by_appearance() -> None:
    assert majority(ids(1, 0, 0, 1), np.array([0.0, 9.0, 1.0, 2.0])) == 0
    assert majority_with_ties(ids(1, 0, 0, 1), np.array([0.0, 9.0, 1.0, 2.0])) == 1
    assert majority(ids(-1, 2, 2), np.full(3, NAN)) == 1


def test_without_voters_the_best_score_wins() -> None:
    for name, rule in ALL_RULES.items():
        expected = 0 if name == "majority" else 1
        assert rule(ids(-1, -1), np.array([0.1, 0.2])) == expected, name
        assert rule(ids(-1, -1), np.full(2, NAN)) == 0, name


def test_missing_scores_count_least_but_still_vote() -> None:
    scores = np.array([NAN, NAN, NAN, 0.9])
    assert cisc()(ids(0, 0, 0, 1), scores) == 0  # none stands out, so it is three votes against one
    assert borda(0.0)(ids(0, 0, 0, 1), scores) == 0
    assert borda(3.0)(ids(0, 0, -1, 1), scores) == 3
    assert weighted_vote(ids(0, 0, 0, 1), scores) == 3


def test_borda_weights_are_the_papers() -> None:
    # N=8, p=.3: 1.87 1.79 1.71 1.62 1.52 1.39 1.23 1.00; the first (1.87) loses to the last two (2.23), not to one
    scores = -np.arange(8.0)
    assert borda()(ids(0, 1, 2, 3, 4, 5, 6, 6), scores) == 6
    assert borda(1.2)(ids(0, 1, 2, 3, 4, 5, 6, 6), scores) == 0  # 12.1 against 2.3 + 1


def test_cisc_goes_from_majority_to_best_as_the_temperature_falls() -> None:
    groups, scores = ids(0, 0, 1), np.array([0.1, 0.2, 0.9])
    assert cisc(1e-3)(groups, scores) == 2
    assert cisc(1e6)(groups, scores) == 1
    with pytest.raises(ValueError, match="greater than 0"):
        cisc(0.0)


def test_small_pools_give_every_draw_once_and_large_ones_different_draws_by_seed() -> None:
    assert draw_orders(5, 3).tolist() == [list(permutation) for permutation in permutations(range(5), 3)]
    assert (np.sort(draw_orders(16, 16, max_subsets=20)) == np.arange(16)).all()
    many = draw_orders(32, 8, max_subsets=700, seed=1)
    assert many.shape == (700, 8)
    assert len(np.unique(many, axis=0)) == 700
    assert (np.diff(np.sort(many)) > 0).all()
    assert (many == draw_orders(32, 8, max_subsets=700, seed=1)).all()
    assert (many != draw_orders(32, 8, max_subsets=700, seed=2)).any()
    assert abs(np.bincount(many.ravel(), minlength=32) / 700 - 0.25).max() < 0.08
    for n in (0, 6):
        with pytest.raises(ValueError, match="cannot be drawn"):
            draw_orders(5, n)


def test_a_tie_that_goes_to_the_first_costs_majority_of_two_nothing_against_one() -> None:
    groups = np.random.default_rng(1).integers(0, 3, (50, 6))
    labels = (groups == 0).astype(float)
    share = [accuracy(majority, groups, np.zeros((50, 6)), labels, draw_orders(6, n)).mean() for n in (1, 2)]
    assert share[0] == pytest.approx(share[1], abs=1e-12)


def test_tables_over_subsets_equal_a_plain_loop() -> None:
    random = np.random.default_rng(3)
    groups, scores = random.integers(-1, 3, (7, 10)), random.normal(size=(7, 10))
    labels = (groups == 1).astype(float)
    subsets = draw_orders(10, 4, max_subsets=50)
    for rule in ALL_RULES.values():
        looped = [[part[int(rule(groups[q][part], scores[q][part]))] for part in subsets] for q in range(7)]
        assert choose_from_subsets(rule, groups, scores, subsets).tolist() == looped
        expected = [np.mean([labels[q, index] for index in looped[q]]) for q in range(7)]
        np.testing.assert_allclose(accuracy(rule, groups, scores, labels, subsets), expected)
    any_of_n = [np.mean([labels[q, part].max() for part in subsets]) for q in range(7)]
    np.testing.assert_allclose(accuracy(best, groups, labels, labels, subsets), any_of_n)


def test_majority_over_subsets_equals_a_plain_count() -> None:
    groups = np.random.default_rng(5).integers(0, 3, (20, 8))
    subsets = draw_orders(8, 5)
    for q, won in enumerate(choose_from_subsets(majority, groups, np.zeros((20, 8)), subsets)):
        for part, winner in zip(subsets, won, strict=True):
            counts, scores_by_answer = Counter(groups[q, part].tolist()), defaultdict(list)
            for index in part:
                scores_by_answer[int(groups[q, index])].append(index)
            assert winner == scores_by_answer[max(scores_by_answer, key=lambda answer: counts[answer])][0]


def test_a_table_of_many_subsets_is_fast() -> None:
    random = np.random.default_rng(0)
    groups, scores = random.integers(0, 6, (300, 16)), random.normal(size=(300, 16))
    subsets = draw_orders(16, 8, max_subsets=500)
    start = time.perf_counter()
    for rule in ALL_RULES.values():
        choose_from_subsets(rule, groups, scores, subsets)
    assert time.perf_counter() - start < 15  # about 1 s alone; 900,000 votes
