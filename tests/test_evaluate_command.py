"""Tests of `swift-client evaluate` and of the same call from Python, from files to a table."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from swift_client.cli.app import run
from swift_client.errors import ConfigurationError
from swift_client.training import Evaluation, collect, collect_async, evaluate, train

from .test_train_command import samples_file


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    samples, head = samples_file(folder / "samples.db"), folder / "head.safetensors"
    train(samples, out=head, answer="number", recipe="swift")
    return head, samples


def test_the_command_prints_what_python_returns(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    head, samples = files
    assert run(["evaluate", str(head), str(samples), "--split", "test", "--n", "2", "--n", "4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    evaluation = evaluate(head, samples, split="test", ns=(2, 4))
    assert isinstance(evaluation, Evaluation)
    assert document == evaluation.to_dict()
    assert (document["provider"], document["model"], document["ns"]) == ("pocket", "m", [2, 4])
    assert {"head", "head_vote", "majority", "oracle", "wepr"} <= set(document["rows"])


def test_the_table_shows_every_method_with_the_interval_of_its_difference(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    head, samples = files
    assert run(["evaluate", str(head), str(samples), "--split", "all", "--no-trained", "--n", "1", "--n", "4"]) == 0
    output = capsys.readouterr()
    for line in ("pocket/m · 60 questions, 240 completions", "Majority", "This head, vote", "Any of n (oracle)", "…+"):
        assert line in output.out
    assert "n = 4" in output.out
    assert "n = 1" not in output.out  # where there is one, all methods pick it
    assert "SWIFT as published" not in output.out


def test_without_a_head_the_methods_that_need_none_are_compared(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "none", str(files[1]), "--split", "all", "--n", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "head_vote" not in document["rows"]
    assert document["head"] == {}
    assert "WEPR, length and SWIFT as published are left out" in " ".join(document["notes"])


def test_a_head_for_other_samples_is_refused_with_the_reason(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = samples_file(tmp_path / "other.db", model="other", questions=3)
    assert run(["evaluate", str(files[0]), str(other), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)["error"]
    assert document["type"] == "ArtifactMismatchError"
    assert "trained on pocket/m, not on pocket/other" in document["message"]


def test_wrong_files_and_parts_exit_with_3_and_one_sentence(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    head, samples = files
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"\x80\x04K\x01.")
    for arguments, message in (
        ([str(foreign), str(samples)], "foreign.safetensors"),
        ([str(head), str(tmp_path / "missing.db")], "missing.db"),
        ([str(head), str(samples), "--split", "dev"], "no split 'dev'"),
        ([str(head), str(samples), "--n", "64"], "No question has 64 completions"),
    ):
        assert run(["evaluate", *arguments]) == 3
        assert message in capsys.readouterr().err


def test_a_head_that_cannot_be_written_costs_no_training(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        train(files[1], out=tmp_path / "nowhere" / "head.safetensors")


def test_collect_waits_and_says_what_it_takes() -> None:
    assert inspect.signature(collect).parameters == inspect.signature(collect_async).parameters
    assert collect.__doc__ == collect_async.__doc__


def test_torch_is_not_imported_before_training_begins() -> None:
    code = "import sys, swift_client.training, swift_client.cli.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
