"""Files that rank_files() reads, beyond plain ones: pipes, devices, and files of one row group."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from swift_client.bulk import RankProgress, RankSettings, rank_files, rank_table
from swift_client.bulk.sources import parquet_files
from swift_client.bulk.sources.parquet_files import ParquetFiles
from swift_client.bulk.sources.recent_questions import RecentQuestions
from swift_client.bulk.sources.replies_file import RepliesFile
from swift_client.dataset.export_parquet import export_parquet
from swift_client.dataset.sample_columns import row_groups
from swift_client.dataset.sample_columns.question_index import hash_question
from swift_client.errors import ConfigurationError
from tests.children import environment, python
from tests.stored_samples import reply_of, write_replies, write_samples


@pytest.mark.parametrize("name", ["pipe", "pipe.parquet"])
def test_a_pipe_is_refused_before_a_byte_of_it_is_read(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    with pytest.raises(ConfigurationError, match="is a pipe or a device, which cannot be read twice") as caught:
        rank_files(tmp_path / name, tmp_path / "out.jsonl")

    assert "file first" in caught.value.hint


def test_standard_input_from_a_file_is_ranked_by_all_workers(tmp_path: Path) -> None:
    replies = write_replies(tmp_path / "r.jsonl", 800)
    code = (
        "import sys; sys.modules['__main__'].__file__ = None\n"
        "from swift_client.bulk import rank_files\n"
        "print(rank_files('/dev/stdin', 'out.jsonl', workers=2).questions)"
    )
    with replies.open("rb") as file:
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, stdin=file, capture_output=True, timeout=60, env=environment()
        )

    assert (result.stdout, result.stderr) == (b"800\n", b"")
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 800


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> pyarrow.Table:
    """Samples of 36 questions, four each."""
    folder = tmp_path_factory.mktemp("samples")
    export_parquet(write_samples(folder / "s.db"), folder / "s.parquet")
    return pyarrow.parquet.read_table(folder / "s.parquet")


@pytest.mark.parametrize("row_group_size", [30, 1000])
def test_a_large_row_group_is_ranked_in_parts_that_hold_whole_questions(
    samples: pyarrow.Table, row_group_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "_TASK_ROWS", 10)
    monkeypatch.setattr(row_groups, "BATCH_ROWS", 7)  # so that parts end inside a batch
    pyarrow.parquet.write_table(samples, tmp_path / "s.parquet", row_group_size=row_group_size)
    steps: list[RankProgress] = []

    rank_files(tmp_path / "s.parquet", tmp_path / "out.parquet", workers=1, on_progress=steps.append)

    assert len(steps) >= 12
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    expected = rank_table(samples, RankSettings.create())
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").equals(expected)
    # A worker may get any part, also an earlier one again.
    source = ParquetFiles.of_path(tmp_path / "s.parquet")
    tasks = [task for task, _ in source.tasks()]
    with source.open(RankSettings.create()) as rank:
        for number in (7, 1, 5, 2):
            rows = rank(tasks[number])
            first, end = steps[number - 1].questions, steps[number].questions
            assert [row.question for row in rows] == expected["question"][first:end].to_pylist()


REPLY = json.dumps(reply_of("The answer is 4", "The answer is 5", "The answer is 4"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pyarrow.string(), REPLY),
        (pyarrow.large_string(), REPLY),
        (pyarrow.string_view(), REPLY),
        (pyarrow.binary(), REPLY.encode()),
        (pyarrow.list_(pyarrow.string()), [REPLY, REPLY]),
        (pyarrow.list_(pyarrow.binary()), [REPLY.encode()] * 2),
    ],
)
def test_parquet_has_replies_of_each_type_that_a_table_has(kind: Any, value: Any, tmp_path: Path) -> None:
    table = pyarrow.table(
        {"reply": pyarrow.array([value] * 5 + [None], kind), "id": [*"abcde", None], "other": [1] * 6}
    )
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet", row_group_size=4)

    rank_files(tmp_path / "r.parquet", tmp_path / "out.parquet", workers=1)

    ranked = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert ranked.equals(rank_table(table, RankSettings.create()))
    assert ranked["answer"].to_pylist() == ["4"] * 5 + [None]


def test_replies_of_one_row_group_are_ranked_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_TASK_ROWS", 3)
    pyarrow.parquet.write_table(pyarrow.table({"reply": [REPLY] * 10}), tmp_path / "r.parquet")
    steps: list[RankProgress] = []

    rank_files(tmp_path / "r.parquet", tmp_path / "out.jsonl", workers=1, on_progress=steps.append)

    assert [step.questions for step in steps] == [3, 6, 9, 10]


def test_a_row_group_of_too_many_values_is_refused(
    samples: pyarrow.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow.parquet.write_table(samples, tmp_path / "s.parquet")
    monkeypatch.setattr(row_groups, "MAX_VALUES", 1000)

    with pytest.raises(ConfigurationError, match=r"s\.parquet: a row group has .* 1,000 are the most"):
        rank_files(tmp_path / "s.parquet", tmp_path / "out.jsonl", workers=1)


def test_a_repetition_is_noticed_in_every_process_or_in_none() -> None:
    names = [f"q{number}" for number in range(10_000)]
    last = {hash_question(name) % 2**20: name for name in names}
    first = next(name for name in names if last[hash_question(name) % 2**20] != name)
    seen = RecentQuestions()

    assert seen.add(first)
    assert not seen.add(first)
    assert seen.add(last[hash_question(first) % 2**20])  # takes its place
    assert seen.add(first)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
@pytest.mark.parametrize("out", ["out.parquet", "sub/out.parquet", "sub/sub/out.jsonl"])
def test_no_folder_gets_a_result_that_its_next_run_would_read(
    samples: pyarrow.Table, form: str, out: str, tmp_path: Path
) -> None:
    (tmp_path / "sub" / "sub").mkdir(parents=True)
    pyarrow.parquet.write_table(samples, tmp_path / "s.parquet")

    with pytest.raises(ConfigurationError, match="would be, a part of"):
        rank_files(form.format(tmp_path), tmp_path / out)


def test_an_error_of_the_caller_is_not_one_of_the_file(tmp_path: Path) -> None:
    def show(progress: RankProgress) -> None:
        raise BrokenPipeError("nobody reads this")

    with pytest.raises(BrokenPipeError, match="nobody reads this"):
        rank_files(write_replies(tmp_path / "r.jsonl", 3), tmp_path / "out.jsonl", on_progress=show)
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    source = RepliesFile(tmp_path)

    with pytest.raises(ConfigurationError, match=r"replies .* cannot be read: Is a directory"):
        list(source.tasks())
    with pytest.raises(ConfigurationError, match="cannot be read"), source.open(RankSettings.create()):
        pass


def test_a_scorer_of_a_notebook_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.db", questions=60)
    code = (
        "import sys; sys.modules['__main__'].__file__ = None\n"
        "from swift_client.bulk import rank_files\n"
        "from swift_client.errors import SwiftClientError\n"
        "def score(completions): return [0.0] * len(completions)\n"
        "try: rank_files('s.db', 'out.jsonl', scorer=score, workers=2)\n"
        "except SwiftClientError as error: print(error.message, error.hint)"
    )

    result = python("-c", code, cwd=tmp_path)

    assert b"A worker process failed: AttributeError" in result.stdout
    assert b"workers=1" in result.stdout
