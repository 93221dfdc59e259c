"""What stderr shows while a command works: lines in a log file, nothing with --quiet; and completion in the shell."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from swift_client.adapters import PROVIDERS
from swift_client.cli import progress
from swift_client.cli.app import run
from swift_client.cli.questions.run import RunSummary
from swift_client.collect.result import CollectProgress
from swift_client.types import Usage
from tests.children import process
from tests.servers import FaultServer, chat


def best_of(server: FaultServer, *more: str) -> list[str]:
    address = ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url)
    return ["best-of", "2 + 2?", *address, "--n", "2", "--budget-tokens", "5000", *more]


def test_a_step_that_takes_long_shows_its_latest_state_in_regular_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.show_status("reading …", seconds=0.1) as update:
        time.sleep(0.15)
        update("12 epochs …")
        time.sleep(0.2)

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading … (0 s)"
    assert set(lines[1:]) == {"12 epochs … (0 s)"}
    assert 2 <= len(lines) <= 4


def test_a_step_that_ends_within_ten_seconds_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert progress.LINE_SECONDS == 10.0
    with progress.show_status("reading …"):
        pass
    assert capsys.readouterr().err == ""


def test_answering_shows_questions_tokens_and_cost_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    usage = Usage(prompt_tokens=1000, completion_tokens=2000)
    with progress.questions_bar(seconds=0.05) as update:
        update(RunSummary(questions=1600, earlier=100, answered=19, rejected=1, failed=2, usage=usage, cost=0.5))
        time.sleep(0.1)

    line = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"answering: 120 of 1,600 · 3,000 tokens · spent 0\.5 · 2 failed \(\d s\)", line)


def test_collecting_shows_samples_tokens_and_cost_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    state = CollectProgress(
        samples=120,
        wanted=1600,
        requests=8,
        failures=2,
        usage=Usage(prompt_tokens=1000, completion_tokens=2000),
        cost=0.5,
        expected_cost=6.7,
        elapsed=3.0,
    )
    with progress.collect_bar(seconds=0.05) as update:
        update(state)
        time.sleep(0.1)

    line = capsys.readouterr().err.splitlines()[0]
    assert re.fullmatch(r"collecting: 120 of 1,600 · 3,000 tokens · spent 0\.5 of about 6\.7 · 2 failed \(\d s\)", line)


def test_an_error_ends_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), progress.show_status("reading …", seconds=0.05):
        raise ValueError("x")
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_quiet_shows_no_notes_and_no_progress_but_errors(
    fault_server: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for quiet in ((), ("--quiet",), ("-q",)):
        fault_server.script(chat(["4", "4"], k=2))
        assert run(best_of(fault_server, *quiet)) == 0
        shown = capsys.readouterr()
        assert "4" in shown.out
        assert bool(shown.err) is not bool(quiet)

    assert run(best_of(fault_server, "--quiet", "--head", "no.safetensors")) == 3
    assert "The head no.safetensors cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("swift-client doctor --provider ", set(PROVIDERS)),
        ("swift-client be", {"best-of"}),
        ("swift-client best-of --api", {"--api-key-env"}),
        ("swift-client collect --provider open", {name for name in PROVIDERS if name[:4] == "open"}),
    ],
)
def test_the_shell_completes_commands_options_and_providers_without_slow_imports(
    words: str, expected: set[str], tmp_path: Path
) -> None:
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_SWIFT_CLIENT_COMPLETE": "complete_bash"}
    result = process(cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1", **variables)

    assert result.returncode == 0, result.stderr[-300:]
    assert set(result.stdout.decode().split()) == expected
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.decode().splitlines()}
    assert not imported & {"torch", "numpy", "sklearn", "openai", "transformers", "httpx2"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_can_be_shown(shell: str, tmp_path: Path) -> None:
    result = process(cwd=tmp_path, _SWIFT_CLIENT_COMPLETE=f"source_{shell}")

    assert result.returncode == 0, result.stderr
    assert b"_SWIFT_CLIENT_COMPLETE" in result.stdout
