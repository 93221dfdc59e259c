"""Samples as Parquet against the samples file: CPU time to read a completion, and its bytes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet

from swift_client.dataset.export_parquet import export_parquet
from swift_client.dataset.sample_columns import ParquetSamples, decode_samples
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Usage
from tests.generated import completion

TOKENS, K, N = 200, 20, 8


def write_samples(path: Path, completions: int) -> None:
    """Write a samples file of questions with eight completions each."""
    with SampleStore(path, write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider="openai", model="drawn", top_logprobs=K))
        for number in range(completions // N):
            question = StoredQuestion(id=f"q{number}", messages=({"role": "user", "content": f"{number}?"},))
            store.add_questions([question])
            drawn = [completion(N * number + index, tokens=TOKENS, k=K) for index in range(N)]
            store.add_samples(question.id, drawn, usage=Usage(calls=1))


def measure(completions: int = 2048, rounds: int = 7) -> dict[str, Any]:
    """Return the bars, and the CPU time of each way to read a completion.

    Args:
        completions: in the file, a multiple of eight.
        rounds: of all ways by turns; the best of each counts, since neighbours only add.
    """
    with tempfile.TemporaryDirectory(prefix="columns-") as folder:
        stored, columns = Path(folder) / "s.db", Path(folder) / "s.parquet"
        write_samples(stored, completions)
        export_parquet(stored, columns)
        table = pyarrow.parquet.ParquetFile(columns).read_row_group(0)
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "samples_file": (completions, lambda: read_samples_file(stored)),
            "parquet": (completions, lambda: sum(len(own) for _, own in ParquetSamples(columns))),
            "parquet_without_ids": (
                completions, lambda: sum(len(own) for _, own in ParquetSamples(columns, skip=["top_ids"])),
            ),
            "decode_samples": (len(table), lambda: decode(table)),
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (count, read) in ways.items():
                start = time.process_time()
                read()
                times[name].append(1e6 * (time.process_time() - start) / count)
        sizes = {path.suffix[1:]: round(path.stat().st_size / completions) for path in (stored, columns)}
    best = {name: min(values) for name, values in times.items()}
    ratios = {name: best["samples_file"] / value for name, value in best.items()}
    return {
        "bars": {
            "decode_speedup": bar(ratios["decode_samples"], 5.0),
            "parquet_speedup": bar(ratios["parquet"], 2.0),
        },
        "details": {
            "cpu_us_per_completion": {name: round(value, 1) for name, value in best.items()},
            "bytes_per_completion": sizes,
        },
    }


def decode(table: Any) -> int:
    """Return the number of samples of a table, after decoding it in parts that fit into the processor's cache."""
    return sum(len(decode_samples(table.slice(start, 256))) for start in range(0, len(table), 256))


def read_samples_file(path: Path) -> int:
    """Return the number of samples of a samples file, after reading all of them."""
    with SampleStore(path) as store:
        return sum(len(store.samples(question.id)) for question in store.questions())


def bar(value: float, target: float) -> dict[str, Any]:
    """Return a bar for a ratio of CPU times."""
    return {"value": round(value, 2), "target": target, "unit": "of the samples file's speed", "interval": None}
