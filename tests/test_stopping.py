"""Tests of stopping rules against the papers' numbers, scorio, plain loops, and votes from hypothesis."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammainc
from scipy.stats import norm
from scorio.aggregate.cges import cges_stop
from scorio.aggregate.online import adaptive_consistency_stop, esc_stop

from swift_client.answers import Answers
from swift_client.errors import ConfigurationError
from swift_client.selection.choose import choose
from swift_client.stopping import STOPPING_RULES, StoppingRule, Verdict, Votes, stopping_rule
from swift_client.types import Completion

ANSWERS = st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=12)
CHANCE = st.floats(0.03, 0.97)
WHOLE = [name for name, row in STOPPING_RULES.items() if name != "esc"]


def ask(rule: str | StoppingRule, answers: Sequence[int | None], n: int = 100, **facts: Any) -> Verdict:
    return stopping_rule(rule)(Votes.from_lists(answers, n=n, **facts))


def first_stop(rule: str, answers: Sequence[int | None], n: int = 100, **facts: Sequence[float | None]) -> int:
    for n_seen in range(1, len(answers) + 1):
        if ask(rule, answers[:n_seen], n, **{name: values[:n_seen] for name, values in facts.items()}).stop:
            return n_seen
    return 0


def test_beta_stops_a_unanimous_vote_at_four_and_at_three_for_a_lower_threshold() -> None:
    assert first_stop("beta", [0] * 9) == 4
    assert first_stop("beta:threshold=0.93", [0] * 9) == 3


@pytest.mark.parametrize(
    ("counts", "chance"),
    [((1, 0), 0.75), ((2, 0), 0.875), ((3, 0), 0.9375), ((4, 0), 0.96875), ((5, 1), 0.9375), ((6, 1), 0.9648)],
)
def test_beta_gives_the_published_probabilities(counts: tuple[int, int], chance: float) -> None:
    assert ask("beta", [0] * counts[0] + [1] * counts[1]).posterior == pytest.approx(chance, abs=5e-5)


@given(ANSWERS)
def test_beta_is_scorios_adaptive_consistency(answers: list[int | None]) -> None:
    texts = [None if answer is None else str(answer) for answer in answers]
    stop, chance = adaptive_consistency_stop(texts, return_prob=True)
    verdict = ask("beta:least=1", answers)
    assert (verdict.stop, verdict.posterior or 0.0) == (stop, pytest.approx(chance, abs=1e-12))


@pytest.mark.parametrize(("chance", "stops"), [(0.7, 4), (0.8, 3), (0.9, 2)])
def test_posterior_stops_a_unanimous_vote_where_cges_does(chance: float, stops: int) -> None:
    assert first_stop("posterior", [0] * 9, probabilities=[chance] * 9) == stops


def test_posterior_gives_the_published_probability_of_three_times_080() -> None:
    assert ask("posterior", [0] * 3, probabilities=[0.8] * 3).posterior == pytest.approx(0.985, abs=5e-4)


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), CHANCE), min_size=1, max_size=12))
def test_posterior_is_scorios_cges(ballots: list[tuple[int | None, float]]) -> None:
    answers, chances = [ballot[0] for ballot in ballots], [ballot[1] for ballot in ballots]
    texts = [None if answer is None else str(answer) for answer in answers]
    stop, posterior = cges_stop(texts, chances, min_samples=2, return_prob=True)
    verdict = ask("posterior", answers, probabilities=chances)
    assert (verdict.posterior or 0.0) == pytest.approx(posterior, abs=1e-9)
    if posterior != pytest.approx(0.95, abs=1e-9):  # at the threshold, the last bit decides
        assert verdict.stop == stop


def test_a_vote_without_a_probability_moves_no_posterior() -> None:
    with_it = ask("posterior", [0, 0, 1, 0], probabilities=[0.8, 0.7, 0.3, None])
    without = ask("posterior", [0, 0, 1], probabilities=[0.8, 0.7, 0.3])
    assert with_it.posterior == pytest.approx(without.posterior)


@pytest.mark.parametrize(
    ("counts", "factor", "stops"),
    [
        ((1,), 4.1, False),
        ((2,), 9.2, False),
        ((3,), 19, True),
        ((3, 1), 9.4, False),
        ((4, 1), 18, True),
        ((6, 2), 27, True),
    ],
)
def test_dirichlet_gives_the_published_bayes_factors(counts: tuple[int, ...], factor: float, stops: bool) -> None:
    verdict = ask("dirichlet", [answer for answer, count in enumerate(counts) for _ in range(count)])
    assert verdict.posterior is not None
    assert (len(counts) + 1) * verdict.posterior / (1 - verdict.posterior) == pytest.approx(factor, rel=0.03)
    assert verdict.stop is stops


@pytest.mark.parametrize("counts", [(1,), (1, 1), (5, 2, 2, 1), (40, 30), (3, 3, 3, 3), (300, 280)])
def test_dirichlet_integrates_as_quadrature_does(counts: tuple[int, ...]) -> None:
    def integrand(x: float) -> float:
        density = math.exp(counts[0] * math.log(x) - x - math.lgamma(counts[0] + 1))
        return density * float(np.prod([gammainc(c + 1, x) for c in counts[1:]])) * float(gammainc(1.3, x))

    middle, width = counts[0] + 1, 12 * math.sqrt(counts[0] + 1)
    exact, _ = quad(integrand, max(1e-12, middle - width), middle + width + 10, limit=500)
    verdict = ask("dirichlet", [answer for answer, count in enumerate(counts) for _ in range(count)], n=1000)
    assert verdict.posterior == pytest.approx(exact, abs=2e-4)


@given(ANSWERS, st.integers(1, 5))
def test_esc_stops_with_the_first_unanimous_window(answers: list[int | None], size: int) -> None:
    texts = [None if answer is None else str(answer) for answer in answers]
    windows = [texts[index : index + size] for index in range(0, len(texts) - size + 1, size)]
    assert ask(f"esc:size={size}", answers).stop is any(esc_stop(window) for window in windows)


def test_consensus_needs_its_least_number_of_votes_and_counts_weights() -> None:
    assert first_stop("consensus", [0] * 6) == 4
    assert not ask("consensus", [0] * 18 + [1]).stop  # 18/19 = 0.947
    assert ask("consensus", [0] * 19 + [1]).stop
    assert ask("consensus", [0, 0, 0, 1], probabilities=[0.9, 0.9, 0.9, 0.01]).stop


def completions_of(answers: Sequence[int | None]) -> list[Completion]:
    return [
        Completion(text=str(answer), index=index, finish_reason="length" if answer is None else "stop")
        for index, answer in enumerate(answers)
    ]


def winner(answers: Sequence[int | None], weights: Sequence[float] | None, scores: Sequence[float]) -> int | None:
    answers_read = Answers(values=tuple(None if a is None else str(a) for a in answers), groups=tuple(answers))
    cast = None if weights is None else np.array(weights)
    choice = choose(completions_of(answers), np.array(scores, np.float32), weights=cast, answers=answers_read)
    return answers[choice.winner]


@given(st.data(), st.booleans())
def test_where_nothing_can_change_the_vote_over_all_n_gives_the_same_answer(data: st.DataObject, weighed: bool) -> None:
    n = data.draw(st.integers(1, 10))
    vote = st.one_of(st.none(), st.just(0), st.just(0), st.integers(0, 2))
    answers = data.draw(st.lists(vote, min_size=n, max_size=n))
    weight = st.one_of(st.just(1.0), st.floats(0.0, 1.0, width=32))
    weights = data.draw(st.lists(weight, min_size=n, max_size=n)) if weighed else None
    scores = data.draw(st.lists(st.floats(-5, 5, width=32), min_size=n, max_size=n))
    for n_seen in range(1, n):
        facts = {} if weights is None else {"vote_weights": weights[:n_seen]}
        if ask("cannot_change", answers[:n_seen], n, **facts).stop:
            now = winner(answers[:n_seen], None if weights is None else weights[:n_seen], scores[:n_seen])
            assert winner(answers, weights, scores) == now


def leading(answers: Sequence[int]) -> list[int]:
    counts = Counter(answers)
    return [answer for answer, count in counts.items() if count == max(counts.values())]


def test_where_a_continuation_can_change_the_vote_the_lossless_rule_goes_on() -> None:
    """The exact bound: with n = 5 it stops as soon as every continuation agrees, and with no vote less."""
    n = 5
    for n_seen in range(1, n):
        for answers in itertools.product((0, 1, 2), repeat=n_seen):
            rest = list(itertools.product((0, 1, 2, 3), repeat=n - n_seen))
            leaders = {frozenset(leading(answers + more)) for more in rest}
            settled = len(leaders) == 1 and all(len(leader_set) == 1 for leader_set in leaders)
            assert ask("cannot_change", answers, n).stop is settled


def test_a_vote_that_could_still_be_given_up_for_want_of_answers_is_not_settled() -> None:
    assert not ask("cannot_change", [0, 0, 0, None, None, None, None], 8).stop  # one left, but 3 of 8 readable at worst
    assert ask("cannot_change", [0, 0, 0, 0, None, None], 8).stop


def test_accept_takes_the_first_completion_that_is_sure_enough() -> None:
    assert first_stop("accept", [None, 0, 1], probabilities=[0.5, 0.89, 0.9]) == 3
    assert not ask("accept", [0], probabilities=[None]).stop


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=8), st.floats(0.001, 0.5))
def test_reservation_stops_where_weitzmans_value_is_reached(values: list[float], cost: float) -> None:
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    stop = ask(f"reservation:cost={cost!r}", [None] * len(values), scores=values).stop
    if deviation < 1e-3:
        return
    z = (max(values) - mean) / deviation
    expected = deviation * (norm.pdf(z) - z * norm.sf(z))
    if abs(expected - cost) > 1e-9:
        assert stop is bool(expected <= cost)


def test_reservation_knows_that_probabilities_end_at_one() -> None:
    assert ask("reservation", [None] * 3, probabilities=[0.5, 0.7, 0.995]).stop
    assert not ask("reservation", [None] * 3, probabilities=[0.2, 0.4, 0.6]).stop


def test_reservation_of_equal_scores_expects_nothing_more() -> None:
    assert ask("reservation", [None] * 3, scores=[-0.2, -0.2, -0.2]).stop
    assert not ask("reservation", [None] * 3, scores=[None, -0.2, -0.2]).stop


class TestAuto:
    def test_with_probabilities_it_is_correction_at_the_cost_of_its_points(self) -> None:
        answers, chances = [0, 1, 0], [0.6, 0.3, 0.8]
        costs = ((0.0, 0.0), (1.0, 0.02), (2.0, 0.05), (4.0, 0.25))
        for points, cost in ((1.0, 0.02), (2.0, 0.05), (3.0, 0.15), (9.0, 0.25)):
            verdict = ask(f"auto:points={points}", answers, probabilities=chances, costs=costs)
            other = ask(f"correction:cost={cost}", answers, probabilities=chances)
            assert (verdict.stop, verdict.posterior) == (other.stop, other.posterior)
        # Without costs of a head's own, two points cost .05.
        assert ask("auto", [0], probabilities=[0.91]).stop
        assert not ask("auto", [0], probabilities=[0.89]).stop

    def test_an_answer_that_the_vote_would_not_choose_stops_nothing(self) -> None:
        # A vote by p weighs 1.2 against .95 and chooses answer 0, whose odds are 3 against 1 + 19.
        answers, chances = [0, 0, 1], [0.6, 0.6, 0.95]
        verdict = ask("correction:cost=0.2", answers, probabilities=chances, vote_weights=chances)
        assert verdict.posterior == pytest.approx(3 / 23)
        assert not verdict.stop
        assert ask("correction:cost=0.2", answers, probabilities=chances).posterior == pytest.approx(19 / 23)

    def test_without_a_head_an_answer_must_lead_by_number_and_by_weight(self) -> None:
        answers, scores = [0] * 5 + [1], [-1.0] * 6
        assert ask("auto", answers, 16, scores=scores, vote_weights=[1.0] * 6).stop
        assert ask("auto", answers, 16, scores=scores, vote_weights=[0.9] * 5 + [0.2]).stop
        # The most frequent answer weighs less, or so little more that one vote to come changes it.
        assert not ask("auto", answers, 16, scores=scores, vote_weights=[0.1] * 5 + [0.9]).stop
        assert not ask("auto", answers, 16, scores=scores, vote_weights=[0.2] * 5 + [0.9]).stop
        # The heaviest answer was given once.
        assert not ask("auto", [0, 1, 1, 2], 16, scores=scores[:4], vote_weights=[0.9, 0.01, 0.01, 0.01]).stop

    def test_of_answers_that_weigh_the_same_the_least_probable_one_decides(self) -> None:
        # Two votes of .45, odds 18 / 11 together, weigh as much as one of .9, odds 9.
        chances = [0.9, 0.45, 0.45]
        verdict = ask("auto", [1, 0, 0], probabilities=chances, vote_weights=chances)
        assert verdict.posterior == pytest.approx(18 / 11 / (1 + 9 + 18 / 11))

    def test_without_probabilities_it_is_the_final_lead(self) -> None:
        answers, scores = [0, 1, 0, 0, 0, 0], [-0.1] * 6
        assert first_stop("auto", [0] * 9, n=16, scores=[-0.1] * 9) == 3
        assert first_stop("auto", answers, n=16, scores=scores) == first_stop("final_lead", answers, n=16) == 6
        assert first_stop("auto", answers, n=9, scores=scores) == first_stop("final_lead", answers, n=9) == 5

    def test_without_answers_probabilities_decide_and_scores_alone_never_do(self) -> None:
        assert ask("auto", [None] * 3, probabilities=[0.5, 0.7, 0.995]).stop
        assert not ask("auto", [None] * 9, scores=[-0.2] * 9).stop

    def test_it_stops_where_nothing_can_change(self) -> None:
        assert ask("auto:majority=0.999999", [0] * 5 + [1] * 2, n=9).stop


class TestCorrection:
    def test_it_stops_sure_answers_early_and_hopeless_ones_late_by_hand(self) -> None:
        # (1 - .9) / 2 = .05, and with odds 9 + 9 of two votes that agree (1 / 19) / 3 = .0175.
        assert first_stop("correction:cost=0.051", [0], probabilities=[0.9]) == 1
        assert first_stop("correction:cost=0.05", [0, 0], probabilities=[0.9, 0.9]) == 1
        assert first_stop("correction:cost=0.049", [0, 0], probabilities=[0.9, 0.9]) == 2
        # Different answers of .2, odds 1/4: after t of them one has 1/4 of 1 + t/4, so 1 - p is (3 + t) / (4 + t).
        chances, expected = [0.2] * 16, next(t for t in range(1, 17) if (3 + t) / (4 + t) / (t + 1) <= 0.1)
        assert first_stop("correction:cost=0.1", list(range(16)), probabilities=chances) == expected == 9

    def test_with_beta_two_agreeing_votes_add_as_squares(self) -> None:
        verdict = ask("correction", [0, 0, 1], probabilities=[0.75, 0.8, 0.5], beta=2.0)  # odds 3, 4 and 1
        assert verdict.posterior == pytest.approx(5 / 7)

    def test_a_completion_that_does_not_vote_counts_as_one_that_settled_nothing(self) -> None:
        with_it = ask("correction:cost=0.034", [0, None], probabilities=[0.9, None])
        assert with_it.posterior == pytest.approx(0.9)
        assert with_it.stop
        assert not ask("correction:cost=0.034", [0], probabilities=[0.9]).stop


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
def test_the_order_of_arrival_changes_no_verdict(name: str, data: st.DataObject) -> None:
    ballots = data.draw(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), CHANCE), min_size=1, max_size=10))
    shuffled = data.draw(st.permutations(ballots))
    one, other = (
        ask(name, [b[0] for b in order], n=12, probabilities=[b[1] for b in order]) for order in (ballots, shuffled)
    )
    assert one.stop == other.stop
    assert one.posterior == pytest.approx(other.posterior, abs=1e-9)


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_many_questions_at_once_are_judged_as_each_alone(name: str) -> None:
    rng = np.random.default_rng(3)
    answers = rng.integers(-1, 3, size=(200, 7))
    chances = np.where(rng.random((200, 7)) < 0.1, np.nan, rng.random((200, 7)))
    rule = STOPPING_RULES[name]
    verdicts = rule.verdicts(Votes(answers=answers, n=9, probabilities=chances, scores=chances))
    for row in range(len(answers)):
        verdict = rule(
            Votes.from_lists(
                [None if answer < 0 else int(answer) for answer in answers[row]],
                n=9,
                probabilities=[None if np.isnan(chance) else float(chance) for chance in chances[row]],
                scores=chances[row].tolist(),
            )
        )
        assert verdict.stop == verdicts.stop[row]
        assert (verdict.posterior is None) == np.isnan(verdicts.posterior[row])
        assert verdict.posterior is None or verdict.posterior == pytest.approx(verdicts.posterior[row], abs=1e-12)


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_every_rule_goes_on_while_nothing_was_readable_and_ends_with_n(name: str) -> None:
    nothing = ask(name, [None] * 4, n=5, probabilities=[None] * 4, scores=[None] * 4)
    assert (nothing.stop, nothing.posterior) == (False, None)
    assert ask(name, [None] * 5, n=5).reason == "All 5 completions were sampled."


def test_a_verdict_says_why_in_one_sentence() -> None:
    assert ask("beta:threshold=0.9", [0] * 4, n=16).reason == (
        "beta:threshold=0.9 stops after 4 of 16 completions: the probability that the leading answer is the most "
        "frequent one is 0.969."
    )
    assert ask("esc", [0, 1], n=16).reason == "esc goes on after 2 of 16 completions."


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_a_rule_is_read_back_from_its_text(name: str) -> None:
    row = STOPPING_RULES[name]
    changed = row.with_parameters(**{key: value * 2 for key, value in row.parameters.items()})
    assert stopping_rule(str(changed)).parameters == changed.parameters
    assert str(row) == name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gut_feeling", "no stopping rule 'gut_feeling'"),
        ("beta:patience=3", "no parameter 'patience'"),
        ("beta:threshold", "'threshold' in 'beta:threshold' is not a setting"),
        ("beta:threshold=-1", "a number above 0"),
        ("esc:size=2.5", "a whole number from 1"),
        ("beta:threshold=nan", "a number above 0"),
    ],
)
def test_an_unknown_rule_is_refused_with_the_list_of_rules(spec: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        stopping_rule(spec)


def test_votes_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="every list needs one entry"):
        Votes.from_lists([0, 1], n=4, probabilities=[0.5])
    with pytest.raises(ValueError, match="every list needs one entry"):
        Votes.from_lists([0, 1], n=1)
