"""Tests of the rule "final_lead" against enumeration of an urn, scipy's beta-binomial and simulated votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import betabinom

from swift_client.stopping import Verdict, Votes, stopping_rule

# Counts of the leader, the strongest other answer and all else, and the number of completions to come.
COUNTS = [(1, 0, 0, 3), (2, 1, 0, 4), (2, 2, 1, 3), (3, 1, 2, 5), (4, 0, 1, 1), (1, 1, 4, 6)]


def ask(
    answers: Sequence[int | None], n: int, chances: Sequence[float] | None = None, rule: str = "final_lead"
) -> Verdict:
    return stopping_rule(rule)(Votes.from_lists(answers, n=n, probabilities=chances))


def ballots(leader: int, other: int, rest: int) -> list[int | None]:
    return [0] * leader + [1] * other + [None] * rest


def draw_from_urn(counts: tuple[int, ...], n_left: int) -> Iterator[tuple[Fraction, tuple[int, ...]]]:
    """Enumerate what an urn gives, which gets one more ball of the kind that was drawn: chance and final counts."""
    if not n_left:
        yield Fraction(1), counts
        return
    for kind, count in enumerate(counts):
        one_more = tuple(number + (place == kind) for place, number in enumerate(counts))
        for chance, final in draw_from_urn(one_more, n_left - 1):
            yield chance * Fraction(count, sum(counts)), final


@pytest.mark.parametrize(("leader", "other", "rest", "n_left"), COUNTS)
def test_the_probability_is_that_of_an_urn_with_one_more_ball_of_each_kind(
    leader: int, other: int, rest: int, n_left: int
) -> None:
    expected = Fraction(0)
    for chance, (first, second, _) in draw_from_urn((leader + 1, other + 1, rest + 1), n_left):
        expected += chance * (Fraction(1, 2) if first == second else int(first > second))
    verdict = ask(ballots(leader, other, rest), leader + other + rest + n_left)
    assert verdict.posterior == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("leader", "other", "rest", "n_left"), [*COUNTS, (3, 0, 0, 13), (9, 6, 4, 60), (30, 22, 3, 200)]
)
def test_the_probability_is_that_of_scipys_beta_binomials(leader: int, other: int, rest: int, n_left: int) -> None:
    expected = 0.0
    for of_pair in range(n_left + 1):
        future = betabinom(of_pair, leader + 1, other + 1)
        needed = (other - leader + of_pair) / 2
        ahead = future.sf(np.floor(needed)) + (future.pmf(needed) / 2 if needed == int(needed) else 0)
        expected += ahead * betabinom.pmf(of_pair, n_left, leader + other + 2, rest + 1)
    verdict = ask(ballots(leader, other, rest), leader + other + rest + n_left)
    assert verdict.posterior == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "chances"),
    [
        ([0, 0, 1], [0.9, 0.8, 0.7]),
        ([0, 1, 1], [0.95, 0.3, 0.4]),  # the leader has fewer votes, which weigh more
        ([0, 0, 1, None, 2], [0.5, 0.6, 0.45, 0.9, 0.2]),
        ([0, 0, 0], [0.2, 0.9, 0.4]),  # an answer not seen yet weighs as the mean of all votes
    ],
)
def test_the_probability_is_that_of_simulated_votes_that_weigh_as_the_mean_of_their_answer(
    answers: list[int | None], chances: list[float]
) -> None:
    n, rng = 9, np.random.default_rng(5)
    votes = Votes.from_lists(answers, n=n, probabilities=chances)
    weights = {
        answer: [weight for given, weight in zip(answers, votes.weights[0], strict=True) if given == answer]
        for answer in {*answers} - {None}
    }
    by_total = sorted(weights.values(), key=sum, reverse=True)
    leader, other = by_total[0], by_total[1] if len(by_total) > 1 else []
    mean_of_all = np.mean([weight for given in weights.values() for weight in given])
    counts = np.array([len(leader), len(other), len(answers) - len(leader) - len(other)])
    shares = rng.dirichlet(counts + 1, size=200_000)
    future = rng.multinomial(n - len(answers), shares)
    first = sum(leader) + future[:, 0] * np.mean(leader)
    second = sum(other) + future[:, 1] * (np.mean(other) if other else mean_of_all)
    expected = np.mean(first > second + 1e-9) + np.mean(abs(first - second) <= 1e-9) / 2
    assert ask(answers, n, chances).posterior == pytest.approx(expected, abs=0.004)


def test_a_tie_is_settled_by_chance_and_a_lead_that_cannot_be_lost_is_certain() -> None:
    assert ask([0, 1, 1, 0], 16).posterior == pytest.approx(0.5)
    assert ask([0] * 5 + [1] * 2, 9).posterior == 1.0
    assert ask([0] * 5 + [1] * 2, 9).stop


def test_the_same_lead_is_safer_the_fewer_completions_are_to_come() -> None:
    chances = [ask([0, 0, 0, 1], n).posterior or 0.0 for n in range(5, 40)]
    assert chances == sorted(chances, reverse=True)
    # Over endless completions it is the lead of the adaptive consistency rule.
    endless = ask([0, 0, 0, 1], 1024).posterior
    assert endless == pytest.approx(ask([0, 0, 0, 1], 1024, rule="beta").posterior, abs=2e-3)


def test_it_stops_three_equal_answers_of_16_and_asks_for_a_fourth_of_64() -> None:
    assert not ask([0, 0], 16).stop
    assert ask([0, 0, 0], 16).stop
    assert not ask([0, 0, 0], 64).stop
    assert ask([0, 0, 0, 0], 64).stop


def test_its_verdict_names_the_final_lead() -> None:
    assert ask([0, 0, 0], 16).reason == (
        "final_lead stops after 3 of 16 completions: the probability that the leading answer still leads at n is 0.963."
    )
