"""Results of batches, stored line by line. A bad line costs only its own completions."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import Batch, OutputLine
from swift_client.collect.batch.plan import BatchRequest
from swift_client.collect.batch.service import BatchJob
from swift_client.collect.result import CollectFailure, CollectState
from swift_client.collect.setup import Prices, completion_seed
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

# Bytes of the longest line that is read; 100 completions of 4,000 tokens with 20 alternatives take
# about 200 MB.
MAX_LINE_BYTES = 256 * 2**20
_RETRY_HINT = "Run the same command again; it asks for what is missing."


@dataclass(kw_only=True)
class BatchResults:
    """Stores the replies of batches, and counts samples, usage, cost and failures."""

    state: CollectState[BatchStore]
    context: CallContext
    # No request asks for this index or a higher one: surplus completions are stored from here on.
    first_extra_index: int
    cost: float = 0.0  # of this run

    async def store_batch(
        self, job: BatchJob, batch: Batch, files: Sequence[BinaryIO], *, on_stored: Callable[[], None]
    ) -> None:
        """Store each reply of a finished batch, unless an earlier run did, and record what is missing.

        Raises:
            ResponseDecodeError: a download is not the output, or holds less than the provider completed. Replies that
                came are stored, and the batch is kept.
            ConfigurationError: the samples file cannot be written.
        """
        requests = {request.custom_id: request for request in job.wishes}
        skipped_lines = Counter[str]()
        errors: dict[str, SwiftClientError] = {}
        stored_ids: set[str] = set()
        # Store the replies; skip and count lines that are broken, repeated, or of another batch.
        for data in itertools.chain.from_iterable(read_output_lines(file, MAX_LINE_BYTES) for file in files):
            if data is not None and data.lstrip()[:1] == b"<":
                raise self._invalid_output_error(batch, "it is a web page")
            answer = None if data is None else openai_batch.parse_output_line(data, self.context.provider)
            request = requests.get(answer.custom_id) if answer else None
            if answer is None:
                skipped_lines["too long" if data is None else "unreadable"] += 1
            elif request is None:
                skipped_lines["not of its requests"] += 1
            elif answer.custom_id in stored_ids or (answer.error and answer.custom_id in errors):
                skipped_lines["repeated"] += 1
            elif request.first_index in self.state.indices(request.question_id):
                stored_ids.add(answer.custom_id)
            elif (error := await self._store_answer(job, request, answer)) is None:
                stored_ids.add(answer.custom_id)
                errors.pop(answer.custom_id, None)
                on_stored()
            else:
                errors[answer.custom_id] = error
            await asyncio.sleep(0)
        # Compare with the provider's own count: an incomplete download must not end the batch.
        answered_ids = stored_ids | errors.keys()
        n_answered = len(answered_ids) + skipped_lines["too long"] + skipped_lines["unreadable"]
        n_completed = min(batch.n_completed, len(job.wishes))
        if n_answered < n_completed or (n_completed and not answered_ids):
            reason = f"it answers {n_answered:,} requests, but {n_completed:,} were completed"
            raise self._invalid_output_error(batch, reason)
        if errors and not stored_ids and all(isinstance(e, LogprobsUnavailableError) for e in errors.values()):
            self.state.store.mark_no_logprobs()
        self._record_outcome(job, batch, skipped_lines, errors, requests.keys() - stored_ids)

    async def _store_answer(self, job: BatchJob, request: BatchRequest, answer: OutputLine) -> SwiftClientError | None:
        """Store one reply; return the error if there is none."""
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
            return self.context.logprobs_unavailable_error("the reply has text but no logprobs.")
        seed = completion_seed(request.question_id, job.seed, request.first_index)
        try:
            self.add(request, reply.completions, reply.usage, prices=self.state.setup.prices, seed=seed)
        except ConfigurationError as error:
            if all(map(_is_storable, reply.completions)):
                raise
            return error
        self.state.notes.update(dict.fromkeys(reply.notes))
        return None

    def add(
        self,
        request: BatchRequest,
        completions: Sequence[Completion],
        usage: Usage,
        *,
        prices: Prices | None,
        seed: int | None,
    ) -> None:
        """Store completions under the requested indices; surplus ones from ``first_extra_index`` on."""
        existing = self.state.indices(request.question_id)
        requested = range(request.first_index, request.first_index + request.n)
        candidates = itertools.chain(requested, itertools.count(self.first_extra_index))
        indices = list(itertools.islice((index for index in candidates if index not in existing), len(completions)))
        self.cost += self.state.add(request.question_id, completions, indices, usage, prices=prices, seed=seed)
        self.state.target_samples += sum(index >= self.first_extra_index for index in indices)

    def record_missing(self, requests: Sequence[BatchRequest], error: SwiftClientError) -> None:
        """Record requests whose completions are missing, all for the same reason."""
        self.state.failures += [
            CollectFailure(question_id=request.question_id, lost=request.n, error=error)
            for request in requests
            if request.first_index not in self.state.indices(request.question_id)
        ]

    def _invalid_output_error(self, batch: Batch, reason: str) -> ResponseDecodeError:
        return ResponseDecodeError(
            f"The download of batch {batch.id} is not its output: {reason}.",
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
        """Record the failures and notes of a stored batch."""
        default_error = _missing_reply_error(batch, self.context.provider.name)
        for request in job.wishes:
            if request.custom_id in missing_ids:
                self.record_missing([request], errors.get(request.custom_id, default_error))
        if missing_ids or batch.status != "completed":
            reason = f" {batch.error_message}" if batch.error_message else ""
            self.state.notes.setdefault(
                f"Batch {batch.id} is {batch.status}: {len(missing_ids):,} of its {len(job.wishes):,} requests brought "
                f"nothing.{reason}"
            )
        if skipped_lines:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(skipped_lines.items()))
            self.state.notes.setdefault(f"Lines of batch {batch.id} that were skipped: {counts}.")


def read_output_lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Yield the non-empty lines of a file; None stands for a line of more than ``max_bytes``."""
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
    """Return the error for a request without a line in the batch's files."""
    if batch.status == "completed":
        return ResponseDecodeError(
            f"Batch {batch.id} is complete, but its output does not mention this request.",
            hint=_RETRY_HINT,
            provider=provider,
        )
    if batch.status == "failed":
        reason = batch.error_message or "the provider gives no reason."
        return BadRequestError(
            f"Batch {batch.id} failed: {reason}",
            hint="None of it was run. Fix the cause and run the same command again; --max-requests sends less at once.",
            provider=provider,
        )
    return RequestTimeoutError(
        f"Batch {batch.id} is {batch.status}, and did not reach this request.", hint=_RETRY_HINT, provider=provider
    )
