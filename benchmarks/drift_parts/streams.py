"""Questions until an alarm, and alarms without a change, of the test that the guard runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.features.segments import F64
from swift_client.models.drift_profile import DriftProfile
from swift_client.monitoring import DriftGuard, SequentialTest, build_profile
from swift_client.monitoring.model_state import BATCH
from swift_client.monitoring.profile import available
from swift_client.training import Group

LONGEST = 400  # questions of a stream; a multiple of BATCH


def profile_of(rows: F64, n: int) -> DriftProfile:
    """Return the reference that these questions (Q, S) with ``n`` completions make."""
    return build_profile({n: rows})


class Stream:
    """The test of the statistics of a profile, fed with rows instead of completions."""

    def __init__(self, profile: DriftProfile, questions_per_false_alarm: float) -> None:
        self._columns = list(available(profile, 0))
        self._names = [profile.statistics[column] for column in self._columns]
        self._test = SequentialTest(
            profile.edges[0, self._columns],
            profile.counts[0, self._columns],
            questions_per_false_alarm=questions_per_false_alarm,
        )

    def add(self, rows: F64) -> list[str]:
        """Compare questions (Q, S), as the guard does with BATCH of them; return the statistics that raise an alarm."""
        return [self._names[number] for number in self._test.update(rows[:, self._columns])]


@dataclass(frozen=True)
class Detection:
    """Questions until the first alarm in many random streams.

    ``counts`` has one number per stream, infinite without an alarm; ``names`` counts the statistics of first alarms.
    """

    counts: F64
    names: Counter[str]

    def quantile(self, share: float) -> float:
        """Return the number of questions within which this share of the streams had an alarm; infinite if fewer had."""
        return float(np.quantile(self.counts, share, method="higher"))

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON; null stands for no alarm."""
        values = {"median": self.quantile(0.5), "95_percent": self.quantile(0.95), "worst": self.quantile(1.0)}
        return {
            **{name: None if np.isinf(value) else int(value) for name, value in values.items()},
            "detected": round(float(np.isfinite(self.counts).mean()), 3),
            "statistics": dict(self.names.most_common(3)),
        }


def detect(profile: DriftProfile, rows: F64, *, streams: int, per_false_alarm: float, seed: int = 0) -> Detection:
    """Draw LONGEST questions per stream from ``rows``, with replacement, and stop each stream at its first alarm."""
    rng = np.random.default_rng(seed)
    counts, names = np.full(streams, np.inf), Counter[str]()
    for number in range(streams):
        stream, drawn = Stream(profile, per_false_alarm), rows[rng.integers(0, len(rows), LONGEST)]
        for start in range(0, LONGEST, BATCH):
            alarms = stream.add(drawn[start : start + BATCH])
            if alarms:
                counts[number] = start + BATCH
                names.update(alarms)
                break
    return Detection(counts, names)


@dataclass(frozen=True)
class FalseAlarms:
    """Alarms among questions of an unchanged model."""

    alarms: int
    questions: int
    names: Counter[str]

    @property
    def per_10000(self) -> float:
        """Alarms per 10,000 questions."""
        return 1e4 * self.alarms / self.questions


def count_false_alarms(
    profile: DriftProfile, rows: F64, *, questions: int, per_false_alarm: float, seed: int = 0
) -> FalseAlarms:
    """Draw questions with replacement from ``rows`` and count every alarm that begins."""
    rng, names = np.random.default_rng(seed), Counter[str]()
    stream = Stream(profile, per_false_alarm)
    for start in range(0, questions, BATCH):
        names.update(stream.add(rows[rng.integers(0, len(rows), min(BATCH, questions - start))]))
    return FalseAlarms(names.total(), questions, names)


def split_false_alarms(
    rows: F64, n: int, *, splits: int, reference: int, questions: int, per_false_alarm: float
) -> FalseAlarms:
    """Take a new reference from the questions for each split, and count the alarms that the others raise."""
    total, names = 0, Counter[str]()
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(rows))
        profile = profile_of(rows[order[:reference]], n)
        counted = count_false_alarms(
            profile, rows[order[reference:]], questions=questions // splits, per_false_alarm=per_false_alarm, seed=split
        )
        total, names = total + counted.alarms, names + counted.names
    return FalseAlarms(total, questions // splits * splits, names)


def microseconds(profile: DriftProfile, groups: Sequence[Group], n: int, *, rounds: int) -> float:
    """Return the CPU time that the guard takes per question with ``n`` completions, the best of some rounds."""
    times = []
    for _ in range(rounds):
        guard = DriftGuard(profile=profile)
        prepared = [(list(group.completions[:n]), [0.5] * n, [0] * n) for group in groups]
        start = time.thread_time()
        for completions, scores, answers in prepared:
            guard.observe(
                completions, provider="pocket", model="pocket", n=n, scores=scores, answers=answers, accepted=True
            )
        times.append((time.thread_time() - start) / len(prepared))
    return 1e6 * min(times)
