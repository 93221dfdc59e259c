"""Tests of ``best-of --questions``: one line per question, and runs that continue where another one ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swift_client.cli.app import run
from swift_client.store.write_lock import WriteLock
from tests.children import ROOT
from tests.servers import FaultServer, Received, chat, error, hang


def prompt_of(request: Received) -> str:
    text: str = request.json["messages"][-1]["content"]
    return text


@pytest.fixture
def server(fault_server: FaultServer) -> FaultServer:
    fault_server.serve(lambda request: chat([f"The answer is {len(prompt_of(request))}"] * request.json["n"]))
    return fault_server


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of ten questions, q0 to q9, of different lengths."""
    path = tmp_path / "q.jsonl"
    rows = [{"id": f"q{number}", "prompt": "x" * (number + 1)} for number in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arguments(server: FaultServer, questions: Path, *more: str) -> list[str]:
    address = ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url, "--concurrency", "4")
    out = str(questions.with_name("out.jsonl"))
    return ["best-of", "--questions", str(questions), "--out", out, "--n", "2", *address, *more]


def ask(server: FaultServer, questions: Path, *more: str) -> int:
    return run(arguments(server, questions, *more))


def lines_of(questions: Path) -> list[dict[str, Any]]:
    text = questions.with_name("out.jsonl").read_text()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def answers_of(questions: Path) -> dict[str, str]:
    """Return the text of each answer by its question's id."""
    return {line["id"]: line["selection"]["text"] for line in lines_of(questions) if "selection" in line}


