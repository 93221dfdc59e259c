"""Ranking whole files of stored replies and samples: the choices are those of ``rank()``, whoever computes them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from swift_client import Completion, Selection, rank
from swift_client.bulk import RankProgress, cores, rank_files, selection_schema
from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.store import SampleStore
from tests.children import command, environment
from tests.stored_samples import MODEL, PROVIDER, reply_of, write_replies, write_samples

SELECTION_MEMBERS = ("text", "answer", "score", "probability", "accepted", "method", "scorer", "signal")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def change_file(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def facts_of(selection: Selection) -> dict[str, Any]:
    facts = {name: getattr(selection, name) for name in SELECTION_MEMBERS}
    return {**facts, "n": len(selection.candidates), "notes": list(selection.notes), "error": None}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("samples") / "samples.db", questions=60)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"head": "auto"},
        {"head": "pocket/pocket"},
        {"scorer": "entropy", "select": "best"},
        {"answer": None, "select": "consensus", "similarity": "content"},
    ],
)
def test_the_row_of_a_stored_question_is_what_rank_chooses(
    samples: Path, rules: dict[str, Any], tmp_path: Path
) -> None:
    rank_files(samples, tmp_path / "out.jsonl", workers=1, **rules)

    rows = {row.pop("question"): row for row in rows_of(tmp_path / "out.jsonl")}
    with SampleStore(samples) as store:
        for question, stored in store.questions_with_samples():
            completions = [sample.completion for sample in stored]
            selection = rank(completions, provider=f"{PROVIDER}/{MODEL}", prompt=list(question.messages), **rules)
            row = rows.pop(question.id)
            assert row.pop("index") == stored[selection.winner].index
            assert row == facts_of(selection)
    assert rows == {}


def test_workers_write_the_same_bytes_as_one_process_in_the_order_of_the_file(samples: Path, tmp_path: Path) -> None:
    steps: list[RankProgress] = []
    outs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]

    rank_files(samples, outs[0], head="auto", workers=1)
    progress = rank_files(samples, outs[1], head="auto", workers=2, on_progress=steps.append)

    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert [row["question"] for row in rows_of(outs[1])] == [f"q{number}" for number in range(60) if number % 10 != 9]
    assert progress == steps[-1] == RankProgress(questions=54, failed=0, share=1.0)
    assert [step.share for step in steps] == sorted(step.share for step in steps)


def test_parquet_has_the_rows_of_json_lines_with_the_documented_schema(samples: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.parquet"):
        rank_files(samples, tmp_path / name, head="auto", workers=1)

    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.equals(selection_schema())
    assert table.to_pylist() == rows_of(tmp_path / "out.jsonl")


def test_a_stored_index_is_reported_also_if_earlier_ones_are_missing(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "samples.db", questions=1)
    with SampleStore(path) as store:
        _, *others = store.samples("q0")
    change_file(path, "DELETE FROM sample WHERE number = 0")

    rank_files(path, tmp_path / "out.jsonl", select="best")

    (row,) = rows_of(tmp_path / "out.jsonl")
    chosen = rank([sample.completion for sample in others], select="best")
    assert row["index"] == others[chosen.winner].index
    assert row["n"] == 3


def test_a_damaged_sample_costs_its_question_only(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "samples.db", questions=3)
    change_file(path, "UPDATE sample SET arrays = x'00' WHERE question = 'q1' AND number = 2")

    progress = rank_files(path, tmp_path / "out.jsonl")

    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert rows[1]["question"] == "q1"
    assert rows[1]["text"] is None
    assert "damaged" in rows[1]["error"]
    assert progress.failed == 1


CHUNK = {"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": "stop"}]}
LINES = [
    (b'{"id": "a", "reply": %s}', None),
    (b'{"id": 7, "reply": [%s, %s], "prompt": "What is 2 + 2?"}', None),
    (rb'{"reply": "data: %d\n\ndata: [DONE]\n\n"}', None),
    (b"", "skipped"),
    (b"{", "Line 5 is not"),
    (b'{"id": "b"}', "Line 6 is not"),
    (b'{"id": "c", "reply": {"error": {"message": "overloaded"}}}', "overloaded"),
    (b'{"id": "d", "reply": []}', "got `array`"),
    (b'{"id": "e", "reply": 5}', "reply"),
    (b'{"id": "f", "reply": %s, "prompt": ""}', "prompt"),
    (b'{"id": "g", "reply": %s, "messages": [{"role": "user", "content": "2 + 2?"}]}', None),
    (b"\xff\xfe", "Line 12 is not"),
    (b"[" * 100_000, "Line 13 is not"),
]


def test_a_line_that_cannot_be_ranked_is_a_row_with_the_reason(tmp_path: Path) -> None:
    reply = json.dumps(reply_of("The answer is 4", "The answer is 5", "The answer is 4")).encode()
    chunk = json.dumps(json.dumps(CHUNK))[1:-1].encode()
    (tmp_path / "r.jsonl").write_bytes(
        b"\n".join(line.replace(b"%s", reply).replace(b"%d", chunk) for line, _ in LINES)
    )

    progress = rank_files(tmp_path / "r.jsonl", tmp_path / "out.jsonl")

    rows = rows_of(tmp_path / "out.jsonl")
    expected = [reason for _, reason in LINES if reason != "skipped"]
    assert len(rows) == len(expected) == progress.questions
    for row, reason in zip(rows, expected, strict=True):
        assert (row["error"] is None) == (reason is None), row
        assert reason is None or reason in row["error"], row
    assert [row["question"] for row in rows] == ["a", "7", None, None, None, *"cdefg", None, None]
    assert [row["n"] for row in rows if row["error"] is None] == [3, 6, 1, 3]
    assert rows[0] == {"question": "a", "index": 0, **facts_of(rank(reply))}


def test_the_parts_of_a_long_file_are_whole_lines_in_order(tmp_path: Path) -> None:
    path = write_replies(tmp_path / "r.jsonl", 600)

    steps: list[RankProgress] = []
    rank_files(path, tmp_path / "out.jsonl", workers=1, on_progress=steps.append)

    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row["question"], row["text"]) for row in rows] == [(f"r{n}", "The answer is 4") for n in range(600)]
    assert len(steps) == 3


def test_the_head_of_a_reply_is_found_by_the_model_that_it_names(tmp_path: Path) -> None:
    lines = [json.dumps({"id": model, "reply": reply_of("The answer is 4", model=model)}) for model in (MODEL, "other")]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))

    rank_files(tmp_path / "r.jsonl", tmp_path / "out.jsonl", head="auto", provider=PROVIDER)

    notes = [" ".join(row["notes"]) for row in rows_of(tmp_path / "out.jsonl")]
    assert "There is no trained head" not in notes[0]
    assert "There is no trained head for pocket/other." in notes[1]


def test_half_of_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "a \ud800"}}
    (tmp_path / "r.jsonl").write_text(json.dumps({"id": "x", "reply": {"choices": [choice]}}))

    for name in ("out.jsonl", "out.parquet"):
        rank_files(tmp_path / "r.jsonl", tmp_path / name)

    assert rows_of(tmp_path / "out.jsonl")[0]["text"] == "a ?"


def fail(completions: Sequence[Completion]) -> list[float]:
    raise LookupError("no number")


def die(completions: Sequence[Completion]) -> list[float]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def sleep(completions: Sequence[Completion]) -> list[float]:
    time.sleep(60)
    raise AssertionError


def test_a_scorer_that_fails_is_the_error_of_each_row(samples: Path, tmp_path: Path) -> None:
    rank_files(samples, tmp_path / "out.jsonl", scorer=fail, workers=1)

    assert {row["error"] for row in rows_of(tmp_path / "out.jsonl")} == {"LookupError: no number"}


def test_a_dead_worker_is_reported_and_changes_nothing(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("before")

    with pytest.raises(SwiftClientError, match="killed by signal 9") as caught:
        rank_files(samples, tmp_path / "out.jsonl", scorer=die, workers=2)

    assert "fewer workers" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text() == "before"
    assert children_of(os.getpid()) == []


def test_a_function_that_no_worker_can_receive_is_refused(samples: Path, tmp_path: Path) -> None:
    scorer = lambda completions: [0.0] * len(completions)  # noqa: E731

    with pytest.raises(ConfigurationError, match="cannot be sent to worker processes"):
        rank_files(samples, tmp_path / "out.jsonl", scorer=scorer, workers=2)
    rank_files(samples, tmp_path / "out.jsonl", scorer=scorer, workers=1)


def children_of(pid: int) -> list[int]:
    """Return the worker processes of a process (Linux)."""
    children = (int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [child for child in children if b"spawn_main" in command_line(child)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def slow_run(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Rank in a process with two workers, which are all busy for a minute."""
    write_samples(folder / "samples.db", questions=60)
    code = (
        "import sys; sys.modules['__main__'].__file__ = None\n"
        "from swift_client.bulk import rank_files; from tests.test_rank_files import sleep\n"
        "rank_files('samples.db', 'out.jsonl', scorer=sleep, workers=2)"
    )
    line = [sys.executable, "-c", code]
    with subprocess.Popen(line, cwd=folder, env=environment(), start_new_session=True) as child:
        try:
            end = time.monotonic() + 30
            while len(workers := children_of(child.pid)) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            assert len(workers) == 2
            time.sleep(1.5)  # both have begun
            yield child, workers
        finally:
            child.kill()


