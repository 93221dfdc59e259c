"""The benchmark of scoring stored completions runs, and counts rows that differ."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet

from benchmarks.scaling.scoring import count_differences, row_groups_of, write_samples


def test_its_questions_are_whole_in_every_row_group_and_differ(tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "samples", 20 * 256)

    parts = [pyarrow.parquet.ParquetFile(path).read_row_group(number) for path, number in row_groups_of(folder)]
    assert len(parts) == 20
    names = [name for part in parts for name in part.column("question").to_pylist()]
    assert names == [f"q{row // 8}" for row in range(20 * 256)]


def test_rows_that_differ_or_are_missing_are_counted() -> None:
    rows = pyarrow.table({"question": ["a", "b", "c"], "score": [1.0, 2.0, 3.0]})
    others = pyarrow.table({"question": ["a", "b"], "score": [1.0, 2.5]})

    assert count_differences(rows, rows) == 0
    assert count_differences(rows, others) == 3  # b, c, and one row less
