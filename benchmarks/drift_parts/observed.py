"""Statistics, correctness and acceptance of the choices among drawn answers, one row per question."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from benchmarks.drift_parts.conditions import GRADERS, ModelName
from swift_client import SwiftReranker
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.monitoring import question_statistics
from swift_client.training import Group, calibrate
from swift_client.types import Completion, Selection

# Tolerated share of wrong answers among the accepted ones: as few as leave half of the questions or more.
RISKS: Mapping[ModelName, float] = MappingProxyType({"pocket": 0.1, "smollm2": 0.4})
RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Observed:
    """Q questions; ``rows`` as ``monitoring.statistics_of()`` returns them."""

    rows: F64  # (Q, S)
    right: F64  # (Q,) share of right answers
    accepted: F64  # (Q,) 1 if it was accepted

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int] | np.ndarray) -> Observed:
        """Return some of the questions."""
        return Observed(self.rows[indices], self.right[indices], self.accepted[indices])


def calibrated(head: HeadArtifact, groups: Sequence[Group], model: ModelName, n: int) -> HeadArtifact:
    """Return the head with a threshold at which it accepts answers among ``n``, learnt on all of ``groups``.

    A head without a proven gain is calibrated all the same: what it accepts shall react to a change.
    """
    facts = {name: value for name, value in head.training.items() if name != "verdict"}
    acceptable = calibrate(replace(head, training=facts), groups, risk=RISKS[model], n=n, split="all")
    assert isinstance(acceptable.head, HeadArtifact)
    return acceptable.head


def observe(groups: Sequence[Group], head: HeadArtifact, model: ModelName, n: int) -> Observed:
    """Choose among the first ``n`` answers of each question as ``best_of`` would."""
    rows, right, accepted = [], [], []
    with SwiftReranker(model, head=head, answer=GRADERS[model]) as reranker:
        for group in groups:
            completions = list(group.completions[:n])
            selection = reranker.rank(completions, prompt=[dict(message) for message in group.messages])
            rows.append(statistics(completions, selection))
            labels = np.nan_to_num(group.labels[:n].astype(np.float64))
            right.append(labels.mean())
            accepted.append(float(bool(selection.accepted)))
    return Observed(np.array(rows), np.array(right), np.array(accepted))


def ranking_microseconds(
    groups: Sequence[Group], head: HeadArtifact, model: ModelName, n: int, *, rounds: int
) -> float:
    """Return the CPU time per question of reading answers, scoring and choosing, the least of some rounds."""
    times = []
    with SwiftReranker(model, head=head, answer=GRADERS[model]) as reranker:
        for _ in range(rounds):
            start = time.process_time()
            for group in groups:
                reranker.rank(list(group.completions[:n]), prompt=[dict(message) for message in group.messages])
            times.append((time.process_time() - start) / len(groups))
    return 1e6 * min(times)


def statistics(completions: Sequence[Completion], selection: Selection) -> F64:
    """Return what the guard compares of a question, (S,)."""
    return question_statistics(
        completions,
        scores=[np.nan if candidate.score is None else candidate.score for candidate in selection.candidates],
        answers=[candidate.group for candidate in selection.candidates],
        accepted=selection.accepted,
    )


def difference(before: F64, after: F64) -> Estimate:
    """Return the change of a mean in points, with its 95 % paired bootstrap interval over the questions."""
    column = 100 * (after - before)
    return estimate(sums_with_resamples(column[:, None], resamples=RESAMPLES, seed=0)[:, 0] / len(column))
