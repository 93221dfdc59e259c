"""Reports of a guard: alarms, and the state of the comparison with the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
