"""Tests of `swift-client curve`: nested sets of questions, heads evaluated on unseen questions, and pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from swift_client.cli.app import run
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.learning_curve import compute_curve
from swift_client.evaluation.result import Curve
from swift_client.models import save
from swift_client.report.charts.learning_curve import curve_svg
from swift_client.selection.voting import draw_orders
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.training.fit import fit
from swift_client.training.recipes import recipe_of
from swift_client.types import Usage
from tests.children import python
from tests.graded import graded_groups
from tests.test_hidden_training import samples_file as states_file
from tests.test_hidden_training import with_states

QUICK = replace(recipe_of("default"), epochs=3, identity=())
FAST: dict[str, Any] = {"recipe": QUICK, "answer": "number", "grade": "number", "subsets": 10, "resamples": 50}


def without_families(path: Path, seed: int = 0) -> Path:
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="pocket", model="m", top_logprobs=8))
        for group in graded_groups(40, seed=seed):
            store.add_questions([StoredQuestion(id=group.question_id, messages=(), answer="4")])
            store.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
    return path


def samples_file(path: Path, groups: list[Group]) -> Path:
    """Store groups of families "even" and "odd", by turns."""
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="pocket", model="m", top_logprobs=8))
        for index, group in enumerate(groups):
            family = "odd" if index % 2 else "even"
            question = StoredQuestion(
                id=group.question_id, messages=({"role": "user", "content": "2+2"},), answer="4", family=family
            )
            store.add_questions([question])
            store.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
    return path


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples_file(tmp_path_factory.mktemp("curve") / "s.db", graded_groups(120, n=6))


@pytest.fixture(scope="module")
def square(samples: Path) -> Curve:
    return compute_curve(samples, "family", n=4, **FAST)


def test_the_last_point_is_what_train_and_evaluate_say_and_majority_is_the_same_in_all(samples: Path) -> None:
    curve = compute_curve(samples, "questions", sizes=[40, 9999], n=4, **FAST)
    groups = StoredGroups([samples], grade="number")
    n_training = sum(Split().part(group.question_id) != "test" for group in groups)
    assert [point.size for point in curve.points] == [40, n_training]

    head = fit(groups, provider="pocket", model="m", recipe=QUICK, answer="number").artifact
    table = evaluate(head, groups, ns=[4], subsets=10, resamples=50, trained=False)
    for name in ("head", "head_vote", "oracle"):
        assert curve.points[-1].accuracy[name] == table.row(name).accuracy[4]
    assert curve.points[-1].within_question_auroc == table.row("head").within_question_auroc
    first, last = curve.points
    for name in ("majority", "mean_logprob", "first", "oracle"):
        assert first.accuracy[name] == last.accuracy[name]
    assert first.accuracy["head"] != last.accuracy["head"]
    assert first.tested == 120 - n_training


def test_smaller_sets_lie_within_larger_ones_and_none_holds_a_test_question(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_sets: list[set[str]] = []

    def watched(groups: object, **options: object) -> object:
        training_sets.append({group.question_id for group in groups})  # type: ignore[attr-defined]
        return fit(groups, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("swift_client.training.fit.fit", watched)
    compute_curve(samples, "questions", sizes=[30, 60], n=2, **FAST)
    assert [len(ids) for ids in training_sets[:2]] == [30, 60]
    assert training_sets[0] < training_sets[1] < training_sets[2]
    assert {Split().part(key) for key in training_sets[2]} == {"train", "validation"}

    training_sets.clear()
    compute_curve(samples, "family", n=2, **FAST)
    even = {f"q0-{number}" for number in range(0, 120, 2)}
    assert training_sets[0] < even
    assert training_sets[1].isdisjoint(even)
    assert training_sets[2] == training_sets[0] | training_sets[1]


def test_families_are_judged_on_their_own_test_questions_by_every_head(samples: Path, square: Curve) -> None:
    assert [(point.trained_on, point.tested_on) for point in square.points] == [
        (trained, tested) for trained in ("even", "odd", "all") for tested in ("even", "odd")
    ]
    groups = list(StoredGroups([samples], grade="number"))
    for point in square.points:
        own = [group for group in groups if group.family == point.tested_on]
        plain = evaluate(None, own, ns=[4], subsets=10, resamples=50, trained=False, answer="number")
        assert point.tested == plain.questions
        assert point.accuracy["majority"] == plain.row("majority").accuracy[4]
        assert point.accuracy["oracle"] == plain.row("oracle").accuracy[4]


def test_a_head_that_is_given_is_judged_at_every_n_and_nothing_is_trained(samples: Path, tmp_path: Path) -> None:
    groups = StoredGroups([samples], grade="number")
    head = fit(groups, provider="pocket", model="m", recipe=QUICK, answer="number").artifact
    save(head, tmp_path / "head.safetensors")
    curve = compute_curve(samples, "n", ns=[1, 2, 6, 64], head=tmp_path / "head.safetensors", **FAST)
    trained = compute_curve(samples, "n", ns=[1, 2, 6], **FAST)
    assert [point.n for point in curve.points] == [1, 2, 6]
    assert any("64" in note for note in curve.notes)
    assert [point.accuracy for point in curve.points] == [point.accuracy for point in trained.points]
    assert curve.points[0].size == 0 < trained.points[0].size
    at_one = curve.points[0].accuracy
    assert at_one["head"] == at_one["first"] == at_one["oracle"]


def test_other_questions_may_be_judged_on_and_then_all_of_the_samples_train(samples: Path, tmp_path: Path) -> None:
    other = samples_file(tmp_path / "t.db", graded_groups(30, seed=8))
    curve = compute_curve(samples, "questions", sizes=[], n=4, test=other, **FAST)
    assert [(point.size, point.tested) for point in curve.points] == [(120, 30)]


@pytest.mark.parametrize(
    ("over", "options", "message"),
    [
        ("questions", {"sizes": [3], "n": 4}, "Trained on 3 questions"),
        ("questions", {"n": 9}, "No question has 9 completions"),
        ("n", {"ns": [50]}, "No question has 50 completions"),
        ("tokens", {}, "no curve over 'tokens'"),
        ("questions", {"seeds": 0}, "must all be 1 or more"),
        ("family", {"head": "h.safetensors"}, "curve over n only"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    samples: Path, over: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compute_curve(samples, over, **FAST | options)  # type: ignore[arg-type]


def test_one_family_is_none(samples: Path) -> None:
    with pytest.raises(ConfigurationError, match="one family, 'unknown'"):
        compute_curve(without_families(samples.parent / "one.db"), "family", n=2, **FAST)


def test_a_question_that_is_for_judging_too_trains_no_head_and_a_note_says_so(samples: Path, tmp_path: Path) -> None:
    judged_file = samples_file(tmp_path / "some.db", graded_groups(120)[:20])
    curve = compute_curve(samples, "questions", sizes=[500], n=2, test=judged_file, **FAST)
    assert [(point.size, point.tested) for point in curve.points] == [(100, 20)]
    assert "20 questions are in the test files too" in curve.notes[0]
    assert "500 questions are left out: there are 100" in curve.notes[1]


def test_majority_first_and_oracle_are_those_of_a_plain_loop(samples: Path) -> None:
    (point,) = compute_curve(samples, "n", ns=[4], **FAST).points
    majority, first, oracle = [], [], []
    for group in graded_groups(120):
        if Split().part(group.question_id) != "test":
            continue
        for draw in draw_orders(6, 4, max_subsets=10, seed=0):
            answers = [group.completions[index].text.split()[-1] for index in draw]
            majority.append(max(answers, key=lambda one: (answers.count(one), -answers.index(one))) == "4")
            first.append(answers[0] == "4")
            oracle.append("4" in answers)
    assert point.accuracy["majority"].value == pytest.approx(np.mean(majority))
    assert point.accuracy["oracle"].value == pytest.approx(np.mean(oracle))
    assert point.accuracy["first"].value == pytest.approx(np.mean(first))


def test_several_seeds_are_averaged_with_their_spread_and_share_the_draws(samples: Path) -> None:
    options = FAST | {"sizes": [40], "n": 3}
    point = compute_curve(samples, "questions", **options).points[0]
    both = compute_curve(samples, "questions", seeds=2, **options)
    small, full = both.points
    assert (small.heads, full.heads, point.heads) == (2, 2, 1)
    assert small.accuracy["majority"] == point.accuracy["majority"]
    assert small.spread["majority"] == 0 < small.spread["within_question_auroc"]
    one = point.within_question_auroc.value
    other = 2 * small.within_question_auroc.value - one
    assert small.spread["within_question_auroc"] == pytest.approx(abs(one - other) / np.sqrt(2))


def test_of_several_files_one_without_families_is_a_family(tmp_path: Path) -> None:
    files = [without_families(tmp_path / f"{name}.db", seed) for name, seed in (("sums", 0), ("coins", 1))]
    curve = compute_curve(files, "family", n=2, **FAST)
    assert {point.tested_on for point in curve.points} == {"sums", "coins"}


def test_a_family_without_a_test_question_is_named(samples: Path, tmp_path: Path) -> None:
    other = samples_file(tmp_path / "t.db", graded_groups(1, seed=3))  # of the family "even"
    with pytest.raises(ConfigurationError, match="No test question is of the family 'odd'"):
        compute_curve(samples, "family", n=2, test=other, **FAST)


def test_a_recipe_that_reads_hidden_states_learns_from_the_captured_layers(tmp_path: Path) -> None:
    groups = with_states(graded_groups(60, n=4, signal=0.0), signal=2.0)
    captured = states_file(tmp_path / "s.db", groups)
    row = replace(recipe_of("hidden", layers=[2]), epochs=12)
    blind, seeing = (
        compute_curve(captured, "questions", sizes=[], n=2, **FAST | {"recipe": recipe}).points[0]
        for recipe in (QUICK, row)
    )
    assert seeing.within_question_auroc.value > 0.8 > blind.within_question_auroc.value
    with pytest.raises(ConfigurationError, match="Hidden state 1 was not captured"):
        compute_curve(captured, "questions", **FAST | {"recipe": recipe_of("hidden", layers=[1])})


def test_a_note_says_which_heads_it_is_about(samples: Path) -> None:
    weak_recipe = replace(QUICK, epochs=1, learning_rate=1e-9, steps=1)
    curve = compute_curve(samples, "questions", sizes=[40], n=2, **FAST | {"recipe": weak_recipe})
    about = [note for note in curve.notes if "no better than chance" in note]
    weak = [point.trained_on for point in curve.points if not point.helping]
    assert bool(about) == bool(weak)
    if 0 < len(weak) < len(curve.points):
        assert about[0].startswith(f"Heads trained on {weak[0]}: ")


def test_the_command_prints_a_table_or_one_document_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    svg, few = tmp_path / "curve.svg", samples_file(tmp_path / "few.db", graded_groups(40, n=4))
    common = [str(few), "--answer", "number", "--grade", "number", "--subsets", "5"]
    assert run(["curve", *common, "--over", "n", "--n", "1", "--n", "2", "--n", "4", "--svg", str(svg), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [point["n"] for point in document["points"]] == [1, 2, 4]
    assert {"majority", "oracle", "head_vote"} <= set(document["points"][0]["accuracy"])
    assert svg.read_text().count("<circle") == 5 * 3
    assert run(["curve", *common, "--over", "family", "--n", "2", "--svg", str(svg)]) == 0
    assert "even" in capsys.readouterr().out
    assert svg.read_text().count("<rect") == 6
    assert run(["curve", *common, "--sizes", "20", "--n", "2", "--seeds", "2"]) == 0
    output = capsys.readouterr().out
    assert "AUROC" in output
    assert "Means over 2 heads" in output


@pytest.mark.parametrize(
    "arguments",
    [["--head", "h.safetensors"], ["--over", "family", "--n", "1", "--n", "2"], ["--svg", "/nowhere/x.svg"]],
)
def test_wrong_options_are_refused_before_anything_is_read(arguments: list[str]) -> None:
    assert run(["curve", "missing.db", *arguments]) == 3


def test_names_of_families_are_text_in_the_picture(samples: Path, square: Curve) -> None:
    named = replace(square, points=tuple(replace(point, trained_on="<script>") for point in square.points))
    assert "<script>" not in curve_svg(named)
    lone = compute_curve(samples, "n", ns=[2], **FAST)
    assert "nan" not in curve_svg(lone)
    assert not np.isnan(lone.points[0].accuracy["majority"].value)


def test_without_torch_the_command_names_the_extra(samples: Path, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from swift_client.cli.app import run
sys.exit(run(["curve", {str(samples)!r}, "--n", "2"]))
"""
    result = python("-c", code, cwd=tmp_path)

    assert result.returncode == 3, result.stderr
    assert "swift-client[train]" in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
