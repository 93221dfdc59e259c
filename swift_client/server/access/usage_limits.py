"""The counts behind the limits of one service, in memory or in a samples file that workers share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from swift_client.errors import ConfigurationError
from swift_client.server.access import limit_rules
from swift_client.server.access.cost_meter import CostMeter
from swift_client.server.access.limit_rules import Cost, Reservation, Scope, Windows
from swift_client.server.http.error_reply import HttpError
from swift_client.store import UsageStore, UsageWindow, WindowKey

logger = logging.getLogger(__name__)

T = TypeVar("T")
# Seconds for which a file that could not be used is not tried again: each request would wait for its lock in turn.
_PAUSE = 1.0


class UsageLimits:
    """The limits of requests on one event loop.

    Args:
        path: the samples file; None to count in memory, from the start of the process.
        clock: Unix seconds.
    """

    def __init__(self, path: str | None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._windows: dict[WindowKey, UsageWindow] = {}
        self._store = None if path is None else UsageStore(path)
        # SQLite waits for other processes, and that must not be on the event loop.
        self._thread = ThreadPoolExecutor(1, "swift-client-usage")
        self._unsettled: deque[tuple[Reservation, Cost]] = deque()
        self._error: ConfigurationError | None = None  # of the last use of the file
        self._retry_at = 0.0  # in seconds of ``time.monotonic()``

    @asynccontextmanager
    async def request(self, scopes: Sequence[Scope], expected: Cost) -> AsyncGenerator[CostMeter]:
        """Count one request, with the cost that its meter has at the end of the block, however it ends.

        Args:
            scopes: the client key and the virtual model; those without limits are not counted.
            expected: the cost that is reserved meanwhile.

        Raises:
            HttpError: 429: a limit is reached. 503: the file cannot be used, so that nobody knows.
        """
        meter = CostMeter()
        limited = [scope for scope in scopes if scope.has_limits]
        if not limited:
            yield meter
            return
        reservation = await self._begin(limited, expected)
        try:
            yield meter
        finally:
            self._unsettled.append((reservation, meter.cost))
            await asyncio.shield(self._start(self._settle))

    def open(self) -> None:
        """Open the file, so that a wrong one is known before the first request. Raises ConfigurationError."""
        if self._store is not None:
            self._store.update((), lambda windows: None)
            self._store.close()  # a connection belongs to one thread

    def check(self) -> None:
        """Raise ConfigurationError if the file is not a samples file; nothing is written."""
        if self._store is not None:
            self._store.check()

    async def aclose(self) -> None:
        """Count all that is left, and release the file."""
        await self._start(self._settle)
        if self._store is not None:
            await self._start(self._store.close)
        self._thread.shutdown(wait=False)

    def _start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run work in the thread of the file; without one at once, since it takes microseconds."""
        loop = asyncio.get_running_loop()
        if self._store is not None:
            return loop.run_in_executor(self._thread, work)
        future = loop.create_future()
        try:
            future.set_result(work())
        except HttpError as error:
            future.set_exception(error)
        return future

    async def _begin(self, scopes: Sequence[Scope], expected: Cost) -> Reservation:
        begun = self._start(lambda: self._reserve(scopes, expected))
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(self._release)
            raise
        except ConfigurationError as error:
            logger.error("A request was refused, since its limits cannot be counted. %s", error)
            raise HttpError(
                503, "The limits of this service cannot be counted now.", code="limits_unavailable", retry_after=5.0
            ) from error

    def _release(self, begun: asyncio.Future[Reservation]) -> None:
        """Let the next call settle a request whose client hung up while it was being counted."""
        if not begun.cancelled() and begun.exception() is None:
            self._unsettled.append((begun.result(), Cost()))

    # --- in the thread

    def _reserve(self, scopes: Sequence[Scope], expected: Cost) -> Reservation:
        self._settle()
        keys = limit_rules.window_keys(scopes)
        return self._update(keys, lambda windows: limit_rules.begin(windows, scopes, expected, self._clock()))

    def _settle(self) -> None:
        """Count the cost of requests that have ended; if the file cannot be used, the next call tries again."""
        try:
            while self._unsettled:
                reservation, cost = self._unsettled[0]
                self._update(
                    reservation.numbers,
                    partial(limit_rules.settle, reservation=reservation, cost=cost, now=self._clock()),
                )
                self._unsettled.popleft()
        except ConfigurationError as error:
            logger.error("The cost of %d requests is not yet counted. %s", len(self._unsettled), error)

    def _update(self, keys: Iterable[WindowKey], change: Callable[[Windows], T]) -> T:
        if self._store is None:
            return change(self._windows)
        if self._error is not None and time.monotonic() < self._retry_at:
            raise ConfigurationError(self._error.message, hint=self._error.hint)
        self._error = None
        try:
            return self._store.update(keys, change)
        except ConfigurationError as error:
            self._error, self._retry_at = error, time.monotonic() + _PAUSE
            raise
