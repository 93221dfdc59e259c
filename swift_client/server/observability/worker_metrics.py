"""Metrics of several worker processes, added up through files that prometheus_client maps into memory.

https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it once, when it is imported


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let the workers that start within the block add up their metrics: any of them serves the sum of all.

    For the parent of the workers, which must be new interpreters ("spawn"): a fork has imported prometheus_client
    before. A folder that the variable ``PROMETHEUS_MULTIPROC_DIR`` names already is used as it is.
    """
    if os.environ.get(_FOLDER_VARIABLE):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="swift-client-metrics-") as folder:
        os.environ[_FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[_FOLDER_VARIABLE]


def forget_worker(process_id: int) -> None:
    """Drop the gauges of a worker that has ended; its counters stay in the sum."""
    if folder := os.environ.get(_FOLDER_VARIABLE):
        mark_process_dead(process_id, folder)  # type: ignore[no-untyped-call]


def merged_registry() -> CollectorRegistry | None:
    """Return a registry of the sums over all workers; None if this process is the only one."""
    folder = os.environ.get(_FOLDER_VARIABLE)
    if not folder:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
    return registry
