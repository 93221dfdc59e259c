"""Tests of training and calibration by feedback: closed forms, and files whose truth is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swift_client import training
from swift_client.cli.app import run
from swift_client.dataset.feedback import feedback_groups
from swift_client.dataset.selection_bias import ShownChoice, estimate_bias
from swift_client.errors import ConfigurationError
from swift_client.evaluation.risk.feedback_threshold import FeedbackCoverage, certify_from_feedback
from swift_client.evaluation.risk.threshold import certify
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact, load, save
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training.calibration import fit_isotonic, fit_platt
from swift_client.training.fit import fit
from swift_client.training.losses import LOSSES, Labels
from swift_client.training.metrics import brier, expected_calibration_error, pooled_auroc
from swift_client.training.question_kind import sketch_questions
from swift_client.types import Bool, Selection
from tests.feedback_files import write_choices
from tests.graded import graded_groups
from tests.test_selection_bias import write

N = 6


@cache
def head() -> HeadArtifact:
    return fit(graded_groups(60, signal=4.0, n=N), provider="p", model="m").artifact


# Weights


def repeated(values: F64, weights: F64) -> F64:
    return np.repeat(values, weights.astype(int))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_question_of_weight_two_counts_as_two_in_every_loss(name: str) -> None:
    rng = np.random.default_rng(2)
    scores, labels = torch.tensor(rng.normal(size=9)), np.array([1.0, 0, 0, 1, 1, 0, 0, 1, 0])
    question, weights = np.repeat(np.arange(3), 3), np.repeat([1.0, 2.0, 1.0], 3)
    options: dict[str, Any] = {"dtype": torch.float64, "device": torch.device("cpu")}
    weighted = LOSSES[name](scores, Labels.from_arrays(labels, question, weights=weights * 3 / 4, **options))
    rows = np.array([0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8])
    twice = LOSSES[name](scores[rows], Labels.from_arrays(labels[rows], np.repeat(np.arange(4), 3), **options))

    assert weighted.item() == pytest.approx(twice.item())


def test_a_weight_of_two_counts_as_two_labels_in_calibration_and_metrics() -> None:
    rng = np.random.default_rng(4)
    scores = rng.normal(size=400).round(2)
    labels = (rng.random(400) < 1 / (1 + np.exp(-scores))).astype(np.float64)
    weights = rng.integers(1, 4, 400).astype(np.float64)
    many = repeated(scores, weights), repeated(labels, weights)

    platt, same = fit_platt(scores, labels, weights), fit_platt(*many)
    assert (platt.a, platt.b) == pytest.approx((same.a, same.b), rel=1e-5)
    points = np.linspace(-2, 2, 50)
    assert fit_isotonic(scores, labels, weights)(points) == pytest.approx(fit_isotonic(*many)(points))
    chances = 1 / (1 + np.exp(-scores))
    assert brier(chances, labels, weights) == pytest.approx(brier(repeated(chances, weights), many[1]))
    assert pooled_auroc(scores, labels, weights) == pytest.approx(pooled_auroc(*many))
    # One bin is the difference of the means.
    error = abs(np.average(chances, weights=weights) - np.average(labels, weights=weights))
    assert expected_calibration_error(chances, labels, weights, bins=1) == pytest.approx(error)


# Threshold


def coverage(is_known: Bool, propensities: F64, seed: int = 0) -> FeedbackCoverage:
    ids = [f"{seed}-{number}" for number in range(len(is_known))]
    return FeedbackCoverage(is_known=is_known, propensities=propensities, question_ids=ids)


def test_feedback_on_every_choice_gives_the_exact_test_of_all_choices() -> None:
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=800)
    correct = rng.random(800) < 1 / (1 + np.exp(-2.5 - 2 * log_odds))
    tested = certify_from_feedback(
        log_odds, correct, coverage(np.ones(800, bool), np.ones(800)), risk=0.05, confidence=0.9
    )

    assert tested == certify(log_odds, correct, risk=0.05, confidence=0.9)


def test_a_threshold_is_never_below_the_region_with_feedback() -> None:
    """All answers are right, but nobody says so of the less confident half."""
    log_odds = np.arange(2000, 0, -1.0)
    is_known = (log_odds > 1000) & (np.arange(2000) % 2 == 0)
    propensities = np.where(log_odds > 1000, 0.5, 0.0)
    tested = certify_from_feedback(
        log_odds, np.ones(2000, bool), coverage(is_known, propensities), risk=0.05, confidence=0.9
    )

    assert tested.threshold is not None
    assert 900 <= tested.threshold <= 1000 + 100  # at most about 5 % of what is accepted may be of the other half
    assert tested.accepted == pytest.approx(500, abs=60)


def test_rare_feedback_is_thinned_to_a_random_sample() -> None:
    # Above: 1,000 choices, all known, 4 % wrong; below: 1,000 of which 100 are known, 20 % wrong. Largest weight 10.
    log_odds = np.arange(2000, 0, -1.0)
    above = log_odds > 1000
    is_known = above | (np.arange(2000) % 10 == 0)
    correct = np.where(above, np.arange(2000) % 25 > 0, np.arange(2000) % 50 > 0)
    table_coverage = coverage(is_known, np.where(above, 1.0, 0.1))
    all_choices = certify_from_feedback(log_odds, correct, table_coverage, risk=0.5, confidence=0.9)

    assert all_choices.threshold == 1.0  # everything is accepted at a risk of 50 %
    assert all_choices.accepted == pytest.approx(200, abs=3 * math.sqrt(100 * 0.9))  # 100 of each half
    assert all_choices.questions == all_choices.accepted


SHAPES = {
    "the same everywhere": lambda confidence: np.full(len(confidence), 0.5),
    "more on confident answers": lambda confidence: 0.02 + 0.9 * confidence**4,
    "only on accepted answers": lambda confidence: np.where(confidence > 0.6, 0.3, 0.0),
    "mostly on accepted answers": lambda confidence: np.where(confidence > 0.6, 0.4, 0.02),
    "more on unsure answers": lambda confidence: 0.6 - 0.5 * confidence,
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_stated_risk_holds_under_biased_feedback(shape: str) -> None:
    """The truth is known: answers of confidence c are wrong with probability .35 · (1 - c)."""
    rng = np.random.default_rng(17)
    trials, choices, risk = 150, 1200, 0.1
    broken = broken_without_weights = certified = 0
    for trial in range(trials):
        confidence = rng.random(choices)
        right = rng.random(choices) > 0.35 * (1 - confidence)
        is_known = rng.random(choices) < SHAPES[shape](confidence)
        seen = [
            ShownChoice(served_as=None, accepted=bool(value > 0.6), measure="probability", confidence=value)
            for value in confidence
        ]
        propensities = estimate_bias(seen, is_known).propensities
        tested = certify_from_feedback(
            confidence, right, coverage(is_known, propensities, trial), risk=risk, confidence=0.9
        )
        plain = certify(confidence[is_known], right[is_known], risk=risk, confidence=0.9)
        # Answers above a threshold t are wrong with probability .35 · (1 - t) / 2.
        certified += tested.threshold is not None
        broken += tested.threshold is not None and 0.35 * (1 - tested.threshold) / 2 > risk
        broken_without_weights += plain.threshold is not None and 0.35 * (1 - plain.threshold) / 2 > risk
    limit = 0.1 + 3 * math.sqrt(0.1 * 0.9 / trials)
    assert broken / trials <= limit
    assert certified / trials > (0.1 if shape == "more on unsure answers" else 0.6)
    if shape == "more on confident answers":
        assert broken_without_weights / trials > 0.5  # why weights are needed


# Files


def confident_only(selection: Selection) -> float:
    """Return a chance of feedback that grows with the probability of the answer."""
    return 0.05 + 0.9 * (selection.answer_probability or 0.0) ** 3


def test_a_head_is_calibrated_on_feedback_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(head(), tmp_path / "head.safetensors")
    groups = graded_groups(400, signal=4.0, seed=9, right=0.75, n=N)
    write_choices(tmp_path / "kept.db", groups, SelectionConfig(scorer=head()), chance=confident_only)
    files = [str(tmp_path / "head.safetensors"), str(tmp_path / "kept.db")]
    code = run(["calibrate", *files, "--risk", "0.2", "--n", str(N), "--split", "all", "--feedback", "--json"])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    (stored,) = load(tmp_path / "head.safetensors").acceptances
    assert (stored.source, shown["source"]) == ("feedback", "feedback")
    assert any("are known to be right or wrong" in note for note in shown["notes"])
    config = SelectionConfig(scorer=load(tmp_path / "head.safetensors"))
    fresh = graded_groups(200, signal=4.0, seed=10, right=0.75, n=N)
    errors = wrong_share(tmp_path / "fresh.db", fresh, config)
    assert errors <= 0.2


def wrong_share(path: Path, groups: list[Any], config: SelectionConfig) -> float:
    """Return the share of accepted answers that are wrong, by feedback on all of them."""
    write_choices(path, groups, config, chance=lambda selection: float(selection.accepted is True))
    labelled = [group for group in feedback_groups(path) if group.feedback_on is not None]
    assert len(labelled) > 80
    return float(np.mean([group.labels[group.feedback_on] == 0 for group in labelled]))


def test_an_overlook_rate_asks_for_more(tmp_path: Path) -> None:
    groups = graded_groups(300, signal=4.0, seed=9, right=0.75, n=N)
    write_choices(tmp_path / "kept.db", groups, SelectionConfig(scorer=head()), chance=lambda selection: 1.0)
    options: dict[str, Any] = {"risk": 0.1, "n": N, "split": "all", "feedback": True}
    plain = training.calibrate(head(), tmp_path / "kept.db", **options)
    careful = training.calibrate(head(), tmp_path / "kept.db", overlook_rate=0.3, **options)
    strict = training.calibrate(head(), tmp_path / "kept.db", **options | {"risk": 0.07})

    # 30 % of the wrong answers are overlooked, so .1 · (1 - .3) may show.
    assert careful.tested.threshold == strict.tested.threshold
    assert plain.acceptance is not None
    assert careful.acceptance is not None
    assert careful.acceptance.threshold > plain.acceptance.threshold
    assert careful.acceptance.risk == 0.1
    with pytest.raises(ConfigurationError, match="overlook_rate"):
        training.calibrate(head(), tmp_path / "kept.db", **options | {"feedback": False, "overlook_rate": 0.1})


def test_a_file_with_too_little_feedback_certifies_nothing_and_says_why(tmp_path: Path) -> None:
    groups = graded_groups(100, signal=4.0, seed=9, right=0.75, n=N)
    write_choices(tmp_path / "kept.db", groups, SelectionConfig(scorer=head()), chance=lambda selection: 0.1)
    result = training.calibrate(head(), tmp_path / "kept.db", risk=0.05, n=N, split="all", feedback=True)

    assert result.acceptance is None
    assert "too rare" in result.reason


def test_feedback_on_choices_of_another_kind_is_not_called_rare_alone(tmp_path: Path) -> None:
    groups = graded_groups(60, signal=4.0, seed=9, right=0.9, n=N)
    write_choices(tmp_path / "kept.db", groups, SelectionConfig(scorer=head()), chance=lambda selection: 1.0)
    other = [[{"role": "user", "content": f"Translate the poem number {number} into French."}] for number in range(100)]
    own = replace(head(), sketch=sketch_questions(other, np.arange(100) % 5))
    result = training.calibrate(own, tmp_path / "kept.db", risk=0.3, n=N, split="all", feedback=True)

    assert result.acceptance is None
    assert "another kind" in result.reason


def test_training_learns_from_feedback_and_takes_its_verdict_from_grades(tmp_path: Path) -> None:
    groups = graded_groups(200, signal=4.0, seed=21, n=N)
    right = write_choices(tmp_path / "kept.db", groups, SelectionConfig(), chance=lambda selection: 0.8)
    result = training.train(tmp_path / "kept.db", feedback=True)

    facts = result.artifact.training
    assert facts["verdict"] == "not enough questions to tell"  # feedback cannot compare choices
    assert facts["comparison"]["questions"] == facts["vote_exponents"]["questions"] == 0
    assert facts["feedback"]["known"] == pytest.approx(160, abs=20)
    assert facts["unlabelled"] == 0
    assert result.metrics["pooled_auroc"] > 0.7
    assert result.artifact.beta == 1.0
    assert 0.4 < right < 1
    assert result.notes
    # Questions that nothing was learnt from: the head ranks their completions by the truth.
    graded = training.evaluate(
        result.artifact, graded_groups(100, signal=4.0, seed=22, n=N), split="all", trained=False
    )
    auroc = graded.row("head").within_question_auroc
    assert auroc is not None
    assert auroc.low > 0.7


def test_feedback_needs_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="from samples files, not from groups"):
        training.calibrate(head(), graded_groups(5), risk=0.2, feedback=True)


# Evaluation


def test_bounds_of_other_choices_by_hand(tmp_path: Path) -> None:
    """Two questions: the choice 4 was right, and the choice 5 was wrong; the default prefers 5 and 6."""
    answers = (("4", "5", "5"), ("5", "6", "6"))
    rows = [("a", answers[0], 0, True), ("b", answers[1], 0, False), ("c", answers[1], 1, None)]
    result = training.evaluate_feedback(None, write(tmp_path / "kept.db", rows, probability=0.8), split="all")

    assert (result.choices, result.known_choices, result.effective_size) == (3, 2, 2)
    assert result.made_accuracy.value == 0.5
    assert result.changed_share.value == 1.0
    assert (result.min_change.value, result.max_change.value) == (-0.5, 0.0)  # a right answer is lost; 6 may be right
    assert result.brier is result.brier_minus_stored is None  # without a head there is no probability


def test_the_truth_lies_between_the_bounds_for_all_choices(tmp_path: Path) -> None:
    groups = graded_groups(150, signal=4.0, seed=31, n=N)
    plain, config = SelectionConfig(scorer="mean_logprob"), SelectionConfig(scorer=head())
    right = write_choices(
        tmp_path / "kept.db", groups, plain, chance=lambda selection: 0.3 + 0.6 * (share(selection) > 0.6)
    )
    chosen = [select_best(group.completions, config).winner for group in groups]
    truth = float(np.mean([group.labels[winner] for group, winner in zip(groups, chosen, strict=True)]))
    result = training.evaluate_feedback(head(), tmp_path / "kept.db", split="all")

    assert result.made_accuracy.low <= right <= result.made_accuracy.high
    assert result.min_change.low <= truth - right <= result.max_change.high
    assert result.min_change.value < result.max_change.value
    assert result.brier is not None
    assert result.auroc is not None
    assert result.auroc > 0.6


def share(selection: Selection) -> float:
    """Return the share of the candidates with the chosen answer."""
    groups = [candidate.group for candidate in selection.candidates]
    return groups.count(groups[selection.winner]) / len(groups)


def test_the_probability_of_the_chosen_answer_is_compared_with_the_stored_one(tmp_path: Path) -> None:
    groups = graded_groups(60, signal=4.0, seed=32, n=N)
    config = SelectionConfig(scorer=head())
    write_choices(tmp_path / "kept.db", groups, config, chance=lambda selection: 1.0)
    same = training.evaluate_feedback(head(), tmp_path / "kept.db", split="all")

    assert same.changed_share.value == 0
    assert same.min_change.value == same.max_change.value == 0
    assert same.brier_minus_stored is not None
    assert same.brier_minus_stored.value == pytest.approx(0, abs=1e-3)  # it is the head that chose
    probabilities = [select_best(group.completions, config) for group in groups]
    errors = [
        ((selection.answer_probability or 0.0) - group.labels[selection.winner]) ** 2
        for group, selection in zip(groups, probabilities, strict=True)
    ]
    assert same.brier is not None
    assert same.brier.value == pytest.approx(np.mean(errors), abs=2e-4)  # the file has alternatives in 16 bits


def test_the_command_shows_what_feedback_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = graded_groups(40, signal=4.0, seed=33, n=N)
    write_choices(tmp_path / "kept.db", groups, SelectionConfig(scorer=head()), chance=lambda selection: 0.7)
    save(head(), tmp_path / "head.safetensors")
    command = [
        "evaluate",
        str(tmp_path / "head.safetensors"),
        str(tmp_path / "kept.db"),
        "--split",
        "all",
        "--feedback",
    ]

    assert run(command) == 0
    shown = capsys.readouterr()
    assert "prefers another answer in 0.0 [0.0, 0.0] %" in shown.out
    assert "change if unknown answers are wrong" in shown.out
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed_share"]["value"] == 0
    assert run([*command, "--n", "2"]) == 3
