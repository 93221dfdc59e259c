"""Scoring of stored completions: speed, cores, memory, Ray, and features against memory bandwidth.

Completions have 200 tokens with 20 alternatives each, 8 per question, in Parquet files, and are ranked by the packaged
head. The rows of a few questions are written again and again under other names. Times are those of whole runs, with the
start of the processes.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pyarrow
import pyarrow.parquet

from swift_client.bulk import RankSettings, rank_files, rank_table
from swift_client.dataset.sample_columns import encode_samples
from swift_client.dataset.sample_columns.schema import open_writer
from swift_client.features import TokenTable, token_columns
from swift_client.models.library import PACKAGED_FOLDER
from swift_client.models.resolve_head import load_head
from swift_client.store import Sample, StoredQuestion
from tests.generated import completion

N, TOKENS, K = 8, 200, 20
_QUESTIONS = 32  # that are generated
_FILES = 16  # of a folder: Ray reads each of them in one task
_HEAD = "pocket/pocket"


def write_samples(folder: Path, completions: int) -> Path:
    """Write a folder of Parquet files with so many completions, a row group per ``_QUESTIONS`` questions."""
    folder.mkdir()
    question = StoredQuestion(id="q", messages=({"role": "user", "content": "What is 17 * 24?"},))
    rows = [
        (question, Sample(question_id="q", index=index % N, completion=completion_of(index)))
        for index in range(N * _QUESTIONS)
    ]
    table = encode_samples(rows, provider="pocket", model="pocket", k=K)
    starts = range(0, completions, len(table))
    for number in range(_FILES):
        with open_writer(folder / f"{number:02}.parquet", table.schema) as writer:
            for start in starts[len(starts) * number // _FILES : len(starts) * (number + 1) // _FILES]:
                names = [f"q{(start + row) // N}" for row in range(len(table))]
                part = table.set_column(0, table.schema.field(0), pyarrow.array(names))
                writer.write_table(part.slice(0, completions - start))
    return folder


def completion_of(index: int) -> Any:
    """Generate a completion; the tokens' identities are left out, as providers give none."""
    return replace(completion(index, tokens=TOKENS, k=K, ids=False), index=index % N)


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a function."""
    start, cpu_start = time.perf_counter(), cpu_seconds()
    run()
    return time.perf_counter() - start, cpu_seconds() - cpu_start


def measure_speed(path: Path, rounds: int) -> dict[str, list[float]]:
    """Rank a file with one and with two workers in turn; return seconds and CPU seconds of each round."""
    result: dict[str, list[float]] = {name: [] for name in ("one", "two", "cpu_one", "cpu_two")}
    for _ in range(rounds):
        for name, workers in (("one", 1), ("two", 2)):
            seconds, cpu = timed(lambda workers=workers: rank_files(path, out_of(path), head=_HEAD, workers=workers))
            result[name].append(seconds)
            result[f"cpu_{name}"].append(cpu)
    return result


def out_of(path: Path) -> Path:
    """Return the file for the choices."""
    return path.with_name("choices.parquet")


def measure_memory(path: Path) -> tuple[float, float]:
    """Rank a file in a process of its own; return the highest memory of it and of its largest worker, in MB."""
    process = multiprocessing.get_context("spawn").Process(target=_rank_in_child, args=(path,))
    process.start()
    highest: dict[int, float] = {}
    while process.is_alive():
        for pid in (process.pid, *children_of(process.pid)):
            highest[pid] = max(highest.get(pid, 0.0), peak_memory(pid))
        time.sleep(0.02)
    if process.exitcode:
        raise RuntimeError(f"the ranking ended with {process.exitcode}")
    parent = highest.pop(process.pid)
    return parent, max(highest.values(), default=0.0)


def _rank_in_child(path: Path) -> None:
    rank_files(path, out_of(path), head=_HEAD, workers=2)


def children_of(pid: int | None) -> list[int]:
    """Return the processes that a process has started (Linux)."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def peak_memory(pid: int) -> float:
    """Return the highest resident memory of a process so far, in MB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM")), 0.0)


@contextmanager
def local_ray() -> Iterator[Any]:
    """Start Ray with as many CPUs as there are cores, but at least two."""
    import ray
    import ray.data

    cores = max(2, len(os.sched_getaffinity(0)))
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        ray.shutdown()


def rank_row_groups(task: tuple[Path, int]) -> Any:
    """Rank one row group: the work of a plain ``multiprocessing.Pool``."""
    path, number = task
    table = pyarrow.parquet.ParquetFile(path).read_row_group(number, use_threads=False)
    return rank_table(table, RankSettings.create(head=_HEAD))


def measure_ray(path: Path) -> dict[str, Any]:
    """Rank a folder by Ray and by a plain pool of processes, which both run already; compare the rows."""
    from swift_client.ray import rank_dataset

    tasks = row_groups_of(path)
    with local_ray() as ray, multiprocessing.get_context("spawn").Pool(2) as pool:
        warm = write_samples(path.with_name("warm"), _FILES * N * _QUESTIONS)
        rank_dataset(ray.data.read_parquet(str(warm)), head=_HEAD).materialize()
        pool.map(rank_row_groups, row_groups_of(warm), chunksize=1)
        start = time.perf_counter()
        dataset = rank_dataset(ray.data.read_parquet(str(path)), head=_HEAD)
        by_ray = pyarrow.concat_tables(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
        ray_seconds = time.perf_counter() - start
        start = time.perf_counter()
        by_pool = pyarrow.concat_tables(pool.imap(rank_row_groups, tasks))
        pool_seconds = time.perf_counter() - start
    return {"ray": ray_seconds, "pool": pool_seconds, "different_rows": count_differences(by_ray, by_pool)}


def row_groups_of(folder: Path) -> list[tuple[Path, int]]:
    """Return the row groups of a folder's files."""
    counts = {path: pyarrow.parquet.ParquetFile(path).metadata.num_row_groups for path in sorted(folder.iterdir())}
    return [(path, number) for path, count in counts.items() for number in range(count)]


