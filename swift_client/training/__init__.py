"""Training: from graded completions to a head. Only this room knows torch; what it makes is served by numpy.

``collect``, ``train``, ``calibrate``, ``evaluate``, ``report`` and ``simulate`` are what the commands of these
names do. torch is imported where training begins, not before.
"""

from swift_client.training.accept import Acceptable
from swift_client.training.collect import CollectResult, Prices, collect, collect_async
from swift_client.training.evaluation import Estimate, Evaluation, Row
from swift_client.training.files import calibrate, evaluate, simulate, train
from swift_client.training.fusing import learn_fuse
from swift_client.training.groups import Group
from swift_client.training.recipes import Recipe, recipe_of
from swift_client.training.report import report
from swift_client.training.simulation import Replayed, Simulation
from swift_client.training.splits import Split
from swift_client.training.stored import StoredGroups

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
