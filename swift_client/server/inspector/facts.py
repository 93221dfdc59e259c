"""The facts of a selection with their types, checked: anyone may have written the samples file that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class UsageFacts(msgspec.Struct, frozen=True):
    """Tokens and calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    estimated: bool = False


class CandidateFacts(msgspec.Struct, frozen=True):
    """A candidate without its text; see ``Candidate``."""

    index: int
    answer: str | None = None
    group: int | None = None
    score: float | None = None
    probability: float | None = None
    answer_probability: float | None = None
    weight: float = 0.0
    consensus: float | None = None
    verifier_score: float | None = None
    finish_reason: str = "unknown"
    tokens: int = 0
    thinking_tokens: int = 0


class FailureFacts(msgspec.Struct, frozen=True):
    """A call that failed; see ``Failure``."""

    error: str
    message: str
    lost: int = 0
    attempts: int = 1


class VerificationFacts(msgspec.Struct, frozen=True):
    """The work of a verifier; see ``Verification``."""

    judge: str
    mode: str
    judged: int = 0
    calls: int = 0
    usage: UsageFacts = UsageFacts()
    cost: float | None = None
    confidence: float | None = None
    failures: tuple[FailureFacts, ...] = ()


class StoppedFacts(msgspec.Struct, frozen=True):
    """The end of sampling; see ``Stopped``."""

    rule: str
    after: int
    planned: int
    reason: str
    saved_tokens: int = 0


class SelectionFacts(msgspec.Struct, frozen=True):
    """A selection without texts; see ``Selection``."""

    winner: int
    method: str
    signal: str
    scorer: str
    candidates: tuple[CandidateFacts, ...]
    answer: str | None = None
    score: float | None = None
    probability: float | None = None
    answer_probability: float | None = None
    provider: str | None = None
    model: str | None = None
    elapsed: float = 0.0
    usage: UsageFacts = UsageFacts()
    cost: float | None = None
    stopped: StoppedFacts | None = None
    reused: int = 0
    accepted: bool | None = None
    verification: VerificationFacts | None = None
    notes: tuple[str, ...] = ()
    failures: tuple[FailureFacts, ...] = ()

    @property
    def best(self) -> CandidateFacts:
        """The chosen candidate."""
        return self.candidates[self.winner]


def parse_facts(values: Mapping[str, Any]) -> SelectionFacts:
    """Check and return the facts of a selection. Raises ValueError if one is missing or has another type."""
    facts = msgspec.convert(values, SelectionFacts)  # msgspec.ValidationError is a ValueError
    if not 0 <= facts.winner < len(facts.candidates):
        raise ValueError("the winner is not a candidate")
    return facts
