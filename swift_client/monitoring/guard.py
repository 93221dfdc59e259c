"""The guard that compares each question of a model with the reference, and says when the model has changed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from threading import Lock
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from swift_client.errors import ConfigurationError
from swift_client.models.drift_profile import MAX_FINGERPRINT_LENGTH, MAX_FINGERPRINTS, DriftProfile
from swift_client.monitoring.profile import available, reference_level
from swift_client.monitoring.sequential import SequentialTest
from swift_client.monitoring.statistics import SHARES, STATISTICS, Excerpt, Question, excerpt_statistics, take_excerpt
from swift_client.types import Completion

# What a reranker does while a model's answers are unlike those of the reference.
Action = Literal["note", "withhold", "set_aside"]
QUESTIONS_PER_FALSE_ALARM = 10_000.0
BATCH = 16  # questions that are compared at once: a call of numpy for each alone would take three times as long
RECENT_QUESTIONS = 32  # questions whose median an alarm states


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A change of a model.

    Attributes:
        kind: "statistic": its answers differ from the reference; "fingerprint": it calls itself by a name that was not
            seen before, which alone changes nothing.
        provider: Name of the provider.
        model: Name of the model that was asked for.
        name: The statistic, a row of STATISTICS; or the new fingerprint.
        questions: Number of questions that were compared, this one included.
        before: Median of the reference questions, or share for one of SHARES; None for a fingerprint.
        after: The same of the latest questions.
        message: Description for people.
    """

    kind: Literal["statistic", "fingerprint"]
    provider: str
    model: str | None
    name: str
    questions: int
    before: float | None = None
    after: float | None = None
    message: str


@dataclass(frozen=True, kw_only=True)
class DriftStatus:
    """The state of one model's comparison with the reference.

    Attributes:
        provider: Name of the provider.
        model: Name of the model.
        questions: Number of questions that were compared.
        skipped: Number of questions that were not: fewer completions arrived than planned.
        drifted: Statistics under alarm.
        evidence: By statistic: the evidence of a change on a log scale, 0 for none, 1 where the alarm begins.
        fingerprints: Model names and system fingerprints that were seen.
    """

    provider: str
    model: str | None
    questions: int
    skipped: int
    drifted: tuple[str, ...]
    evidence: dict[str, float]
    fingerprints: tuple[str, ...]


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
        self._models: dict[tuple[str, str | None], _ModelState] = {}
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
            state = self._models.setdefault((provider, model), _ModelState(self, profile, provider, model))
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

    def _state(self, provider: str, model: str | None) -> _ModelState | None:
        state = self._models.get((provider, model))
        if state is None and self.profile is not None:
            with self._lock:
                state = self._models.setdefault((provider, model), _ModelState(self, self.profile, provider, model))
        return state


def _are_equal(first: DriftProfile, second: DriftProfile) -> bool:
    """Return True if both are the same distributions of the same statistics."""
    is_same = first.facts() == second.facts()
    return is_same and np.array_equal(first.edges, second.edges) and np.array_equal(first.counts, second.counts)


class _Comparison:
    """The comparison with the reference for one number of completions per question."""

    def __init__(self, profile: DriftProfile, index: int, questions_per_false_alarm: float) -> None:
        self.size = profile.sizes[index]
        self.columns = available(profile, index)
        self.names = [profile.statistics[column] for column in self.columns]
        # The values of today's statistics may stand in another order than the profile's.
        positions = {name: position for position, name in enumerate(STATISTICS)}
        known = [row for row, name in enumerate(self.names) if name in positions]
        self.columns, self.names = [self.columns[row] for row in known], [self.names[row] for row in known]
        self.positions = [positions[name] for name in self.names]
        self.reference_questions: list[int] = profile.counts[index, self.columns].sum(axis=1, dtype=np.int64).tolist()
        self.test = SequentialTest(
            profile.edges[index, self.columns],
            profile.counts[index, self.columns],
            questions_per_false_alarm=questions_per_false_alarm,
        )
        self.recent: deque[list[float]] = deque(maxlen=RECENT_QUESTIONS)
        self._waiting: list[Excerpt] = []  # not the completions, which may be large

    def add(self, question: Question) -> list[int]:
        """Compare a question once BATCH of them are there; return the numbers of the statistics whose alarm begins."""
        self._waiting.append(take_excerpt(question))
        return self.flush() if len(self._waiting) >= BATCH else []

    def flush(self) -> list[int]:
        """Compare the questions that wait."""
        if not self._waiting:
            return []
        rows = excerpt_statistics(self._waiting)[:, self.positions]
        self._waiting.clear()
        self.recent.extend(rows.tolist())
        return self.test.update(rows)

    @property
    def is_waiting(self) -> bool:
        """True if the latest questions are not compared yet."""
        return bool(self._waiting)

    @property
    def alarmed(self) -> list[str]:
        """The statistics under alarm."""
        return [name for name, is_alarmed in zip(self.names, self.test.is_alarmed, strict=True) if is_alarmed]

    def recent_level(self, number: int) -> float | None:
        """Return the median or share of a statistic over the latest questions; None if it was not available."""
        values = [row[number] for row in self.recent if row[number] == row[number]]
        return (fmean if self.names[number] in SHARES else median)(values) if values else None


