"""Calibrated thresholds for accepting answers automatically, as a head's file stores them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import msgspec

from swift_client.types import Method

# The number that today's thresholds are compared with, and the one of heads written before it.
STATISTIC = "answer_log_odds"
FORMER_STATISTIC = "posterior_log_odds"


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """A confidence threshold, its tested risk, and the settings that the risk holds for.

    Raises ValueError for values that no calibration can give.

    Attributes:
        threshold: Answers whose ``statistic`` is at least this much are accepted.
        statistic: The compared number: natural log odds that the chosen answer is correct, see
            ``reranker.acceptance.answer_log_odds``.
        risk: Largest share of the accepted answers that may be wrong, 0..1.
        confidence: Probability, over calibration questions, that the risk holds, 0..1.
        n: Completions planned per question.
        stopping: The stopping rule that ended the draws, as ``stopping_rule`` parses it; None: all n were
            drawn.
        select: The choice method, as ``select=`` of a reranker.
        answer: The answer reader, as ``answer=`` of a reranker; "custom" for a function.
        questions: Number of calibration questions.
        accepted: Calibration questions whose answer the threshold accepts.
        errors: Accepted answers that were wrong.
        verifier: Identity of the verifier whose judgements count in the answers' probabilities; None without one.
        when: "doubt" or "always": when it judged, as of ``Verifier``; None without a verifier.
        source: "grades", or "feedback": the risk then holds if feedback on choices that look alike does not depend on
            whether they are right.
    """

    threshold: float
    statistic: str = STATISTIC
    risk: float
    confidence: float
    n: int
    stopping: str | None
    select: Method
    answer: str | None
    questions: int
    accepted: int
    errors: int
    verifier: str | None = None
    when: Literal["doubt", "always"] | None = None
    source: Literal["grades", "feedback"] = "grades"

    def __post_init__(self) -> None:
        counts_fit = 0 <= self.errors <= self.accepted <= self.questions
        if not (math.isfinite(self.threshold) and 0 < self.risk < 1 and 0 < self.confidence < 1 and counts_fit):
            raise ValueError("its acceptance has a threshold, risk or counts that no calibration gives")
        if self.statistic not in (STATISTIC, FORMER_STATISTIC):
            raise ValueError(f"its acceptance compares {self.statistic!r}, which this swift-client does not know")
        if self.n < 1 or self.select not in get_args(Method):
            raise ValueError("its acceptance has an n below 1 or an unknown select=")
        if (self.verifier is None) != (self.when is None) or self.verifier == "":
            raise ValueError("its acceptance has a verifier without the time of its judgements, or the reverse")

    @classmethod
    def read(cls, facts: object) -> tuple[Self, ...]:
        """Parse a list of ``to_dict()`` results, as a head's file stores it. Raises ValueError for anything else."""
        try:
            return tuple(msgspec.convert(facts, list[cls]))  # type: ignore[valid-type]
        except msgspec.ValidationError as error:
            raise ValueError(f"its acceptances do not fit: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``verifier`` and ``when`` only with a verifier, ``source`` only for feedback."""
        left_out = (() if self.verifier else ("verifier", "when")) + (() if self.source == "feedback" else ("source",))
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @property
    def accepted_share(self) -> float:
        """Accepted calibration questions over all of them, 0..1."""
        return self.accepted / self.questions if self.questions else 0.0

    @property
    def accepted_error(self) -> float:
        """Wrong answers among the accepted ones, 0..1; 0 if none was accepted."""
        return self.errors / self.accepted if self.accepted else 0.0

    def same_plan(self, other: Acceptance) -> bool:
        """Return whether both hold for the same settings, so that the later one replaces the earlier."""
        names = ("n", "stopping", "select", "answer", "verifier", "when")
        return all(getattr(self, name) == getattr(other, name) for name in names)
