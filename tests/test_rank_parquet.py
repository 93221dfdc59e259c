"""Ranking Parquet files and Arrow tables: wherever rows are cut, the choices are those of the samples file."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client import rank
from swift_client.bulk import RankSettings, rank_files, rank_table, selection_schema
from swift_client.bulk.sources.recent_questions import RecentQuestions
from swift_client.dataset.export_parquet import export_parquet
from swift_client.errors import ConfigurationError
from tests.stored_samples import reply_of, write_replies, write_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with samples as ``s.db`` and ``s.parquet``, and their choices as ``rows.parquet``."""
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder / "s.db", questions=24, n=4)
    export_parquet(folder / "s.db", folder / "s.parquet")
    rank_files(folder / "s.db", folder / "rows.parquet", head="pocket/pocket", workers=1)
    return folder


@pytest.fixture(scope="module")
def samples(folder: Path) -> pyarrow.Table:
    return pyarrow.parquet.read_table(folder / "s.parquet")


@pytest.fixture(scope="module")
def expected(folder: Path) -> pyarrow.Table:
    return pyarrow.parquet.read_table(folder / "rows.parquet")


SETTINGS = RankSettings.create(head="pocket/pocket")


def rank_parquet(path: Path, tmp_path: Path, *, workers: int = 1) -> pyarrow.Table:
    rank_files(path, tmp_path / "out.parquet", head="pocket/pocket", workers=workers)
    return pyarrow.parquet.read_table(tmp_path / "out.parquet")


def test_a_table_of_samples_gives_the_rows_of_the_samples_file(samples: pyarrow.Table, expected: pyarrow.Table) -> None:
    ranked = rank_table(samples, SETTINGS)

    assert ranked.schema.equals(selection_schema())
    assert ranked.equals(expected)
    assert rank_table(samples.combine_chunks().to_batches()[0], SETTINGS).equals(expected)
    assert rank_table(samples.slice(0, 0), SETTINGS).num_rows == 0


@pytest.mark.parametrize("row_group_size", [1, 3, 7, 50])
def test_questions_may_be_cut_by_row_groups(
    samples: pyarrow.Table, expected: pyarrow.Table, row_group_size: int, tmp_path: Path
) -> None:
    pyarrow.parquet.write_table(samples, tmp_path / "cut.parquet", row_group_size=row_group_size)

    assert rank_parquet(tmp_path / "cut.parquet", tmp_path).equals(expected)


