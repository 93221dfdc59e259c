"""Progress and results of collecting samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from swift_client.errors import SwiftClientError
from swift_client.types import Usage


@dataclass(frozen=True, kw_only=True)
class CollectProgress:
    """Progress of a run. Samples, usage and cost include earlier runs on the same file."""

    samples: int
    wanted: int
    """Samples in the file at the end."""
    requests: int
    """HTTP requests of this run, retries included."""
    failures: int
    """Completions that this run's calls lost."""
    usage: Usage
    cost: float | None
    """Spent so far, in the currency of the prices; None without prices."""
    expected_cost: float | None
    """Cost at the end, if the rest costs as much as the samples so far; None if unknown."""
    elapsed: float
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class CollectFailure:
    """Missing completions of one question. The next run requests them again."""

    question_id: str
    lost: int
    error: SwiftClientError


@dataclass(frozen=True, kw_only=True)
class CollectResult:
    """The samples added by a run, and the state of the file after it."""

    path: str
    questions: int
    added: int
    """Samples added by this run."""
    samples: int
    """Samples of these questions in the file now."""
    wanted: int
    requests: int
    usage: Usage
    """Of the whole file."""
    cost: float | None
    """Of the whole file; None without prices."""
    stopped: str | None = None
    """The limit that ended the run early: "max_cost", "max_requests" or "failures"."""
    failures: tuple[CollectFailure, ...] = ()
    notes: tuple[str, ...] = ()
    elapsed: float = 0.0

    @property
    def complete(self) -> bool:
        """True if the file holds all requested samples."""
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
