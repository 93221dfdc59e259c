"""What collecting tells: how far it is, and what it brought."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from swift_client.errors import SwiftClientError
from swift_client.types import Usage


@dataclass(frozen=True, kw_only=True)
class CollectProgress:
    """How far it is. Samples, usage and cost include earlier runs on the same file."""

    samples: int
    wanted: int
    """Samples that there will be at the end."""
    requests: int
    """HTTP requests of this run, retries included."""
    failures: int
    """Completions that calls of this run lost."""
    usage: Usage
    cost: float | None
    """Spent so far, in the currency of the prices; None where prices are not known."""
    expected_cost: float | None
    """What all of it will have cost, if the rest costs like the samples so far; None where that is not known."""
    elapsed: float
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class CollectFailure:
    """Completions of one question that did not come. The next run asks for them again."""

    question_id: str
    lost: int
    error: SwiftClientError


@dataclass(frozen=True, kw_only=True)
class CollectResult:
    """What a run brought, and what is in the file now."""

    path: str
    questions: int
    added: int
    """Samples that this run added."""
    samples: int
    """Samples of these questions that the file holds now."""
    wanted: int
    requests: int
    usage: Usage
    """Of the whole file."""
    cost: float | None
    """Of the whole file; None where prices are not known."""
    stopped: str | None = None
    """"max_cost", "max_requests" or "failures" where it stopped early."""
    failures: tuple[CollectFailure, ...] = ()
    notes: tuple[str, ...] = ()
    elapsed: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether the file holds all that was wanted."""
        return self.samples >= self.wanted

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        failures = [
            {
                "question": failure.question_id,
                "lost": failure.lost,
                "error": type(failure.error).__name__,
                "message": str(failure.error),
            }
            for failure in self.failures
        ]
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**facts, "complete": self.complete, "usage": asdict(self.usage), "failures": failures}
