"""Settings of Python's garbage collector for a process that serves."""

from __future__ import annotations

import gc

# Reading a reply of 450 kB makes thousands of containers that die at once, without cycles: by default they start the
# collector dozens of times, which took a tenth of the CPU of a question.
_NEW_CONTAINERS = 50_000


def tune_collector() -> None:
    """Let the collector run less often, and never over what the start has left."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_CONTAINERS, *gc.get_threshold()[1:])
