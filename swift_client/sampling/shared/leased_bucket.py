"""Token buckets of a limit that processes share: leases fill them."""

from __future__ import annotations

import math
from collections.abc import Callable

from swift_client.sampling.congestion import Bucket, burst_capacity
from swift_client.shared_limits.messages import Demand

_ROUNDING = 1e-6


class LeasedBucket(Bucket):
    """A bucket that leases fill, or this process's own share without the account.

    Args:
        per_minute: the limit of all processes together.
        request_size: returns the units that one request takes.
        on_need: called when a lease is needed.
        on_take: called each time that units were taken.
    """

    def __init__(
        self,
        per_minute: float,
        *,
        request_size: Callable[[], float],
        on_need: Callable[[], None],
        on_take: Callable[[], None],
    ) -> None:
        self.per_minute, self.capacity = per_minute, burst_capacity(per_minute)
        self.total_granted = self.total_used = self.total_returned = 0.0
        self._request_size, self._on_need, self._on_take = request_size, on_need, on_take
        self._own_share: Bucket | None = None
        self._countable = 0.0  # units of its own share that still count as used

    @property
    def balance(self) -> float:
        """Units that may be taken."""
        return self.total_granted - self.total_used - self.total_returned

    def wait_seconds(self, amount: float, now: float) -> float:
        """Return 0 if ``amount`` can be taken; infinite if a lease must arrive first."""
        if self._own_share:
            self._on_need()
            return self._own_share.wait_seconds(amount, now)
        # A request that is larger than the bucket waits for a full one.
        if self.balance >= amount - max(0.0, self._request_size() - self.capacity) - _ROUNDING:
            return 0.0
        self._on_need()
        return self._own_share.wait_seconds(amount, now) if self._own_share else math.inf

    def take(self, amount: float) -> None:
        """Take ``amount`` out of the bucket."""
        if self._own_share:
            self._own_share.take(amount)
            amount = min(amount, max(0.0, self._countable))
            self._countable -= amount
        self.total_used += amount
        self._on_take()

    def demand(self, n_requests: int, *, in_flight: float, gives_back: bool) -> Demand:
        """Return this process's demand.

        Args:
            n_requests: requests that it wants to start soon.
            in_flight: units that running requests will take.
            gives_back: return what is not needed.
        """
        if gives_back and not self._own_share:  # which has what is left of the lease
            self.total_returned += max(0.0, self.balance - in_flight)
        quantum = min(max(1.0, self._request_size()), self.capacity)
        return Demand(
            capacity=self.capacity,
            rate=self.per_minute / 60,
            total_used=self.total_used + in_flight,
            total_returned=self.total_returned,
            target=0.0 if gives_back else n_requests * quantum,
            quantum=quantum,
        )

    def use_lease(self, total_granted: float) -> None:
        """Take units out of leases, of which there were ``total_granted`` so far."""
        self.total_granted, self._own_share = total_granted, None

    def use_own_share(self, n_members: int, now: float) -> None:
        """Refill at one member's share of the limit, beginning with the rest of the lease."""
        if self._own_share is None:
            level = max(0.0, self.balance)
            # The account counts it later, since others may have reached it meanwhile; but no more than this member's
            # part of a bucket: after a long time without its home, all would wait as long for what has flowed back.
            self._countable = level + self.capacity / n_members
            self._own_share = Bucket(
                self.per_minute / 60 / n_members,
                capacity=max(1.0, self.capacity / n_members, level),
                level=level,
                now=now,
            )


class UnlimitedBucket(Bucket):
    """A bucket that is never empty, and reports each request that starts."""

    def __init__(self, on_take: Callable[[], None]) -> None:
        self._on_take = on_take

    def wait_seconds(self, amount: float, now: float) -> float:
        """Return 0."""
        return 0.0

    def take(self, amount: float) -> None:
        """Report that a request starts."""
        self._on_take()
