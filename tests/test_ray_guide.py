"""The guide to Ray: its snippets and its commands run on a local cluster."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swift_client.dataset.export_parquet import export_parquet
from tests.children import command, snippet
from tests.ray_clusters import CountingServer, local_cluster
from tests.stored_samples import write_replies, write_samples
from tests.test_docs import CONSOLE, RAY, blocks

pytest.importorskip("ray")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")

SNIPPETS = {place: code for place, code in blocks("python").items() if place.startswith(RAY)}


@pytest.fixture(scope="module")
def server() -> Iterator[CountingServer]:
    # The workers have the environment of the process that starts Ray.
    with pytest.MonkeyPatch.context() as patch, CountingServer() as server:
        patch.setenv("OPENAI_API_KEY", "test")
        patch.setenv("OPENAI_BASE_URL", server.url)
        with local_cluster():
            yield server


@pytest.mark.parametrize("code", list(SNIPPETS.values()), ids=list(SNIPPETS))
def test_snippets_run(code: str, server: CountingServer, tmp_path: Path) -> None:
    n_requests = len(server.requests)

    result = snippet(code, cwd=tmp_path)

    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout
    assert len(server.requests) > n_requests


@pytest.mark.parametrize("line", [line for line in CONSOLE if "--ray" in line and " rank " not in line])
def test_commands_run_and_the_next_one_has_nothing_to_do(line: str, server: CountingServer, tmp_path: Path) -> None:
    rows = [{"id": f"q{number}", "prompt": f"What is {number} + 3?", "answer": "4"} for number in range(4)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = [*shlex.split(line)[1:], "--json"]
    first = command(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr.decode()
    n_requests = len(server.requests)

    again: Any = command(*arguments, cwd=tmp_path)

    assert again.returncode == 0, again.stderr.decode()
    assert json.loads(again.stdout)["questions"] == 4
    assert len(server.requests) == n_requests


def test_samples_and_replies_are_ranked_as_on_one_machine(server: CountingServer, tmp_path: Path) -> None:
    (line,) = (line for line in CONSOLE if "--ray" in line and " rank " in line)
    write_samples(tmp_path / "samples.db", questions=5)
    write_replies(tmp_path / "replies.jsonl", 3)
    (tmp_path / "run7" / "samples").mkdir(parents=True)
    export_parquet(tmp_path / "samples.db", tmp_path / "run7" / "samples" / "a.parquet")
    replies = ["rank", "--replies", "replies.jsonl", "--out"]
    for on_cluster, on_one_machine in (
        (shlex.split(line)[1:], ["rank", "--samples", "samples.db", "--out", "choices.parquet"]),
        ([*replies, "others", "--ray"], [*replies, "others.parquet"]),
    ):
        out, expected = tmp_path / on_cluster[on_cluster.index("--out") + 1], tmp_path / on_one_machine[-1]
        result = command(*on_cluster, "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr.decode()
        assert command(*on_one_machine, cwd=tmp_path).returncode == 0
        rows = pyarrow.parquet.read_table(out).sort_by("question").to_pylist()
        assert rows == pyarrow.parquet.read_table(expected).sort_by("question").to_pylist()
        assert json.loads(result.stdout)["questions"] == len(rows) > 0
    again = command(*on_cluster, cwd=tmp_path)
    assert again.returncode == 3
    assert "has choices already" in again.stderr.decode()


@pytest.mark.parametrize("option", ["--batch", "--capture"])
def test_options_without_meaning_on_a_cluster_are_refused(option: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "q1", "prompt": "What is 2 + 3?", "answer": "5"}\n')

    result = command("collect", "--questions", "q.jsonl", "--out", "run", "--ray", option, cwd=tmp_path)

    assert result.returncode == 3
    assert f"--ray cannot be combined with {option}" in result.stderr.decode()


def test_a_file_that_cannot_be_read_is_an_error_without_a_traceback(server: CountingServer, tmp_path: Path) -> None:
    (tmp_path / "damaged.parquet").write_bytes(b"no Parquet")
    settings = ["--provider", "openai", "--model", "m", "--n", "2", "--max-tokens", "5", "--ray"]
    for name, reason in (("missing.parquet", "missing.parquet"), ("damaged.parquet", "not a parquet file")):
        result = command("collect", "--questions", name, "--out", "run", *settings, cwd=tmp_path)
        assert result.returncode == 3, result.stderr.decode()
        assert "Traceback" not in result.stderr.decode()
        assert reason in result.stderr.decode()
