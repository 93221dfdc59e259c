"""What an evaluation found: one row a method, every number with what it was measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from swift_client.training.metrics import Reliability


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, by paired bootstrap over questions; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One method that picks one of n completions. Mappings go from n to what was found there."""

    name: str
    """Its key, such as "head_vote"."""
    label: str
    """Its name for people, such as "Vote weighed by the head"."""
    kind: Literal["single", "vote", "oracle"]
    """Whether it picks by score, sums over answers, or is right where any of n is."""
    needs_labels: bool
    """Whether it was trained on labelled questions."""
    accuracy: Mapping[int, Estimate]
    """Share of questions whose pick is right, 0..1."""
    minus_majority: Mapping[int, Estimate]
    """Accuracy less majority's on the same subsets, -1..1."""
    gap_closed: Mapping[int, float | None]
    """(accuracy - first) / (oracle - first); None where any of n is right no more often than the first."""
    within_question_auroc: Estimate | None = None
    """Over each question's whole pool; None where the row has no score a completion."""
    pooled_auroc: float | None = None
    """Over all completions, whatever their question."""
    brier: float | None = None
    """At the largest n; None where the row has no probability."""
    ece: float | None = None
    """Expected calibration error in 15 bins of equal mass, at the largest n."""
    brier_at: Mapping[int, float] = field(default_factory=dict)
    """At each n: a head that counts agreement says something else of a completion among 2 than among 16."""
    ece_at: Mapping[int, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; n become texts, NaN None."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain: dict[str, Any] = plain_values(facts)
        return plain


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """The table: what each method makes of the same questions and the same subsets of their completions."""

    rows: tuple[Row, ...]
    ns: tuple[int, ...]
    questions: int
    completions: int
    families: Mapping[str, int]
    """Questions of each family; "unknown" for those of none."""
    split: str
    """Part of the questions that was used: "train", "validation", "test" or "all"."""
    subsets: int
    """Most subsets that were drawn for each n; all of them where there are fewer."""
    seed: int
    tokens: Mapping[int, float]
    """Mean completion tokens that a question costs at n."""
    reliability: Reliability | None = None
    """Of the head's probabilities at the largest n."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the head: name, k_min, k_max, verdict, what it was trained on; empty without one."""
    provider: str | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()
    """What did not go as asked or was left out, one sentence each."""

    def row(self, name: str) -> Row:
        """Return the row of this name; KeyError where there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; rows by name, n as texts, None for NaN."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("rows", "reliability")}
        table: dict[str, Any] = plain_values(facts)
        bins = None
        if self.reliability is not None:
            parts = (self.reliability.predicted, self.reliability.observed, self.reliability.counts)
            bins = dict(zip(("said", "came_true", "count"), (part.tolist() for part in parts), strict=True))
        return {
            **table,
            "reliability": bins,
            "rows": {row.name: row.to_dict() for row in self.rows},
        }


def plain_values(value: Any) -> Any:
    """Return what JSON can hold: keys as texts, tuples as lists, None for NaN and infinities."""
    if isinstance(value, Estimate):
        return plain_values(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain_values(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain_values(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
