"""The reply cache of ``best_of(store=...)``: reuse stored completions and save new ones.

Storage errors become notes; they never cost an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from swift_client.adapters.user_threads import UserThreads
from swift_client.errors import ConfigurationError
from swift_client.models import HiddenHead
from swift_client.sampling import CallContext, CallResult, SampleRequest, SampleResult, lacks_logprobs
from swift_client.store import AnswerStore, RequestKey
from swift_client.store.pending_writes import PendingWrites
from swift_client.types import Completion

_READ_TIMEOUT = 20.0  # seconds for reading it; a store itself waits less long

logger = logging.getLogger(__name__)


class ReplyCache:
    """The stored completions of one request, and the writes of new ones."""

    def __init__(
        self,
        store: AnswerStore,
        context: CallContext,
        request: SampleRequest,
        *,
        base_url: str | None,
        top_logprobs: int | None,
        scorer: object,
        client_key: str | None,
        threads: UserThreads,
        deadline_at: float | None,
    ) -> None:
        """Prepare the cache of one request.

        Args:
            store: the store.
            context: the endpoint.
            request: the request.
            base_url: the endpoint's address.
            top_logprobs: what the reranker asks for, even if the endpoint has refused it since.
            scorer: the scorer, for whose projections completions are stored.
            client_key: name of the service's key that asks; None for a call of the library.
            threads: the threads that read it, which may take seconds.
            deadline_at: the call's deadline in the running loop's time, or None.
        """
        self._threads = threads
        self._store, self._must_have_logprobs = store, context.must_have_logprobs
        self._request_key = RequestKey(
            provider=context.provider.name,
            model=context.model,
            base_url=base_url,
            messages=request.messages,
            top_logprobs=top_logprobs,
            sampling=context.fields(request),
            seed=request.seed,
            head=_projection_key(scorer),
            client_key=client_key,
        )
        self._writes = PendingWrites(store.place, deadline_at=deadline_at)
        self._notes: dict[str, None] = {}
        self._has_failed = False

    async def lookup(self, n: int) -> Mapping[int, Completion]:
        """Return up to ``n`` stored completions by their number."""
        try:
            # Until half of the time is over: the rest is for new completions.
            async with asyncio.timeout(self._writes.seconds_left(_READ_TIMEOUT, share=0.5)):
                samples = await self._threads.call(self._store.lookup, self._request_key, n)
        except ConfigurationError as error:
            self._warn(f"Nothing was reused: {error.message}")
            return {}
        except TimeoutError:
            self._warn(f"Nothing was reused: {self._store.place} is slow.")
            return {}
        return {
            sample.index: sample.completion
            for sample in samples
            if not (self._must_have_logprobs and lacks_logprobs([sample.completion]))
        }

    def store(self, result: CallResult) -> None:
        """Hand the completions of one call to the writing thread; broken ones are not stored."""
        completions = [completion for completion in result.completions if completion.finish_reason != "error"]
        if completions:
            usage = replace(result.usage, calls=1)
            write = self._store.save(self._request_key, completions, first_index=result.first_index, usage=usage)
            count = len(completions)
            self._writes.add("1 completion is" if count == 1 else f"{count} completions are", write)

    @property
    def question_id(self) -> str | None:
        """Id of the stored question; None if something about this request could not be read or stored."""
        return None if self._has_failed else self._request_key.question.id

    async def find_existing(
        self, existing_completions: Sequence[Completion], n: int
    ) -> tuple[dict[int, Completion], int]:
        """Return the completions that need no request, by number, and how many of them come from the cache."""
        return merge_cached(await self.lookup(n), existing_completions, n)

    async def collect_notes(self, result: SampleResult, *, n_reused: int) -> tuple[str, ...]:
        """Wait until everything is written or cannot be, and return the notes for the Selection."""
        # The answer waits for slow writes only so long; they go on after it.
        for problem in await self._writes.problems():
            self._warn(problem)
        if n_reused:
            total = len(result.completions)
            self._notes.setdefault(f"{n_reused} of {total} completions were reused from {self._store.place}.")
        return tuple(self._notes)

    def _warn(self, note: str) -> None:
        logger.warning("store: %s", note)
        self._has_failed = True
        self._notes.setdefault(note)


def merge_cached(
    cached_completions: Mapping[int, Completion], existing_completions: Sequence[Completion], n: int
) -> tuple[dict[int, Completion], int]:
    """Join cached completions with existing ones that are not among them.

    Returns:
        Up to ``n`` completions by number, and how many of them only the cache had.
    """
    # A completion of this call that was stored meanwhile is in both: count it once.
    n_cached = Counter(map(_identity, cached_completions.values()))
    merged, n_in_both = dict(cached_completions), 0
    free_numbers = (number for number in itertools.count() if number not in cached_completions)
    for completion in existing_completions:
        identity = _identity(completion)
        if n_cached[identity]:
            n_cached[identity] -= 1
            n_in_both += 1
        else:
            merged[next(free_numbers)] = completion
    first = dict(sorted(merged.items())[:n])
    return first, max(0, len(first.keys() & cached_completions.keys()) - n_in_both)


def _identity(completion: Completion) -> tuple[object, ...]:
    return completion.text, completion.finish_reason, completion.logprobs.tobytes()


def _projection_key(scorer: object) -> str | None:
    """Return a digest of the projection that a local model computes for a HiddenHead; None for other scorers."""
    if not isinstance(scorer, HiddenHead):
        return None
    weight, bias = scorer.matrix()
    parts = (scorer.layers, scorer.moment, weight.tobytes(), np.asarray(bias).tobytes())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
