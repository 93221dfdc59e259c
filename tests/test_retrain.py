"""`retrain`: a new head from feedback replaces the one in use only if held-out choices show that it is better."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra 'train' is not installed")

from swift_client.cli import output
from swift_client.cli.maintenance import retrain as retrain_command
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ArtifactMismatchError, ConfigurationError
from swift_client.evaluation.pools import Pool, build_pool, head_scorer
from swift_client.models import GatedLinearHead, HeadArtifact, PlattCalibration, Standardizer, kept_heads, load, save
from swift_client.models.artifact import BETTER_VERDICT, NO_BETTER_VERDICT, TOO_FEW_VERDICT
from swift_client.retraining import Retraining, retrain
from swift_client.retraining.expected_labels import answer_probability, with_expected_labels
from swift_client.retraining.held_out import FeedbackLabels, HeldOut
from swift_client.retraining.retrain import complete_from, decide
from swift_client.selection.select import SelectionConfig
from swift_client.types import Selection
from tests.children import command
from tests.feedback_files import write_choices
from tests.graded import graded_groups
from tests.test_cascade import acceptance

SPLIT = {"validation": 0.2, "test": 0.2, "seed": 0}


def old_head(weight: float = -1.0, **changes: Any) -> HeadArtifact:
    """A head in use, whose score is the mean logprob times ``weight``: a negative one prefers hesitant answers."""
    head = HeadArtifact(
        features=("logprob",),
        width=8,
        standardizer=Standardizer(mean=np.zeros(1), scale=np.ones(1)),
        head=GatedLinearHead(gate_weight=[0.0], gate_bias=0.0, reward_weight=[weight], reward_bias=0.0),
        calibration=PlattCalibration(a=1.0, b=0.0),
        provider="p",
        model="m",
        k_min=0,
        k_max=8,
        beta=2.0,
        training={"split": SPLIT, "answer": "number", "verdict": BETTER_VERDICT},
    )
    return replace(head, **changes)


def write(
    folder: Path,
    head: HeadArtifact,
    groups: Sequence[Group],
    chance: Callable[[Selection], float] = lambda selection: 1.0,
    **options: Any,
) -> tuple[Path, Path]:
    """Write a head in use, and a file of its choices with feedback; return both paths."""
    save(head, folder / "head.safetensors")
    config = SelectionConfig(scorer=head, answer="number", force_head=True)
    write_choices(folder / "kept.db", groups, config, chance=chance, **options)
    return folder / "head.safetensors", folder / "kept.db"


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    """Questions whose wrong answers hesitate, so that much can be learnt."""
    return graded_groups(240, n=4, signal=4.0)


class Installed(NamedTuple):
    """A retraining whose head was installed."""

    result: Retraining
    path: Path
    samples: Path
    before: bytes  # the file of the head in use


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, groups: list[Group]) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    path, samples = write(folder, old_head(acceptances=(acceptance(1.0, answer="number"),)), groups)
    before = path.read_bytes()
    return Installed(retrain(samples, path, install=True, out=folder / "new.safetensors"), path, samples, before)


def test_a_head_that_feedback_shows_to_be_better_is_installed_and_the_old_one_kept(
    installed: Installed, groups: list[Group]
) -> None:
    result, path, samples, before = installed

    assert result.is_better, result.reason
    assert result.difference.mean.low > 0
    assert result.is_installed
    assert load(path).training["retraining"]["difference"]["mean"]["value"] == result.difference.mean.value
    assert (path.parent / "new.safetensors").read_bytes() == path.read_bytes()
    (old,) = kept_heads(path)
    assert old.path.read_bytes() == before
    # Too few grades to learn them: from the head in use.
    assert (load(path).beta, load(path).beats_majority) == (2.0, True)
    # Nothing is lost in silence.
    assert load(path).acceptances == ()
    assert [row.n for row in result.lost_acceptances] == [4]
    assert any("accepts no answer" in note for note in result.notes)
    (line,) = result.commands
    assert line.startswith(f"swift-client calibrate {path} {samples} --risk 0.05 --confidence 0.9 --n 4")
    assert line.endswith("--answer number --feedback")
    # The test questions of the old head's split judge, and no others.
    questions = {group.question_id for group in groups if Split(**SPLIT).part(group.question_id) == "test"}
    assert result.known == len(questions) == result.difference.questions
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_head_that_learns_from_words_at_random_is_refused_and_nothing_is_written(
    tmp_path: Path, groups: list[Group]
) -> None:
    rng = np.random.default_rng(5)
    mixed = [replace(group, labels=rng.permutation(group.labels)) for group in groups]
    path, samples = write(tmp_path, old_head(4.0), mixed)
    before = path.read_bytes()
    result = retrain(samples, path, install=True, out=tmp_path / "new.safetensors")

    assert not result.is_better
    assert result.difference.mean.low <= 0
    assert "not clearly better" in result.reason
    assert path.read_bytes() == before
    assert kept_heads(path) == ()
    assert not (tmp_path / "new.safetensors").exists()


def test_too_few_feedbacks_are_counted_before_anything_is_trained(tmp_path: Path, groups: list[Group]) -> None:
    path, samples = write(tmp_path, old_head(), groups[:60])
    with pytest.raises(ConfigurationError, match="held out for the comparison: 30 are needed") as error:
        retrain(samples, path)

    held_out = sum(Split(**SPLIT).part(group.question_id) == "test" for group in groups[:60])
    assert f"Of 60 answers with feedback, {held_out} are held out" in error.value.message
    assert f"About {5 * (30 - held_out)} more answers with feedback" in error.value.hint


def test_graded_questions_are_not_counted_as_feedback(tmp_path: Path, groups: list[Group]) -> None:
    from tests.test_agreement import samples_file

    path, samples = write(tmp_path, old_head(provider="pocket"), groups[:60], provider="pocket")
    graded = samples_file(tmp_path / "graded.db", groups[60:100])
    with pytest.raises(ConfigurationError, match="Of 60 answers with feedback"):
        retrain([samples, graded], path)


def test_the_head_in_use_is_no_place_for_the_new_one(tmp_path: Path, groups: list[Group]) -> None:
    path, samples = write(tmp_path, old_head(), groups)
    before = path.read_bytes()
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    for out in (path, link):
        with pytest.raises(ConfigurationError, match="would be lost"):
            retrain(samples, path, out=out)
    assert path.read_bytes() == before


def test_a_head_that_changed_during_the_training_is_not_replaced(tmp_path: Path, groups: list[Group]) -> None:
    path, samples = write(tmp_path, old_head(), groups)
    other = old_head(beta=1.0)
    with pytest.raises(ConfigurationError, match="changed while the new head was trained"):
        retrain(samples, path, install=True, progress=lambda stage, done: save(other, path))
    assert load(path).beta == 1.0
    assert kept_heads(path) == ()


def test_graded_files_without_feedback_are_judged_by_their_grades(tmp_path: Path, groups: list[Group]) -> None:
    from tests.test_agreement import samples_file

    path = samples_file(tmp_path / "graded.db", groups)
    save(old_head(provider="pocket"), tmp_path / "head.safetensors")
    result = retrain(path, tmp_path / "head.safetensors")

    assert "graded questions" in result.reason
    assert result.known == sum(Split(**SPLIT).part(group.question_id) == "test" for group in groups)
    assert result.artifact.training["comparison"]["questions"] == result.known  # its own verdict, not the old one's
    assert result.is_better == (result.difference.mean.low > 0 and result.artifact.beats_majority)
    assert not result.is_installed


def test_heads_that_cannot_be_replaced_are_refused(tmp_path: Path, groups: list[Group]) -> None:
    path, samples = write(tmp_path, old_head(model="another"), groups[:40])
    with pytest.raises(ArtifactMismatchError):
        retrain(samples, path)
    save(old_head(training={"split": {**SPLIT, "test": 0.0}, "answer": "number"}), path)
    with pytest.raises(ConfigurationError, match="no test questions"):
        retrain(samples, path)
    with pytest.raises(ConfigurationError, match="part of swift-client"):
        retrain(samples, "pocket/pocket")


def test_a_head_in_use_that_was_set_aside_hands_on_no_verdict(installed: Installed) -> None:
    untested = replace(old_head(), training={"verdict": TOO_FEW_VERDICT, "vote_exponents": {"questions": 0}})
    aside = old_head(training={"verdict": NO_BETTER_VERDICT})
    in_use = old_head(training={"verdict": BETTER_VERDICT, "comparison": {"rule": "default"}})

    assert complete_from(untested, in_use)[0].beats_majority
    assert complete_from(untested, in_use)[0].training["comparison"] == {"rule": "default"}
    new, notes = complete_from(untested, aside)
    assert (new.beats_majority, notes) == (False, [])
    is_better, reason = decide(new, installed.result.difference, "held-out choices")
    assert not is_better
    assert "not proposed" in reason


# --- the labels and weights, by hand --------------------------------------------------------------------------------


def pool_of(head: HeadArtifact, group: Group) -> Pool:
    return build_pool(group, {"head": head_scorer(head)}, "number")


def test_unknown_answers_after_a_wrong_one_share_the_odds_that_are_left() -> None:
    (group,) = graded_groups(1, n=4)
    head = old_head(beta=1.0)
    completions = [replace(c, text=f"The answer is {a}") for c, a in zip(group.completions, (5, 5, 6, 7), strict=True)]
    labels = np.array([0.0, 0.0, np.nan, np.nan])
    pool = pool_of(head, replace(group, completions=tuple(completions), labels=labels))
    odds = pool.probabilities["head"] / (1 - pool.probabilities["head"])
    left = 1 + odds[2] + odds[3]

    expected = with_expected_labels(pool, head).labels
    assert expected == pytest.approx([0, 0, odds[2] / left, odds[3] / left])
    assert answer_probability(pool, 0, head) == pytest.approx((odds[0] + odds[1]) / (1 + odds.sum()))
    nothing = with_expected_labels(replace(pool, labels=np.full(4, np.nan)), head).labels
    assert nothing == pytest.approx(
        np.array([odds[0] + odds[1], odds[0] + odds[1], odds[2], odds[3]]) / (1 + odds.sum())
    )
    known = replace(pool, labels=np.array([0.0, 0.0, 1.0, 0.0]))
    assert with_expected_labels(known, head) is known


def test_the_head_in_use_loses_no_expected_label_against_any_other_choice() -> None:
    head = old_head(beta=1.0)
    for group in graded_groups(30):
        pool = with_expected_labels(replace(pool_of(head, group), labels=np.full(6, np.nan)), head)
        best = max(range(6), key=lambda position: answer_probability(pool, position, head))
        assert pool.labels.max() == pytest.approx(pool.labels[best])


def test_wrong_answers_count_for_no_more_than_the_head_in_use_expects(tmp_path: Path, groups: list[Group]) -> None:
    head = old_head(4.0, calibration=PlattCalibration(a=1.0, b=6.0))
    labels = FeedbackLabels(head, HeldOut(groups=[], split=Split()))
    weights = np.where(np.arange(60) < 20, 3.0, 1.0)
    expected = []
    for number, (group, weight) in enumerate(zip(groups[:60], weights, strict=True)):
        outcome = float(number % 3 == 0)  # two of three are reported wrong
        known = np.where(np.arange(4) == 0, outcome, np.nan)
        asked = replace(group, labels=known, feedback_on=0, weight=weight)
        pool = pool_of(head, asked)
        expected.append(answer_probability(pool, 0, head))
        labels.adjust(pool, asked)

    outcomes = np.arange(60) % 3 == 0
    result = labels.weights()
    right_share = result[outcomes].sum() / result.sum()
    assert np.average(outcomes, weights=weights) < np.average(expected, weights=weights)
    assert right_share == pytest.approx(np.average(expected, weights=weights))
    assert result.sum() == pytest.approx(weights.sum())
    assert labels.wrong_factor < 1


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_shows_what_was_decided_and_what_is_missing(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    output.show(*retrain_command._render(installed.result), wrap=False)

    text = capsys.readouterr().out
    assert "The new head is better" in text
    assert "rollback" in text
    assert f"Calibrate it: {installed.result.commands[0]}" in text


def test_the_command_prints_json_and_fails_with_the_number_that_is_missing(tmp_path: Path, groups: list[Group]) -> None:
    write(tmp_path, old_head(), groups[:50])
    result = command("retrain", "kept.db", "--head", "head.safetensors", "--json", cwd=tmp_path)

    assert result.returncode == 3
    assert "more answers with feedback are enough" in json.loads(result.stdout)["error"]["hint"]
