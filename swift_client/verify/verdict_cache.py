"""The verdicts that are already paid for: found by everything that the judge is asked, and saved as they arrive.

Storage errors become notes; they never cost a judgement.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from swift_client.adapters.user_threads import UserThreads
from swift_client.errors import ConfigurationError
from swift_client.sampling.model_client import ModelClient
from swift_client.store import AnswerStore, RequestKey, StoredVerdict
from swift_client.store.pending_writes import PendingWrites
from swift_client.verify.prompts import PROMPT_VERSION, VerdictRequest
from swift_client.verify.reading import READING_VERSION

_READ_TIMEOUT = 20.0  # seconds for reading the store; it itself waits less long

logger = logging.getLogger(__name__)


class VerdictCache(Protocol):
    """Verdicts by key (``verdict_key()``)."""

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key."""
        ...

    def save(self, key: str, verdict: StoredVerdict) -> None:
        """Store a new verdict."""
        ...

    async def collect_notes(self, *, n_reused: int) -> tuple[str, ...]:
        """Wait until new verdicts are stored or cannot be; return one sentence per thing that the user should know."""
        ...


class StoredVerdictCache:
    """The verdicts of a store that many processes share, as of ``best_of(store=...)``; for one question."""

    def __init__(
        self, store: AnswerStore, *, question_id: str | None, threads: UserThreads, deadline_at: float | None
    ) -> None:
        """Open nothing yet.

        Args:
            store: the store.
            question_id: the stored question; None if it could not be stored.
            threads: the threads that read it, which may take seconds.
            deadline_at: the question's deadline in the running loop's time; None without one.
        """
        self._store, self._question_id, self._threads = store, question_id, threads
        self._writes = PendingWrites(store.place, deadline_at=deadline_at)
        self._is_unreadable = False  # a second attempt would cost as much time
        self._notes: dict[str, None] = {}

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key; none, with a note, if they cannot be read."""
        if self._is_unreadable:
            return {}
        try:
            async with asyncio.timeout(self._writes.seconds_left(_READ_TIMEOUT, share=0.5)):
                return await self._threads.call(self._store.lookup_verdicts, keys)
        except ConfigurationError as error:
            self._warn(f"No verdict was reused: {error.message}")
        except TimeoutError:
            self._warn(f"No verdict was reused: {self._store.place} is slow.")
        self._is_unreadable = True
        return {}

    def save(self, key: str, verdict: StoredVerdict) -> None:
        """Hand the verdict to the store's writing thread."""
        self._writes.add("1 verdict is", self._store.save_verdict(key, verdict, question_id=self._question_id))

    async def collect_notes(self, *, n_reused: int) -> tuple[str, ...]:
        """Wait until everything is written or cannot be, and return the notes for the Selection."""
        for problem in await self._writes.problems():
            self._warn(problem)
        if n_reused:
            verdicts = "1 verdict was" if n_reused == 1 else f"{n_reused} verdicts were"
            self._notes.setdefault(f"{verdicts} reused from {self._store.place}.")
        return tuple(self._notes)

    def _warn(self, note: str) -> None:
        logger.warning("store: %s", note)
        self._notes.setdefault(note)


def verdict_key(
    model: ModelClient, request: VerdictRequest, *, sampling: Mapping[str, object], top_logprobs: int | None
) -> str:
    """Return a digest of all that a verdict depends on.

    Args:
        model: the judge.
        request: its question.
        sampling: fields of the HTTP request besides prompt, n and logprobs.
        top_logprobs: alternatives per token that the judge is asked for; None without logprobs.

    Raises:
        ConfigurationError: a field is not plain JSON.
    """
    request_key = RequestKey(
        provider=model.provider.name,
        model=model.model,
        base_url=model.cost.base_url,
        messages=request.messages,
        top_logprobs=top_logprobs,
        sampling=sampling,
    )
    reading = [request.options, request.values, request.reading, request.reasons, request.tag]
    parts = [request_key.question.id, reading, PROMPT_VERSION, READING_VERSION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
