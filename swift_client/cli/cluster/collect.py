"""The part of ``collect`` that works on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swift_client.cli import output, progress
from swift_client.cli.cluster.option import cluster, find_address
from swift_client.ray.collect import ShardsResult, collect_shards
from swift_client.store import StoredQuestion


def collect_on_cluster(
    questions: Path | Sequence[StoredQuestion],
    out: Path,
    *,
    address: str,
    workers: int,
    settings: dict[str, Any],
) -> ShardsResult:
    """Collect into a folder of Parquet files.

    Args:
        questions: a Parquet file or folder, or questions.
        out: the folder, or its URL.
        address: of the cluster, as of ``--ray``.
        workers: number of actors.
        settings: further arguments of ``collect_shards()``.

    Raises:
        SwiftClientError: as ``collect_shards()``.
    """
    with cluster(address) as ray:
        source = ray.data.read_parquet(find_address(questions)) if isinstance(questions, Path) else questions
        with progress.collect_bar() as update:
            result = collect_shards(source, find_address(out), on_progress=update, workers=workers, **settings)
    if result.lost_in_flight:
        cost = "" if result.lost_cost is None else f", which cost at most {result.lost_cost:.4g}"
        output.warn(
            f"Up to {result.lost_in_flight:,} completions were under way when workers were killed, and were requested "
            f"again{cost}."
        )
    return result