def count_differences(rows: Any, others: Any) -> int:
    """Return the number of rows of which the other table has no equal."""
    pairs = [{row["question"]: row for row in table.to_pylist()} for table in (rows, others)]
    names = pairs[0].keys() | pairs[1].keys()
    return sum(pairs[0].get(name) != pairs[1].get(name) for name in names) + abs(len(rows) - len(others))


def measure_features(rounds: int) -> tuple[float, float, float]:
    """Return µs per token of features and head, the GB/s of lists that this reads, and GB/s of a copy in memory."""
    head = load_head(PACKAGED_FOLDER / "pocket.safetensors")
    groups = [[completion_of(N * number + index) for index in range(N)] for number in range(16)]

    def score_all() -> None:
        for group in groups:
            features = token_columns(TokenTable(group, width=head.width), head.features)
            head.head.logits(head.standardizer(features.values), features.offsets)

    data = np.ones(16 * 2**20)  # 128 MB
    target = np.empty_like(data)
    score_all()
    seconds = min(timed(score_all)[1] for _ in range(rounds))
    copy_seconds = min(timed(lambda: np.copyto(target, data))[0] for _ in range(rounds))
    tokens = len(groups) * N * TOKENS
    return 1e6 * seconds / tokens, tokens * (K + 1) * 4 / seconds / 1e9, 2 * data.nbytes / copy_seconds / 1e9


def bar(value: float, target: float, unit: str, values: list[float] | None = None) -> dict[str, Any]:
    """Return a bar; the interval is the lowest and the highest of ``values``."""
    interval = [round(min(values), 4), round(max(values), 4)] if values else None
    return {"value": round(value, 4), "target": target, "unit": unit, "interval": interval}


def measure(completions: int = 200_000, rounds: int = 5, *, ray: bool = True) -> dict[str, Any]:
    """Return the bars, and what they were computed from.

    Args:
        completions: in the large folder, at least 10,240; the speed is measured on a fifth of them.
        rounds: runs per speed.
        ray: whether to compare with Ray.
    """
    small, medium = completions // 10, completions // 5
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder:
        small_path = write_samples(Path(folder) / "small", small)
        medium_path = write_samples(Path(folder) / "medium", medium)
        large_path = write_samples(Path(folder) / "large", completions)
        speed = measure_speed(medium_path, rounds)
        memory_small = measure_memory(small_path)
        start, cpu_start = time.perf_counter(), cpu_seconds()
        memory_large = measure_memory(large_path)
        large_seconds, large_cpu = time.perf_counter() - start, cpu_seconds() - cpu_start
        by_ray = measure_ray(large_path) if ray else None
        size = sum(path.stat().st_size for path in large_path.iterdir())
    speedups = [one / two for one, two in zip(speed["one"], speed["two"], strict=True)]
    growth = [large / max(first, 1.0) - 1 for first, large in zip(memory_small, memory_large, strict=True)]
    token_us, list_gb, copy_gb = measure_features(max(5, rounds))
    bars = {
        "speedup_2_workers": bar(statistics.median(speedups), 1.7, "of one worker's speed", speedups),
        "scoring_parent_memory_growth": bar(growth[0], 0.1, f"share of {memory_small[0]:.0f} MB"),
        "scoring_worker_memory_growth": bar(growth[1], 0.1, f"share of {memory_small[1]:.0f} MB"),
        "features_and_head_us": bar(token_us, 1.0, "µs of CPU per token"),
    }
    if by_ray is not None:
        bars["ray_different_rows"] = bar(by_ray["different_rows"], 0, "rows")
        bars["ray_to_multiprocessing"] = bar(by_ray["ray"] / by_ray["pool"], 1.3, "times as long")
    details = {
        "completions_per_s_per_core": round(medium / statistics.median(speed["one"])),
        "cpu_us_per_completion": round(1e6 * statistics.median(speed["cpu_one"]) / medium),
        "cpu_us_per_completion_2_workers": round(1e6 * large_cpu / completions),
        "large_file": {"completions": completions, "bytes": size, "seconds": round(large_seconds, 1)},
        "seconds": {name: [round(value, 2) for value in values] for name, values in speed.items()},
        "ray_seconds": by_ray and {name: round(by_ray[name], 1) for name in ("ray", "pool")},
        "memory_mb": {"small": memory_small, "large": memory_large},
        "features_gb_per_s": round(list_gb, 3),
        "copy_gb_per_s": round(copy_gb, 2),
    }
    return {"bars": bars, "details": details}
