"""The result of a retraining: two heads compared, and what became of the new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swift_client.evaluation.result import HeadDifference, plain_values
from swift_client.models import Acceptance, AnyHead


@dataclass(frozen=True, eq=False, kw_only=True)
class Retraining:
    """A new head, compared with the one in use on questions that neither was trained on.

    Attributes:
        head: File of the head in use.
        is_better: Whether the new head may replace it: the lower end of the 95 % interval of ``difference.mean`` is
            above 0, and it is better than voting without a head.
        reason: The verdict in one sentence.
        difference: The new head's vote less that of the one in use; weighted, paired by question.
        known: Held-out questions whose answers are known by feedback or a grade.
        effective: Number of equally weighted questions that are worth as much (Kish).
        trained_on: Number of questions by part.
        artifact: The new head.
        out: File that the new head was written to; None if it was not.
        is_installed: Whether it replaced the head in use, which is kept; see ``models.rollback()``.
        lost_acceptances: Thresholds of the head in use, which the new head lacks until it is calibrated.
        commands: What to run before the new head accepts answers as the one in use did.
        notes: One sentence per fact that a reader of the result should know.
    """

    head: str
    is_better: bool
    reason: str
    difference: HeadDifference
    known: int
    effective: float
    trained_on: Mapping[str, int]
    artifact: AnyHead
    out: str | None = None
    is_installed: bool = False
    lost_acceptances: tuple[Acceptance, ...] = ()
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the new head; None for NaN."""
        plain = {name: value for name, value in vars(self).items() if name not in ("artifact", "lost_acceptances")}
        lost = [acceptance.to_dict() for acceptance in self.lost_acceptances]
        return {**plain_values(plain), "lost_acceptances": lost}
