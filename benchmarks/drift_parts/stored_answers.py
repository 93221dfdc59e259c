"""False alarms on SmolLM2's stored answers, and the alarm about questions of kinds that the reference does not have."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift_parts.conditions import GRADERS
from benchmarks.drift_parts.observed import calibrated, observe
from benchmarks.drift_parts.streams import count_false_alarms, detect, profile_of, split_false_alarms
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.training import Group, StoredGroups
from tools.smollm2 import stored


def read(splits: Collection[str]) -> list[Group]:
    """Return stored questions of some splits, graded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.db"
        stored.restore(stored.FILE, path, splits)
        return list(StoredGroups([path], grade=GRADERS["smollm2"]))


def measure(
    head: HeadArtifact, *, n: int, undrifted: int, splits: int, streams: int, per_false_alarm: float
) -> dict[str, Any]:
    """Return false alarms among test questions, and the detection of foreign ones.

    The validation questions are the reference once; test questions are about other countries, words and numbers. Then
    random parts of all are.
    """
    validation = read(["validation"])
    head = calibrated(head, validation, "smollm2", n)

    def rows(groups: list[Group]) -> F64:
        return observe(groups, head, "smollm2", n).rows

    known, test = rows(validation), rows(read(["test"]))
    both = np.concatenate([known, test])
    profile = profile_of(known, n)
    settings = {"per_false_alarm": per_false_alarm}
    return {
        "false_alarms": {
            "one reference": count_false_alarms(profile, test, questions=undrifted, **settings),
            "random references": split_false_alarms(
                both, n, splits=splits, reference=len(both) // 2, questions=undrifted, **settings
            ),
        },
        "other kinds of questions": detect(profile, rows(read(["foreign"])), streams=streams, **settings).to_dict(),
    }
