"""The interface of ``store=``: replies and verdicts that were paid for, found again by what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

from swift_client.store.records import RequestKey, Sample, StoredVerdict
from swift_client.types import Completion, Usage

if TYPE_CHECKING:
    from swift_client.store.reply_cache import ReplyStore


class AnswerStore(Protocol):
    """A samples file (``ReplyStore``) or a Redis (``RedisReplyStore``), used by many threads and processes at a time.

    Reading blocks, so it belongs in a thread; writing never does. Every error is a ConfigurationError.
    """

    @property
    def place(self) -> str:
        """Its path or address for messages, without passwords."""
        ...

    @property
    def selections(self) -> ReplyStore | None:
        """The file that records choices and feedback; None if it records none."""
        ...

    def lookup(self, request_key: RequestKey, n: int) -> list[Sample]:
        """Return up to ``n`` stored completions of the same request, in the order of their indices."""
        ...

    def lookup_verdicts(self, keys: Sequence[str]) -> dict[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key."""
        ...

    def save(
        self, request_key: RequestKey, completions: Sequence[Completion], *, first_index: int, usage: Usage
    ) -> Future[None]:
        """Queue one reply for storage, its completions numbered from ``first_index``, and return at once."""
        ...

    def save_verdict(self, key: str, verdict: StoredVerdict, *, question_id: str | None = None) -> Future[None]:
        """Queue one verdict of a judge on a question for storage, and return at once."""
        ...

    def close(self) -> None:
        """Close idle connections; the next use opens new ones."""
        ...
