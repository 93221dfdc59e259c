"""Whose request may start next: fair between questions, across event loops and threads, at the provider's own pace."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from swift_client.adapters.transport.rate_limit_headers import parse_rate_limit_headers
from swift_client.errors import ConfigurationError, RateLimitError, SwiftClientError
from swift_client.sampling.congestion import CongestionWindow
from swift_client.validation import require_int, require_positive

DEFAULT_MAX_CONCURRENCY = 16
"""Requests at once, where nothing is said."""
_MAX_SLEEP = 1.0
"""Seconds after which a waiter looks again by itself: the timer that should have woken it may be of a closed loop."""
_MIN_SLEEP = 0.001
_OVERLOAD_STATUSES = (503, 529)
"""Statuses that say "not so many at once", besides 429."""

_Waiter = asyncio.Future[None]


class RateLimiter:
    """At most ``size`` holders at once, fewer where the provider refuses, on whatever loop or thread they run.

    Questions take turns, and calls of one question go first come first served: many calls of one do not keep one call
    of another waiting. ``asyncio.Semaphore`` belongs to one loop; one reranker may serve several at a time.

    Args:
        size: requests at once, at most.
        requests_per_minute: kept, where given.
        tokens_per_minute: kept, where given, by the mean of recent replies.
        clock: gives seconds; the same for all who use this limit.
    """

    def __init__(
        self,
        size: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = clock
        self._window = CongestionWindow(
            size, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, now=clock()
        )
        self._waiters: dict[int, deque[_Waiter]] = {}
        self._wakes_at = -math.inf
        self._lock = threading.Lock()

    @property
    def n_active(self) -> int:
        """How many hold a slot."""
        return self._window.n_active

    async def acquire(self, owner: object = None) -> None:
        """Wait for a slot and take it; ``owner`` is the question that it is for."""
        with self._lock:
            if not self._waiters and self._window.wait_seconds(self.now()) <= 0:
                self._window.start()
                return
            turn = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(id(owner), deque()).append(turn)
        try:
            while not turn.done():
                self._wake_waiters()
                await asyncio.wait([turn], timeout=_MAX_SLEEP)
        except asyncio.CancelledError:
            with self._lock:
                waiting = self._remove_waiter(id(owner), turn)
            if not waiting and turn.done():
                self.release()
            turn.cancel()  # a slot that was handed over in the same moment comes back through _grant
            raise

    def release(self) -> None:
        """Give a slot back, and let whoever is next begin."""
        with self._lock:
            self._window.end()
        self._wake_waiters()

    def on_success(self, *, started_at: float) -> str | None:
        """Take note of an answer to a request that had ``started`` then; say in words what is new about the limit."""
        with self._lock:
            return self._window.on_success(started_at=started_at)

    def on_error(self, error: SwiftClientError, *, started_at: float) -> str | None:
        """Take note of a failed request that had ``started`` then; say in words what is new about the limit."""
        with self._lock:
            if error.retryable and (isinstance(error, RateLimitError) or error.status in _OVERLOAD_STATUSES):
                asked = getattr(error, "retry_after", None)
                return self._window.on_throttle(self.now(), started_at=started_at, retry_after=asked)
            if error.status and error.status < 500:  # it was not too busy to say no
                return self._window.on_success(started_at=started_at)
            return None

    def on_usage(self, tokens: int) -> None:
        """Take note of what a reply cost."""
        with self._lock:
            self._window.on_usage(tokens)

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Take note of what a reply's headers say is left."""
        quota = parse_rate_limit_headers(headers)
        if any(quota):
            with self._lock:
                self._window.on_headers(quota, self.now())

    def _wake_waiters(self) -> None:
        """Let all begin who may, and come back when the next one may."""
        with self._lock:
            now = self.now()
            while self._waiters:
                wait = self._window.wait_seconds(now)
                if wait > 0:
                    self._schedule_wake(now, max(wait, _MIN_SLEEP))
                    return
                turn = self._pop_waiter()
                self._window.start()
                try:
                    turn.get_loop().call_soon_threadsafe(self._grant, turn)
                except RuntimeError:  # that loop was closed while its task waited
                    self._window.end()

    def _schedule_wake(self, now: float, wait: float) -> None:
        """Open again after ``wait`` seconds by a timer of this loop, unless one will ring before."""
        if wait < _MAX_SLEEP and not now < self._wakes_at <= now + wait:
            with suppress(RuntimeError):  # no loop runs where an abandoned coroutine is cleaned up
                asyncio.get_running_loop().call_later(wait, self._wake_waiters)
                self._wakes_at = now + wait

    def _pop_waiter(self) -> _Waiter:
        """Take the first call of the question whose turn it is, and put that question last."""
        owner = next(iter(self._waiters))
        turns = self._waiters.pop(owner)
        turn = turns.popleft()
        if turns:
            self._waiters[owner] = turns
        return turn

    def _remove_waiter(self, owner: int, waiter: _Waiter) -> bool:
        turns = self._waiters.get(owner, deque())
        if waiter not in turns:
            return False
        turns.remove(waiter)
        if not turns:
            del self._waiters[owner]
        return True

    def _grant(self, waiter: _Waiter) -> None:
        if waiter.done():
            self.release()
        else:
            waiter.set_result(None)


class RateLimit:
    """A limit that several rerankers of one key share: ``SwiftReranker(..., limit=shared)`` for each of them.

    Args:
        max_concurrency: requests at once, at most; the HTTP connections follow it.
        requests_per_minute: kept, where given.
        tokens_per_minute: kept, where given: prompt and completion tokens together, by the mean of recent replies.
        clock: gives seconds, for simulations.

    Raises:
        ConfigurationError: a number is not above 0.
    """

    def __init__(
        self,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require_int("max_concurrency", max_concurrency, low=1)
        for name, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None:
                require_positive(name, value, unit="a minute")
        self.max_concurrency = max_concurrency
        self.requests_per_minute, self.tokens_per_minute = requests_per_minute, tokens_per_minute
        self._clock = clock
        self._limiters: dict[int, RateLimiter] = {}

    def for_this_process(self) -> RateLimiter:
        """Return this process's limit; a forked child begins with one of its own."""
        process = os.getpid()
        if process not in self._limiters:
            made = RateLimiter(
                self.max_concurrency,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                clock=self._clock,
            )
            self._limiters.setdefault(process, made)
        return self._limiters[process]

    def __repr__(self) -> str:
        rates = {"requests_per_minute": self.requests_per_minute, "tokens_per_minute": self.tokens_per_minute}
        given = [f"{name}={value:g}" for name, value in rates.items() if value is not None]
        return f"RateLimit({', '.join([str(self.max_concurrency), *given])})"


def resolve_rate_limit(limit: object, max_concurrency: int) -> RateLimit:
    """Return the limit that was given, or one of its own.

    Raises:
        ConfigurationError: it is something else, or says something else than ``max_concurrency``.
    """
    if limit is None:
        return RateLimit(max_concurrency)
    if not isinstance(limit, RateLimit):
        raise ConfigurationError(f"limit= takes a RateLimit, not {type(limit).__name__}.")
    if max_concurrency not in (DEFAULT_MAX_CONCURRENCY, limit.max_concurrency):
        raise ConfigurationError(
            f"max_concurrency={max_concurrency} beside limit={limit!r}: both say how many requests may run at once.",
            hint="Give it to the RateLimit alone.",
        )
    return limit
