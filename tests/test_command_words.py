"""The command shows the package's errors and notes in its own words: options, not arguments of Python."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from swift_client.adapters import PROVIDERS
from swift_client.adapters.transport.error_responses import error_from_response
from swift_client.cli.app import app, run
from swift_client.cli.command_words import CommandWords, option_flags
from swift_client.errors import ConfigurationError, NoCompletionError, ServerError
from tests.children import ROOT, process
from tests.servers import FaultServer, chat, error
from tests.test_error_table import ROWS, Row

PYTHON = re.compile(
    r"""(?<![\w.?&'"{/:-])[a-z]\w*=(?!\d+\b)|\.causes\b|\.selection\b|\b(?:Price|Budget|Cascade)\(|\bbest_of\b"""
)
"""Words that only Python has: an argument, an attribute or a call."""
PARAM = re.compile(r"--param (?:'[^']*'|\w+=\S+)")
ONLY_FROM_PYTHON = re.compile(
    r"client=|tokenizer=|limit=|layout=|judge=\.$|prices=|Price\(|budget= takes|Cascade\(\[cheap|"
    r"PRAGMA |^BudgetTracker|^Completion\(|^Transport\(|<\w+ |share=0\.3|resamples=|^RateLimit"
)
"""Texts that the command cannot meet, since it has no such argument, and texts that are not messages."""


@cache
def commands() -> dict[str, CommandWords]:
    """Return the words of every command, and of one that has the options of all, as "all"."""
    group = typer.main.get_command(app)
    flags = {name: option_flags(command.params) for name, command in group.commands.items()}  # type: ignore[attr-defined]
    everything = {name: flag for options in flags.values() for name, flag in options.items()}
    return {name: CommandWords(options) for name, options in {**flags, "all": everything}.items()}


def texts(folder: str = "") -> Iterator[str]:
    """Yield the texts of the package's modules but those of the command, with X in the place of values."""
    for path in sorted((ROOT / "swift_client" / folder).rglob("*.py")):
        if {"cli", "pocket", "report"} & set(path.relative_to(ROOT).parts):
            continue
        tree = ast.parse(path.read_text())
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                inner |= {id(child) for child in ast.walk(node) if child is not node}
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def has_python(text: str) -> bool:
    return bool(" " in text and PYTHON.search(PARAM.sub("", text)))


def test_no_text_of_the_package_speaks_python_where_the_command_shows_it() -> None:
    words = commands()["all"]
    found = [text for text in texts() if has_python(text)]
    left = [text for text in found if not ONLY_FROM_PYTHON.search(text) and has_python(words.translate(text))]

    assert len(found) > 60  # the search finds the arguments that are there
    assert left == []


@pytest.mark.parametrize("folder", ["adapters", "sampling", "answers", "stopping", "selection"])
def test_best_of_has_an_option_for_every_argument_that_its_errors_name(folder: str) -> None:
    words = commands()["best-of"]
    left = [text for text in texts(folder) if not ONLY_FROM_PYTHON.search(text) and has_python(words.translate(text))]

    assert [text for text in left if "max_concurrency" not in text and "top_logprobs=" not in text] == []


@pytest.mark.parametrize("name", ["best-of", "collect", "doctor"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.provider}-{row.status}-{row.says[:20]}")
def test_the_hints_of_all_providers_errors_are_in_the_commands_words(row: Row, name: str) -> None:
    body = row.body if isinstance(row.body, str) else json.dumps(row.body)
    problem = error_from_response(row.status, {}, body.encode(), PROVIDERS[row.provider])
    words = commands()[name]

    assert not has_python(words.translate(problem.hint)), problem.hint
    assert row.says in words.describe(problem)  # the provider's own words stay


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("best-of", "Set OPENAI_API_KEY, or pass api_key=.", "Set OPENAI_API_KEY, or pass --api-key-env."),
        ("best-of", "Pass provider='vllm' and base_url=.", "Pass --provider vllm and --base-url."),
        ("rank", "Lower max_concurrency=, or try again later.", "Try again later."),
        ("collect", "Lower max_concurrency=, or try again later.", "Lower --concurrency, or try again later."),
        ("collect", "max_cost needs max_tokens: no limit.", "--max-cost needs --max-tokens: no limit."),
        ("rank", "Check that base_url= is X.", "Check that --provider names the API that wrote the reply."),
        ("best-of", "answer='x y' is not a reader.", "--answer 'x y' is not a reader."),
        ("best-of", "n=16, stopping=None, select=auto", "--n 16, no --stopping, --select auto"),
        ("best-of", 'reasoning_effort="none" turns it off.', "--param reasoning_effort=none turns it off."),
        ("best-of", "Budget(usd=) must be a number above 0, not -1.", "--budget-usd must be a number above 0, not -1."),
        ("best-of", "such as Budget(usd=0.05) or", "such as --budget-usd 0.05 or"),
        ("best-of", "Read http://x.org/a?n=3&seed=4 for n=3.", "Read http://x.org/a?n=3&seed=4 for --n 3."),
        ("best-of", "the rule beta:threshold=0.9", "the rule beta:threshold=0.9"),
        ("best-of", "response_model= is not a JSON schema: x.", "--schema is not a JSON schema: x."),
        ("train", "Read all lists to the shorter length (k=5).", "Read all lists to the shorter length (--k 5)."),
        ("evaluate", "Ask for fewer with ns=.", "Ask for fewer with --n."),
        ("collect", "give a file with path=.", "give a file with --from."),
    ],
)  # fmt: skip
def test_sentences_become_those_of_the_command(name: str, text: str, expected: str) -> None:
    assert commands()[name].translate(text) == expected


