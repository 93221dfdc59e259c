"""Tests of the command line: stdout, stderr and exit codes, in real processes if that matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swift_client.adapters import PROVIDERS
from tests.children import ROOT, command, process, python
from tests.servers import FaultServer, chat_body, error, hang

PROMPT = "What is 2 + 2?"
SECRET = "sk-very-secret-123456"


def server_arguments(server: FaultServer) -> tuple[str, ...]:
    """Options that send a command to a loopback server."""
    return ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url)


def one_document(stdout: bytes) -> dict[str, Any]:
    """Read stdout, which must be exactly one JSON document in ASCII."""
    assert stdout.isascii()
    document: dict[str, Any] = json.loads(stdout)
    return document


def test_best_of_prints_the_chosen_text_first_and_the_reasons_after(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.answers = ("The answer is 4", "The answer is 5", "The answer is 4")

    result = process("best-of", PROMPT, "--n", "3", *server_arguments(fault_server), cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    lines = result.stdout.decode().splitlines()
    assert lines[0] == "The answer is 4"
    assert "chosen by vote among 3" in result.stdout.decode()
    assert "logprobs:k=" in result.stdout.decode()


def test_best_of_with_json_prints_one_document_and_nothing_else(fault_server: FaultServer, tmp_path: Path) -> None:
    result = command("best-of", PROMPT, "--n", "3", "--json", *server_arguments(fault_server), cwd=tmp_path)

    document = one_document(result.stdout)
    assert result.returncode == 0
    assert document["text"] == "The answer is 4"
    assert len(document["candidates"]) == 3


def test_best_of_sends_what_was_asked_and_no_more(fault_server: FaultServer, tmp_path: Path) -> None:
    sampling = ("--temperature", "0.7", "--max-tokens", "50", "--seed", "7")

    command("best-of", PROMPT, "--n", "2", *sampling, *server_arguments(fault_server), cwd=tmp_path)

    (request_body,) = (request.json for request in fault_server.requests)
    assert (request_body["n"], request_body["temperature"], request_body["seed"]) == (2, 0.7, 7)
    assert request_body.get("max_tokens", request_body.get("max_completion_tokens")) == 50
    assert request_body["messages"] == [{"role": "user", "content": PROMPT}]


def test_best_of_leaves_sampling_to_the_provider_where_nothing_was_asked(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    command("best-of", PROMPT, "--n", "2", *server_arguments(fault_server), cwd=tmp_path)

    assert not {"temperature", "max_tokens", "max_completion_tokens", "seed"} & set(fault_server.requests[0].json)


def test_best_of_reads_the_prompt_from_stdin(fault_server: FaultServer, tmp_path: Path) -> None:
    command(
        "best-of",
        "-",
        "--n",
        "1",
        *server_arguments(fault_server),
        cwd=tmp_path,
        stdin="Wie viel ist 2 + 2, größer?".encode(),
    )

    assert fault_server.requests[0].json["messages"][0]["content"] == "Wie viel ist 2 + 2, größer?"


def test_a_prompt_on_stdin_that_is_not_text_is_wrong_usage(fault_server: FaultServer, tmp_path: Path) -> None:
    result = process("best-of", "-", *server_arguments(fault_server), cwd=tmp_path, stdin=b"\xff\xfe")

    assert result.returncode == 2
    assert b"UTF-8" in result.stderr
    assert fault_server.requests == []


def test_hostile_completions_reach_the_terminal_as_text(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.answers = ("\x1b]0;owned\x07\x1b[2J[bold]x[/bold] \u202e \x9b31m The answer is 4",)

    result = command("best-of", PROMPT, "--n", "2", *server_arguments(fault_server), cwd=tmp_path, FORCE_COLOR="1")

    output = result.stdout.decode()
    assert result.returncode == 0
    assert not [code for code in ("\x07", "\x9b", "\u202e", "\x1b]", "\x1b[2J") if code in output]
    assert "\\x1b]0;owned\\x07\\x1b[2J[bold]x[/bold]" in output


def test_hostile_completions_stay_whole_and_escaped_in_json(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.answers = ("\x1b[31m\u202e\x9b ☃ The answer is 4",)

    result = command("best-of", PROMPT, "--n", "1", "--json", *server_arguments(fault_server), cwd=tmp_path)

    assert b"\x1b" not in result.stdout
    assert one_document(result.stdout)["text"] == "\x1b[31m\u202e\x9b ☃ The answer is 4"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["best-of"], 2, "prompt"),
        (["best-of", PROMPT, "--n", "0"], 2, "--n"),
        (["best-of", PROMPT, "--n", "1025"], 2, "--n"),
        (["best-of", PROMPT, "--n", "-3"], 2, "--n"),
        (["best-of", PROMPT, "--no-such-option"], 2, "--no-such-option"),
        (["best-of", PROMPT, "--select", "median"], 2, "--select"),
        (["no-such-command"], 2, "no-such-command"),
        (["rank", "no-such-file.json"], 2, "no-such-file.json"),
        (["best-of", PROMPT], 3, "OPENAI_API_KEY"),
        (["best-of", ""], 3, "empty"),
        (["best-of", PROMPT, "--provider", "opnai"], 3, "openai"),
        (["best-of", PROMPT, "--provider", "openai-compatible", "--model", "m"], 3, "--base-url"),
        (["best-of", PROMPT, "--scorer", "nonsense"], 3, "nonsense"),
        (["best-of", PROMPT, "--answer", "nonsense"], 3, "nonsense"),
    ],
)
def test_wrong_usage_exits_2_and_wrong_configuration_3_before_anything_is_sent(
    arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    for extra in ([], ["--json"]):
        result = command(*arguments, *extra, cwd=tmp_path)

        assert result.returncode == code, result.stderr.decode()
        assert words in result.stderr.decode()
        assert b"Traceback" not in result.stderr
        if not extra:
            assert result.stdout == b""
            continue
        error = one_document(result.stdout)["error"]
        assert set(one_document(result.stdout)) == {"error"}
        assert error["exit_code"] == code
        assert words in error["message"] + error["hint"]


def test_a_refused_key_exits_3_and_the_key_is_shown_nowhere(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.serve(lambda _: error(401, f"Incorrect API key provided: {SECRET}."))

    result = process(
        *("best-of", PROMPT, "--json"),
        cwd=tmp_path,
        OPENAI_API_KEY=SECRET,
        OPENAI_BASE_URL=fault_server.url,
    )

    assert result.returncode == 3
    assert one_document(result.stdout)["error"]["status"] == 401
    assert SECRET.encode() not in result.stdout + result.stderr


def test_a_refused_request_exits_4_with_the_providers_own_sentence(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.serve(lambda _: error(400, "This model has gone on holiday."))

    result = command("best-of", PROMPT, "--json", *server_arguments(fault_server), cwd=tmp_path)

    assert result.returncode == 4
    assert "gone on holiday" in one_document(result.stdout)["error"]["message"]


def test_nothing_listening_is_one_clear_error(tmp_path: Path) -> None:
    with FaultServer() as gone:
        options = server_arguments(gone)

    result = command("best-of", PROMPT, "--deadline", "3", *options, cwd=tmp_path)

    assert result.returncode in (4, 6)
    assert b"Traceback" not in result.stderr
    assert len(result.stderr.decode().splitlines()) < 12


def test_a_deadline_with_nothing_to_choose_from_exits_6(fault_server: FaultServer, tmp_path: Path) -> None:
    fault_server.serve(lambda _: hang())

    result = process("best-of", PROMPT, "--deadline", "0.5", "--json", *server_arguments(fault_server), cwd=tmp_path)

    assert result.returncode == 6
    document = one_document(result.stdout)["error"]
    assert document["type"] == "NoCompletionError"
    assert document["causes"]


def test_rank_reads_a_reply_from_a_file_and_from_stdin(tmp_path: Path) -> None:
    reply = json.dumps(chat_body(["The answer is 4", "The answer is 5", "The answer is 4"]), indent=2).encode()
    (tmp_path / "reply.json").write_bytes(reply)

    from_file = command("rank", "reply.json", "--json", cwd=tmp_path)
    from_stdin = process("rank", "-", "--json", cwd=tmp_path, stdin=reply)

    same = {"elapsed": 0, "id": ""}
    assert one_document(from_file.stdout) | same == one_document(from_stdin.stdout) | same
    assert one_document(from_file.stdout)["answer"] == "4"


def test_rank_pools_a_reply_a_line(tmp_path: Path) -> None:
    lines = [json.dumps(chat_body([text])) for text in ("The answer is 4", "The answer is 5", "The answer is 4")]

    result = command("rank", "-", "--json", cwd=tmp_path, stdin="\n".join(lines).encode() + b"\n")

    document = one_document(result.stdout)
    assert [candidate["index"] for candidate in document["candidates"]] == [0, 1, 2]
    assert document["answer"] == "4"


@pytest.mark.parametrize("data", [b"", b"<html>", b'{"choices": [', b"\x00\xff", b'{"error": {"message": "no"}}'])
def test_rank_refuses_anything_but_a_reply(data: bytes, tmp_path: Path) -> None:
    result = command("rank", "-", "--json", cwd=tmp_path, stdin=data)

    assert result.returncode in (3, 4), result.stderr
    assert b"Traceback" not in result.stderr
    assert "error" in one_document(result.stdout)


def test_providers_lists_every_row_and_never_a_key(tmp_path: Path) -> None:
    table = command("providers", cwd=tmp_path, OPENAI_API_KEY=SECRET)
    document = one_document(command("providers", "--json", cwd=tmp_path, OPENAI_API_KEY=SECRET).stdout)

    rows = {row["name"]: row for row in document["providers"]}
    assert set(rows) == set(PROVIDERS)
    assert rows["openai"]["key_set"] is True
    assert rows["xai"]["key_set"] is False
    assert rows["vllm"]["key_set"] is None
    assert all(name in table.stdout.decode() for name in PROVIDERS)
    assert SECRET not in table.stdout.decode() + json.dumps(document)


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from swift_client.cli.app import run; code = run(['--help']);"
        "assert not {'numpy', 'openai', 'httpx2', 'msgspec'} & set(sys.modules), sorted(sys.modules); sys.exit(code)"
    )

    result = python("-c", script, cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    for name in ("demo", "best-of", "rank", "providers", "doctor"):
        assert name in result.stdout.decode()


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_without_the_extra_the_command_names_it_and_exits_3(library: str, tmp_path: Path) -> None:
    hidden = f"import sys; sys.modules[{library!r}] = None; from swift_client.cli import main; main()"

    person = python("-c", hidden, "providers", cwd=tmp_path)
    script = python("-c", hidden, "providers", "--json", cwd=tmp_path)

    assert person.returncode == script.returncode == 3
    assert person.stdout == b""
    assert person.stderr.decode().count("\n") == 1
    assert "pip install 'swift-client[cli]'" in person.stderr.decode()
    assert "swift-client[cli]" in one_document(script.stdout)["error"]["hint"]


def test_a_terminal_without_unicode_gets_question_marks_and_no_traceback(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    fault_server.answers = ("Größe ☃: the answer is 4",)

    result = process(
        "best-of", PROMPT, "--n", "1", *server_arguments(fault_server), cwd=tmp_path, PYTHONIOENCODING="ascii"
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"Gr??e ?: the answer is 4")


def test_a_reader_that_goes_away_causes_no_traceback(tmp_path: Path) -> None:
    script = "from swift_client.cli.app import run; import os, sys; os.close(1); os.dup2(os.pipe()[1], 1)"

    result = python("-c", f"{script}; sys.exit(run(['providers']))", cwd=tmp_path)

    assert b"Traceback" not in result.stderr


def test_recorded_replies_can_be_ranked(tmp_path: Path) -> None:
    recordings = sorted((ROOT.parent / "shared" / "recordings" / "openai-chat").glob("gpt-4.1-nano.json"))
    if not recordings:
        pytest.skip("the shared recordings are not here")

    result = command("rank", str(recordings[0]), "--json", cwd=tmp_path)

    assert result.returncode in (0, 4), result.stderr
