"""The guard that compares each question of a model with the reference, and says when the model has changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.models.drift_profile import DriftProfile
from swift_client.monitoring.alarm import Alarm, DriftStatus
from swift_client.monitoring.model_state import ModelState
from swift_client.types import Completion

# What a reranker does while a model's answers are unlike those of the reference.
Action = Literal["note", "withhold", "set_aside"]
QUESTIONS_PER_FALSE_ALARM = 10_000.0


class DriftGuard:
    """Compares the questions of models with a reference. Safe to share between threads and rerankers.

    Args:
        action: what a reranker does while a model's answers are unlike the reference: "note" it; "withhold": accept no
            answer; "set_aside": choose as without a head.
        profile: the reference, from ``build_profile()``; default: that of the reranker's head.
        questions_per_false_alarm: a model that has not changed raises at most one alarm in so many questions, all
            statistics together.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        action: Action = "note",
        *,
        profile: DriftProfile | None = None,
        questions_per_false_alarm: float = QUESTIONS_PER_FALSE_ALARM,
    ) -> None:
        if action not in get_args(Action):
            raise ConfigurationError(
                f"{action!r} is not an action on drift.", hint='Use "note", "withhold" or "set_aside".'
            )
        if profile is not None and not isinstance(profile, DriftProfile):
            raise ConfigurationError(
                f"A drift guard compares with a DriftProfile, not with {type(profile).__name__}.",
                hint="build_profile() makes one.",
            )
        if not 1 <= questions_per_false_alarm < math.inf:
            raise ConfigurationError(f"questions_per_false_alarm must be 1 or more, not {questions_per_false_alarm}.")
        self.action: Action = action
        self.profile = profile
        self.questions_per_false_alarm = questions_per_false_alarm
        self._models: dict[tuple[str, str | None], ModelState] = {}
        self._lock = Lock()

    def observe(
        self,
        completions: Sequence[Completion],
        *,
        provider: str,
        model: str | None,
        n: int | None = None,
        scores: ArrayLike | None = None,
        answers: Sequence[int | None] | None = None,
        accepted: bool | None = None,
        fingerprints: Sequence[str] = (),
    ) -> tuple[Alarm, ...]:
        """Compare one question with the reference, and return the alarms that begin with it.

        Args:
            completions: N completions, in the order of their indices.
            provider: name of their provider.
            model: name of the model that was asked for.
            n: completions that every question of this kind has at least; default: N. With a stopping rule it is 1:
                the number that it lets through tells easy questions from hard ones.
            scores: as in ``question_statistics()``.
            answers: as in ``question_statistics()``.
            accepted: as in ``question_statistics()``.
            fingerprints: model names and system fingerprints in the replies.
        """
        state = self._state(provider, model)
        if state is None:
            return ()
        with state.lock:
            alarms = state.see_fingerprints(fingerprints) if fingerprints else ()
            return alarms + state.compare(completions, n, scores, answers, accepted)

    def watch(self, provider: str, model: str | None, profile: DriftProfile) -> None:
        """Give a model a reference of its own, unless this guard has one for all models.

        Raises:
            ConfigurationError: the model has another reference: that of another head.
        """
        if self.profile is not None:
            return
        with self._lock:
            state = self._watch(provider, model, profile)
        if not _are_equal(state.profile, profile):
            raise ConfigurationError(
                f"The drift guard already compares {state.label} with the reference of another head.",
                hint="Give the reranker of each head a DriftGuard of its own.",
            )

    def drifted(self, provider: str, model: str | None) -> tuple[str, ...]:
        """Return the statistics of this model that are under alarm, in the order of STATISTICS."""
        state = self._models.get((provider, model))
        return () if state is None else state.drifted

    def evidence(self, provider: str, model: str | None) -> float:
        """Return the largest evidence of a change of this model, as in ``DriftStatus.evidence``; 0 for none."""
        state = self._models.get((provider, model))
        return 0.0 if state is None else max(state.status().evidence.values(), default=0.0)

    def status(self) -> tuple[DriftStatus, ...]:
        """Return the state of every model that was compared."""
        return tuple(state.status() for state in list(self._models.values()))

    def _state(self, provider: str, model: str | None) -> ModelState | None:
        state = self._models.get((provider, model))
        if state is None and self.profile is not None:
            with self._lock:
                state = self._watch(provider, model, self.profile)
        return state

    def _watch(self, provider: str, model: str | None, profile: DriftProfile) -> ModelState:
        """Return the state of a model, a new one with this reference if there is none; within the lock."""
        new = ModelState(profile, provider, model, questions_per_false_alarm=self.questions_per_false_alarm)
        return self._models.setdefault((provider, model), new)


def _are_equal(first: DriftProfile, second: DriftProfile) -> bool:
    """Return True if both are the same distributions of the same statistics."""
    is_same = first.facts() == second.facts()
    return is_same and np.array_equal(first.edges, second.edges) and np.array_equal(first.counts, second.counts)
