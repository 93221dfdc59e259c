"""Alarms of a guard whose reference is a samples file, while ``best_of`` asks the unchanged model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.drift_parts.conditions import GRADERS, MAX_TOKENS, TEMPERATURE
from swift_client import SwiftReranker
from swift_client.models import HeadArtifact
from swift_client.models.drift_profile import DriftProfile
from swift_client.monitoring import DriftGuard
from swift_client.store import StoredQuestion


def live_alarms(
    questions: Sequence[StoredQuestion], head: HeadArtifact, profile: DriftProfile, n: int
) -> list[dict[str, object]]:
    """Ask the packaged model and return the alarms, with the number of questions until each."""
    guard = DriftGuard(profile=profile)
    alarms: list[dict[str, object]] = []
    with SwiftReranker("pocket", head=head, answer=GRADERS["pocket"], timeout=600.0) as reranker:
        for number, question in enumerate(questions):
            selection = reranker.best_of(
                [dict(message) for message in question.messages],
                n,
                temperature=TEMPERATURE,
                max_tokens=MAX_TOKENS["pocket"],
                seed=7919 * number,
            )
            raised = guard.observe(
                [candidate.completion for candidate in selection.candidates],
                provider="pocket",
                model="pocket",
                n=n,
                scores=[math.nan if candidate.score is None else candidate.score for candidate in selection.candidates],
                answers=[candidate.group for candidate in selection.candidates],
                accepted=selection.accepted,
            )
            alarms += [{"statistic": alarm.name, "questions": alarm.questions} for alarm in raised]
    return alarms
