"""What is asked of a provider's Batch API, each call with the retries that are safe for it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from swift_client.adapters import Request, Transport
from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import Batch
from swift_client.collect.batch.job import BatchJob, open_temporary_file
from swift_client.errors import ConfigurationError, RateLimitError, SwiftClientError
from swift_client.sampling.retry import LONGEST_WAIT, retry_policy
from swift_client.store import BatchStore

logger = logging.getLogger(__name__)

_UPLOAD_TIMEOUT = 900.0
"""200 MB over a slow line."""
_CLOCK_TOLERANCE = 86_400.0
"""Seconds by which two clocks may differ."""


class BatchAPI:
    """One provider's Batch API.

    Args:
        transport: to the provider.
        url: what every request of a batch is for, such as "/v1/chat/completions".
        settle: seconds after which the provider's list shows every batch that was made.
        max_retries: further attempts of a failed call.
    """

    def __init__(self, transport: Transport, url: str, *, listing_delay: float, max_retries: int) -> None:
        self._transport, self._url = transport, url
        self._listing_delay, self._max_retries = listing_delay, max_retries

    async def upload(self, name: str, file: BinaryIO) -> str:
        """Put an input file up and return its id."""

        async def attempt() -> str:
            file.seek(0)
            sent = await self._transport.send(openai_batch.upload(name, file), timeout=_UPLOAD_TIMEOUT)
            return openai_batch.parse_file_id(sent)

        return str(await retry_policy(self._max_retries, None, _log_retry)(attempt))

    async def create(self, job: BatchJob, store: BatchStore, *, certainly_new: bool) -> BatchJob:
        """Make the batch of a job that is written down, unless it was made before; return the job with its id.

        A call that ended without an answer may have made the batch. So none is sent before the provider's list,
        ``settle`` seconds after the last, shows that there is no such batch.

        Args:
            job: what is asked for.
            store: where it is written down.
            fresh: whether no call has been sent for it.

        Raises:
            SwiftClientError: the provider refuses, and the job is dropped; or nobody knows, and it is kept.
        """
        for attempt in range(self._max_retries + 1):
            if not certainly_new:
                found = await self._find_batch(job)
                if found:
                    return replace(job, batch_id=found.id).save(store)
                job = job.with_new_time().save(store)
            certainly_new = False
            try:
                data = await self._transport.send(openai_batch.create(job.file_id, self._url, job.token))
                return replace(job, batch_id=openai_batch.parse_batch(data).id).save(store)
            except SwiftClientError as error:
                certainly_new = _certainly_not_created(error)
                last = attempt == self._max_retries or not error.retryable
                if last and certainly_new:
                    store.drop_batch(job.token)
                if last:
                    raise
                if isinstance(error, RateLimitError):
                    wait = 2.0**attempt if error.retry_after is None else error.retry_after
                    await asyncio.sleep(min(wait, LONGEST_WAIT))
        raise AssertionError("the last attempt returns or raises")

    async def retrieve(self, job: BatchJob) -> Batch:
        """Ask how a batch stands."""
        return openai_batch.parse_batch(await self._send(openai_batch.retrieve(job.batch_id or "")))

    async def download(self, file_id: str, folder: Path) -> BinaryIO:
        """Load a file down into one that is gone when it is closed."""

        async def attempt() -> BinaryIO:
            file = open_temporary_file(folder)
            try:
                async with self._transport.stream(openai_batch.download_file(file_id)) as chunks:
                    async for chunk in chunks:
                        file.write(chunk)
            except OSError as error:
                file.close()
                raise ConfigurationError(
                    f"A batch's output cannot be written to {folder}: {error.strerror or error}.",
                    hint="Make room and run the same command again; the provider keeps it.",
                ) from error
            except BaseException:
                file.close()
                raise
            file.seek(0)
            return file

        loaded: BinaryIO = await retry_policy(self._max_retries, None, _log_retry)(attempt)
        return loaded

    async def _find_batch(self, job: BatchJob) -> Batch | None:
        """Return the batch that was made for a job, once the list can be trusted to have it."""
        waited = 1.0
        while True:
            settled = job.asked_at + self._listing_delay - time.time()
            found = await self._search_listing(job)
            if found or settled <= 0:
                return found
            await asyncio.sleep(min(waited, settled, self._listing_delay))
            waited = min(2 * waited, 10.0)

    async def _search_listing(self, job: BatchJob) -> Batch | None:
        after: str | None = None
        seen: set[str] = set()
        while True:
            page = openai_batch.parse_batch_list(await self._send(openai_batch.list_batches(after)))
            for batch in page:
                if batch.token == job.token or batch.input_file_id == job.file_id:
                    return batch
            fresh = [batch for batch in page if batch.id not in seen]
            if not fresh or all((each.created_at or job.asked_at) < job.asked_at - _CLOCK_TOLERANCE for each in fresh):
                return None
            seen.update(batch.id for batch in fresh)
            after = page[-1].id

    async def _send(self, request: Request) -> bytes:
        async def attempt() -> bytes:
            return await self._transport.send(request)

        sent: bytes = await retry_policy(self._max_retries, None, _log_retry)(attempt)
        return sent


def _certainly_not_created(error: SwiftClientError) -> bool:
    """Whether the call has certainly made no batch."""
    if isinstance(error, ConfigurationError):  # a missing key, say: nothing was sent
        return True
    return error.status is not None and 400 <= error.status < 500 and error.status not in (408, 409)


def _log_retry(error: SwiftClientError, attempt: int, wait: float) -> None:
    logger.debug("batch: attempt %d failed (%s); next in %.2f s", attempt, type(error).__name__, wait)
