"""Ranking of stored replies and samples: a batch at a time, and whole files on all cores of one machine.

Names load on first use: a worker process imports this package before it limits numpy's threads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swift_client.bulk.file_ranking import RankProgress, rank_files
    from swift_client.bulk.selection_columns import selection_schema
    from swift_client.bulk.settings import RankSettings
    from swift_client.bulk.table_ranking import rank_table

__all__ = ["RankProgress", "RankSettings", "rank_files", "rank_table", "selection_schema"]

_MODULE_OF = {
    "RankProgress": "swift_client.bulk.file_ranking",
    "RankSettings": "swift_client.bulk.settings",
    "rank_files": "swift_client.bulk.file_ranking",
    "rank_table": "swift_client.bulk.table_ranking",
    "selection_schema": "swift_client.bulk.selection_columns",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
