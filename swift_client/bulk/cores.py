"""The number of cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of a container: "QUOTA PERIOD" in microseconds, or "max PERIOD"


def usable_cores() -> int:
    """Return the cores that this process may run on; fewer if its container has a smaller share of time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _container_cores() or cores))


def _container_cores() -> int | None:
    """Return the time share of the container in cores, rounded up; None without a limit."""
    try:
        quota, period = map(int, _CGROUP_LIMIT.read_text().split())
        return -(-quota // period)
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max"
        return None
