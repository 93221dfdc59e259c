"""Tests of labels from feedback and of weights against selection bias: hand cases, and populations of known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.dataset.feedback import feedback_groups, feedback_labels
from swift_client.dataset.question_samples import Group
from swift_client.dataset.selection_bias import MAX_WEIGHT, ShownChoice, estimate_bias
from swift_client.errors import ConfigurationError
from swift_client.store import Meta, SampleStore, SelectionStore, StoredQuestion
from swift_client.types import Completion, Usage
from tests.generated import completion

Answers = Sequence[str]


def shown(confidence: float, accepted: bool | None = None, served_as: str | None = None) -> ShownChoice:
    return ShownChoice(served_as=served_as, accepted=accepted, measure="probability", confidence=confidence)


def texts(*answers: str) -> list[Completion]:
    return [
        replace(completion(index, tokens=6, index=index), text=f"The answer is {answer}")
        for index, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "feedback", "expected"),
    [
        ("4 4.0 5 6", [(0, True)], [1, 1, 0, 0]),
        ("4 4.0 5 6", [(1, False)], [0, 0, None, None]),
        ("4 4 5 6", [(0, False), (2, False)], [0, 0, 0, None]),
        ("4 4 5 6", [(0, False), (3, True)], [0, 0, 0, 1]),
        ("4 4 5 6", [(0, True), (1, False)], [None, None, 0, 0]),  # people disagree about 4
        ("4 4 5 6", [(0, True), (2, True)], [None, None, None, 0]),  # one of two right answers is not
    ],
)
def test_labels_follow_from_feedback(
    answers: str, feedback: list[tuple[int, bool]], expected: list[int | None]
) -> None:
    labels, contradicts = feedback_labels(texts(*answers.split()), feedback)

    assert labels.tolist() == pytest.approx([math.nan if label is None else label for label in expected], nan_ok=True)
    assert contradicts == (None in expected and (0, True) in feedback)


def test_without_answers_that_compare_feedback_is_on_the_chosen_completion_alone() -> None:
    labels, contradicts = feedback_labels(texts("4", "4", "5"), [(1, True)], answer=None)

    assert np.isnan(labels).tolist() == [True, False, True]
    assert labels[1] == 1
    assert not contradicts


def test_weights_are_the_inverse_of_the_share_that_has_feedback_by_hand() -> None:
    # 100 accepted choices, 50 known; 100 others, 10 known: inverse shares 2 and 10, whose mean is (50·2 + 10·10) / 60.
    choices = [shown(0.9, accepted=True)] * 100 + [shown(0.2, accepted=False)] * 100
    is_known = np.array([True] * 50 + [False] * 50 + [True] * 10 + [False] * 90)
    bias = estimate_bias(choices, is_known)

    assert [(stratum.accepted, stratum.choices, stratum.known_count) for stratum in bias.strata] == [
        (True, 100, 50),
        (False, 100, 10),
    ]
    assert bias.weights[is_known] == pytest.approx([2 / (200 / 60)] * 50 + [10 / (200 / 60)] * 10)
    assert not bias.weights[~is_known].any()
    assert bias.effective_size == pytest.approx(200**2 / (50 * 4 + 10 * 100))
    assert bias.clipped_count == 0
    assert bias.without_overlap == ()


def test_weights_are_clipped_and_said_to_be() -> None:
    choices = [shown(0.9, accepted=True)] * 1000 + [shown(0.2, accepted=False)] * 1000
    is_known = np.array([True] * 1000 + [True] + [False] * 999)
    bias = estimate_bias(choices, is_known)

    assert bias.clipped_count == 1
    assert bias.weights[1000] / bias.weights[0] == pytest.approx(MAX_WEIGHT / (1 / (2000 / 1001)))
    assert any("clipped" in note for note in bias.notes())


def test_a_region_without_feedback_is_named_and_weighs_nothing() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.random(2000)
    is_known = (confidence > 0.6) & (rng.random(2000) < 0.3)
    bias = estimate_bias([shown(value) for value in confidence], is_known)

    (gap,) = bias.without_overlap
    assert gap.lowest == confidence.min()
    assert 0.59 < gap.highest <= confidence[is_known].min()
    assert all(stratum.lowest > 0.59 for stratum in bias.strata if stratum.known_count)
    assert any("without any feedback" in note and "0.00 to 0.6" in note for note in bias.notes())


def test_chance_alone_leaves_no_region_without_feedback() -> None:
    rng = np.random.default_rng(5)
    n_gaps = sum(
        bool(estimate_bias([shown(value) for value in rng.random(400)], rng.random(400) < 0.05).without_overlap)
        for _ in range(200)
    )
    assert n_gaps <= 8  # 1 % of the files, and three standard errors


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.sampled_from([None, True, False])), max_size=300),
)
@settings(max_examples=60)
def test_every_choice_is_in_one_stratum_of_its_kind(rows: list[tuple[int, bool, bool | None]]) -> None:
    choices = [shown(value / 20, accepted) for value, _, accepted in rows]
    is_known = np.array([known for _, known, _ in rows], np.bool_)
    bias = estimate_bias(choices, is_known)

    assert bias.choices == len(rows)
    assert bias.known_count == is_known.sum()
    for number, stratum in enumerate(bias.strata):
        members = [position for position, other in enumerate(bias.stratum) if other == number]
        assert len(members) == stratum.choices
        assert is_known[members].sum() == stratum.known_count
        assert all(stratum.lowest <= choices[position].confidence <= stratum.highest for position in members)
        assert {choices[position].accepted for position in members} == {stratum.accepted}
    if is_known.any():
        assert bias.weights[is_known].mean() == pytest.approx(1)


def test_weighted_means_estimate_all_choices_where_plain_ones_do_not() -> None:
    """The share right of a population is known: feedback is given more often on confident answers."""
    rng = np.random.default_rng(11)
    plain, weighted, truth = [], [], []
    for _ in range(60):
        confidence = rng.random(3000)
        right = rng.random(3000) < confidence
        is_known = rng.random(3000) < 0.05 + 0.6 * confidence**2
        bias = estimate_bias([shown(value) for value in confidence], is_known)
        truth.append(right.mean())
        plain.append(right[is_known].mean())
        weighted.append(np.average(right[is_known], weights=bias.weights[is_known]))
    assert np.mean(plain) - np.mean(truth) > 0.15
    assert abs(np.mean(weighted) - np.mean(truth)) < 0.01  # what differs within a stratum is left


def write(path: Path, choices: Sequence[tuple[str, Answers, int, bool | None]], **facts: object) -> Path:
    """Write a file with one choice per row: question, answers, chosen position, feedback."""
    with SelectionStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=20))
        for number, (question_id, answers, position, correct) in enumerate(choices):
            if question_id not in {question.id for question in store.questions()}:
                messages = ({"role": "user", "content": question_id},)
                store.add_questions([StoredQuestion(id=question_id, messages=messages)])
                store.add_samples(question_id, texts(*answers), usage=Usage())
            own = {"winner": position, "probability": 0.5, "accepted": True, **facts}
            completions = texts(*answers)
            store.add_selection(f"s{number}", own, completions, question_id=question_id, prompt=question_id)
            if correct is not None:
                store.set_feedback(f"s{number}", correct)
    return path


def read(path: Path, keep_unknown: bool = False) -> dict[str, Group]:
    return {group.question_id: group for group in feedback_groups(path, keep_unknown=keep_unknown)}


def test_questions_of_a_file_are_labelled_by_their_feedback(tmp_path: Path) -> None:
    answers = ("4", "4", "5")
    rows = [("a", answers, 0, True), ("b", answers, 2, False), ("c", answers, 0, None)]
    path = write(tmp_path / "kept.db", rows)

    groups = read(path)
    assert list(groups) == ["a", "b"]
    assert groups["a"].labels.tolist() == [1, 1, 0]
    assert (groups["a"].feedback_on, groups["b"].feedback_on) == (0, 2)
    assert np.isnan(groups["b"].labels[:2]).all()
    assert groups["b"].labels[2] == 0
    assert groups["a"].weight == groups["b"].weight == 1
    assert groups["a"].propensity == pytest.approx(2 / 3)
    unknown = read(path, keep_unknown=True)["c"]
    assert np.isnan(unknown.labels).all()
    assert unknown.propensity == pytest.approx(2 / 3)


def test_a_question_that_was_asked_again_counts_once_with_all_of_its_feedback(tmp_path: Path) -> None:
    answers = ("4", "5", "6")
    rows = [("a", answers, 0, False), ("a", answers, 1, True), ("a", answers, 2, None), ("b", answers, 0, None)]
    bias = feedback_groups(write(tmp_path / "kept.db", rows)).bias

    assert (bias.choices, bias.known_count) == (2, 1)
    (group,) = read(tmp_path / "kept.db").values()
    assert group.labels.tolist() == [0, 1, 0]
    assert group.feedback_on == 1


def test_a_grade_wins_over_feedback_and_the_contradiction_is_counted(tmp_path: Path) -> None:
    answers = ("4", "4", "5")
    path = write(tmp_path / "kept.db", [("a", answers, 0, True), ("b", answers, 0, True), ("c", answers, 0, True)])
    with SampleStore(path, write=True) as store:
        store.set_labels({("a", index): float(index == 2) for index in range(3)})
        store.set_labels({("b", 0): 1.0})
    groups = feedback_groups(path)
    labelled = {group.question_id: group for group in groups}

    assert labelled["a"].labels.tolist() == [0, 0, 1]
    assert labelled["a"].feedback_on is None
    assert labelled["b"].labels.tolist() == [1, 1, 0]
    assert labelled["b"].feedback_on == 0  # its other labels are of feedback
    assert (groups.counts.graded_choices, groups.counts.contradicted_grades) == (2, 1)
    assert "On 1 of 2 questions with feedback and a grade both disagree: the grade counts." in groups.notes()


def test_feedback_on_an_answer_that_is_not_in_the_file_is_said_to_be_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "kept.db", [("a", ("4", "5"), 0, True)])
    with SelectionStore(path, write=True) as store:
        store.add_selection("other", {"winner": 0}, texts("7"), question_id="a", prompt="a")
        store.set_feedback("other", True)
    groups = feedback_groups(path)

    assert [group.labels.tolist() for group in groups] == [[1, 0]]
    assert groups.counts.missing_samples == 1


def test_files_without_feedback_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no feedback on a choice") as caught:
        feedback_groups(write(tmp_path / "kept.db", [("a", ("4", "5"), 0, None)]))
    assert "swift-client feedback" in str(caught.value.hint)


def test_the_confidence_of_a_choice_is_its_probability_or_its_share_of_the_votes() -> None:
    candidates = [{"group": 0}, {"group": 1}, {"group": 0}, {"group": None}]
    votes = ShownChoice.from_facts({"winner": 2, "candidates": candidates}, None)
    assert (votes.measure, votes.confidence) == ("votes", 0.5)
    facts = {"winner": 2, "candidates": candidates, "probability": 0.3, "answer_probability": 0.8, "accepted": False}
    assert ShownChoice.from_facts(facts, "best").confidence == 0.8
    assert ShownChoice.from_facts({"probability": 7, "winner": 9}, None).measure == "none"
