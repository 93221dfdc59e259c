"""Which answers may be taken without a look, at a risk that was tested on labelled questions; it lies in the head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

Select = Literal["auto", "best", "vote"]


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """A threshold on how sure a choice is, and all that must be the same for its risk to hold.

    Raises ValueError for values that no calibration can give.
    """

    threshold: float
    """Accepted is what has at least this much :attr:`statistic`."""
    statistic: str = "posterior_log_odds"
    """What is compared: natural log odds that the chosen answer is right, see ``reranker.accepting.confidence``."""
    risk: float
    """Share of the accepted answers that may be wrong, 0..1."""
    confidence: float
    """Probability, over calibration questions, that no more than that are wrong, 0..1."""
    n: int
    """Completions that were planned for each question."""
    stopping: str | None
    """The stopping rule that ended the draws, as ``stopping_rule`` reads it; None: all n were drawn."""
    select: Select
    """How the choice was found, as ``select=`` of a reranker."""
    answer: str | None
    """How answers were compared, as ``answer=`` of a reranker; "custom" for a function."""
    questions: int
    """Calibration questions."""
    accepted: int
    """Those of them whose answer the threshold accepts."""
    errors: int
    """Accepted answers that were wrong."""

    def __post_init__(self) -> None:
        counted = 0 <= self.errors <= self.accepted <= self.questions
        if not (math.isfinite(self.threshold) and 0 < self.risk < 1 and 0 < self.confidence < 1 and counted):
            raise ValueError("its acceptance has a threshold, risk or counts that no calibration gives")
        if self.statistic != "posterior_log_odds":
            raise ValueError(f"its acceptance compares {self.statistic!r}, which this swift-client does not know")
        if self.n < 1 or self.select not in ("auto", "best", "vote"):
            raise ValueError("its acceptance has an unknown n or way to choose")

    @classmethod
    def read(cls, facts: object) -> tuple[Self, ...]:
        """Return those that a head's file holds. Raises ValueError for anything that :meth:`to_dict` did not write."""
        if not isinstance(facts, list) or not all(isinstance(entry, Mapping) for entry in facts):
            raise ValueError("its metadata has 'acceptances' that are no list of objects")
        return tuple(cls._read(entry) for entry in facts)

    @classmethod
    def _read(cls, entry: Mapping[str, Any]) -> Self:
        for each in fields(cls):
            if type(entry.get(each.name)) not in _FIELD_TYPES[str(each.type)]:  # annotations are texts here
                raise ValueError(f"its acceptance lacks {each.name!r} ({each.type})")
        return cls(**{each.name: entry[each.name] for each in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @property
    def accepted_share(self) -> float:
        """Accepted calibration questions over all of them, 0..1."""
        return self.accepted / self.questions if self.questions else 0.0

    @property
    def accepted_error(self) -> float:
        """Wrong answers among the accepted ones, 0..1; 0 where none was accepted."""
        return self.errors / self.accepted if self.accepted else 0.0

    def same_plan(self, other: Acceptance) -> bool:
        """Tell whether both are for questions asked and judged alike: the later one takes the other's place."""
        return all(getattr(self, name) == getattr(other, name) for name in ("n", "stopping", "select", "answer"))


_FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    "float": (float,),
    "int": (int,),
    "str": (str,),
    "Select": (str,),
    "str | None": (str, type(None)),
}
"""What JSON gives for a field's annotation."""
