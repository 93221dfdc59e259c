"""Tests of the weights of votes, against plain loops, hand cases and the rules that their limits equal."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.models import load, save
from swift_client.models.artifact import MAX_BETA
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.selection.voting import (
    BETAS,
    answer_odds,
    answer_probabilities,
    best,
    label_free_weights,
    majority_with_ties,
    odds_weights,
    vote,
)
from swift_client.training.vote_exponent import learn_beta
from swift_client.types import Completion

from .face.made import head as made_head

NAN = float("nan")
ROWS = st.lists(st.tuples(st.integers(-1, 3), st.floats(0.001, 0.999), st.floats(-5, 5)), min_size=1, max_size=9)


def arrays(rows: list[tuple[int, float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    groups, probabilities, scores = (np.array(column) for column in zip(*rows, strict=True))
    return groups.astype(np.int64), probabilities.astype(np.float64), scores.astype(np.float64)


@given(ROWS, st.sampled_from(BETAS[:-1]))
def test_a_weight_is_the_exponential_of_beta_times_the_log_odds(rows: list, beta: float) -> None:
    groups, probabilities, scores = arrays(rows)
    weights = odds_weights(probabilities, scores, groups >= 0, beta)
    for weight, probability in zip(weights.tolist(), probabilities.tolist(), strict=True):
        assert weight == pytest.approx(math.exp(beta * math.log(probability / (1 - probability))), rel=1e-9)


def test_beta_0_is_the_majority_1_the_odds_and_infinity_the_best_by_hand() -> None:
    # Answer 0: .6 and .6, odds 1.5 each; answer 1: .85, odds 5.67; answer 2: .9 without a partner, odds 9.
    groups, probabilities = np.array([0, 0, 1, 2, 1]), np.array([0.6, 0.6, 0.85, 0.9, 0.85])
    voters = groups >= 0
    assert odds_weights(probabilities, probabilities, voters, 0.0).tolist() == [1.0] * 5
    assert odds_weights(probabilities, probabilities, voters, 1.0) == pytest.approx([1.5, 1.5, 17 / 3, 9, 17 / 3])
    winners = [
        int(groups[vote(groups, probabilities, odds_weights(probabilities, probabilities, voters, beta))])
        for beta in (1.0, 2.0, math.inf)
    ]
    assert winners == [1, 2, 2]  # 11.3 against 9; 64.2 against 81


def test_the_odds_of_an_answer_undo_the_power_of_the_weights_by_hand() -> None:
    # Answer 0: odds 3 and 4; answer 1: odds 1.
    groups, probabilities = np.array([[0, 1, 0, -1]]), np.array([[0.75, 0.5, 0.8, 0.9]])
    expected = {0.5: (3**0.5 + 2) ** 2, 1.0: 7.0, 2.0: 5.0, 4.0: (81 + 256) ** 0.25}
    for beta, odds in expected.items():
        assert answer_odds(groups, probabilities, beta)[0] == pytest.approx([odds, 1.0])
        assert answer_probabilities(groups, probabilities, beta)[0] == pytest.approx(
            [odds / (odds + 2), 1 / (odds + 2)]
        )
    # Infinity takes the largest odds; 0 the geometric mean times the number squared.
    assert answer_odds(groups, probabilities, math.inf)[0] == pytest.approx([4.0, 1.0], rel=0.02)
    assert answer_odds(groups, probabilities, 0.0)[0] == pytest.approx([4 * 12**0.5, 1.0], rel=0.01)


@given(ROWS, st.sampled_from(BETAS))
def test_probabilities_of_answers_are_those_of_a_plain_loop_and_sum_to_less_than_1(rows: list, beta: float) -> None:
    groups, probabilities, _ = arrays(rows)
    values = answer_probabilities(groups[None], probabilities[None], beta)[0]
    assert values.sum() < 1
    if 0.5 <= beta < math.inf:
        odds: dict[int, float] = defaultdict(float)
        for group, probability in zip(groups.tolist(), probabilities.tolist(), strict=True):
            if group >= 0:
                odds[group] += math.exp(beta * math.log(probability / (1 - probability)))
        total = 1 + sum(value ** (1 / beta) for value in odds.values())
        assert values == pytest.approx([odds[g] ** (1 / beta) / total for g in range(len(values))], rel=1e-9)


@given(st.floats(0.001, 0.999), st.sampled_from(BETAS))
def test_a_single_vote_has_its_own_probability_for_any_beta(probability: float, beta: float) -> None:
    assert answer_probabilities(np.array([[0]]), np.array([[probability]]), beta)[0] == pytest.approx([probability])


@given(ROWS)
def test_the_limits_are_the_majority_and_the_best_voter(rows: list) -> None:
    groups, probabilities, scores = arrays(rows)
    voters = groups >= 0
    if not voters.any():
        return
    by_count = vote(groups, scores, odds_weights(probabilities, scores, voters, 0.0))
    assert by_count == majority_with_ties(groups, scores)
    by_best = vote(groups, scores, odds_weights(probabilities, scores, voters, math.inf))
    assert by_best == best(groups, np.where(voters, scores, NAN))


def test_at_infinity_a_vote_outweighs_all_lower_ones_together_and_abstainers_change_nothing() -> None:
    scores = np.array([5.0, 1.0, NAN, 3.0, 2.0])
    weights = odds_weights(scores, scores, np.array([False, True, True, True, True]), math.inf)
    assert weights[1:].tolist() == [0.25, 0.125, 1.0, 0.5]


def test_probabilities_of_0_1_and_nan_have_finite_positive_weights() -> None:
    probabilities = np.array([0.0, NAN, 1.0])
    weights = odds_weights(probabilities, probabilities, np.ones(3, np.bool_), 4.0)
    assert weights == pytest.approx([999.0**-4, 999.0**-4, 999.0**4])


def plain_label_free(means: list[float], lengths: list[int], voters: list[bool]) -> list[float]:
    """Weigh one question's votes by hand."""
    scored = [index for index, mean in enumerate(means) if voters[index] and not math.isnan(mean)]
    if not scored:
        return [1.0] * len(means)
    short = sum(lengths[index] <= 8 for index in scored) >= len(scored) / 2
    certain = sum(means[index] == 0 for index in scored) > len(scored) / 2
    weights: dict[int, float] = {}
    for index in scored:
        if short and not certain:
            p = min(max(math.exp(means[index] * lengths[index]), 0.001), 0.999)
            weights[index] = p / (1 - p)
        else:
            weights[index] = math.exp(means[index])
    return [weights.get(index, min(weights.values())) for index in range(len(means))]


