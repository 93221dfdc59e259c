"""Alarms of a guard whose reference is a samples file, while ``best_of`` asks the unchanged model."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.drift_parts.conditions import GRADERS, MAX_TOKENS, TEMPERATURE
from swift_client import SwiftReranker
from swift_client.models import HeadArtifact
from swift_client.models.drift_profile import DriftProfile
from swift_client.monitoring import DriftGuard
from swift_client.store import StoredQuestion


def live_alarms(
    questions: Sequence[StoredQuestion], head: HeadArtifact, profile: DriftProfile, n: int
) -> dict[str, object]:
    """Ask the packaged model and return the number of compared questions and the statistics under alarm."""
    guard = DriftGuard(profile=profile)
    with SwiftReranker("pocket", head=head, answer=GRADERS["pocket"], drift=guard, timeout=600.0) as reranker:
        for number, question in enumerate(questions):
            reranker.best_of(
                [dict(message) for message in question.messages],
                n,
                temperature=TEMPERATURE,
                max_tokens=MAX_TOKENS["pocket"],
                seed=7919 * number,
            )
    (status,) = guard.status()
    return {"questions": status.questions, "alarms": list(status.drifted)}
