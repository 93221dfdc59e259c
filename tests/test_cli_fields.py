"""Options of the command that say what is sent: --param, --system, --messages; and -h, --version, python -m."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import swift_client
from swift_client.cli.app import run
from swift_client.store import SampleStore
from tests.children import python
from tests.servers import FaultServer

PROMPT = "What is 2 + 2?"
MESSAGES = [
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "No"},
]


def at(server: FaultServer) -> tuple[str, ...]:
    return ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url, "--n", "2")


def collect_arguments(server: FaultServer, folder: Path) -> tuple[str, ...]:
    questions = folder / "questions.jsonl"
    questions.write_text('{"id": "a", "prompt": "2 + 2?", "answer": "4"}\n')
    return ("collect", "--questions", str(questions), "--out", str(folder / "s.db"), *at(server))


def sent(server: FaultServer) -> list[Any]:
    return [request.json for request in server.requests]


def test_params_are_json_values_or_text(fault_server: FaultServer) -> None:
    params = {
        "top_k": "20",
        "reasoning_effort": "none",
        "stop": '["\\n"]',
        "metadata": '{"a": null}',
        "x": "a=b",
        "y": "",
    }
    values = {"top_k": 20, "reasoning_effort": "none", "stop": ["\n"], "metadata": {"a": None}, "x": "a=b", "y": ""}

    assert (
        run(["best-of", PROMPT, *at(fault_server), *[f"--param={name}={text}" for name, text in params.items()]]) == 0
    )

    (body,) = sent(fault_server)
    assert {name: body[name] for name in values} == values


def test_collect_sends_params_and_a_system_prompt_and_stores_them(fault_server: FaultServer, tmp_path: Path) -> None:
    command = collect_arguments(fault_server, tmp_path)

    assert run([*command, "--param", "min_p=0.1", "--param", 'extra_body={"store": true}', "--system", "Brief."]) == 0

    messages = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "2 + 2?"}]
    bodies = sent(fault_server)  # collect may ask for one completion first
    assert bodies
    for body in bodies:
        assert (body["min_p"], body["store"], body["messages"]) == (0.1, True, messages)
    with SampleStore(tmp_path / "s.db") as store:
        assert store.meta.sampling == {"min_p": 0.1, "store": True}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--param", "top_k"], 2, "not name=value"),
        (["--param", "=3"], 2, "not name=value"),
        (["--param", "temprature=1"], 3, "did you mean 'temperature'"),
        (["--param", "n=3"], 3, "--param n is not a field"),
        (["--param", "seed=3"], 3, "--param seed is not a field"),
        (["--param", "timeout=3"], 3, "extra_body"),
        (["--param", "deadline=3"], 3, "--help"),
        (["--param", "verifier=3"], 3, "--param verifier is not a field"),
        (["--param", "temperature=1", "--temperature", "1"], 3, "temperature is given twice"),
        (["--param", "top_k=1", "--param", "top_k=2"], 3, "top_k is given twice"),
        (["--param", "extra_body=3"], 3, "extra_body must be a dict"),
    ],
)
def test_a_wrong_param_is_one_clear_error_and_nothing_is_sent(
    arguments: list[str],
    code: int,
    words: str,
    fault_server: FaultServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for command in (("best-of", PROMPT, *at(fault_server)), collect_arguments(fault_server, tmp_path)):
        assert run([*command, *arguments]) == code
        output = capsys.readouterr()
        assert words in output.err
        assert output.out == ""
    assert fault_server.requests == []


@pytest.mark.parametrize("name", ["token_ids", "max_cost", "concurrency", "out", "hidden_states", "require_logprobs"])
def test_options_of_collect_are_no_params(name: str, fault_server: FaultServer, tmp_path: Path) -> None:
    assert run([*collect_arguments(fault_server, tmp_path), "--param", f"{name}=1"]) == 3
    assert fault_server.requests == []


def test_a_file_of_messages_is_sent_behind_the_system_prompt(fault_server: FaultServer, tmp_path: Path) -> None:
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(MESSAGES))

    assert run(["best-of", "--messages", str(file), *at(fault_server)]) == 0
    assert run(["best-of", "--messages", str(file), "--system", "Brief.", *at(fault_server)]) == 0
    assert run(["best-of", PROMPT, "--system", "Brief.", *at(fault_server)]) == 0

    system = {"role": "system", "content": "Brief."}
    question = {"role": "user", "content": PROMPT}
    assert [body["messages"] for body in sent(fault_server)] == [MESSAGES, [system, *MESSAGES], [system, question]]


@pytest.mark.parametrize(
    ("content", "arguments", "code", "words"),
    [
        (b"{}", [], 2, "not a JSON list"),
        (b"[1]", [], 2, "not a JSON list"),
        (b"\xff", [], 2, "not a JSON list"),
        (b"[" * 100_000, [], 2, "not a JSON list"),
        (b"[]", [], 3, "empty"),
        (b'[{"content": "q"}]', [], 3, "no role and content"),
        (b'[{"role": "system", "content": "s"}]', ["--system", "t"], 3, "already have a system prompt"),
        (b'[{"role": "user", "content": "q"}]', [PROMPT], 2, "either a prompt, --messages or --questions"),
    ],
)
def test_a_wrong_file_of_messages_is_one_clear_error(
    content: bytes,
    arguments: list[str],
    code: int,
    words: str,
    fault_server: FaultServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "messages.json").write_bytes(content)

    assert run(["best-of", "--messages", str(tmp_path / "messages.json"), *arguments, *at(fault_server)]) == code
    assert words in capsys.readouterr().err
    assert fault_server.requests == []


def test_an_empty_prompt_stays_empty_with_a_system_prompt(fault_server: FaultServer) -> None:
    assert run(["best-of", " ", "--system", "Brief.", *at(fault_server)]) == 3
    assert fault_server.requests == []


@pytest.mark.parametrize("arguments", [["-h"], ["best-of", "-h"], ["collect", "-h"], ["train", "-h"]])
def test_h_is_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    short = capsys.readouterr().out
    assert run([*arguments[:-1], "--help"]) == 0
    assert capsys.readouterr().out == short
    assert "Usage" in short


def test_the_module_is_the_command_and_tells_its_version(tmp_path: Path) -> None:
    result = python("-m", "swift_client", "--version", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().strip() == f"swift-client {swift_client.__version__}"


@pytest.mark.parametrize("arguments", [["train", "no.db", "--out", "h"], ["curve", "no.db"], ["probe", "no.db"]])
def test_a_missing_file_is_named_before_torch_is_imported(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from swift_client.cli.app import run
assert run({arguments}) == 3
assert not {{"torch", "sklearn"}} & sys.modules.keys()
"""
    result = python("-c", code, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stderr.decode().startswith("There is no samples file no.db.")
