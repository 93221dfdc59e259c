"""A bounded queue before the work: so many requests at once, so many waiting, and no longer than a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from swift_client.server.http.error_reply import HttpError


class Admission:
    """The turns of one service on one event loop.

    Args:
        running: requests answered at once.
        queue: requests that may wait for a turn.
        timeout: seconds that a request may wait.
    """

    def __init__(self, *, running: int, queue: int, timeout: float) -> None:
        self._slots = asyncio.Semaphore(running)
        self._queue, self._timeout = queue, timeout
        self.waiting = 0
        """Requests that wait now."""
        self.running = 0
        """Requests that hold a turn now."""

    @property
    def is_full(self) -> bool:
        """True if a further request would be refused."""
        return self._slots.locked() and self.waiting >= self._queue

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for a turn and hold it.

        Raises:
            HttpError: 503: the queue is full, or the wait too long.
        """
        if self.is_full:
            raise self._busy("Too many requests are waiting.")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise self._busy(f"No turn within {self._timeout:g} seconds.") from None
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()

    def _busy(self, reason: str) -> HttpError:
        wait = max(1.0, min(self._timeout, 30.0))
        return HttpError(503, f"The service is busy: {reason}", code="service_busy", retry_after=wait)