@given(
    st.lists(
        st.tuples(st.sampled_from([NAN, 0.0, -0.05, -0.5, -2.0]), st.sampled_from([1, 2, 8, 9, 40]), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_label_free_weights_are_those_of_a_plain_loop(rows: list) -> None:
    means, lengths, voters = (list(column) for column in zip(*rows, strict=True))
    weights, _ = label_free_weights(np.array([means]), np.array([lengths]), np.array([voters]))
    expected = plain_label_free(means, lengths, voters)
    for index in range(len(means)):
        if voters[index]:
            assert weights[0, index] == pytest.approx(expected[index], rel=1e-9)


def completion(index: int, text: str, logprob: float | None, length: int = 1) -> Completion:
    tokens = 0 if logprob is None else length
    return Completion(
        text=text,
        index=index,
        tokens=("t",) * tokens,
        logprobs=np.full(tokens, logprob or 0.0, np.float32),
        top_logprobs=np.zeros((tokens, 0), np.float32),
        censored=np.zeros(tokens, np.bool_),
    )


def choose_from(*rows: tuple[str, float | None], length: int = 1) -> tuple[str | None, list[float], tuple[str, ...]]:
    completions = [completion(index, text, logprob, length) for index, (text, logprob) in enumerate(rows)]
    selection = select_best(completions, SelectionConfig(answer="text"))
    return selection.answer, [candidate.weight for candidate in selection.candidates], selection.notes


def test_without_a_head_long_replies_weigh_by_the_probability_of_a_token() -> None:
    answer, weights, notes = choose_from((20 * "b", -0.1), (20 * "a", -0.7), (20 * "a", -0.7), length=20)
    assert (answer, notes) == (20 * "a", ())  # twice .497 against .905
    assert weights == pytest.approx([math.exp(-0.1), math.exp(-0.7), math.exp(-0.7)])


def test_without_a_head_short_replies_weigh_by_odds_and_a_note_says_so() -> None:
    answer, weights, notes = choose_from(("b", math.log(0.9)), ("a", math.log(0.6)), ("a", math.log(0.6)))
    assert answer == "b"
    assert weights == pytest.approx([9.0, 1.5, 1.5], rel=1e-5)
    assert ["p / (1 - p)" in note for note in notes] == [True]
    assert choose_from(("a", -0.1), ("a", -0.7))[2] == ()  # with one answer the weights decide nothing


def test_with_texts_alone_each_vote_counts_1_and_ties_go_to_the_shortest() -> None:
    answer, weights, notes = choose_from(("seven of them", None), ("4", None), ("seven of them", None), ("4", None))
    assert (answer, weights) == ("4", [1.0] * 4)
    assert any("ties go to the shortest" in note for note in notes)
    assert choose_from(("purple", None), ("red", None), ("purple", None))[0] == "purple"


@pytest.mark.parametrize("beta", BETAS)
def test_a_heads_votes_weigh_by_its_beta(beta: float) -> None:
    head = replace(made_head(), beta=beta)
    completions = [completion(index, text, -0.2 * index - 0.1) for index, text in enumerate("abb")]
    ranked = [replace(made, top_logprobs=np.array([[-0.1, -3.0, -4.0]], np.float32)) for made in completions]
    selection = select_best(ranked, SelectionConfig(scorer=head, answer="text", force_head=True))
    assert selection.scorer == head.name
    expected = [candidate.probability for candidate in selection.candidates]
    if math.isfinite(beta):
        weights = [(p / (1 - p)) ** beta for p in expected if p is not None]
        assert [candidate.weight for candidate in selection.candidates] == pytest.approx(weights, rel=1e-5)
    else:
        assert sorted(candidate.weight for candidate in selection.candidates) == [0.25, 0.5, 1.0]


@pytest.mark.parametrize("beta", BETAS)
def test_a_file_keeps_beta(beta: float, tmp_path) -> None:
    save(replace(made_head(), beta=beta), tmp_path / "head.safetensors")
    assert load(tmp_path / "head.safetensors").beta == beta


@pytest.mark.parametrize("beta", [-1.0, NAN, 1000.0, 1e308])
def test_a_beta_that_would_make_weights_infinite_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be 0 to 50 or infinity"):
        replace(made_head(), beta=beta)
    surest = odds_weights(np.full((1, 1024), 1.0), np.zeros((1, 1024)), np.ones((1, 1024), np.bool_), MAX_BETA)
    assert np.isfinite(surest.sum())


def learn(labels: list[list[int]], scores: list[list[float]], answers: list[list[int]]) -> float:
    count = len(labels[0])
    values = np.array(scores, np.float64).ravel()
    return learn_beta(
        values,
        1 / (1 + np.exp(-values)),
        np.array(labels, np.float64).ravel(),
        np.array(answers).ravel(),
        np.repeat(np.arange(len(labels)), count),
    ).beta


def test_where_the_best_score_is_right_against_the_crowd_beta_is_large_and_where_scores_mislead_it_is_0() -> None:
    crowd = [[0, 1, 1, 1]] * 40
    # The right answer, given once, scores slightly more than the wrong one, given three times.
    assert learn([[1, 0, 0, 0]] * 40, [[1.2, 1.0, 1.0, 1.0]] * 40, crowd) == math.inf
    # The wrong answer, given once, scores much more than the right one.
    assert learn([[0, 1, 1, 1]] * 40, [[3.0, -3.0, -3.0, -3.0]] * 40, crowd) == 0.0


def test_without_evidence_beta_is_1() -> None:
    assert learn([[1, 0]] * 3, [[1.0, 0.0]] * 3, [[0, 1]] * 3) == 1.0  # every β > 0 chooses the same
    nothing = learn_beta(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert (nothing.beta, nothing.questions) == (1.0, 0)
    unread = learn_beta(np.zeros(4), np.full(4, 0.5), np.ones(4), np.full(4, -1), np.array([0, 0, 1, 1]))
    assert (unread.beta, unread.questions) == (1.0, 0)


def test_the_accuracy_of_each_beta_is_that_of_plain_loops() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (5, 3)).astype(float)
    answers, scores = rng.integers(-1, 2, (5, 3)), rng.normal(size=(5, 3))
    answers[:, 0] = 0
    answers[:, 1] = 1
    learnt = learn_beta(
        scores.ravel(), 1 / (1 + np.exp(-scores.ravel())), labels.ravel(), answers.ravel(), np.repeat(np.arange(5), 3)
    )
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    for beta in (0.5, 1.0, 2.0):
        right = []
        for row in range(5):
            for pair in pairs:
                sums: dict[int, float] = defaultdict(float)
                for position in pair:
                    if answers[row, position] >= 0:
                        sums[answers[row, position]] += math.exp(beta * scores[row, position])
                winner = max(pair, key=lambda p: (sums.get(answers[row, p], -1.0), scores[row, p]))
                right.append(labels[row, winner])
        assert learnt.accuracy[beta] == pytest.approx(np.mean(right))
