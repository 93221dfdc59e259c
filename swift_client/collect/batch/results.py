"""A batch's output into the samples file, line by line. Whatever a line holds, it costs itself alone."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import Batch, OutputLine
from swift_client.collect.batch.job import BatchJob, BatchRequest
from swift_client.collect.budget import Prices
from swift_client.collect.result import CollectFailure
from swift_client.collect.runner import question_seed
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    LogprobsUnavailableError,
    ProviderError,
    RequestTimeoutError,
    ResponseDecodeError,
    SwiftClientError,
)
from swift_client.sampling import CallContext, lacks_logprobs
from swift_client.store import BatchStore
from swift_client.store.packing import pack
from swift_client.types import Completion, Usage

MAX_LINE_BYTES = 256 * 2**20
"""Bytes of the longest line that is read; 100 completions of 4,000 tokens with 20 alternatives take about 200 MB."""
_RETRY_HINT = "Run the same command again; it asks for what is missing."


@dataclass(kw_only=True)
class BatchResults:
    """Takes in what batches brought, and counts."""

    store: BatchStore
    context: CallContext
    prices: Prices | None
    """Of a batch."""
    existing_indices: dict[str, set[int]]
    """Indices in the file by question."""
    first_extra_index: int
    """No request asks for a completion of this number or a higher one: there those go that came unasked."""
    added_samples: int = 0
    extra_samples: int = 0
    """How many of those added were not asked for."""
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    failures: list[CollectFailure] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    async def store_batch(
        self, job: BatchJob, batch: Batch, files: Sequence[BinaryIO], *, on_stored: Callable[[], None]
    ) -> None:
        """Keep each reply of a batch that has ended, unless it was kept by an earlier run, and note what is missing.

        Raises:
            ResponseDecodeError: a download is no output, or holds less than the provider completed: what came is kept,
                and the batch not given up.
            ConfigurationError: there is no room in the samples file.
        """
        wishes = {wish.custom_id: wish for wish in job.wishes}
        odd = Counter[str]()
        failed: dict[str, SwiftClientError] = {}
        done: set[str] = set()
        for data in itertools.chain.from_iterable(read_output_lines(file, MAX_LINE_BYTES) for file in files):
            if data is not None and data.lstrip()[:1] == b"<":
                raise self._invalid_output_error(batch, "it is a web page")
            answer = None if data is None else openai_batch.parse_output_line(data, self.context.provider)
            wish = wishes.get(answer.custom_id) if answer else None
            if answer is None:
                odd["too long" if data is None else "unreadable"] += 1
            elif wish is None:
                odd["of no request of it"] += 1
            elif answer.custom_id in done or (answer.error and answer.custom_id in failed):
                odd["repeated"] += 1
            elif wish.first_index in self.existing_indices.get(wish.question_id, ()):
                done.add(answer.custom_id)
            elif (error := await self._store_answer(job, wish, answer)) is None:
                done.add(answer.custom_id)
                failed.pop(answer.custom_id, None)
                on_stored()
            else:
                failed[answer.custom_id] = error
            await asyncio.sleep(0)
        told = len(done | failed.keys()) + odd["too long"] + odd["unreadable"]
        completed = min(batch.n_completed, len(job.wishes))
        if told < completed or (completed and not done | failed.keys()):
            raise self._invalid_output_error(batch, f"it tells of {told:,} requests, and {completed:,} were completed")
        if failed and not done and all(isinstance(each, LogprobsUnavailableError) for each in failed.values()):
            self.store.mark_no_logprobs()
        self._record_outcome(job, batch, odd, failed, wishes.keys() - done)

    async def _store_answer(self, job: BatchJob, request: BatchRequest, answer: OutputLine) -> SwiftClientError | None:
        """Write one reply down; return why there is none."""
        if answer.error:
            return answer.error
        try:
            reply = await asyncio.to_thread(
                self.context.codec.parse, answer.body, top_logprobs=job.top_logprobs, token_ids=self.context.token_ids
            )
        except ProviderError as error:
            return error
        if not reply.completions:
            return ResponseDecodeError("The reply holds no completion.", hint=_RETRY_HINT)
        if lacks_logprobs(reply.completions) and self.context.must_have_logprobs:
            return self.context.logprobs_unavailable_error("the reply has text and none beside it.")
        seed = None if job.seed is None else question_seed(request.question_id, job.seed) + request.first_index
        usage = replace(reply.usage, calls=1)
        cost = self.prices.cost(usage) if self.prices else None
        try:
            self.add(request, reply.completions, usage=usage, cost=cost, seed=seed)
        except ConfigurationError as error:
            if all(map(_is_storable, reply.completions)):
                raise
            return error
        self.notes.update(dict.fromkeys(reply.notes))
        return None

    def add(
        self,
        request: BatchRequest,
        completions: Sequence[Completion],
        *,
        usage: Usage,
        cost: float | None,
        seed: int | None,
    ) -> None:
        """Write completions down under the numbers that were wished for; those beyond get numbers nobody asks for."""
        held = self.existing_indices.setdefault(request.question_id, set())
        room = itertools.chain(
            range(request.first_index, request.first_index + request.n), itertools.count(self.first_extra_index)
        )
        numbers = list(itertools.islice((number for number in room if number not in held), len(completions)))
        self.store.add_samples(request.question_id, completions, numbers=numbers, usage=usage, cost=cost, seed=seed)
        held.update(numbers)
        self.added_samples += len(numbers)
        self.extra_samples += sum(number >= self.first_extra_index for number in numbers)
        self.usage += usage
        self.cost += cost or 0.0

    def record_missing(self, requests: Sequence[BatchRequest], error: SwiftClientError) -> None:
        """Note what is missing for the same reason."""
        self.failures += [
            CollectFailure(question_id=wish.question_id, lost=wish.n, error=error)
            for wish in requests
            if wish.first_index not in self.existing_indices.get(wish.question_id, ())
        ]

    def _invalid_output_error(self, batch: Batch, reason: str) -> ResponseDecodeError:
        return ResponseDecodeError(
            f"What was downloaded of batch {batch.id} is not its output: {reason}.",
            hint="Run the same command again, which downloads it again; the batch is paid for.",
            provider=self.context.provider.name,
            retryable=True,
        )

    def _record_outcome(
        self,
        job: BatchJob,
        batch: Batch,
        skipped_lines: Mapping[str, int],
        errors: Mapping[str, SwiftClientError],
        missing_ids: set[str],
    ) -> None:
        absent = _missing_reply_error(batch, self.context.provider.name)
        for wish in job.wishes:
            if wish.custom_id in missing_ids:
                self.record_missing([wish], errors.get(wish.custom_id, absent))
        if missing_ids or batch.status != "completed":
            self.notes.setdefault(
                f"Batch {batch.id} is {batch.status}: {len(missing_ids):,} of its {len(job.wishes):,} requests brought "
                f"nothing.{' ' + batch.error_message if batch.error_message else ''}"
            )
        if skipped_lines:
            told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(skipped_lines.items()))
            self.notes.setdefault(f"Lines of batch {batch.id} that were passed over: {told}.")


def read_output_lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Yield the lines of a file that are not empty; None stands for one of more than ``longest`` bytes."""
    while data := file.readline(max_bytes + 1):
        if len(data) <= max_bytes or data.endswith(b"\n"):
            if data.strip():
                yield data
            continue
        while data and not data.endswith(b"\n"):
            data = file.readline(max_bytes + 1)
        yield None


def _is_storable(completion: Completion) -> bool:
    try:
        pack(completion)
    except ValueError:
        return False
    return True


def _missing_reply_error(batch: Batch, provider: str) -> ProviderError:
    """Return why a request stands in none of a batch's files."""
    if batch.status == "completed":
        return ResponseDecodeError(
            f"Batch {batch.id} is complete and says nothing of this request.", hint=_RETRY_HINT, provider=provider
        )
    if batch.status == "failed":
        reason = batch.error_message or "the provider does not say why."
        return BadRequestError(
            f"Batch {batch.id} failed: {reason}",
            hint="None of it was run. Mend that and run the same command again; --max-requests asks for less at once.",
            provider=provider,
        )
    return RequestTimeoutError(
        f"Batch {batch.id} is {batch.status}, and did not come to this request.", hint=_RETRY_HINT, provider=provider
    )
