"""Row groups of samples have a bounded size, whatever the completions contain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from swift_client.dataset.export_parquet import export_parquet
from swift_client.dataset.sample_columns.cut_rows import cut_rows
from swift_client.dataset.sample_columns.encode import encode_samples
from swift_client.store import Meta, Sample, SampleStore, StoredQuestion
from swift_client.types import Completion, Usage
from tests.generated import completion

SHORT = completion(0, tokens=2, k=1)
LONG = Completion(
    text="",
    tokens=("a",) * 60_000,
    logprobs=np.zeros(60_000, np.float32),
    top_logprobs=np.zeros((60_000, 0), np.float32),
    censored=np.zeros(60_000, np.bool_),
)
STATES = replace(SHORT, hidden_states=np.zeros((2, 600_000), np.float16))


def rows_of(completions: list[Completion], question: str) -> list[tuple[StoredQuestion, Sample]]:
    stored = StoredQuestion(id=question, messages=())
    return [
        (stored, Sample(question_id=question, index=index, completion=content))
        for index, content in enumerate(completions)
    ]


@pytest.mark.parametrize(
    ("contents", "sizes"),
    [
        ([SHORT] * 2, [20]),
        ([SHORT] * 300, [1200, 1200, 600]),
        ([LONG] * 2, [6, 6, 6, 2]),
        ([replace(SHORT, thinking=LONG)] * 2, [6, 6, 6, 2]),
        ([STATES] * 2, [6, 6, 6, 2]),
        ([replace(SHORT, thinking=STATES)] * 2, [6, 6, 6, 2]),
    ],
)
def test_a_row_group_ends_with_the_question_that_fills_it(contents: list[Completion], sizes: list[int]) -> None:
    rows = [row for number in range(10) for row in rows_of(contents, f"q{number}")]

    parts = list(cut_rows(rows))

    assert [len(part) for part in parts] == sizes
    assert [row for part in parts for row in part] == rows


def test_an_export_of_long_thinking_has_several_row_groups(tmp_path: Path) -> None:
    with SampleStore(tmp_path / "s.db", write=True) as store:
        store.begin(Meta(provider="openai", model="m", top_logprobs=1))
        for number in range(6):
            store.add_questions([StoredQuestion(id=f"q{number}", messages=())])
            store.add_samples(f"q{number}", [replace(SHORT, thinking=LONG)], usage=Usage())

    assert export_parquet(tmp_path / "s.db", tmp_path / "s.parquet") == 6
    file = pyarrow.parquet.ParquetFile(tmp_path / "s.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [5, 1]


def test_arrays_without_tokens_do_not_widen_the_lists_of_others(tmp_path: Path) -> None:
    empty = replace(Completion(text="4"), top_logprobs=np.zeros((0, 2**20), np.float32))
    rows = rows_of([SHORT, empty, replace(SHORT, thinking=empty)], "q")

    table = encode_samples(rows, provider="openai", model="m")

    assert table.schema.field("top_logprobs").type.value_type.list_size == 1


def test_a_samples_file_that_claims_a_million_alternatives_is_exported_as_it_is(tmp_path: Path) -> None:
    with SampleStore(tmp_path / "s.db", write=True) as store:
        store.begin(Meta(provider="openai", model="m", top_logprobs=2**20))
        store.add_questions([StoredQuestion(id="q", messages=())])
        store.add_samples("q", [SHORT], usage=Usage())

    export_parquet(tmp_path / "s.db", tmp_path / "s.parquet")

    schema = pyarrow.parquet.read_schema(tmp_path / "s.parquet")
    assert schema.field("top_logprobs").type.value_type.list_size == 1
