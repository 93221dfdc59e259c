"""Tests of Parquet files, folders and URLs in place of samples files."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.cli.app import run
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.evaluation.evaluate import evaluate
from swift_client.store import Meta, Sample, SampleStore, StoredQuestion
from swift_client.types import Usage
from tests.generated import completion
from tests.test_sample_columns import assert_same_samples

pa = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
pq = pytest.importorskip("pyarrow.parquet")

from swift_client.dataset import sample_columns  # noqa: E402
from swift_client.dataset.export_parquet import export_parquet  # noqa: E402
from swift_client.dataset.sample_columns import ParquetSamples, encode_samples, row_groups, sample_schema  # noqa: E402
from swift_client.dataset.sample_columns.footer import count_values  # noqa: E402

QUESTIONS, N = 9, 4


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A samples file of 9 questions with 4 completions each."""
    path = tmp_path_factory.mktemp("samples") / "s.db"
    with SampleStore(path, write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider="openai", model="m", top_logprobs=4))
        for number in range(QUESTIONS):
            messages = ({"role": "user", "content": f"{number}?"},)
            store.add_questions([StoredQuestion(id=f"q{number}", messages=messages, answer=str(number % 3))])
            drawn = [completion(10 * number + index, tokens=9, k=4 + number % 2) for index in range(N)]
            store.add_samples(f"q{number}", drawn, usage=Usage(prompt_tokens=5, calls=1), seed=number)
    return path


