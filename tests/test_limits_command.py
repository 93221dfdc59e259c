"""Limits per minute of the commands ``collect`` and ``best-of``, and of ``collect()``, which others may share."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from swift_client import RateLimit
from swift_client.errors import ConfigurationError
from swift_client.shared_limits import AccountState
from swift_client.training import collect
from tests.children import command
from tests.servers import FaultServer

QUESTIONS = "".join(f'{{"id": "q{number}", "prompt": "What is {number} + 3?", "answer": 5}}\n' for number in range(3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "q.jsonl").write_text(QUESTIONS)
    return tmp_path


def requests_in_use(path: Path) -> float:
    """Return the requests of a limit that have not flowed back."""
    with closing(sqlite3.connect(path)) as connection:
        ((state,),) = connection.execute("SELECT state FROM account WHERE name = 'rate/default'")
    return msgspec.json.decode(state, type=AccountState).levels["requests"].in_use


def test_two_commands_share_a_limit_by_a_file(fault_server: FaultServer, folder: Path) -> None:
    server = ("--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url)
    limits = ("--limits", "limits.db", "--requests-per-minute", "60", "--tokens-per-minute", "1e6")
    for arguments in (
        ("collect", "--questions", "q.jsonl", "--out", "s.db", "--n", "2", *server, *limits),
        ("best-of", "--questions", "q.jsonl", "--out", "a.jsonl", "--n", "2", *server, *limits),
    ):
        result = command(*arguments, cwd=folder)
        assert result.returncode == 0, result.stderr.decode()
    in_use, n_requests = requests_in_use(folder / "limits.db"), len(fault_server.requests)
    assert n_requests >= 6
    assert 0 < in_use <= n_requests + 1  # one flows back per second, and the second command may hold one


@pytest.mark.parametrize("arguments", [("collect", "--out", "s.db"), ("best-of", "--out", "a.jsonl")])
def test_a_file_that_cannot_have_limits_is_refused_before_anything_is_sent(
    fault_server: FaultServer, folder: Path, arguments: tuple[str, ...]
) -> None:
    server = ("--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url)
    result = command(*arguments, "--questions", "q.jsonl", "--limits", "q.jsonl", *server, cwd=folder)
    assert result.returncode == 3
    assert b"q.jsonl is not a samples file" in result.stderr
    assert not fault_server.requests


def test_a_batch_has_no_limits_per_minute(folder: Path) -> None:
    result = command(
        "collect", "--questions", "q.jsonl", "--out", "s.db", "--batch", "--requests-per-minute", "5", cwd=folder
    )
    assert result.returncode == 3
    assert b"--batch has no limits per minute" in result.stderr


def test_collect_uses_the_limit_that_it_gets(fault_server: FaultServer, folder: Path) -> None:
    limit = RateLimit(2, requests_per_minute=600, shared=folder / "limits.db")
    result = collect(
        folder / "q.jsonl", folder / "s.db", provider="openai-compatible", model="m", base_url=fault_server.url, n=2,
        limit=limit,
    )  # fmt: skip
    assert result.complete
    assert requests_in_use(folder / "limits.db") > 0
    with pytest.raises(ConfigurationError, match=r"concurrency=3 and limit=RateLimit\(2"):
        collect(
            folder / "q.jsonl", folder / "t.db", provider="openai-compatible", model="m", concurrency=3, limit=limit
        )


def test_the_state_of_a_limit_has_no_words_of_the_questions(fault_server: FaultServer, folder: Path) -> None:
    limit = RateLimit(2, requests_per_minute=600, shared=folder / "limits.db")
    collect(
        folder / "q.jsonl", folder / "s.db", provider="openai-compatible", model="m", base_url=fault_server.url, n=1,
        limit=limit, api_key="secret-key",
    )  # fmt: skip
    with closing(sqlite3.connect(folder / "limits.db")) as connection:
        ((state,),) = connection.execute("SELECT state FROM account")
    assert set(json.loads(state)) <= {"id", "levels", "members", "throttle"}
    assert b"secret" not in state
    assert b"What" not in state