def test_every_question_gets_one_line_with_its_selection(
    server: FaultServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(server, questions, "--temperature", "0.5", "--system", "Be brief.") == 0

    assert answers_of(questions) == {f"q{number}": f"The answer is {number + 1}" for number in range(10)}
    assert len(lines_of(questions)) == 10
    assert all(len(line["selection"]["candidates"]) == 2 for line in lines_of(questions))
    assert "answers to 10 of 10 questions" in " ".join(capsys.readouterr().out.split())  # a long path wraps the line
    assert {request.json["temperature"] for request in server.requests} == {0.5}
    assert server.requests[0].json["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_second_run_sends_nothing_and_a_longer_file_only_what_is_new(
    server: FaultServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(server, questions)
    assert ask(server, questions) == 0
    assert len(server.requests) == 10

    with questions.open("a") as file:
        file.write('{"id": "new", "messages": [{"role": "user", "content": "hello"}]}\n')
    capsys.readouterr()
    assert ask(server, questions, "--json") == 0

    assert len(server.requests) == 11
    summary = json.loads(capsys.readouterr().out)
    assert (summary["questions"], summary["earlier"], summary["answered"], summary["missing"]) == (11, 10, 1, 0)
    assert summary["usage"]["completion_tokens"] == 8


def test_errors_are_lines_with_their_facts_and_are_asked_again(
    server: FaultServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = server._serve
    server.serve(lambda request: error(400, "too long") if prompt_of(request) == "xxx" else usual(request))
    assert ask(server, questions) == 4

    (line,) = [line for line in lines_of(questions) if "error" in line]
    assert line["id"] == "q2"
    assert (line["error"]["type"], line["error"]["status"], line["error"]["exit_code"]) == ("BadRequestError", 400, 4)
    assert "1 failed" in capsys.readouterr().err
    server.serve(usual)
    assert ask(server, questions) == 0
    assert len(answers_of(questions)) == len(lines_of(questions)) == 10
    assert len(server.requests) == 11


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_last_line_that_a_killed_run_left_is_repaired(server: FaultServer, questions: Path, cut: int) -> None:
    ask(server, questions)
    out = questions.with_name("out.jsonl")
    data = out.read_bytes()
    last_id = lines_of(questions)[-1]["id"]
    out.write_bytes(data[:-cut])

    assert ask(server, questions) == 0

    assert len(lines_of(questions)) == len(answers_of(questions)) == 10
    assert len(server.requests) == (10 if cut == 1 else 11)  # without its newline alone, the line is whole
    if cut > 1:
        assert prompt_of(server.requests[-1]) == "x" * (int(last_id[1:]) + 1)


def test_a_killed_run_continues_without_asking_an_answered_question_again(server: FaultServer, questions: Path) -> None:
    usual = server._serve
    server.serve(lambda request: usual(request) if len(prompt_of(request)) <= 5 else hang())
    child = subprocess.Popen(
        [sys.executable, "-m", "swift_client", *arguments(server, questions)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    out = questions.with_name("out.jsonl")
    while not out.exists() or out.read_bytes().count(b"\n") < 5:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.requests.clear()
    server.serve(usual)

    assert ask(server, questions) == 0

    assert len(answers_of(questions)) == len(lines_of(questions)) == 10
    assert sorted(len(prompt_of(request)) for request in server.requests) == [6, 7, 8, 9, 10]


def test_the_budget_is_for_the_whole_run_and_the_next_run_continues(
    server: FaultServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(server, questions, "--budget-calls", "4") == 5

    assert len(lines_of(questions)) == len(answers_of(questions)) == len(server.requests) == 4
    assert "end of the budget" in capsys.readouterr().err
    assert ask(server, questions, "--budget-calls", "6") == 0
    assert len(answers_of(questions)) == 10


def test_a_run_gives_up_if_one_question_after_another_fails(server: FaultServer, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"id": number, "prompt": f"{number}"}) + "\n" for number in range(60)))
    server.serve(lambda request: error(400, "no"))

    assert ask(server, path) == 4

    assert 8 <= len(server.requests) < 30
    assert len(lines_of(path)) == len(server.requests)


def test_a_refused_key_ends_the_run_at_once(server: FaultServer, questions: Path) -> None:
    server.serve(lambda request: error(401, "wrong key"))

    assert ask(server, questions) == 3
    assert lines_of(questions) == []


def test_an_answer_that_is_not_accepted_is_a_line_and_not_asked_again(server: FaultServer, questions: Path) -> None:
    from swift_client.models import save
    from tests.test_cascade import UNSURE, acceptance, head

    path = questions.with_name("head.safetensors")
    save(head(acceptance(UNSURE, n=2)), path)
    options = ("--head", str(path), "--on-reject", "abstain")
    assert ask(server, questions, *options) == 0

    assert {line["error"]["type"] for line in lines_of(questions)} == {"RejectedError"}
    assert lines_of(questions)[0]["error"]["selection"]["text"]
    assert ask(server, questions, *options) == 0
    assert len(server.requests) == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}\n", "line 1"),
        ('{"id": "a", "selection": {"provider": "openai", "model": "other"}}\n', "answers of openai/other"),
        ("a half line\n{}", "line 1"),
        ("\ufffe\n", "line 1"),
        ('{"id": 1, "selection": {}}\n', "line 1"),
        ('{"id": "a", "prompt": "a question"}\n', "no selection"),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(
    server: FaultServer, questions: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = questions.with_name("out.jsonl")
    out.write_text(text)

    assert ask(server, questions) == 3

    assert words in capsys.readouterr().err
    assert out.read_text() == text
    assert not server.requests
    assert not list(questions.parent.glob("*-lock"))


def test_a_wrong_line_is_refused_before_anything_is_sent(
    server: FaultServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with questions.open("a") as file:
        file.write('{"id": "q3", "prompt": "twice"}\n')

    assert ask(server, questions) == 3

    assert "line 11" in capsys.readouterr().err
    assert not server.requests
    assert not questions.with_name("out.jsonl").exists()


@pytest.mark.parametrize(
    "options",
    [["--questions", "q.jsonl"], ["--out", "o.jsonl"], ["hi", "--questions", "q.jsonl", "--out", "o.jsonl"]],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["best-of", *options]) == 2


def test_the_file_of_questions_is_not_taken_for_that_of_answers(server: FaultServer, questions: Path) -> None:
    text = questions.read_text()

    assert run(["best-of", "--questions", str(questions), "--out", str(questions), "--base-url", server.url]) == 3

    assert questions.read_text() == text


def test_two_runs_do_not_write_into_one_file(
    server: FaultServer, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = WriteLock(questions.with_name("out.jsonl"), shared=False, timeout=0)
    try:
        assert ask(server, questions) == 3
    finally:
        lock.release()

    assert "another process" in capsys.readouterr().err
    assert not server.requests


def test_ctrl_c_closes_the_requests_and_keeps_the_answers(server: FaultServer, questions: Path) -> None:
    usual = server._serve
    server.serve(lambda request: usual(request) if len(prompt_of(request)) <= 5 else hang())
    child = subprocess.Popen(
        [sys.executable, "-m", "swift_client", *arguments(server, questions)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while len(server.requests) < 9:
        time.sleep(0.02)
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=20)

    assert child.returncode == 130
    assert "run the same command again" in stderr
    assert len(answers_of(questions)) == 5
