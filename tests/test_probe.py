"""Tests of `swift-client probe`: the best layer, evaluation on held-out questions, and the baselines to beat."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra 'train' is not installed")

from sklearn.neighbors import KNeighborsClassifier

from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.probe import FOLDS, probe
from swift_client.report.charts.probe import probe_svg
from tests.graded import graded_groups
from tests.test_hidden_training import LAYOUT, WIDTH, samples_file, with_states
from tests.test_train_command import samples_file as without_states


def test_the_layer_that_knows_stands_out_and_the_others_are_no_better_than_the_majority_class(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "s.db", with_states(graded_groups(120, signal=0.0), signal=1.0))
    result = probe(samples, grade="number", resamples=200)
    rows = {row.name: row for row in result.rows}

    assert list(rows) == ["layer 0", "layer 2", "layer 5", "vocabulary", "logprob features"]
    assert rows["layer 2"].minus_baseline.low > 0.15
    assert rows["layer 2"].within_question_auroc.low > 0.75
    for name in ("layer 0", "layer 5", "vocabulary"):
        assert rows[name].minus_baseline.low < 0.0
        assert rows[name].within_question_auroc.low < 0.5 < rows[name].within_question_auroc.high + 0.06
    assert (rows["layer 2"].width, result.questions, result.completions) == (WIDTH, 120, 720)


def test_a_question_s_own_mark_does_not_help_where_whole_questions_are_held_out(tmp_path: Path) -> None:
    # Every question has one label and a mark of its own: split by completion, the mark gives all labels away.
    rng, groups = np.random.default_rng(1), []
    for number, group in enumerate(with_states(graded_groups(60, n=6))):
        mark = rng.normal(0, 30, LAYOUT.columns)
        completions = tuple(
            replace(completion, hidden_states=(completion.hidden_states * 0.01 + mark).astype(np.float16))  # type: ignore[operator]
            for completion in group.completions
        )
        labels = np.full(6, float(number % 2))
        texts = tuple(replace(completion, text=f"The answer is {4 if number % 2 else 5}") for completion in completions)
        groups.append(Group(question_id=group.question_id, completions=texts, labels=labels))
    result = probe(samples_file(tmp_path / "s.db", groups), layers=[2], grade="number", resamples=100)
    layer = result.rows[0]
    assert layer.accuracy.low < 0.6
    assert math.isnan(layer.within_question_auroc.value)  # no question has both kinds

    means = np.stack([completion.hidden_states.mean(axis=0) for group in groups for completion in group.completions])  # type: ignore
    truth = np.concatenate([group.labels for group in groups])
    mixed = np.random.default_rng(0).permutation(len(truth))
    fitted, held_out = mixed[60:], mixed[:60]
    memory = KNeighborsClassifier(1).fit(means[fitted], truth[fitted])
    assert memory.score(means[held_out], truth[held_out]) > 0.95  # the mark is there to be remembered


def test_the_baseline_is_the_majority_class_worked_out_fold_by_fold(tmp_path: Path) -> None:
    groups = with_states(graded_groups(40, right=0.7))
    result = probe(samples_file(tmp_path / "s.db", groups), grade="number", resamples=50)
    labels = np.concatenate([group.labels for group in groups])
    assert result.right == pytest.approx(labels.mean())
    assert result.baseline.value == pytest.approx(labels.mean())  # right is more frequent in every fold


def test_without_captured_states_the_logprob_features_stand_alone_and_a_note_says_how_to_capture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = without_states(tmp_path / "s.db")
    result = probe(samples, grade="number", resamples=50)
    assert [row.name for row in result.rows] == ["logprob features"]
    assert "collect --capture" in result.notes[0]
    with pytest.raises(ConfigurationError, match="no file of hidden states"):
        probe(samples, layers=[1], grade="number")
    assert "<svg" in probe_svg(result)
    assert run(["probe", str(samples), "--grade", "number"]) == 0
    assert "logprob features" in capsys.readouterr().out


def test_the_command_prints_one_document_and_draws_every_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, svg = samples_file(tmp_path / "s.db", with_states(graded_groups(30))), tmp_path / "probe.svg"
    assert run(["probe", str(samples), "--grade", "number", "--layers", "5,2", "--svg", str(svg), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["layer"] for row in document["rows"]] == [5, 2, None]
    assert svg.read_text().count("<polygon") == 2
    assert run(["probe", str(samples), "--layers", "1"]) == 3
    assert "Hidden state 1 was not captured" in capsys.readouterr().err


def test_too_little_to_probe_is_one_sentence(tmp_path: Path) -> None:
    few = samples_file(tmp_path / "few.db", with_states(graded_groups(FOLDS - 1)))
    with pytest.raises(ConfigurationError, match="4 questions"):
        probe(few, grade="number")
    one_kind = [replace(group, labels=np.ones(6)) for group in with_states(graded_groups(8))]
    same = [
        replace(
            group, completions=tuple(replace(completion, text="The answer is 4") for completion in group.completions)
        )
        for group in one_kind
    ]
    with pytest.raises(ConfigurationError, match="not both right and wrong"):
        probe(samples_file(tmp_path / "same.db", same), grade="number")
