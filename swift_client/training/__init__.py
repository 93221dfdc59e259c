"""Public functions to collect samples, train heads, and calibrate, evaluate, report and simulate them.

They do what the commands of the same names do. Names load on first use; torch loads when training starts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swift_client.collect.collect import CollectResult, Prices, collect, collect_async
    from swift_client.collect.import_samples import import_samples
    from swift_client.dataset.question_samples import Group
    from swift_client.dataset.splits import Split
    from swift_client.dataset.stored import StoredGroups
    from swift_client.evaluation.evaluate import evaluate
    from swift_client.evaluation.feedback_evaluation import FeedbackEvaluation, evaluate_feedback
    from swift_client.evaluation.fusion_weight import learn_fuse
    from swift_client.evaluation.result import Estimate, Evaluation, Replayed, Row, Simulation
    from swift_client.evaluation.risk.calibrate import Acceptable, calibrate
    from swift_client.evaluation.simulation.simulate import simulate
    from swift_client.evaluation.train_head import train
    from swift_client.report import report
    from swift_client.retraining import Retraining, retrain
    from swift_client.training.recipes import Recipe, recipe_of

__all__ = [
    "Acceptable",
    "CollectResult",
    "Estimate",
    "Evaluation",
    "FeedbackEvaluation",
    "Group",
    "Prices",
    "Recipe",
    "Replayed",
    "Retraining",
    "Row",
    "Simulation",
    "Split",
    "StoredGroups",
    "calibrate",
    "collect",
    "collect_async",
    "evaluate",
    "evaluate_feedback",
    "import_samples",
    "learn_fuse",
    "recipe_of",
    "report",
    "retrain",
    "simulate",
    "train",
]

# The packages that collect, evaluate and report are layers above this one, so they are named as text.
_NAMES = {
    "swift_client.collect.collect": ("CollectResult", "Prices", "collect", "collect_async"),
    "swift_client.collect.import_samples": ("import_samples",),
    "swift_client.dataset.question_samples": ("Group",),
    "swift_client.dataset.splits": ("Split",),
    "swift_client.dataset.stored": ("StoredGroups",),
    "swift_client.evaluation.evaluate": ("evaluate",),
    "swift_client.evaluation.feedback_evaluation": ("FeedbackEvaluation", "evaluate_feedback"),
    "swift_client.evaluation.fusion_weight": ("learn_fuse",),
    "swift_client.evaluation.result": ("Estimate", "Evaluation", "Replayed", "Row", "Simulation"),
    "swift_client.evaluation.risk.calibrate": ("Acceptable", "calibrate"),
    "swift_client.evaluation.simulation.simulate": ("simulate",),
    "swift_client.evaluation.train_head": ("train",),
    "swift_client.report": ("report",),
    "swift_client.retraining": ("Retraining", "retrain"),
    "swift_client.training.recipes": ("Recipe", "recipe_of"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
