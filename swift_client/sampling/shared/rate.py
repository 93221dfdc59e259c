"""The membership of a rate limiter in an account, whose leases fill its buckets."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from swift_client.sampling.congestion import CongestionWindow
from swift_client.sampling.shared.leased_bucket import LeasedBucket, UnlimitedBucket
from swift_client.shared_limits.account import LEASE_SECONDS
from swift_client.shared_limits.backend import LeaseSource
from swift_client.shared_limits.homes import SharedHome, require_name, resolve_home
from swift_client.shared_limits.member import NO_THREAD, AccountMember, Report
from swift_client.shared_limits.messages import Lease, Refusal

# Seconds without a message after which a request that starts asks for news: the refusals of other processes.
_NEWS_SECONDS = 0.5
_SAME_PAUSE = 0.2  # seconds by which two ends of one pause may differ
_MIN_ELAPSED = 0.01  # seconds over which the rate of requests is measured at least


class SharedLimit(NamedTuple):
    """The limits of all processes together, and the account that has them."""

    name: str
    open_home: Callable[[], LeaseSource]
    requests_per_minute: float | None
    tokens_per_minute: float | None


def open_shared_limit(
    shared: SharedHome, name: str, *, requests_per_minute: float | None, tokens_per_minute: float | None
) -> SharedLimit:
    """Return the limit that processes share by ``shared``.

    Raises:
        ConfigurationError: ``shared`` cannot be a home, or the name is not printable.
    """
    require_name(name)
    return SharedLimit(name, resolve_home(shared), requests_per_minute, tokens_per_minute)


class LimiterParts(NamedTuple):
    """The parts of a rate limiter that its leases change."""

    window: CongestionWindow
    lock: threading.Lock  # of the window
    clock: Callable[[], float]
    count_waiters: Callable[[], int]  # needs the lock
    wake: Callable[[], None]  # starts the requests that may start now


class SharedRate:
    """The membership of one rate limiter; a ``member.LeaseClient``.

    Args:
        limit: the limit.
        limiter: the parts of the limiter; its window gets the buckets.
    """

    def __init__(self, limit: SharedLimit, limiter: LimiterParts) -> None:
        self.note: str | None = None  # for the user, while the account cannot be reached
        self._limit, self._limiter, window = limit, limiter, limiter.window
        self._member = AccountMember(f"rate/{limit.name}", limit.open_home, self)
        self._buckets: dict[str, LeasedBucket] = {}
        if limit.tokens_per_minute:
            self._buckets["tokens"] = window.token_bucket = LeasedBucket(
                limit.tokens_per_minute,
                request_size=lambda: window.mean_tokens,
                on_need=self._ask,
                on_take=lambda: None,
            )
        if limit.requests_per_minute:
            self._buckets["requests"] = window.request_bucket = LeasedBucket(
                limit.requests_per_minute, request_size=lambda: 1.0, on_need=self._ask, on_take=self._on_start
            )
        else:
            window.request_bucket = UnlimitedBucket(self._on_start)
        self._low_levels: dict[str, float] = {}
        self._n_members = 1
        self._n_started, self._reported_at = 0, limiter.clock()
        self._sentence: str | None = None
        # Start of the newest refused request that is not reported, and end of the pause that the provider wants.
        self._refused: tuple[float, float] | None = None
        self._reported_refusal: tuple[float, float] | None = None

    def on_refusal(self, *, started_at: float, retry_after: float | None) -> None:
        """Tell the other processes of a refusal; needs the limiter's lock."""
        self._refused = started_at, self._limiter.clock() + (retry_after or 0.0)
        self._ask(is_urgent=True)

    def pop_sentence(self) -> str | None:
        """Return a sentence if something has changed since the last one; needs the limiter's lock."""
        sentence, self._sentence = self._sentence, None
        return sentence

    def _on_start(self) -> None:
        """Ask for a lease before the last one is used up; needs the limiter's lock."""
        self._n_started += 1
        is_low = any(self._free(name) < self._low_levels.get(name, 0.0) for name in self._buckets)
        if is_low or self.note or self._member.seconds_since_message() > _NEWS_SECONDS:
            self._ask()

    def _ask(self, *, is_urgent: bool = False) -> None:
        """Send a message soon; needs the limiter's lock."""
        if not self._member.ask(is_urgent=is_urgent):
            self._use_own_share(NO_THREAD)

    def _in_flight(self, name: str) -> float:
        """Return the units that running requests will take: their tokens are counted at their end."""
        window = self._limiter.window
        return window.n_active * window.mean_tokens if name == "tokens" else 0.0

    def _free(self, name: str) -> float:
        return self._buckets[name].balance - self._in_flight(name)

    # --- in the thread of the member

    def report(self, *, gives_back: bool, leaves: bool) -> Report:
        """Return the demands of the requests that may start within a fraction of a second."""
        with self._limiter.lock:
            now, window = self._limiter.clock(), self._limiter.window
            rate = self._n_started / max(_MIN_ELAPSED, now - self._reported_at)
            self._n_started, self._reported_at = 0, now
            n_startable = min(self._limiter.count_waiters(), int(window.window_size) - window.n_active)
            n_requests = max(n_startable, math.ceil(rate * LEASE_SECONDS))
            demands = {
                name: bucket.demand(n_requests, in_flight=self._in_flight(name), gives_back=gives_back)
                for name, bucket in self._buckets.items()
            }
            refusal, self._reported_refusal = None, self._refused
            if self._refused:
                started_at, paused_until = self._refused
                refusal = Refusal(age=max(0.0, now - started_at), pause=max(0.0, paused_until - now))
            return Report(demands, refusal)

    def accept(self, lease: Lease) -> None:
        """Use the lease, and slow down if another process was refused."""
        with self._limiter.lock:
            for name, bucket in self._buckets.items():
                bucket.use_lease(lease.total_granted.get(name, bucket.total_granted))
                self._low_levels[name] = self._free(name) / 2
            self._n_members = max(1, lease.n_members)
            if self._refused is self._reported_refusal:
                self._refused = None
            if lease.refusal:
                self._slow_down(lease.refusal)
            if self.note:
                self.note, self._sentence = None, f"the shared limit {self._limit.name!r} is reached again"

    def lose(self, reason: str) -> None:
        """Go on with this process's share of the limit."""
        with self._limiter.lock:
            self._use_own_share(reason)

    def wake(self) -> None:
        """Start the requests that may start now."""
        self._limiter.wake()

    def _use_own_share(self, reason: str) -> None:
        now = self._limiter.clock()
        for bucket in self._buckets.values():
            bucket.use_own_share(self._n_members, now)
        shares = [
            f"{per_minute / self._n_members:,.6g} {name} per minute"
            for name, per_minute in (
                ("requests", self._limit.requests_per_minute),
                ("tokens", self._limit.tokens_per_minute),
            )
            if per_minute
        ]
        share = f"at most {' and '.join(shares)}" if shares else "no news of refusals"
        if self.note is None:
            self._sentence = f"the shared limit {self._limit.name!r} cannot be reached; {share} from now on"
        self.note = (
            f"The shared limit {self._limit.name!r} could not be reached ({reason.rstrip('.')}); "
            f"this process went on with {share}."
        )

    def _slow_down(self, refusal: Refusal) -> None:
        """Treat a refusal of any process as one of this process's own, once."""
        now, window = self._limiter.clock(), self._limiter.window
        is_new_pause = now + refusal.pause > window.paused_until + _SAME_PAUSE
        change = window.on_throttle(
            now, started_at=now - refusal.age, retry_after=refusal.pause if is_new_pause else None
        )
        if change:
            self._sentence = f"a process that shares the limit {self._limit.name!r} was refused; {change}"
