"""Tests of agreement first: learning from questions without labels, and from few labels afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swift_client import training
from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import load_head
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training.agreement import (
    agreement_shares,
    learn_agreement_beta,
    scale_to_labels,
    train_by_agreement,
)
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.fit import TrainResult, fit
from swift_client.training.folds import read_groups
from swift_client.training.optimize import network_scores, train
from swift_client.training.recipes import RECIPES, Recipe
from swift_client.types import Usage

from .graded import graded_groups

CPU = torch.device("cpu")
QUICK = replace(RECIPES["default"], epochs=12, batch=128, learning_rate=3e-2, identity=())
LABELLED, UNLABELLED = graded_groups(24), graded_groups(60, seed=1)
UNKNOWN = [replace(group, labels=np.full(len(group.labels), np.nan)) for group in UNLABELLED]


def fitted(unlabelled: list[Group] | None, **options: object) -> TrainResult:
    settings = {"provider": "pocket", "model": "m", "answer": "number", "recipe": QUICK, "device": "cpu"} | options
    return fit(LABELLED, unlabelled=unlabelled, **settings)  # type: ignore[arg-type]


def weights(result: TrainResult) -> F64:
    head = result.artifact
    assert isinstance(head, HeadArtifact)
    parts = (head.head.gate_weight, head.head.reward_weight, [head.head.gate_bias, head.head.reward_bias])
    return np.concatenate([*parts, head.response.weight])


def matrix(groups: list[Group], recipe: Recipe = QUICK) -> FeatureMatrix:
    return read_groups(groups, replace(recipe, thin=False), split=Split(test=0.0), answer="number").matrix


def test_the_target_is_the_share_of_the_other_answers_that_are_equal() -> None:
    built = matrix(UNLABELLED)
    expected = []
    for group in UNLABELLED:
        texts = [completion.text.rsplit(" ", 1)[1] for completion in group.completions]
        for position, text in enumerate(texts):
            others = texts[:position] + texts[position + 1 :]
            expected.append(sum(other == text for other in others) / len(others))
    assert agreement_shares(built) == pytest.approx(expected)


def test_unread_answers_and_single_completions_agree_with_nothing() -> None:
    built = matrix(UNLABELLED[:2])
    first = int(built.question_offsets[1])
    answers = np.where(np.arange(len(built.answers)) < first, -1, built.answers)
    assert not agreement_shares(replace(built, answers=answers))[:first].any()
    single = replace(built, answers=np.array([3]), labels=np.zeros(1), question=np.zeros(1, np.int64))
    assert agreement_shares(single).tolist() == [0.0]


def test_scores_become_logits_of_the_labels_and_keep_their_order() -> None:
    parts = read_groups(LABELLED, QUICK, split=Split(test=0.0), answer="number").parts()
    network = train(parts, QUICK, seed=0, device=CPU).network
    before, after = (network_scores(one, parts.train) for one in (network, scale_to_labels(network, parts.train)))
    factor, offset = np.polyfit(before, after, 1)
    assert factor > 0
    assert after == pytest.approx(factor * before + offset, abs=1e-4)
    # Maximum likelihood: the probabilities and the labels have the same mean, but for Platt's softened targets.
    assert (1 / (1 + np.exp(-after))).mean() == pytest.approx(parts.train.labels.mean(), abs=0.01)
    reversed_labels = scale_to_labels(network, replace(parts.train, labels=1 - parts.train.labels))
    assert np.ptp(network_scores(reversed_labels, parts.train)) < 1e-6


def test_training_goes_on_from_its_start_and_is_held_there_by_the_penalty() -> None:
    parts = read_groups(LABELLED, QUICK, split=Split(test=0.0), answer="number").parts()
    start = train(parts, QUICK, seed=0, device=CPU).network
    shifts = []
    for prior in (1.0, 1e3, 1e9):
        trained = train(parts, replace(QUICK, prior=prior, learning_rate=1e-3), start=start, seed=0, device=CPU)
        weight = trained.network.token_linear.weight
        shifts.append(float((weight - start.token_linear.weight).detach().norm()))
        assert np.array_equal(trained.network.token_standardizer.mean, start.token_standardizer.mean)
        # No epoch is kept that is worse on validation than the start.
        losses = [epoch.validation_loss for epoch in trained.history]
        assert trained.best_epoch in (0, 1 + int(np.argmin(losses)))
    assert shifts[0] >= shifts[1] >= shifts[2]
    assert shifts[2] < 1e-2


def test_the_labels_of_unlabelled_questions_are_not_read() -> None:
    with_labels, without = fitted(UNLABELLED), fitted(UNKNOWN)
    assert np.array_equal(weights(with_labels), weights(without))
    assert with_labels.artifact.training == without.artifact.training


def test_the_same_samples_give_the_same_head_and_others_another() -> None:
    one, two, other = fitted(UNKNOWN), fitted(UNKNOWN), fitted(UNKNOWN[:30])
    assert np.array_equal(weights(one), weights(two))
    assert not np.array_equal(weights(one), weights(other))
    assert not np.array_equal(weights(one), weights(fitted(None)))


def test_the_head_says_what_it_learnt_from() -> None:
    result = fitted(UNKNOWN + LABELLED[:5])  # five questions with labels are left out
    facts = result.artifact.training["agreement_first"]
    assert facts["unlabelled_questions"] == 60
    assert facts["unlabelled_completions"] == pytest.approx(2 * 60 * 6, rel=0.3)  # whole and subsampled
    assert sum(result.artifact.training["questions"].values()) == 24
    assert "agreement_first" not in fitted(None).artifact.training


def test_questions_of_the_same_file_without_any_label_count_as_unlabelled() -> None:
    groups = LABELLED + UNKNOWN
    settings = {"provider": "pocket", "model": "m", "answer": "number", "recipe": QUICK, "device": "cpu"}
    result = fit(groups, unlabelled=groups, **settings)  # type: ignore[arg-type]
    assert result.artifact.training["agreement_first"]["unlabelled_questions"] == 60


def test_agreement_alone_tells_right_from_wrong_where_the_majority_is_mostly_right() -> None:
    learnt = train_by_agreement(UNKNOWN, QUICK, labelled=(), split=Split(), answer="number", k=8, seed=0, device=CPU)
    test = matrix(graded_groups(80, seed=2))
    scores = network_scores(learnt.trained.network, test)
    assert scores[test.labels == 1].mean() > scores[test.labels == 0].mean() + scores.std() / 2


def test_without_better_evidence_votes_weigh_by_the_beta_of_agreement() -> None:
    nothing = np.zeros(0)
    empty = np.zeros(0, np.int64)
    assert learn_agreement_beta(nothing, nothing, nothing, empty, empty).beta == 4.0
    # The best-scored answer is right, and all others agree on another one of equal odds: only infinity takes it.
    scores, labels = np.tile([3.0, 1, 1, 1, 1], 50), np.tile([1.0, 0, 0, 0, 0], 50)
    answers, question = np.tile([0, 1, 1, 1, 1], 50), np.repeat(np.arange(50), 5)
    equal_odds = np.full(250, 0.5)
    assert learn_agreement_beta(scores, equal_odds, labels, answers, question).beta == np.inf
    assert learn_agreement_beta(scores, equal_odds, 1 - labels, answers, question).beta == 4.0  # all are equal


def with_text(group: Group, text: str) -> Group:
    return replace(group, completions=tuple(replace(completion, text=text) for completion in group.completions))


@pytest.mark.parametrize(
    ("unlabelled", "message"),
    [
        ([], "There is no question without labels"),
        (LABELLED, "There is no question without labels"),
        (UNKNOWN[:1], "without labels"),
        ([replace(group, completions=group.completions[:1], labels=group.labels[:1]) for group in UNKNOWN], "no que"),
        ([with_text(group, "The answer is 4") for group in UNKNOWN], "^All answers to each question"),
    ],
)
def test_nothing_to_learn_agreement_from_is_one_error(unlabelled: list[Group], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fitted(unlabelled)


def test_recipes_on_hidden_states_take_no_unlabelled_questions() -> None:
    with pytest.raises(ConfigurationError, match="learns from labels only"):
        fitted(UNKNOWN, recipe="hidden")


def samples_file(path: Path, groups: list[Group], *, model: str = "m", answer: str | None = "4") -> Path:
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="pocket", model=model, top_logprobs=8))
        for group in groups:
            message = {"role": "user", "content": f"2+2 ({group.question_id})"}
            store.add_questions([StoredQuestion(id=group.question_id, messages=(message,), answer=answer)])
            store.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
    return path


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    samples_file(tmp_path / "samples.db", LABELLED)
    samples_file(tmp_path / "more.db", UNLABELLED, answer=None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_learns_from_a_file_without_answers(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "samples.db", "--out", "head.safetensors", "--answer", "number", "--unlabelled", "more.db"]
    assert run(arguments) == 0
    assert "learnt first from the agreement of 60 questions without labels" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    head = load_head(files / "head.safetensors")
    assert document["agreement_first"] == head.training["agreement_first"]
    assert document["agreement_first"]["unlabelled_questions"] == 60
    # The comparison stays as it is: five test questions are too few to tell.
    assert head.training["verdict"] == "not enough questions to tell"


def test_test_samples_are_never_learnt_from(files: Path) -> None:
    samples_file(files / "test.db", UNLABELLED[:40])
    result = training.train("samples.db", answer="number", recipe=QUICK, unlabelled="more.db", test_samples="test.db")
    assert result.artifact.training["agreement_first"]["unlabelled_questions"] == 20
    assert result.artifact.training["comparison"]["questions"] == 40


@pytest.mark.parametrize(
    ("unlabelled", "message"),
    [
        ("missing.db", "missing.db"),
        ("other.db", "The unlabelled samples are of pocket/other, the labelled ones of pocket/m."),
        ("samples.db", "There is no question without labels to learn from."),
    ],
)
def test_what_cannot_be_learnt_from_is_said_in_one_sentence_and_nothing_is_written(
    unlabelled: str, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples_file(files / "other.db", UNLABELLED[:3], model="other")
    assert run(["train", "samples.db", "--out", "head", "--answer", "number", "--unlabelled", unlabelled]) == 3
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (files / "head").exists()
