"""Counts of an erasure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(kw_only=True)
class PruneResult:
    """The counts of an erasure.

    Attributes:
        place: The file, or the address of the Redis.
        dry_run: True if nothing was deleted, and the counts say what would be.
        questions: Questions deleted, with the settings of their requests.
        replies: Replies deleted.
        completions: Completions deleted.
        selections: Choices deleted.
        feedback: Feedback deleted.
        verdicts: Verdicts of judges deleted.
        verifier_scores: Judgements of completions deleted.
        batch_requests: Requests of open batches that are no longer waited for.
        hidden_states: Completions whose hidden states were deleted.
        undated: Replies, verdicts and questions without a stored time, which were left alone.
        bytes_before: Size of the file before; 0 for a Redis.
        bytes_after: Size of the file after it was rewritten; 0 for a Redis.
    """

    place: str
    dry_run: bool
    questions: int = 0
    replies: int = 0
    completions: int = 0
    selections: int = 0
    feedback: int = 0
    verdicts: int = 0
    verifier_scores: int = 0
    batch_requests: int = 0
    hidden_states: int = 0
    undated: int = 0
    bytes_before: int = 0
    bytes_after: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @property
    def has_erased(self) -> bool:
        """True if anything was deleted, or would be."""
        return any((
            *(self.questions, self.replies, self.completions, self.selections, self.feedback, self.verdicts),
            *(self.verifier_scores, self.batch_requests, self.hidden_states),
        ))  # fmt: skip