def test_of_an_error_of_many_calls_the_providers_words_stay_and_the_hints_change() -> None:
    causes = [
        ServerError("The server says: set n=1, timeout=9.", hint="Raise timeout=.", status=500, retryable=True),
        ConfigurationError("seed= is not known.", hint="Leave seed= out."),
    ]
    problem = NoCompletionError("None of 2 arrived.", causes=causes, hint="Lower n=.")

    assert commands()["best-of"].describe(problem) == (
        "None of 2 arrived. Lower --n.\n"
        "  - The server says: set n=1, timeout=9. (HTTP 500) Raise --timeout.\n"
        "  - --seed is not known. Leave --seed out."
    )


def test_a_missing_key_is_two_lines_that_name_the_variable_and_the_option(tmp_path: Path) -> None:
    result = process("best-of", "What is 17 * 24?", cwd=tmp_path, OPENAI_API_KEY="")

    assert result.returncode == 3
    assert result.stderr.decode().splitlines() == [
        "There is no API key for provider 'openai'.",
        "Set OPENAI_API_KEY, or pass --api-key-env.",
    ]


def test_api_key_env_names_the_variable_whose_key_is_sent(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("MY_KEY", "abc-123")
    command = ["best-of", "2 + 2?", "--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url]

    assert run([*command, "--n", "1", "--api-key-env", "MY_KEY"]) == 0
    assert [request.headers["authorization"] for request in fault_server.requests] == ["Bearer abc-123"]
    for variable in ("NO_SUCH_KEY", "abc-123"):
        assert run([*command, "--api-key-env", variable]) == 3
        assert f"The environment variable '{variable}' is not set." in capsys.readouterr().err
    assert len(fault_server.requests) == 1


def test_notes_and_json_errors_are_in_the_commands_words_too(
    fault_server: FaultServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = ["best-of", "2 + 2?", "--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url]
    fault_server.script(chat(["4", "4"], k=2))
    assert run([*command, "--n", "2", "--budget-tokens", "5000"]) == 0
    assert "--max-tokens is not given" in capsys.readouterr().err

    fault_server.script(error(404, "no such model"))
    assert run([*command, "--n", "2", "--json"]) == 4
    document = json.loads(capsys.readouterr().out)["error"]
    assert document["hint"] == "Check --model and --base-url."
    assert "no such model" in document["message"]
