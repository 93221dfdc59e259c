"""What a replay of stopping rules found: one row a rule and way to choose, every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from swift_client.evaluation.result import Estimate, plain_values

ChoiceMethod = Literal["majority", "vote", "posterior", "best"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Replayed:
    """One rule with one way to choose from what it drew."""

    name: str
    """Of the rule, as ``stopping_rule`` reads it; "fixed:4" draws four, "deepconf_low" and "_high" stop answers,
    "abort_deepconf" and "abort_head" close streams as ``best_of`` does."""
    choice: ChoiceMethod
    """How the answer is chosen: "majority", counts with ties to the first; "vote", as ``best_of`` votes; "posterior",
    the answer with the greatest posterior odds; "best", the best score."""
    published: bool
    """Whether the rule's authors choose so."""
    source: str
    swept: bool = False
    """Whether it is a rule of the table with a parameter of its sweep."""
    accuracy: Estimate
    minus_majority: Estimate
    """Difference to majority over all n, paired."""
    completions: Estimate
    """Mean completions a question, those included that were broken off."""
    token_share: Estimate
    """Completion tokens over those of all n."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Simulation:
    """All rules on the same questions, in the same orders of their completions."""

    rows: tuple[Replayed, ...]
    n: int
    orders: int
    waves: tuple[int, ...]
    """Completions drawn before a rule was asked, and asked again; the last number repeats."""
    questions: int
    completions: int
    """Stored completions that were replayed."""
    majority: Estimate
    """Accuracy of majority over all n."""
    tokens: float
    """Mean completion tokens of all n, a question."""
    prompt_tokens: float | None
    """Mean prompt tokens of a call; None where they are not known. A rule that makes one call a completion pays them
    ``completions`` times."""
    split: str
    seed: int
    head: Mapping[str, Any] = field(default_factory=dict)
    provider: str | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()

    def row(self, name: str, choice: ChoiceMethod | None = None) -> Replayed:
        """Return the row of this rule, the first or that of a choice; KeyError where there is none."""
        for row in self.rows:
            if row.name == name and choice in (None, row.choice):
                return row
        raise KeyError(name if choice is None else f"{name}, {choice}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "rows"}
        plain: dict[str, Any] = plain_values({**facts, "majority": asdict(self.majority)})
        return {**plain, "rows": [plain_values(asdict(row)) for row in self.rows]}
