"""Erasure of stored questions, replies and everything about them: by age, by question, by end user or by key."""

from swift_client.store.pruning.criterion import Criterion
from swift_client.store.pruning.places import prune
from swift_client.store.pruning.result import PruneResult

__all__ = ["Criterion", "PruneResult", "prune"]
