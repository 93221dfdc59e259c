"""A rate limiter shared across event loops and threads: fair between questions, adapting to the provider's limits."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from swift_client.adapters.transport.rate_limit_headers import parse_rate_limit_headers
from swift_client.errors import ConfigurationError, RateLimitError, SwiftClientError
from swift_client.sampling.congestion import CongestionWindow
from swift_client.validation import require_int, require_positive

if TYPE_CHECKING:
    from swift_client.sampling.shared.rate import SharedLimit
    from swift_client.shared_limits.homes import SharedHome

DEFAULT_MAX_CONCURRENCY = 16  # default of concurrent requests
# Seconds between two checks of a loop with waiters: the timer that should wake them may belong to a closed loop.
_MAX_SLEEP = 1.0
_MIN_SLEEP = 0.001
_OVERLOAD_STATUSES = (503, 529)  # statuses that mean "too many at once", besides 429

_Waiter = asyncio.Future[None]


class LimiterState(NamedTuple):
    """The state of a RateLimiter at one moment."""

    n_active: int  # requests that hold a slot
    n_waiting: int  # requests that wait for one
    n_allowed: int  # requests that may run at once now, fewer after refusals
    size: int  # its limit
    wait_seconds: float  # seconds until the next request may start; 0 if it only waits for another to end


class RateLimiter:
    """A limit of ``size`` concurrent requests, fewer after refusals, for any number of event loops and threads.

    Questions take turns, and the calls of one question go first come, first served: many calls of one question do not
    delay a single call of another. ``asyncio.Semaphore`` belongs to one loop; a reranker may serve several at a time.

    Args:
        size: maximum of concurrent requests.
        requests_per_minute: limit, or None.
        tokens_per_minute: limit, or None; a request counts as the mean of recent replies.
        clock: gives seconds; the same for everyone who uses this limiter.
        shared: the limits of all processes that share an account, instead of the two above; None if none do.
    """

    def __init__(
        self,
        size: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedLimit | None = None,
    ) -> None:
        self.now = clock
        self._window = CongestionWindow(
            size, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute, now=clock()
        )
        self._waiters: dict[int, deque[_Waiter]] = {}
        self._wakes_at = -math.inf
        # Number of waiters of each loop that checks for them once per _MAX_SLEEP.
        self._checking_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._shared = None
        if shared is not None:
            from swift_client.sampling.shared.rate import LimiterParts, SharedRate

            parts = LimiterParts(self._window, self._lock, clock, self._count_waiters, self._wake_waiters)
            self._shared = SharedRate(shared, parts)

    @property
    def note(self) -> str | None:
        """A sentence for the user while the account of a shared limit cannot be reached."""
        return None if self._shared is None else self._shared.note

    @property
    def n_active(self) -> int:
        """Number of requests that hold a slot."""
        return self._window.n_active

    def state(self) -> LimiterState:
        """Return what it allows now, and how many requests wait."""
        with self._lock:
            window = self._window
            wait = window.wait_seconds(self.now())
            return LimiterState(
                n_active=window.n_active,
                n_waiting=self._count_waiters(),
                n_allowed=int(window.window_size),
                size=window.size,
                wait_seconds=wait if wait < math.inf else 0.0,
            )

    async def acquire(self, owner: object = None) -> None:
        """Wait for a slot and take it; ``owner`` identifies the question."""
        with self._lock:
            if not self._waiters and self._window.wait_seconds(self.now()) <= 0:
                self._window.start()
                return
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self._waiters.setdefault(id(owner), deque()).append(waiter)
            # One timer per loop, not per waiter: thousands may wait.
            if loop not in self._checking_loops:
                loop.call_later(_MAX_SLEEP, self._check_waiters, loop)
            self._checking_loops[loop] = self._checking_loops.get(loop, 0) + 1
        try:
            self._wake_waiters()
            await asyncio.wait([waiter])
        except asyncio.CancelledError:
            with self._lock:
                was_waiting = self._remove_waiter(id(owner), waiter)
            if not was_waiting and waiter.done():
                self.release()
            waiter.cancel()  # a slot handed over at this very moment comes back through _grant
            raise
        finally:
            with self._lock:
                self._checking_loops[loop] -= 1

    def release(self) -> None:
        """Give a slot back, and wake the next waiter."""
        with self._lock:
            self._window.end()
        self._wake_waiters()

    def on_success(self, *, started_at: float) -> str | None:
        """Record the answer to a request; return a sentence if the limit has changed."""
        with self._lock:
            change = self._window.on_success(started_at=started_at)
            return change if change or self._shared is None else self._shared.pop_sentence()

    def on_error(self, error: SwiftClientError, *, started_at: float) -> str | None:
        """Record a failed request; return a sentence if the limit has changed."""
        with self._lock:
            if error.retryable and (isinstance(error, RateLimitError) or error.status in _OVERLOAD_STATUSES):
                retry_after = getattr(error, "retry_after", None)
                change = self._window.on_throttle(self.now(), started_at=started_at, retry_after=retry_after)
                if change and self._shared:
                    self._shared.on_refusal(started_at=started_at, retry_after=retry_after)
                return change
            if error.status and error.status < 500:  # the provider was not too busy to answer
                return self._window.on_success(started_at=started_at)
            return None if self._shared is None else self._shared.pop_sentence()

    def on_usage(self, tokens: int) -> None:
        """Record the tokens of a reply."""
        with self._lock:
            self._window.on_usage(tokens)

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Record the remaining quota from a reply's headers."""
        quota = parse_rate_limit_headers(headers)
        if any(quota):
            with self._lock:
                self._window.on_headers(quota, self.now())

    def _count_waiters(self) -> int:
        return sum(map(len, self._waiters.values()))

    def _wake_waiters(self) -> None:
        """Start every waiter that may start, and schedule a wake-up for the next one."""
        with self._lock:
            now = self.now()
            while self._waiters:
                wait = self._window.wait_seconds(now)
                if wait > 0:
                    self._schedule_wake(now, max(wait, _MIN_SLEEP))
                    return
                waiter = self._pop_waiter()
                self._window.start()
                try:
                    waiter.get_loop().call_soon_threadsafe(self._grant, waiter)
                except RuntimeError:  # that loop was closed while its task waited
                    self._window.end()

    def _check_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake waiters, and check again later as long as tasks of this loop wait."""
        with self._lock:
            if not self._checking_loops.get(loop):
                self._checking_loops.pop(loop, None)
                return
        self._wake_waiters()
        loop.call_later(_MAX_SLEEP, self._check_waiters, loop)

    def _schedule_wake(self, now: float, wait: float) -> None:
        """Wake the waiters after ``wait`` seconds by a timer of this loop, unless an earlier timer is set."""
        if wait < _MAX_SLEEP and not now < self._wakes_at <= now + wait:
            # No loop runs where an abandoned coroutine is cleaned up, or in the thread of a shared limit, whose waiters
            # have new leases or none: _check_waiters follows.
            with suppress(RuntimeError):
                asyncio.get_running_loop().call_later(wait, self._wake_waiters)
                self._wakes_at = now + wait

    def _pop_waiter(self) -> _Waiter:
        """Return the first call of the question at the front, and move that question to the back."""
        owner = next(iter(self._waiters))
        waiters = self._waiters.pop(owner)
        waiter = waiters.popleft()
        if waiters:
            self._waiters[owner] = waiters
        return waiter

    def _remove_waiter(self, owner: int, waiter: _Waiter) -> bool:
        waiters = self._waiters.get(owner, deque())
        if waiter not in waiters:
            return False
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[owner]
        return True

    def _grant(self, waiter: _Waiter) -> None:
        if waiter.done():
            self.release()
        else:
            waiter.set_result(None)


class RateLimit:
    """A limit that several rerankers with one API key share: pass ``limit=shared`` to each of them.

    Args:
        max_concurrency: maximum of concurrent requests, and so of HTTP connections.
        requests_per_minute: limit, or None.
        tokens_per_minute: limit on prompt and completion tokens together, or None; a request counts as the mean of
            recent replies.
        clock: gives seconds, for simulations.
        shared: the place by which processes share the two rates and learn of each other's refusals: the path of a
            samples file for the processes of one machine, the address of a Redis server for those of several hosts
            (``redis://host/0``, extra "redis"), or an object with the method ``lease()`` of
            ``shared_limits.LeaseSource``. ``max_concurrency`` stays this process's own. A place that cannot be reached
            leaves each process its share, and the notes say so.
        name: name of the limit in that place.

    Raises:
        ConfigurationError: a number is not above 0, or ``shared`` cannot be such a place.
    """

    def __init__(
        self,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        shared: SharedHome | None = None,
        name: str = "default",
    ) -> None:
        require_int("max_concurrency", max_concurrency, low=1)
        rates = {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        for key, value in rates.items():
            if value is not None:
                require_positive(key, value, unit="per minute")
        self.max_concurrency = max_concurrency
        self.requests_per_minute, self.tokens_per_minute = requests_per_minute, tokens_per_minute
        self._shared_name = None if shared is None else name
        self._create_limiter = partial(RateLimiter, max_concurrency, clock=clock)
        if shared is None:
            self._create_limiter = partial(self._create_limiter, **rates)
        else:
            from swift_client.sampling.shared.rate import open_shared_limit

            self._create_limiter = partial(self._create_limiter, shared=open_shared_limit(shared, name, **rates))
        self._limiters: dict[int, RateLimiter] = {}

    def for_this_process(self) -> RateLimiter:
        """Return this process's limiter; a forked child starts with a new one."""
        process = os.getpid()
        if process not in self._limiters:
            self._limiters.setdefault(process, self._create_limiter())
        return self._limiters[process]

    def __repr__(self) -> str:
        rates = {"requests_per_minute": self.requests_per_minute, "tokens_per_minute": self.tokens_per_minute}
        limits = [f"{name}={value:g}" for name, value in rates.items() if value is not None]
        if self._shared_name is not None:
            limits.append(f"shared as {self._shared_name!r}")
        return f"RateLimit({', '.join([str(self.max_concurrency), *limits])})"


def resolve_rate_limit(limit: object, max_concurrency: int, *, name: str = "max_concurrency") -> RateLimit:
    """Return ``limit``, or a new one of ``max_concurrency``, whose argument has a ``name``.

    Raises:
        ConfigurationError: ``limit`` is not a RateLimit, or contradicts ``max_concurrency``.
    """
    if limit is None:
        return RateLimit(max_concurrency)
    if not isinstance(limit, RateLimit):
        raise ConfigurationError(f"limit= takes a RateLimit, not {type(limit).__name__}.")
    if max_concurrency not in (DEFAULT_MAX_CONCURRENCY, limit.max_concurrency):
        raise ConfigurationError(
            f"{name}={max_concurrency} and limit={limit!r} both say how many requests may run at once.",
            hint="Pass this number to the RateLimit only.",
        )
    return limit
