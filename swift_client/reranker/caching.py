"""``store=`` in ``best_of``: what was paid for earlier is used again, and what comes now is kept. No trouble with the
file costs an answer: it becomes a note.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Self

import numpy as np

from swift_client.errors import ConfigurationError
from swift_client.models import HiddenHead
from swift_client.sampling import CallContext, CallResult, SampleRequest, SampleResult, lacks_logprobs
from swift_client.store import ReplyStore, RequestKey
from swift_client.types import Completion

WRITE_TIMEOUT = 4.0
"""Seconds that an answer waits for its completions to be written; after that the thread goes on alone."""

logger = logging.getLogger(__name__)


class ReplyCache:
    """What one draw takes from the store and gives to it."""

    def __init__(self, store: ReplyStore, request_key: RequestKey, *, must_have_logprobs: bool) -> None:
        self._store, self._request_key, self._must_have_logprobs = store, request_key, must_have_logprobs
        self._pending_writes: list[tuple[int, Future[None]]] = []
        self._notes: dict[str, None] = {}

    @classmethod
    def create(
        cls,
        store: ReplyStore,
        context: CallContext,
        sample_request: SampleRequest,
        *,
        base_url: str | None,
        top_logprobs: int | None,
        scorer: object,
    ) -> Self:
        """Return the cache of one draw.

        ``top_logprobs`` is what the reranker asks for, before the endpoint's refusals have taught it less.
        """
        asked = RequestKey(
            provider=context.provider.name,
            model=context.model,
            base_url=base_url,
            messages=sample_request.messages,
            top_logprobs=top_logprobs,
            sampling=context.fields(sample_request),
            seed=sample_request.seed,
            head=projection_key(scorer),
        )
        return cls(store, asked, must_have_logprobs=context.must_have_logprobs)

    async def lookup(self, n: int) -> Mapping[int, Completion]:
        """Return up to ``n`` completions of earlier draws by their number."""
        try:
            samples = await asyncio.to_thread(self._store.lookup, self._request_key, n)
        except ConfigurationError as error:
            self._warn(f"Nothing was reused: {error.message}")
            return {}
        completions = {sample.index: sample.completion for sample in samples}
        if self._must_have_logprobs:
            completions = {number: each for number, each in completions.items() if not lacks_logprobs([each])}
        return completions

    def store(self, result: CallResult) -> None:
        """Hand a call's completions to the thread that writes, the moment they are here.

        What broke off on its way is no answer that could be used again.
        """
        whole = [completion for completion in result.completions if completion.finish_reason != "error"]
        if not whole:
            return
        writing = self._store.save(
            self._request_key, whole, first_index=result.first_index, usage=replace(result.usage, calls=1)
        )
        self._pending_writes.append((len(whole), writing))

    async def collect_notes(self, result: SampleResult, *, n_reused: int) -> tuple[str, ...]:
        """Wait until all is written, or cannot be; return what the Selection should say."""
        waiting = {asyncio.wrap_future(writing) for _, writing in self._pending_writes}
        if waiting:
            await asyncio.wait(waiting, timeout=WRITE_TIMEOUT)
        for count, writing in self._pending_writes:
            if not writing.done():
                self._warn(f"{self._store.path} is slow: {_count_phrase(count)} not yet written to it.")
            elif error := writing.exception():
                self._warn(f"{_count_phrase(count)} not kept: {getattr(error, 'message', repr(error))}")
        if n_reused:
            here = len(result.completions)
            self._notes.setdefault(f"{n_reused} of {here} completions were reused from {self._store.path}.")
        return tuple(self._notes)

    def _warn(self, note: str) -> None:
        logger.warning("store: %s", note)
        self._notes.setdefault(note)


def _count_phrase(count: int) -> str:
    return "1 completion is" if count == 1 else f"{count} completions are"


def merge_cached(
    cached_completions: Mapping[int, Completion], existing_completions: Sequence[Completion], n: int
) -> dict[int, Completion]:
    """Return up to ``n`` completions by number: those of the store, and those of this call that it does not hold."""
    kept = Counter(map(_identity, cached_completions.values()))
    have = dict(cached_completions)
    free = (number for number in itertools.count() if number not in cached_completions)
    for completion in existing_completions:
        if kept[_identity(completion)]:
            kept[_identity(completion)] -= 1
        else:
            have[next(free)] = completion
    return dict(sorted(have.items())[:n])


def _identity(completion: Completion) -> tuple[object, ...]:
    return completion.text, completion.finish_reason, completion.logprobs.tobytes()


def projection_key(scorer: object) -> str | None:
    """Return what tells apart heads whose projections a local model computes while it answers; None for others."""
    if not isinstance(scorer, HiddenHead):
        return None
    weight, bias = scorer.matrix()
    parts = (scorer.layers, scorer.moment, weight.tobytes(), np.asarray(bias).tobytes())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