def wait_for_end(workers: list[int]) -> None:
    end = time.monotonic() + 10
    while any(b"spawn_main" in command_line(pid) for pid in workers):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.05)


def test_ctrl_c_ends_all_workers_at_once_and_leaves_no_file(tmp_path: Path) -> None:
    with slow_run(tmp_path) as (child, workers):
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(10) != 0

        wait_for_end(workers)
        assert [path.name for path in tmp_path.iterdir()] == ["samples.db"]


@pytest.mark.parametrize("out", ["samples.db", "out.txt", "no/out.jsonl"])
def test_a_result_that_cannot_be_written_is_refused_first(out: str, tmp_path: Path) -> None:
    write_samples(tmp_path / "samples.db", questions=2)

    with pytest.raises(ConfigurationError):
        rank_files(tmp_path / "samples.db", tmp_path / out)

    assert [path.name for path in tmp_path.iterdir()] == ["samples.db"]


def test_a_file_never_replaces_its_own_source(tmp_path: Path) -> None:
    write_replies(tmp_path / "r.jsonl", 2)
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "r.jsonl")

    for out in ("r.jsonl", "link.jsonl"):
        with pytest.raises(ConfigurationError, match="is, or would be, a part of"):
            rank_files(tmp_path / "r.jsonl", tmp_path / out)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"head": "auto", "scorer": "entropy"}, "head= and scorer="),
        ({"similarity": "embedding:openai/x"}, "sends no requests"),
        ({"scorer": "nothing"}, "Unknown scorer"),
        ({"kind": "replies"}, "is a samples file"),
    ],
)
def test_wrong_arguments_are_refused(samples: Path, rules: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        rank_files(samples, tmp_path / "out.jsonl", **rules)


@pytest.mark.parametrize(("limit", "expected"), [("max 100000", 2), ("50000 100000", 1), ("150000 100000", 2), ("", 2)])
def test_one_worker_per_core_that_this_process_may_use(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(cores, "_CGROUP_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})

    assert cores.usable_cores() == expected


def test_the_command_ranks_a_file_of_samples(samples: Path, tmp_path: Path) -> None:
    result = command(
        "rank",
        "--samples",
        str(samples),
        "--out",
        "c.jsonl",
        "--head",
        "auto",
        "--workers",
        "1",
        "--json",
        cwd=tmp_path,
    )

    assert (result.returncode, json.loads(result.stdout)) == (0, {"path": "c.jsonl", "questions": 54, "failed": 0})
    rank_files(samples, tmp_path / "direct.jsonl", head="auto", workers=1)
    assert (tmp_path / "c.jsonl").read_bytes() == (tmp_path / "direct.jsonl").read_bytes()


def test_the_command_says_how_many_replies_failed(tmp_path: Path) -> None:
    write_replies(tmp_path / "r.jsonl", 3)
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write("{}\n")

    result = command("rank", "--replies", "r.jsonl", "--out", "c.jsonl", cwd=tmp_path)

    assert result.returncode == 4
    assert "the choices for 3 questions" in result.stdout.decode()
    assert "1 question could not be ranked" in result.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Give either FILE, --samples or --replies"),
        ("--samples s.db --replies r.jsonl --out o.jsonl", "Give either FILE, --samples or --replies"),
        ("- --samples s.db --out o.jsonl", "Give either FILE, --samples or --replies"),
        ("--samples s.db", "--samples and --replies need --out"),
        ("- --out o.jsonl", "--out goes with --samples or --replies only"),
        ("- --workers 2", "--workers goes with --samples or --replies only"),
        ("--samples s.db --out o.jsonl --prompt hi", "--prompt goes with FILE only"),
        ("--replies r.jsonl --out o.jsonl --verifier openai/x", "--verifier goes with FILE only"),
        ("--samples s.db --out o.jsonl --model m", "--model goes with FILE or --replies only"),
    ],
)
def test_options_that_say_nothing_are_refused(arguments: str, message: str, tmp_path: Path) -> None:
    result = command("rank", *arguments.split(), cwd=tmp_path)

    assert result.returncode == 2
    assert message in result.stderr.decode()
