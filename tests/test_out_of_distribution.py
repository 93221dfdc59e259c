"""On answers unlike its training data a head is not used, and a note says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from swift_client import Completion, rank
from swift_client.dataset.question_samples import Group
from swift_client.evaluation.evaluate import evaluate
from swift_client.features import RESPONSE_TERMS, column_names, response_terms
from swift_client.models import HeadArtifact, load, save
from swift_client.scoring import scorers
from swift_client.scoring.out_of_distribution import COMPARED_TERMS, distances
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training.fit import fit
from swift_client.training.recipes import recipe_of
from tests.graded import graded_groups


def strange(groups: list[Group]) -> list[Group]:
    """Replace the answers by others with the same labels: long, only numbers, every token uncertain."""

    def other(completion: Completion) -> Completion:
        length = 8 * len(completion.tokens)
        top = np.tile(np.log(np.float32([0.3, 0.3, 0.2, 0.1, 0.05, 0.02, 0.02, 0.01])), (length, 1))
        return replace(
            completion,
            tokens=("7",) * length,
            logprobs=top[:, 0],
            top_logprobs=top,
            censored=np.zeros(length, np.bool_),
        )

    return [replace(group, completions=tuple(map(other, group.completions))) for group in groups]


@pytest.fixture(scope="module")
def head() -> HeadArtifact:
    head_artifact = fit(graded_groups(160), provider="p", model="m", answer="number").artifact
    assert isinstance(head_artifact, HeadArtifact)
    return head_artifact


def outside(groups: list[Group], head: HeadArtifact) -> float:
    return float(np.mean([scorers.score(group.completions, head).out_of_distribution for group in groups]))


def test_new_questions_of_the_same_kind_are_within_reach_and_others_are_not(head: HeadArtifact) -> None:
    fresh = graded_groups(100, seed=7)
    assert outside(fresh, head) <= 0.02
    assert outside(strange(fresh), head) == 1.0


def test_the_distance_is_the_mean_deviation_of_the_compared_terms_worked_out_by_hand(head: HeadArtifact) -> None:
    mean, scale = head.response.standardizer.mean, head.response.standardizer.scale
    names = column_names(RESPONSE_TERMS, head.response_terms, width=head.width)
    rows = np.random.default_rng(0).normal(mean, 8 * scale, (5, len(mean)))
    by_hand = [
        np.mean(
            [
                min(abs(t - m) / s, 10.0)
                for t, m, s, name in zip(row, mean, scale, names, strict=True)
                if name in COMPARED_TERMS
            ]
        )
        for row in rows
    ]
    values = distances(head.response, head.response_terms, rows, width=head.width)
    np.testing.assert_allclose(values, by_hand)


def test_99_of_100_completions_like_the_trainings_are_in_distribution(head: HeadArtifact) -> None:
    singles = [
        scorers.score([completion], head).out_of_distribution
        for group in graded_groups(200, seed=3)
        for completion in group.completions
    ]
    assert np.mean(singles) == pytest.approx(0.01, abs=0.015)


def test_lists_of_another_length_are_in_distribution(head: HeadArtifact) -> None:
    fresh = graded_groups(40, seed=7)
    short = [
        replace(
            group,
            completions=tuple(
                replace(completion, top_logprobs=completion.top_logprobs[:, :5]) for completion in group.completions
            ),
        )
        for group in fresh
    ]
    assert outside(short, head) == outside(fresh, head)
    table = [completion for group in fresh for completion in group.completions]
    full_terms, short_terms = (response_terms(table, sorted(COMPARED_TERMS), k=k).values for k in (8, 0))
    np.testing.assert_array_equal(full_terms, short_terms)


def test_a_head_beyond_its_reach_is_set_aside_and_a_note_says_so(head: HeadArtifact) -> None:
    group = graded_groups(1, seed=7)[0]
    near, far = (
        select_best(group.completions, SelectionConfig(scorer=head)),
        select_best(strange([group])[0].completions, SelectionConfig(scorer=head)),
    )
    assert (near.scorer, far.scorer) == (head.name, "mean_logprob")
    assert all(candidate.probability is None for candidate in far.candidates)
    assert not any("unlike" in note for note in near.notes)
    assert any(
        "unlike those that head p/m was trained on, so the mean_logprob scorer is used instead" in note
        for note in far.notes
    )


def test_a_head_that_was_asked_for_by_name_scores_anyway_and_the_note_stays(head: HeadArtifact) -> None:
    group = strange(graded_groups(1, seed=7))[0]
    selection = select_best(group.completions, SelectionConfig(scorer=head, force_head=True))
    assert selection.scorer == head.name
    assert any("may mislead" in note for note in selection.notes)


def test_the_reach_is_kept_in_the_file_and_an_odd_one_is_none(head: HeadArtifact, tmp_path: Path) -> None:
    save(head, tmp_path / "head.safetensors")
    loaded_head = load(tmp_path / "head.safetensors")
    assert isinstance(loaded_head, HeadArtifact)
    assert outside(strange(graded_groups(5, seed=7)), loaded_head) == 1.0
    for value in ("far", -1.0, 0, None, [1.0], float("nan")):
        odd_one = replace(head, training={**head.training, "reach": value})
        assert outside(strange(graded_groups(5, seed=7)), odd_one) == 0.0
    old = replace(head, training={name: fact for name, fact in head.training.items() if name != "reach"})
    assert outside(strange(graded_groups(5, seed=7)), old) == 0.0


def test_a_head_without_response_terms_has_no_reach() -> None:
    head_artifact = fit(
        graded_groups(30), provider="p", model="m", answer="number", recipe=replace(recipe_of("swift"), epochs=1)
    )
    assert head_artifact.artifact.training["reach"] is None


def test_evaluate_says_on_how_many_questions_best_of_would_not_listen(head: HeadArtifact) -> None:
    groups = strange(graded_groups(20, seed=7)) + graded_groups(20, seed=8)
    table = evaluate(head, groups, split="all", ns=[2], subsets=5, resamples=20, trained=False)
    assert any(note.startswith("On 20 of 40 questions the answers are unlike") for note in table.notes)


def test_rank_sets_it_aside_too(head: HeadArtifact) -> None:
    selection = rank(list(strange(graded_groups(1, seed=7))[0].completions), scorer=head)
    assert selection.scorer == "mean_logprob"
