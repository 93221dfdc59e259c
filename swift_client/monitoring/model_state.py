"""The comparison of one model with its reference: the questions of each size, and the names that it gives itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike

from swift_client.models.drift_profile import MAX_FINGERPRINT_LENGTH, MAX_FINGERPRINTS, DriftProfile
from swift_client.monitoring.alarm import Alarm, DriftStatus
from swift_client.monitoring.profile import available, reference_level
from swift_client.monitoring.sequential import SequentialTest
from swift_client.monitoring.statistics import SHARES, STATISTICS, Excerpt, Question, excerpt_statistics, take_excerpt
from swift_client.types import Completion

BATCH = 16  # questions that are compared at once: a call of numpy for each alone would take three times as long
RECENT_QUESTIONS = 32  # questions whose median an alarm states


class Comparison:
    """The comparison with the reference for one number of completions per question."""

    def __init__(self, profile: DriftProfile, index: int, questions_per_false_alarm: float) -> None:
        self.size = profile.sizes[index]
        self.columns = available(profile, index)
        self.names = [profile.statistics[column] for column in self.columns]
        # The values of today's statistics may stand in another order than the profile's.
        positions = {name: position for position, name in enumerate(STATISTICS)}
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
        if len(self._waiting) < BATCH:
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


class ModelState:
    """The comparisons of one model, and the fingerprints that it was seen with."""

    def __init__(
        self, profile: DriftProfile, provider: str, model: str | None, *, questions_per_false_alarm: float
    ) -> None:
        self.lock = Lock()
        self.drifted: tuple[str, ...] = ()
        self.profile = profile
        self._provider, self._model = provider, model
        self._questions_per_false_alarm = questions_per_false_alarm
        self._comparisons: dict[int, Comparison] = {}  # by the size's index in the profile
        self._by_n: dict[int, Comparison | None] = {}
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

    def _comparison(self, n: int) -> Comparison | None:
        """Return the comparison of questions with ``n`` completions; None if the reference has none as small."""
        index, comparison = self.profile.size_index(n), None
        if index is not None:
            comparison = self._comparisons.get(index) or Comparison(
                self.profile, index, self._questions_per_false_alarm
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

    def _alarm(self, comparison: Comparison, number: int) -> Alarm:
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