@settings(max_examples=12)
@given(cuts=st.sets(st.integers(1, 87), max_size=8))
def test_questions_may_be_cut_by_files(
    samples: pyarrow.Table, expected: pyarrow.Table, cuts: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    edges = [0, *sorted(cuts), len(samples)]
    for number, (start, end) in enumerate(pairwise(edges)):
        part = samples.slice(start, end - start)
        pyarrow.parquet.write_table(part, folder / f"part-{number:03}.parquet", row_group_size=20)

    out = tmp_path_factory.mktemp("out")
    assert rank_parquet(folder, out).equals(expected)


def test_workers_rank_a_folder_in_the_order_of_its_files(
    samples: pyarrow.Table, expected: pyarrow.Table, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        part = samples.slice(22 * number, 22 if number < 3 else None)
        pyarrow.parquet.write_table(part, tmp_path / "in" / f"{number}.parquet", row_group_size=5)
    (tmp_path / "in" / ".hidden.parquet").write_text("not Parquet")

    assert rank_parquet(tmp_path / "in", tmp_path, workers=2).equals(expected)


def test_urls_are_read_too(folder: Path, expected: pyarrow.Table, tmp_path: Path) -> None:
    rank_files(f"file://{folder}/s.parquet", tmp_path / "out.parquet", head="pocket/pocket", workers=1)

    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").equals(expected)


def test_a_question_in_two_places_is_refused(samples: pyarrow.Table, tmp_path: Path) -> None:
    scattered = pyarrow.concat_tables([samples, samples.slice(0, 2)])
    pyarrow.parquet.write_table(scattered, tmp_path / "s.parquet", row_group_size=30)

    with pytest.raises(ConfigurationError, match=r"s.parquet: the rows of question 'q0' are not next to each other"):
        rank_parquet(tmp_path / "s.parquet", tmp_path)
    assert not (tmp_path / "out.parquet").exists()


def test_the_memory_for_questions_finds_a_repetition_and_nothing_else() -> None:
    seen = RecentQuestions()

    assert all(seen.add(f"q{number}") for number in range(20_000))
    assert not seen.add("q19999")


def replace_column(table: pyarrow.Table, name: str, values: list[Any]) -> pyarrow.Table:
    position = table.schema.get_field_index(name)
    return table.set_column(position, table.schema.field(name), pyarrow.array(values, table.schema.field(name).type))


def test_invalid_values_cost_their_question_only(samples: pyarrow.Table, expected: pyarrow.Table) -> None:
    logprobs = samples.column("logprobs").to_pylist()
    logprobs[5][0] = 0.5
    models = samples.column("model").to_pylist()
    models[9] = "other"
    damaged = replace_column(replace_column(samples, "logprobs", logprobs), "model", models)

    rows = rank_table(damaged, SETTINGS).to_pylist()

    assert "above 0" in rows[1]["error"]
    assert "several models" in rows[2]["error"]
    assert [row for row in rows if row["error"] is None] == [*expected.to_pylist()[:1], *expected.to_pylist()[3:]]


@pytest.mark.parametrize("name", ["question", "logprobs", "rank"])
def test_a_table_of_something_else_is_refused(samples: pyarrow.Table, name: str, tmp_path: Path) -> None:
    table = samples.drop_columns([name])
    pyarrow.parquet.write_table(table, tmp_path / "s.parquet")

    with pytest.raises(ConfigurationError, match=f"lacks {name}"):
        rank_table(table, SETTINGS)
    with pytest.raises(ConfigurationError, match=rf"s\.parquet: .*lacks {name}"):
        rank_parquet(tmp_path / "s.parquet", tmp_path)


def test_questions_have_names_that_are_text(samples: pyarrow.Table) -> None:
    numbers = samples.set_column(0, "question", pyarrow.array(range(len(samples))))

    with pytest.raises(ConfigurationError, match="'question' is of type int64, not text"):
        rank_table(numbers, SETTINGS)


def test_old_exports_without_provider_and_model_take_those_of_the_call(
    samples: pyarrow.Table, expected: pyarrow.Table
) -> None:
    table = samples.drop_columns(["provider", "model"])

    rules = RankSettings.create(head="auto", provider="pocket/pocket")
    with_auto = rank_table(samples, RankSettings.create(head="auto"))
    assert rank_table(table, rules).equals(with_auto)


def test_a_table_of_replies_is_ranked_row_by_row(tmp_path: Path) -> None:
    texts = [json.dumps(reply_of("The answer is 4", f"The answer is {n}", "The answer is 4")) for n in range(3)]
    messages = json.dumps([{"role": "user", "content": "2 + 2?"}])
    table = pyarrow.table(
        {"reply": [*texts, None, texts[0]], "id": ["a", "a", None, "d", "e"], "messages": [messages] * 4 + ["["]}
    )

    rows = rank_table(table, RankSettings.create()).to_pylist()

    assert [row["question"] for row in rows] == ["a", "a", None, "d", "e"]
    assert [row["error"] is None for row in rows] == [True, True, True, False, False]
    assert rows[1]["notes"] == list(rank(texts[1]).notes)
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet", row_group_size=2)
    rank_files(tmp_path / "r.parquet", tmp_path / "out.parquet", workers=1)
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows


def test_lists_of_replies_and_bytes_are_read_too() -> None:
    data = [json.dumps(reply_of(f"The answer is {n}")).encode() for n in (4, 5, 4)]

    (row,) = rank_table(pyarrow.table({"reply": [data]}), RankSettings.create()).to_pylist()

    assert (row["n"], row["answer"]) == (3, "4")


@pytest.mark.parametrize("kind", ["samples", "replies"])
def test_the_other_kind_is_refused(kind: Any, folder: Path, tmp_path: Path) -> None:
    write_replies(tmp_path / "r.jsonl", 1)
    pyarrow.parquet.write_table(pyarrow.table({"reply": ["{}"]}), tmp_path / "r.parquet")
    path = tmp_path / "r.parquet" if kind == "samples" else folder / "s.parquet"

    with pytest.raises(ConfigurationError, match="Rank it as"):
        rank_files(path, tmp_path / "out.jsonl", kind=kind)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_broken_file_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"s\.parquet cannot be read as Parquet"):
        rank_files(tmp_path / "s.parquet", tmp_path / "out.jsonl")


def test_a_folder_without_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(ConfigurationError, match=r"contains no \.parquet files"):
        rank_files(tmp_path / "empty", tmp_path / "out.jsonl")
    with pytest.raises(ConfigurationError, match="would be, a part of"):
        rank_files(tmp_path / "empty", tmp_path / "empty" / "out.parquet")
