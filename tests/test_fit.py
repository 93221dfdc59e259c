"""Tests of training: torch against numpy, exact SWIFT against the paper, and one clear error for bad questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from torch import nn

from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.features import DEFAULT_RESPONSE_TERMS, TokenTable, response_columns, token_columns
from swift_client.models import NO_BETTER_VERDICT, HeadArtifact, save
from swift_client.models.resolve_head import load_head
from swift_client.scoring.scorers import score
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training.calibration import fit_isotonic, fit_platt
from swift_client.training.fit import TrainResult, fit
from swift_client.training.folds import Parts, read_groups
from swift_client.training.metrics import within_question_auroc
from swift_client.training.network import Batch
from swift_client.training.optimize import network_scores, train
from swift_client.training.recipes import RECIPES
from swift_client.types import Completion

from .graded import graded_groups

CPU = torch.device("cpu")
QUICK = replace(RECIPES["default"], epochs=12, batch=128, learning_rate=3e-2)
GROUPS = graded_groups(90)


def fitted(groups: list[Group] = GROUPS, **options: object) -> TrainResult:
    settings = {"provider": "pocket", "model": "m", "answer": "number", "recipe": QUICK, "device": "cpu"} | options
    return fit(groups, **settings)  # type: ignore[arg-type]


def swift_data() -> Parts:
    return read_groups(GROUPS[:40], recipe=RECIPES["swift"], split=Split(), answer=None).parts()


@pytest.fixture(scope="module")
def result() -> TrainResult:
    return fitted()


def test_the_trained_head_scores_in_numpy_as_it_does_in_torch() -> None:
    data = read_groups(GROUPS, recipe=QUICK, split=Split(), answer="number").parts()
    network = train(data, QUICK, seed=0, device=CPU).network
    head, response = network.export()
    artifact = HeadArtifact(
        features=QUICK.features,
        width=data.k_max,
        standardizer=network.token_standardizer,
        head=head,
        response_terms=QUICK.terms,
        response=response,
        provider="pocket",
        model="m",
        k_min=data.k_min,
        k_max=data.k_max,
    )
    group = GROUPS[0]
    table = TokenTable(group.completions, width=data.k_max, k=data.k_max, groups=[0] * len(group.completions))
    features, terms = token_columns(table, QUICK.features), response_columns(table, QUICK.terms)
    batch = Batch(
        [torch.from_numpy(features.values)],
        torch.from_numpy(np.diff(features.offsets)),
        torch.from_numpy(terms.values),
    )
    with torch.no_grad():
        in_torch = network.double()(batch).numpy()
    served = artifact.scores(features.values, features.offsets, terms.values)
    np.testing.assert_allclose(in_torch, served, rtol=1e-6)
    np.testing.assert_allclose(
        score(group.completions, artifact, groups=[0] * len(group.completions)).values, served, rtol=1e-6
    )


def test_the_swift_recipe_is_the_papers_equations_written_out_in_plain_torch() -> None:
    data, recipe = swift_data(), replace(RECIPES["swift"], epochs=6)
    _, _, network, history, _ = train(data, recipe, seed=3, device=CPU)

    def rewards(linear: nn.Linear, matrix: object) -> list[torch.Tensor]:
        """R = Σ g·r / max(Σ g, ε) for one completion after the other."""
        result = []
        for i in range(len(matrix.labels)):  # type: ignore[attr-defined]
            rows = matrix.values[matrix.first_rows[i] :][: matrix.lengths[i]]  # type: ignore[attr-defined]
            fused = linear(torch.tensor(np.asarray(rows, np.float64)))
            gates, reward = torch.sigmoid(fused[:, 0]), fused[:, 1]
            result.append((gates * reward).sum() / gates.sum().clamp(min=1e-8))
        return result

    torch.manual_seed(3)
    linear = nn.Linear(data.train.values.shape[1], 2, dtype=torch.float64)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-4, weight_decay=1e-5)
    criterion = nn.BCEWithLogitsLoss()
    order, labels = np.random.default_rng(3), torch.tensor(data.train.labels)
    validation = []
    for _ in range(6):
        batch: list[int] = []
        questions = order.permutation(int(data.train.question.max()) + 1)
        for question in questions:
            batch += np.flatnonzero(data.train.question == question).tolist()
            if len(batch) >= 16 or question == questions[-1]:
                scores = rewards(linear, data.train)
                loss = criterion(torch.stack([scores[i] for i in batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                batch = []
        with torch.no_grad():
            validation_loss = criterion(
                torch.stack(rewards(linear, data.validation)), torch.tensor(data.validation.labels)
            )
        validation.append(validation_loss.item())

    assert [epoch.validation_loss for epoch in history] == pytest.approx(validation, rel=1e-6)
    assert validation[-1] == min(validation)  # so that the last weights are the best ones, and the ones returned
    np.testing.assert_allclose(network.token_linear.weight.detach(), linear.weight.detach(), rtol=1e-6)
    np.testing.assert_allclose(network.token_linear.bias.detach(), linear.bias.detach(), rtol=1e-6)
    assert network.token_standardizer.mean.tolist() == [0.0] * data.train.values.shape[1]
    assert len(network.response_weights) == 0


def test_training_ends_when_validation_stops_improving_and_keeps_the_best_weights_not_the_last() -> None:
    data, recipe = swift_data(), replace(RECIPES["swift"], learning_rate=0.3, epochs=30)
    _, _, network, history, _ = train(data, recipe, seed=0, device=CPU)
    losses = [epoch.validation_loss for epoch in history]
    best = int(np.argmin(losses))
    assert len(losses) == min(30, best + 1 + recipe.patience)
    assert losses[-1] > losses[best]
    scores, labels = network_scores(network, data.validation), data.validation.labels
    restored = np.mean(np.logaddexp(0, np.where(labels == 1, -scores, scores)))
    assert restored == pytest.approx(losses[best])


def test_the_same_questions_and_seed_give_the_same_file_whatever_came_before(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(fitted(GROUPS[:40]).artifact, tmp_path / name)
        torch.rand(7)
    save(fitted(GROUPS[:40], seed=1).artifact, tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_a_head_that_learned_something_beats_chance_on_questions_it_never_saw(
    result: TrainResult, tmp_path: Path
) -> None:
    save(result.artifact, tmp_path / "head.safetensors")
    head = load_head(tmp_path / "head.safetensors")
    assert head.beats_majority
    fresh = graded_groups(150, n=4, seed=9)

    def accuracy(rules: SelectionConfig) -> float:
        return float(np.mean([select_best(group.completions, rules).answer == "4" for group in fresh]))

    assert (
        accuracy(SelectionConfig(scorer=head, answer="number"))
        > accuracy(SelectionConfig(scorer="random", answer="number")) + 0.05
    )
    assert select_best(fresh[0].completions, SelectionConfig(scorer=head, answer="number")).probability is not None


def test_a_head_trained_on_lists_of_eight_works_on_lists_of_five(result: TrainResult) -> None:
    assert (result.artifact.k_min, result.artifact.k_max) == (5, 8)
    fresh = graded_groups(80, seed=11, k=5)
    scores = [score(group.completions, result.artifact, groups=[None] * 6) for group in fresh]
    assert not any("trained on" in note for scored in scores for note in scored.notes)
    values = np.concatenate([scored.values for scored in scores]).astype(np.float64)
    labels = np.concatenate([group.labels for group in fresh])
    assert within_question_auroc(values, labels, np.repeat(np.arange(80), 6)) > 0.7


def test_a_head_trained_on_noise_says_that_it_is_no_better_than_chance() -> None:
    noise = fitted(graded_groups(90, signal=0.0), recipe=replace(QUICK, terms=(*DEFAULT_RESPONSE_TERMS, "agreement")))
    assert noise.verdict == NO_BETTER_VERDICT
    assert noise.artifact.training["verdict"] == NO_BETTER_VERDICT
    # Agreement alone tells right from wrong here, and that is what majority knows already.
    assert noise.metrics["within_question_auroc"] is not None
    assert noise.metrics["within_question_auroc"] > 0.6


def test_token_identity_is_kept_where_it_tells_and_left_out_where_it_does_not(result: TrainResult) -> None:
    def with_token_hint(group: Group) -> Group:
        completions = [
            replace(completion, tokens=(" perhaps" if label == 0 else " surely", *completion.tokens[1:]))
            for completion, label in zip(group.completions, group.labels, strict=True)
        ]
        return replace(group, completions=tuple(completions))

    assert "token_hash" not in result.artifact.features
    telling = fitted([with_token_hint(group) for group in graded_groups(90, signal=0.0)])
    assert telling.artifact.features[-1] == "token_hash"
    assert telling.usefulness.lower_bound > 0.7


def test_the_file_says_what_the_head_was_trained_on(result: TrainResult) -> None:
    facts = result.artifact.training
    assert sum(facts["questions"].values()) == 90
    assert facts["split"] == {"validation": 0.2, "test": 0.2, "seed": 0}
    assert facts["answer"] == "number"
    assert facts["validation"] == result.metrics
    assert 1 <= facts["best_epoch"] <= facts["epochs"] == len(result.history)


def test_test_questions_do_not_reach_training() -> None:
    split = Split()
    spoiled = [
        replace(group, labels=1 - group.labels) if split.part(group.question_id) == "test" else group
        for group in GROUPS[:40]
    ]
    one, other = fitted(GROUPS[:40]).artifact, fitted(spoiled).artifact
    assert one.head.reward_weight.tolist() == other.head.reward_weight.tolist()


def test_what_is_cut_unlabelled_or_without_logprobs_is_not_learned_from() -> None:
    def spoil(group: Group) -> Group:
        cut_completion = replace(group.completions[0], finish_reason="length")
        text_completion = Completion(text="The answer is 4", index=1)
        labels = group.labels.copy()
        labels[2] = np.nan
        return replace(group, completions=(cut_completion, text_completion, *group.completions[2:]), labels=labels)

    data = read_groups(
        [spoil(group) for group in GROUPS[:40]], recipe=RECIPES["swift"], split=Split(), answer=None
    ).parts()
    assert len(data.train.labels) == 3 * data.question_counts["train"]


def with_labels(value: float) -> Callable[[], list[Group]]:
    return lambda: [replace(group, labels=np.full(len(group.labels), value)) for group in GROUPS[:20]]


def with_a_nan() -> list[Group]:
    group = next(group for group in GROUPS if Split().part(group.question_id) == "train")
    nan_completion = replace(group.completions[0], logprobs=group.completions[0].logprobs * np.float32(np.nan))
    return [replace(group, completions=(nan_completion, *group.completions[1:])), *GROUPS[1:20]]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (list, "There are no questions"),
        (lambda: GROUPS[:1], "one question only"),
        (lambda: GROUPS[:2], "fell to"),
        (with_labels(1.0), "are right, so there is nothing to tell apart"),
        (with_labels(0.0), "are wrong, so there is nothing to tell apart"),
        (with_labels(np.nan), "No finished completion has a label"),
        (lambda: GROUPS[:20] + graded_groups(20, k=3, seed=5), "list fewer than 8 alternatives"),
        (with_a_nan, "logprob that is NaN"),
        (
            lambda: [replace(g, completions=tuple(Completion(text="4") for _ in g.completions)) for g in GROUPS[:9]],
            "No completion of 9 questions has logprobs",
        ),
    ],
)
def test_questions_that_no_head_can_be_trained_on_are_refused_in_one_sentence(
    groups: Callable[[], list[Group]], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        fitted(groups())
    assert refusal.value.hint


def test_lists_of_mixed_length_train_once_all_are_read_to_the_shorter() -> None:
    mixed = GROUPS[:40] + graded_groups(20, k=3, seed=5)
    assert fitted(mixed, k=3).artifact.k_max == 3


@pytest.mark.parametrize("wrong", [{"recipe": "quick"}, {"device": "abacus"}, {"device": "cuda:99"}])
def test_a_wrong_setting_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        fitted(GROUPS[:20], **wrong)


def test_platts_two_numbers_are_those_of_a_peer_library() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(3, 5, size=200)
    labels = (rng.random(200) < 1 / (1 + np.exp(-0.4 * scores + 1))).astype(np.float64)
    right, wrong = labels.sum(), 200 - labels.sum()
    target = np.where(labels == 1, (right + 1) / (right + 2), 1 / (wrong + 2))
    peer = LogisticRegression(C=1e12, tol=1e-12, max_iter=10_000).fit(
        np.tile(scores, 2)[:, None], np.repeat([1, 0], 200), sample_weight=np.concatenate([target, 1 - target])
    )
    platt = fit_platt(scores, labels)
    assert (platt.a, platt.b) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), rel=1e-4)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]])
def test_scores_that_point_the_wrong_way_or_nowhere_calibrate_to_the_share(scores: list[float]) -> None:
    flat = fit_platt(np.array(scores), np.array([1.0, 1.0, 0.0, 0.0]))
    assert flat(np.array(scores)) == pytest.approx([0.5] * 4)


def test_isotonic_steps_are_those_of_a_peer_library_less_a_hair() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=3000).round(1)
    labels = (rng.random(3000) < 1 / (1 + np.exp(-2 * scores))).astype(np.float64)
    curve = fit_isotonic(scores, labels)
    peer = IsotonicRegression().fit_transform(scores, labels)
    assert np.abs(curve(scores) - peer).mean() < 0.02
    assert 0 < curve.y.min() <= curve.y.max() < 1