@pytest.fixture(scope="module")
def table(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same samples as an Arrow table."""
    path = tmp_path_factory.mktemp("table") / "s.parquet"
    assert export_parquet(samples, path) == QUESTIONS * N
    return pq.read_table(path)


def stored(samples: Path) -> dict[str, tuple[StoredQuestion, list[Sample]]]:
    with SampleStore(samples) as store:
        return {question.id: (question, own) for question, own in store.questions_with_samples()}


def assert_equal(path: str | Path, samples: Path, *, in_order: bool = True) -> None:
    """Assert that Parquet files yield the questions of a samples file."""
    expected, source = stored(samples), ParquetSamples(path)
    groups = list(source)
    assert (list if in_order else sorted)(question.id for question, _ in groups) == list(expected)
    assert sorted(question.id for question in source.questions()) == list(expected)
    for question, own in groups:
        assert question == expected[question.id][0]
        assert_same_samples(expected[question.id][1], own)


@pytest.mark.parametrize("row_group_size", [1, 3, 5, 1000])
def test_questions_are_whole_however_a_file_is_cut(
    row_group_size: int, table: Any, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "BATCH_ROWS", 7)
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=row_group_size)
    assert_equal(tmp_path / "s.parquet", samples)


def test_rows_of_a_question_in_several_places_of_a_folder_are_one_question(
    table: Any, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(range(len(table)))
    random.Random(1).shuffle(rows)
    for part in range(3):
        folder = tmp_path / "parts" / str(part % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.take(rows[part::3]), folder / f"{part}.parquet", row_group_size=5)
    for draft in ("_temporary.parquet", ".part.parquet", "notes.txt"):
        (tmp_path / "parts" / draft).write_text("not Parquet")
    assert_equal(tmp_path / "parts", samples, in_order=False)
    monkeypatch.setattr(sample_columns.parquet_samples, "WINDOW_ROWS", 6)
    assert_equal(tmp_path / "parts", samples, in_order=False)
    odd = ParquetSamples(tmp_path / "parts").groups(lambda question: int(question.id[1:]) % 2 == 1)
    assert sorted(question.id for question, _ in odd) == ["q1", "q3", "q5", "q7"]


def test_only_divided_questions_come_last(table: Any, samples: Path, tmp_path: Path) -> None:
    pq.write_table(table.take([0, 1, *range(4, 36)]), tmp_path / "a.parquet")
    pq.write_table(table.take([3, 2]), tmp_path / "b.parquet")
    source = ParquetSamples(tmp_path)
    assert [question.id for question, _ in source] == [f"q{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 0)]
    assert [question.id for question in source.questions()] == [f"q{number}" for number in range(9)]
    assert_equal(tmp_path, samples, in_order=False)


@pytest.mark.parametrize("form", ["file", "folder", "url", "folder url", "path of a url"])
def test_evaluate_reads_parquet_as_the_samples_file(form: str, samples: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.parquet"
    export_parquet(samples, target)
    source = {
        "file": target,
        "folder": tmp_path,
        "url": target.as_uri(),
        "folder url": tmp_path.as_uri(),
        "path of a url": Path(target.as_uri()),
    }[form]
    expected, actual = list(StoredGroups([samples])), list(StoredGroups([source]))
    assert [group.question_id for group in actual] == [group.question_id for group in expected]
    for left, right in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(left.labels, right.labels)
        assert (left.messages, left.family) == (right.messages, right.family)
    if form == "folder":
        options: dict[str, Any] = {"split": "all", "ns": (2, 4), "subsets": 10, "resamples": 20}
        assert repr(evaluate(None, source, **options)) == repr(evaluate(None, samples, **options))


def test_a_file_system_that_only_fsspec_knows_is_read(table: Any, samples: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    with memory.open("/data/s.parquet", "wb") as file:
        pq.write_table(table, file)
    try:
        assert_equal("memory://data/s.parquet", samples)
        assert_equal("memory://data", samples)
    finally:
        memory.rm("/data", recursive=True)


def test_columns_that_are_not_needed_are_not_read(table: Any, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "s.parquet")
    for _, own in ParquetSamples(tmp_path / "s.parquet", skip=["top_ids"]):
        assert all(sample.completion.top_ids is None for sample in own)


def test_files_of_several_models_are_refused(table: Any, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    position = table.schema.get_field_index("model")
    pq.write_table(table.set_column(position, "model", pa.array(["n"] * len(table))), tmp_path / "b.parquet")
    with pytest.raises(ConfigurationError, match="samples of 2 models: openai/m, openai/n"):
        StoredGroups([tmp_path])
    pq.write_table(table.drop_columns(["provider"]), tmp_path / "b.parquet")
    with pytest.raises(ConfigurationError, match=r"b\.parquet: .*the column 'provider' is missing"):
        StoredGroups([tmp_path])


# --- Hostile files -----------------------------------------------------------------------------------------------


def write_nothing(table: Any, path: Path) -> None:
    path.touch()


def cut(table: Any, path: Path) -> None:
    pq.write_table(table, path)
    path.write_bytes(path.read_bytes()[:-20])


HOSTILE: dict[str, tuple[Callable[[Any, Path], Any], str]] = {
    "missing": (lambda table, path: None, "There are no samples at"),
    "empty": (write_nothing, "cannot be read as Parquet"),
    "text": (lambda table, path: path.write_text("question,index\n"), "is not a samples file"),
    "cut": (cut, "cannot be read as Parquet"),
    "magic": (lambda table, path: path.write_bytes(b"PAR1" + bytes(60) + b"PAR1"), "cannot be read as Parquet"),
    "empty folder": (lambda table, path: path.mkdir(), "contains no .parquet files"),
    "no rows": (lambda table, path: pq.write_table(sample_schema(3).empty_table(), path), "contains no samples"),
    "other columns": (lambda _, path: pq.write_table(pa.table({"a": [1]}), path), "it has none of the columns"),
    "wrong types": (
        lambda table, path: pq.write_table(table.set_column(12, "tokens", pa.array(["x"] * len(table))), path),
        "instead of lists",
    ),
    "twice": (
        lambda table, path: pq.write_table(pa.concat_tables([table, table]), path),
        "two samples with the index 0",
    ),
    "other messages": (
        lambda table, path: pq.write_table(
            table.set_column(2, "messages", pa.array(["[]"] * 2 + ["[{}]"] * (len(table) - 2))), path
        ),
        "has several messages",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_their_path(name: str, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write, message = HOSTILE[name]
    write(table, path)
    with pytest.raises(ConfigurationError, match=message) as caught:
        list(StoredGroups([path]))
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_row_group_of_too_many_values_is_refused_before_it_is_read(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(table, tmp_path / "s.parquet")
    monkeypatch.setattr(row_groups, "MAX_VALUES", 1000)
    with pytest.raises(ConfigurationError, match=r"a row group has 1,\d{3} values in one column; 1,000 are the most"):
        list(ParquetSamples(tmp_path / "s.parquet"))


def test_a_tiny_file_that_unfolds_stays_small(tmp_path: Path) -> None:
    """A megabyte of text in 20,000 rows is one text in the file, and as text would be 20 GB."""
    resource = pytest.importorskip("resource")
    sample = Sample(question_id="q", index=0, completion=completion(0, tokens=2, k=1))
    small = encode_samples([(StoredQuestion(id="q", messages=()), sample)], provider="openai", model="m")
    rows = pa.concat_tables([small] * 20_000).combine_chunks()
    for name in ("text", "messages"):
        codes = pa.array(np.zeros(20_000, np.int32))
        text = '[{"role": "user", "content": "' + "x" * 2**20 + '"}]'
        column = pa.DictionaryArray.from_arrays(codes, pa.array([text]))
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    rows = rows.set_column(1, "index", pa.array(np.arange(20_000, dtype=np.int32)))
    pq.write_table(rows, tmp_path / "s.parquet", store_schema=False)
    assert (tmp_path / "s.parquet").stat().st_size < 10 * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ((_, own),) = ParquetSamples(tmp_path / "s.parquet")
    assert len(own) == 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024


def test_damaged_bytes_are_refused_or_read_and_never_end_the_process(table: Any, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "whole.parquet", row_group_size=16)
    whole, path, rng = (tmp_path / "whole.parquet").read_bytes(), tmp_path / "s.parquet", random.Random(0)
    size, refused = len(whole), 0
    footer = size - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(100):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 2, 5])):
            place = rng.randrange(footer, size) if rng.random() < 0.5 else rng.randrange(size)
            damaged[place] = rng.choice([0, 127, 128, 255, rng.randrange(256)])
        path.write_bytes(damaged)
        try:
            list(StoredGroups([path]))
        except ConfigurationError:
            refused += 1
    assert refused > 20


def test_values_are_counted_as_pyarrow_counts_them(table: Any, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "s.parquet", row_group_size=16)
    with pa.OSFile(str(tmp_path / "s.parquet")) as source:
        counted = count_values(source)
    facts = pq.read_metadata(tmp_path / "s.parquet")
    assert len(counted) == facts.num_row_groups == 3
    for number, values in enumerate(counted):
        columns = [facts.row_group(number).column(position) for position in range(facts.num_columns)]
        expected: dict[str, int] = {}
        for column in columns:
            name = column.path_in_schema.partition(".")[0]
            expected[name] = max(column.num_values, expected.get(name, 0))
        assert values == expected


# --- Commands ----------------------------------------------------------------------------------------------------


def test_grading_counts_and_does_not_write(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.parquet"
    export_parquet(samples, path)
    before = path.read_bytes()
    assert run(["grade", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == QUESTIONS
    (tmp_path / "q.jsonl").write_text('{"id": "q1", "prompt": "1?", "answer": "1"}')
    for target, message in ((path, "is a Parquet file"), (tmp_path, "is a folder")):
        assert run(["grade", str(target), "--questions", str(tmp_path / "q.jsonl")]) == 3
        error = capsys.readouterr().err
        assert message in error
        assert "samples file (.db)" in error
    assert path.read_bytes() == before


def test_samples_files_need_no_pyarrow(samples: Path) -> None:
    code = (
        "import sys, swift_client; assert 'pyarrow' not in sys.modules\n"
        "from swift_client.dataset.stored import StoredGroups; list(StoredGroups([sys.argv[1]]))\n"
        "assert not any(name.startswith(('pyarrow', 'fsspec')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(samples)], check=True)


def test_without_pyarrow_the_extra_is_named(table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table, tmp_path / "s.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"swift-client\[parquet\]"):
        StoredGroups([tmp_path / "s.parquet"])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nowhere://user:hunter2@host/data?key=hunter2", "nowhere://host/data"),
        ("s3://AKIA:hunter2@bucket/x y?region=", "s3://bucket/x y"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ParquetSamples(url)
    text = "".join(traceback.format_exception(caught.value))
    assert shown in text
    assert "hunter2" not in text