class _ModelState:
    """The comparisons of one model, and the fingerprints that it was seen with."""

    def __init__(self, guard: DriftGuard, profile: DriftProfile, provider: str, model: str | None) -> None:
        self.lock = Lock()
        self.drifted: tuple[str, ...] = ()
        self.profile = profile
        self._guard, self._provider, self._model = guard, provider, model
        self._comparisons: dict[int, _Comparison] = {}  # by the size's index in the profile
        self._by_n: dict[int, _Comparison | None] = {}
        self._questions = self._skipped = 0
        self._fingerprints = set(profile.fingerprints)

    def see_fingerprints(self, fingerprints: Iterable[str]) -> tuple[Alarm, ...]:
        """Return an alarm per new fingerprint; without a reference, those of the first question are not new."""
        texts = dict.fromkeys(text[:MAX_FINGERPRINT_LENGTH] for text in fingerprints)
        new = [text for text in texts if text and text not in self._fingerprints]
        if not new or len(self._fingerprints) >= MAX_FINGERPRINTS:  # a server that names itself anew each time
            return ()
        is_known = bool(self._fingerprints)
        self._fingerprints.update(new)
        return tuple(map(self._fingerprint_alarm, new)) if is_known else ()

    def compare(
        self,
        completions: Sequence[Completion],
        n: int | None,
        scores: ArrayLike | None,
        answers: Sequence[int | None] | None,
        accepted: bool | None,
    ) -> tuple[Alarm, ...]:
        """Compare one question with the reference."""
        n = len(completions) if n is None else n
        comparison = self._by_n[n] if n in self._by_n else self._comparison(n)
        if comparison is None or len(completions) < comparison.size:
            self._skipped += 1
            return ()
        size = comparison.size
        if scores is not None:
            scores = scores[:size] if isinstance(scores, list) else np.asarray(scores)[:size].tolist()
        question = Question(
            completions[:size],
            scores,
            None if answers is None else answers[:size],
            accepted,
        )
        self._questions += 1
        raised = comparison.add(question)
        if raised or (self.drifted and not comparison.is_waiting):
            names = {name for other in self._comparisons.values() for name in other.alarmed}
            self.drifted = tuple(name for name in STATISTICS if name in names)
        return tuple([self._alarm(comparison, number) for number in raised])

    def _comparison(self, n: int) -> _Comparison | None:
        """Return the comparison of questions with ``n`` completions; None if the reference has none as small."""
        index, comparison = self.profile.size_index(n), None
        if index is not None:
            comparison = self._comparisons.get(index) or _Comparison(
                self.profile, index, self._guard.questions_per_false_alarm
            )
            if comparison.names:
                self._comparisons[index] = comparison
            else:  # a reference of other statistics
                comparison = None
        self._by_n[n] = comparison
        return comparison

    def status(self) -> DriftStatus:
        """Return the state for people."""
        with self.lock:
            evidence: dict[str, float] = {}
            for comparison in self._comparisons.values():
                test = comparison.test
                for name, share in zip(comparison.names, test.shares.tolist(), strict=True):
                    evidence[name] = max(share, evidence.get(name, 0.0))
            return DriftStatus(
                provider=self._provider,
                model=self._model,
                questions=self._questions,
                skipped=self._skipped,
                drifted=self.drifted,
                evidence=evidence,
                fingerprints=tuple(sorted(self._fingerprints)),
            )

    def _alarm(self, comparison: _Comparison, number: int) -> Alarm:
        name = comparison.names[number]
        before = reference_level(self.profile, name, n=comparison.size)
        after = comparison.recent_level(number)
        values = "" if before is None or after is None else f" from {before:.4g} to {after:.4g}"
        return Alarm(
            kind="statistic",
            provider=self._provider,
            model=self._model,
            name=name,
            questions=self._questions,
            before=before,
            after=after,
            message=(
                f"{self.label} no longer answers as in the reference: {STATISTICS[name].label} changed{values} "
                f"({'means' if name in SHARES else 'medians'} of {comparison.reference_questions[number]} reference "
                f"questions and of the last {len(comparison.recent)})."
            ),
        )

    def _fingerprint_alarm(self, fingerprint: str) -> Alarm:
        return Alarm(
            kind="fingerprint",
            provider=self._provider,
            model=self._model,
            name=fingerprint,
            questions=self._questions,
            message=f"{self.label} names itself {fingerprint!r}, which was not seen before.",
        )

    @property
    def label(self) -> str:
        """The provider and the model, for people."""
        return f"{self._provider}/{self._model}" if self._model else self._provider
