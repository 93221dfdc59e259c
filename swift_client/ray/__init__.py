"""Datasets of Ray Data: collecting, choosing and ranking on all machines of a cluster (extra ``ray``).

Names load on first use; Ray starts when a dataset is first read.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swift_client.ray.best_of import best_of_dataset
    from swift_client.ray.collect import ShardsResult, collect_shards
    from swift_client.ray.dataset import collect_dataset
    from swift_client.ray.limits_actor import RayLeases
    from swift_client.ray.rank import rank_dataset

__all__ = [
    "RayLeases",
    "ShardsResult",
    "best_of_dataset",
    "collect_dataset",
    "collect_shards",
    "rank_dataset",
]

_MODULES = {
    "RayLeases": "swift_client.ray.limits_actor",
    "best_of_dataset": "swift_client.ray.best_of",
    "ShardsResult": "swift_client.ray.collect",
    "collect_dataset": "swift_client.ray.dataset",
    "collect_shards": "swift_client.ray.collect",
    "rank_dataset": "swift_client.ray.rank",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
