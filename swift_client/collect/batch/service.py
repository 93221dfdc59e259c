"""A provider's Batch API, and batch jobs as the samples file stores them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from swift_client.adapters import Request, Transport
from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import Batch
from swift_client.adapters.transport.redaction import redact_error
from swift_client.collect.batch.plan import BatchRequest, open_temporary_file
from swift_client.errors import ConfigurationError, RateLimitError, SwiftClientError
from swift_client.sampling.retry import LONGEST_WAIT, retry_policy
from swift_client.store import BatchStore

T = TypeVar("T")
logger = logging.getLogger(__name__)

_UPLOAD_TIMEOUT = 900.0  # seconds: 200 MB over a slow connection
_CLOCK_TOLERANCE = 86_400.0  # seconds by which two clocks may differ


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """A batch that was requested and may cost money, until all of its output is fetched.

    It is stored before the call that creates the batch, so a process killed at any moment finds it again. The file
    uploaded before that call costs nothing.
    """

    token: str  # identifies the batch, in its metadata
    wishes: tuple[BatchRequest, ...]  # its requests, under the key of the samples file format
    file_id: str  # the uploaded input file; no two batches share one
    asked_at: float  # Unix time of the last call that requested the batch
    seed: int | None = None
    # Columns of every ``top_logprobs``; None if no logprobs are requested.
    top_logprobs: int | None = None
    batch_id: str | None = None  # None until the provider's answer has been read

    def save(self, store: BatchStore) -> BatchJob:
        """Write the job to the samples file and return it."""
        store.save_batch(self.token, msgspec.json.encode(self).decode())
        return self


def open_jobs(store: BatchStore) -> list[BatchJob]:
    """Return the jobs in the samples file, the oldest first.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    try:
        jobs = [msgspec.json.decode(text, type=BatchJob) for text in store.batches().values()]
    except ValueError as error:
        raise ConfigurationError(
            f"{store.path} is damaged: its record of an open batch cannot be read ({error}).",
            hint="The provider still has the batch: download its output, and read it with --replies into a new file.",
        ) from error
    return sorted(jobs, key=lambda job: job.asked_at)


class BatchAPI:
    """One provider's Batch API; each call has the retries that are safe for it.

    Args:
        transport: sends to the provider.
        url: endpoint of the requests in a batch, such as "/v1/chat/completions".
        listing_delay: seconds after which the provider's list shows every batch that was created.
        max_retries: further attempts of a failed call.
    """

    def __init__(self, transport: Transport, url: str, *, listing_delay: float, max_retries: int) -> None:
        self._transport, self._url = transport, url
        self._listing_delay, self._max_retries = listing_delay, max_retries

    async def upload(self, name: str, file: BinaryIO) -> str:
        """Upload an input file and return its id."""

        async def attempt() -> str:
            file.seek(0)
            data = await self._transport.send(openai_batch.upload(name, file), timeout=_UPLOAD_TIMEOUT)
            return openai_batch.parse_file_id(data)

        return await self._with_retries(attempt)

    async def create(self, job: BatchJob, store: BatchStore, *, certainly_new: bool) -> BatchJob:
        """Create the batch of a stored job, unless it exists; return the job with its id.

        A call that ended without an answer may have created the batch. No further call is sent until the provider's
        list, ``listing_delay`` seconds after the last one, shows that there is no such batch.

        Args:
            job: the batch to create.
            store: where the job is stored.
            certainly_new: True if no call has been sent for it.

        Raises:
            SwiftClientError: the provider refuses, and the job is dropped; or the outcome is unknown, and it is kept.
        """
        for attempt in range(self._max_retries + 1):
            if not certainly_new:
                batch = await self._find_batch(job)
                if batch:
                    return replace(job, batch_id=batch.id).save(store)
                job = replace(job, asked_at=time.time()).save(store)
            certainly_new = False
            try:
                data = await self._transport.send(openai_batch.create(job.file_id, self._url, job.token))
                return replace(job, batch_id=openai_batch.parse_batch(data).id).save(store)
            except SwiftClientError as error:
                certainly_new = _certainly_not_created(error)
                is_last = attempt == self._max_retries or not error.retryable
                if is_last and certainly_new:
                    store.drop_batch(job.token)
                if is_last:
                    raise
                if isinstance(error, RateLimitError):
                    wait = 2.0**attempt if error.retry_after is None else error.retry_after
                    await asyncio.sleep(min(wait, LONGEST_WAIT))
        raise AssertionError("the last attempt returns or raises")

    async def retrieve(self, job: BatchJob) -> Batch:
        """Return the state of a batch."""
        return openai_batch.parse_batch(await self._send(openai_batch.retrieve(job.batch_id or "")))

    async def download(self, file_id: str, folder: Path | None) -> BinaryIO:
        """Download a file into a temporary one in ``folder``, or into memory."""

        async def attempt() -> BinaryIO:
            file = open_temporary_file(folder)
            try:
                # A file may be of any size, and is written to the disk.
                download = self._transport.stream(
                    openai_batch.download_file(file_id), total_timeout=math.inf, max_bytes=math.inf
                )
                async with download as chunks:
                    async for chunk in chunks:
                        file.write(chunk)
            except OSError as error:
                file.close()
                raise ConfigurationError(
                    f"A batch's output cannot be written to {folder}: {error.strerror or error}.",
                    hint="Free some space and run the same command again; the provider keeps the output.",
                ) from error
            except BaseException:
                file.close()
                raise
            file.seek(0)
            return file

        return await self._with_retries(attempt)

    async def _find_batch(self, job: BatchJob) -> Batch | None:
        """Return the batch that was created for a job, once the provider's list can be trusted to have it."""
        pause = 1.0
        while True:
            seconds_left = job.asked_at + self._listing_delay - time.time()
            batch = await self._search_listing(job)
            if batch or seconds_left <= 0:
                return batch
            await asyncio.sleep(min(pause, seconds_left, self._listing_delay))
            pause = min(2 * pause, 10.0)

    async def _search_listing(self, job: BatchJob) -> Batch | None:
        """Return the job's batch from the provider's list; it is sorted, the newest batch first."""
        after: str | None = None
        seen_ids: set[str] = set()
        while True:
            page = openai_batch.parse_batch_list(await self._send(openai_batch.list_batches(after)))
            for batch in page:
                if batch.token == job.token or batch.input_file_id == job.file_id:
                    return batch
            new = [batch for batch in page if batch.id not in seen_ids]
            oldest_time = job.asked_at - _CLOCK_TOLERANCE
            if not new or all((batch.created_at or job.asked_at) < oldest_time for batch in new):
                return None
            seen_ids.update(batch.id for batch in new)
            after = page[-1].id

    async def _send(self, request: Request) -> bytes:
        return await self._with_retries(partial(self._transport.send, request))

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]]) -> T:
        try:
            result: T = await retry_policy(self._max_retries, None, _log_retry)(attempt)
        except SwiftClientError as error:
            redact_error(error, self._transport.secrets)
            raise
        return result


def _certainly_not_created(error: SwiftClientError) -> bool:
    """Return True if the failed call has certainly created no batch."""
    if isinstance(error, ConfigurationError):  # a missing key, say: nothing was sent
        return True
    return error.status is not None and 400 <= error.status < 500 and error.status not in (408, 409)


def _log_retry(error: SwiftClientError, attempt: int, wait: float) -> None:
    logger.debug("batch: attempt %d failed (%s); next in %.2f s", attempt, type(error).__name__, wait)
