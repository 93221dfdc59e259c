"""Tests of `swift-client train`: from a samples file to a head, or to one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from swift_client import training
from swift_client.cli.app import run
from swift_client.dataset.stored import StoredGroups, open_groups
from swift_client.errors import ConfigurationError
from swift_client.models.resolve_head import load_head
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Usage

from .graded import graded_groups


def samples_file(path: Path, *, model: str = "m", labelled: bool = False, questions: int = 60) -> Path:
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="pocket", model=model, top_logprobs=8))
        for group in graded_groups(questions, n=4):
            question = StoredQuestion(id=group.question_id, messages=({"role": "user", "content": "2+2"},), answer="4")
            store.add_questions([question])
            store.add_samples(group.question_id, group.completions, usage=Usage(calls=1))
            if labelled:
                store.set_labels({(group.question_id, index): 1.0 - value for index, value in enumerate(group.labels)})
    return path


def test_stored_samples_are_graded_against_their_questions_answers(tmp_path: Path) -> None:
    groups = StoredGroups([samples_file(tmp_path / "a.db")], grade="number")
    expected_groups = graded_groups(60, n=4)
    for _ in range(2):  # each pass reads the file again
        read_groups = list(groups)
        assert [group.question_id for group in read_groups] == [group.question_id for group in expected_groups]
        assert all(
            np.array_equal(one.labels, other.labels) for one, other in zip(read_groups, expected_groups, strict=True)
        )
    assert (groups.provider, groups.model) == ("pocket", "m")


def test_a_stored_label_goes_before_a_grade(tmp_path: Path) -> None:
    read_groups = StoredGroups([samples_file(tmp_path / "a.db", labelled=True)], grade="number")
    expected_groups = graded_groups(60, n=4)
    assert all(
        np.array_equal(one.labels, 1 - other.labels) for one, other in zip(read_groups, expected_groups, strict=True)
    )


def test_files_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    files = [samples_file(tmp_path / f"{model}.db", model=model, questions=3) for model in ("a", "b")]
    with pytest.raises(ConfigurationError, match="samples of 2 models: pocket/a, pocket/b"):
        StoredGroups(files)


def test_the_command_writes_a_head_that_loads_and_says_what_it_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, head = samples_file(tmp_path / "samples.db"), tmp_path / "head.safetensors"
    assert run(["train", str(samples), "--answer", "number", "--out", str(head), "--recipe", "swift", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["head"] == str(head)
    assert document["verdict"] == load_head(head).training["verdict"]
    assert sum(document["questions"].values()) == 60
    assert len(document["history"]) == document["epochs"]


def test_training_takes_groups_as_it_takes_paths(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "samples.db", questions=40)
    groups = StoredGroups([samples], grade="number")
    training.train(groups, answer="number", recipe="swift", out=tmp_path / "groups")
    training.train(samples, answer="number", recipe="swift", out=tmp_path / "paths")
    assert (tmp_path / "groups").read_bytes() == (tmp_path / "paths").read_bytes()


def test_groups_are_opened_from_one_path_from_several_and_from_groups(tmp_path: Path) -> None:
    samples = samples_file(tmp_path / "samples.db", questions=3)
    for paths in (samples, str(samples), [samples], tmp_path.glob("*.db")):
        opened = open_groups(paths, answer="number")  # type: ignore[arg-type]
        assert isinstance(opened, StoredGroups)
        assert [group.labels.tolist() for group in opened] == [g.labels.tolist() for g in graded_groups(3, n=4)]
    groups = graded_groups(3)
    assert open_groups(groups) is groups
    assert open_groups(iter(groups)) == groups
    assert open_groups(opened) is opened


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.db", "--out", "head"], "missing.db"),
        (["samples.db", "--out", "no/folder/head"], "cannot be written"),
        (["samples.db", "--out", "head", "--recipe", "best"], "There is no recipe"),
        (["samples.db", "--out", "head", "--answer", "nonsense"], "nonsense"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_sentence_and_nothing_is_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    samples_file(Path("samples.db"), questions=4)
    assert run(["train", *arguments]) == 3
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert not Path("head").exists()
