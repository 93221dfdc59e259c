"""Public functions to collect samples, train heads, and calibrate, evaluate, report and simulate them.

They do what the commands of the same names do. Names load on first use; torch loads when training starts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swift_client.collect.collect import CollectResult, Prices, collect, collect_async
    from swift_client.dataset.question_samples import Group
    from swift_client.dataset.splits import Split
    from swift_client.dataset.stored import StoredGroups
    from swift_client.evaluation.evaluate import evaluate
    from swift_client.evaluation.fusion_weight import learn_fuse
    from swift_client.evaluation.result import Estimate, Evaluation, Replayed, Row, Simulation
    from swift_client.evaluation.risk.calibrate import Acceptable, calibrate
    from swift_client.evaluation.simulation.simulate import simulate
    from swift_client.report import report
    from swift_client.training.recipes import Recipe, recipe_of
    from swift_client.training.train_head import train

__all__ = [
    "Acceptable",
    "CollectResult",
    "Estimate",
    "Evaluation",
    "Group",
    "Prices",
    "Recipe",
    "Replayed",
    "Row",
    "Simulation",
    "Split",
    "StoredGroups",
    "calibrate",
    "collect",
    "collect_async",
    "evaluate",
    "learn_fuse",
    "recipe_of",
    "report",
    "simulate",
    "train",
]

# The packages that collect, evaluate and report are layers above this one, so they are named as text.
_MODULES = {
    "Acceptable": "swift_client.evaluation.risk.calibrate",
    "CollectResult": "swift_client.collect.collect",
    "Estimate": "swift_client.evaluation.result",
    "Evaluation": "swift_client.evaluation.result",
    "Group": "swift_client.dataset.question_samples",
    "Prices": "swift_client.collect.collect",
    "Recipe": "swift_client.training.recipes",
    "Replayed": "swift_client.evaluation.result",
    "Row": "swift_client.evaluation.result",
    "Simulation": "swift_client.evaluation.result",
    "Split": "swift_client.dataset.splits",
    "StoredGroups": "swift_client.dataset.stored",
    "calibrate": "swift_client.evaluation.risk.calibrate",
    "collect": "swift_client.collect.collect",
    "collect_async": "swift_client.collect.collect",
    "evaluate": "swift_client.evaluation.evaluate",
    "learn_fuse": "swift_client.evaluation.fusion_weight",
    "recipe_of": "swift_client.training.recipes",
    "report": "swift_client.report",
    "simulate": "swift_client.evaluation.simulation.simulate",
    "train": "swift_client.training.train_head",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
