"""Tests of the tournament against plain gradient descent, closed forms, scipy's optimizer and simulated judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from swift_client.features.segments import F64
from swift_client.verify.bradley_terry import Comparison, StrengthFit, fit_strengths
from swift_client.verify.comparisons import PairwiseTournament, expected_comparisons, max_comparisons

Judge = Callable[[int, int], float | None]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def judge_of(opinions: Sequence[float], bias: float = 0.0) -> Judge:
    return lambda first, second: sigmoid(opinions[first] - opinions[second] + bias)


def play(tournament: PairwiseTournament, judge: Judge) -> list[list[tuple[int, int]]]:
    rounds = []
    while pairs := tournament.next_pairs():
        rounds.append(pairs)
        for first, second in pairs:
            tournament.record(first, second, judge(first, second))
    return rounds


def draw_comparisons(rng: np.random.Generator, k: int, count: int) -> list[Comparison]:
    pairs = [rng.choice(k, size=2, replace=False).tolist() for _ in range(count)]
    return [Comparison(first, second, float(rng.random())) for first, second in pairs]


def loss(values: F64, prior_means: F64, comparisons: Sequence[Comparison]) -> float:
    """Return the negative log posterior: standard normal priors of k strengths and of the bias, which comes last."""
    total = float(((values[:-1] - prior_means) ** 2).sum() + values[-1] ** 2) / 2
    for comparison in comparisons:
        chance = sigmoid(values[comparison.first] - values[comparison.second] + values[-1])
        total -= comparison.preference * math.log(chance) + (1 - comparison.preference) * math.log(1 - chance)
    return total


@pytest.mark.parametrize(("k", "count"), [(2, 1), (3, 5), (5, 9), (8, 12), (9, 40)])
def test_strengths_are_those_of_a_general_optimizer(k: int, count: int) -> None:
    rng = np.random.default_rng(k)
    prior_means = rng.normal(size=k)
    prior_means -= prior_means.mean()
    comparisons = draw_comparisons(rng, k, count)
    expected = minimize(loss, np.zeros(k + 1), args=(prior_means, comparisons), tol=1e-12).x
    fit = fit_strengths(prior_means, comparisons)

    np.testing.assert_allclose([*fit.strengths, fit.position_bias], expected, atol=2e-5)


def test_strengths_are_those_of_gradient_descent() -> None:
    comparisons = [Comparison(0, 1, 0.9), Comparison(1, 2, 0.4), Comparison(2, 0, 0.0), Comparison(0, 1, 1.0)]
    prior_means = np.array([-0.5, 0.0, 0.5])
    values = [-0.5, 0.0, 0.5, 0.0]
    for _ in range(3000):
        slopes = [values[0] + 0.5, values[1], values[2] - 0.5, values[3]]
        for comparison in comparisons:
            error = sigmoid(values[comparison.first] - values[comparison.second] + values[3]) - comparison.preference
            slopes[comparison.first] += error
            slopes[comparison.second] -= error
            slopes[3] += error
        values = [value - 0.1 * slope for value, slope in zip(values, slopes, strict=True)]
    fit = fit_strengths(prior_means, comparisons)

    assert [*fit.strengths, fit.position_bias] == pytest.approx(values, abs=1e-9)


def test_covariance_is_the_inverse_of_numeric_second_derivatives() -> None:
    rng = np.random.default_rng(3)
    prior_means, comparisons = np.array([0.4, -0.1, -0.3]), draw_comparisons(rng, 3, 6)
    fit = fit_strengths(prior_means, comparisons)
    center, h = np.append(fit.strengths, fit.position_bias), 1e-4
    steps = h * np.eye(4)
    curvature = np.array(
        [
            [
                sum(
                    sign * other * loss(center + sign * one + other * two, prior_means, comparisons)
                    for sign, other in product((1, -1), repeat=2)
                )
                / (4 * h * h)
                for two in steps
            ]
            for one in steps
        ]
    )
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(curvature)[:3, :3], atol=1e-5)


@pytest.mark.parametrize("preference", [0.0, 0.2, 0.5, 0.85, 1.0])
def test_two_candidates_have_the_closed_form(preference: float) -> None:
    """Compared in both orders with the same judgement, the bias is 0 and d = s0 − s1 solves d / 2 = 2 (p − σ(d))."""
    fit = fit_strengths(np.zeros(2), [Comparison(0, 1, preference), Comparison(1, 0, 1 - preference)])
    difference = fit.strengths[0] - fit.strengths[1]

    assert fit.position_bias == pytest.approx(0, abs=1e-9)
    assert difference / 2 == pytest.approx(2 * (preference - sigmoid(difference)), abs=1e-8)


def test_a_judge_that_prefers_a_slot_shows_as_bias_alone() -> None:
    """k equal candidates in a ring: the bias b solves b = k (p − σ(b))."""
    k, preference = 8, 0.7
    fit = fit_strengths(np.zeros(k), [Comparison(i, (i + 1) % k, preference) for i in range(k)])

    np.testing.assert_allclose(fit.strengths, 0, atol=1e-9)
    assert fit.position_bias == pytest.approx(k * (preference - sigmoid(fit.position_bias)), abs=1e-8)


def test_a_real_bias_is_recovered_and_leaves_the_order_of_the_candidates() -> None:
    opinions, bias = [0.9, -0.4, 0.3, -0.8], 0.8
    comparisons = [
        Comparison(first, second, sigmoid(opinions[first] - opinions[second] + bias))
        for first, second in product(range(4), repeat=2)
        for _ in range(200)
        if first != second
    ]
    fit = fit_strengths(np.zeros(4), comparisons)

    assert fit.position_bias == pytest.approx(bias, abs=0.01)
    np.testing.assert_allclose(fit.strengths, opinions, atol=0.02)


@pytest.mark.parametrize("k", [2, 3, 4, 7, 8, 16])
def test_each_choice_survives_a_position_bias(k: int) -> None:
    rng = np.random.default_rng(k)
    for _ in range(20):
        opinions = rng.permutation(np.linspace(-1.5, 1.5, k)).tolist()
        for bias in (0.0, 0.405, -0.405):
            tournament = PairwiseTournament(np.zeros(k))
            play(tournament, judge_of(opinions, bias))
            assert tournament.strengths.argmax() == np.argmax(opinions) or k > 8
            assert math.copysign(1, tournament.position_bias) == math.copysign(1, bias) or not bias


@settings(deadline=None, max_examples=60)
@given(k=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_numbers_of_candidates_do_not_matter(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior_means, comparisons, order = np.zeros(k), draw_comparisons(rng, k, 2 * k), rng.permutation(k)
    renamed = [Comparison(int(order[one.first]), int(order[one.second]), one.preference) for one in comparisons]
    fit, permuted = fit_strengths(prior_means, comparisons), fit_strengths(prior_means, renamed)

    np.testing.assert_allclose(permuted.strengths[order], fit.strengths, atol=1e-8)
    np.testing.assert_allclose(permuted.chances_to_lead()[order], fit.chances_to_lead(), atol=1e-8)

    log_priors, opinions = rng.normal(size=k), rng.normal(size=k)
    inverse = np.argsort(order)
    first, second = PairwiseTournament(log_priors), PairwiseTournament(log_priors[inverse])
    rounds = play(first, judge_of(opinions.tolist()))
    renamed_rounds = play(second, judge_of(opinions[inverse].tolist()))
    assert [[(int(order[a]), int(order[b])) for a, b in pairs] for pairs in rounds] == renamed_rounds
    np.testing.assert_allclose(second.strengths[order], first.strengths, atol=1e-8)


@settings(deadline=None, max_examples=80)
@given(data=st.data(), k=st.integers(1, 12), limit=st.none() | st.integers(0, 20))
def test_pairs_are_new_balanced_and_within_the_limit(data: st.DataObject, k: int, limit: int | None) -> None:
    preferences = st.none() | st.sampled_from([0.0, 1.0]) | st.floats(0, 1)
    priors = data.draw(st.lists(st.floats(-50, 50), min_size=k, max_size=k))
    tournament = PairwiseTournament(np.array(priors), limit=limit)
    rounds = play(tournament, lambda first, second: data.draw(preferences))
    pairs = [pair for batch in rounds for pair in batch]
    most = max_comparisons(k) if limit is None else limit

    assert len(pairs) == len(set(pairs)) == tournament.n_comparisons <= most
    assert all(first != second for first, second in pairs)
    assert len(rounds) <= 3
    if most >= k > 1:
        assert sorted(first for first, _ in rounds[0]) == sorted(second for _, second in rounds[0]) == list(range(k))
    assert np.isfinite(tournament.strengths).all()
    assert tournament.strengths.sum() == pytest.approx(0, abs=1e-8)
    assert tournament.probabilities.sum() == pytest.approx(1)
    assert tournament.next_pairs() == []


def test_number_of_comparisons() -> None:
    assert [max_comparisons(k) for k in (1, 2, 3, 4, 5, 6, 7, 8, 16)] == [0, 2, 5, 6, 8, 9, 11, 12, 24]
    assert [expected_comparisons(k) for k in (1, 2, 3, 4, 5, 6, 7, 8, 16)] == [0, 2, 5, 6, 8, 9, 11, 12, 23]
    equal = PairwiseTournament(np.zeros(8))
    assert [len(pairs) for pairs in play(equal, lambda first, second: 0.5)] == [8, 2, 2]
    assert play(PairwiseTournament(np.zeros(2)), lambda first, second: 0.5) == [[(0, 1), (1, 0)]]


def test_pairs_without_a_result_are_returned_again() -> None:
    tournament = PairwiseTournament(np.zeros(4))
    batch = tournament.next_pairs()
    tournament.record(*batch[0], 0.5)

    assert tournament.next_pairs() == batch[1:]


def test_failures_are_neither_wins_nor_losses() -> None:
    judge = judge_of([1.0, 0.5, 0.0, -0.5, -1.0])
    with_failures, without = PairwiseTournament(np.zeros(5)), PairwiseTournament(np.zeros(5))
    for first, second in [(0, 1), (1, 2), (2, 3)]:
        with_failures.record(first, second, judge(first, second))
        without.record(first, second, judge(first, second))
    with_failures.record(3, 4, None)
    with_failures.record(4, 0, None)

    np.testing.assert_array_equal(with_failures.strengths, without.strengths)
    assert with_failures.strengths[4] == pytest.approx(0, abs=1e-9)
    assert (with_failures.n_comparisons, with_failures.n_failed) == (5, 2)


def test_a_candidate_whose_comparisons_all_fail_neither_wins_nor_comes_last() -> None:
    opinions = [2.0, 1.0, 0.0, -1.0, -2.0, 0.5]
    for spoiled in range(6):
        judge = judge_of(opinions)
        tournament = PairwiseTournament(np.zeros(6))
        play(tournament, lambda a, b, judge=judge, bad=spoiled: None if bad in (a, b) else judge(a, b))
        assert tournament.strengths[spoiled] == pytest.approx(0, abs=1e-9)
        assert tournament.strengths.argmax() == (1 if spoiled == 0 else 0)
        assert tournament.strengths.argmin() != spoiled


def test_the_prior_decides_if_all_comparisons_fail() -> None:
    log_priors = np.log([0.1, 0.4, 0.3, 0.2])
    tournament = PairwiseTournament(log_priors)
    rounds = play(tournament, lambda first, second: None)

    assert len(rounds) == 1
    assert np.argsort(tournament.probabilities).tolist() == np.argsort(log_priors).tolist()
    assert tournament.position_bias == 0
    assert PairwiseTournament(np.array([-3.0])).probabilities.tolist() == [1.0]


def test_the_prior_decides_between_equals_and_is_overruled_by_the_judge() -> None:
    for log_priors in ([0.0, 0.1, 0.0, 0.0], [0.0, 90.0, 0.0, 0.0]):
        tournament = PairwiseTournament(np.array(log_priors))
        play(tournament, lambda first, second: 0.5)
        assert tournament.strengths.argmax() == 1
        tournament = PairwiseTournament(np.array(log_priors))
        play(tournament, judge_of([4.0, -4.0, 0.0, 0.0]))
        assert tournament.strengths.argmax() == 0


def test_it_ends_early_if_the_leader_is_sure_enough() -> None:
    opinions = [3.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0]
    priors = np.array([2.0, 0, 0, 0, 0, 0, 0, 0])
    sure, unsure = PairwiseTournament(priors, confidence=0.6), PairwiseTournament(priors, confidence=1.0)
    play(sure, judge_of(opinions))
    play(unsure, judge_of(opinions))

    assert sure.n_comparisons == 8 < unsure.n_comparisons
    assert sure.probabilities.max() >= 0.6


def test_it_ends_early_if_no_results_of_the_last_round_change_the_choice() -> None:
    """Random results of the pairs that the last round would have sent; a round that is sent could change it."""
    n_ended = n_sent = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(3, 7))
        opinions, log_priors = (3 * rng.normal(size=k)).tolist(), 2 * rng.normal(size=k)
        judge, tournament = judge_of(opinions), PairwiseTournament(log_priors, confidence=1.1)
        rounds = play(tournament, judge)
        is_short = tournament.n_comparisons < max_comparisons(k)
        before = [pair for batch in (rounds if is_short else rounds[:-1]) for pair in batch]
        last = tournament._open_pairs(max_comparisons(k) - len(before)) if is_short else rounds[-1]
        choices = set()
        for results in [*product((0.0, 1.0), repeat=len(last)), *rng.random((10, len(last))).tolist()]:
            extended = PairwiseTournament(log_priors)
            for pair, preference in [*((pair, judge(*pair)) for pair in before), *zip(last, results, strict=True)]:
                extended.record(*pair, preference)
            choices.add(int(extended.strengths.argmax()))
        assert (len(choices) == 1) == is_short
        n_ended, n_sent = n_ended + is_short, n_sent + (not is_short)
    assert min(n_ended, n_sent) > 10


def test_chances_to_beat_are_those_of_the_normal_distribution() -> None:
    fit = StrengthFit(np.array([0.7, -0.2, -0.5]), 0.0, np.array([[0.5, 0.1, 0], [0.1, 0.4, 0.2], [0, 0.2, 0.9]]))
    chances = fit.chances_to_beat()

    assert chances[0, 1] == pytest.approx(norm.cdf(0.9 / math.sqrt(0.7)))
    assert chances[2, 1] == pytest.approx(norm.cdf(-0.3 / math.sqrt(0.9)))
    np.testing.assert_allclose(chances + chances.T, 1)
    draws = np.random.default_rng(0).multivariate_normal(fit.strengths, fit.covariance, size=200_000)
    shares = np.bincount(draws.argmax(axis=1), minlength=3) / len(draws)
    np.testing.assert_allclose(fit.chances_to_lead(), shares, atol=0.08)


def test_more_wins_are_more_strength() -> None:
    tournaments = [PairwiseTournament(np.zeros(3)) for _ in range(4)]
    for preference, tournament in zip((0.0, 0.4, 0.8, 1.0), tournaments, strict=True):
        tournament.record(0, 1, preference)
        tournament.record(1, 2, 0.5)
    strengths = [float(tournament.strengths[0]) for tournament in tournaments]
    assert all(lower < higher for lower, higher in pairwise(strengths))


@pytest.mark.parametrize("pair", [(0, 0), (0, 3), (-1, 2)])
def test_pairs_that_do_not_exist_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no pair of 3 candidates"):
        PairwiseTournament(np.zeros(3)).record(*pair, 0.5)


@pytest.mark.parametrize("preference", [-0.1, 1.1, math.nan, math.inf])
def test_preferences_that_are_no_chances_are_refused(preference: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        PairwiseTournament(np.zeros(3)).record(0, 1, preference)


@pytest.mark.parametrize("priors", [[], [0.0, math.nan], [0.0, -math.inf], [[0.0]]])
def test_priors_must_be_finite(priors: list[float]) -> None:
    with pytest.raises(ValueError, match="finite log prior"):
        PairwiseTournament(np.array(priors))
