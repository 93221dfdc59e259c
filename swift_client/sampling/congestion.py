"""How many requests may run at once, and when the next may start: all that a provider's answers teach. Pure numbers.

Additive increase, multiplicative decrease (Chiu and Jain 1989; TCP's rule): every answer widens the window a little,
a refusal halves it, once for a burst of them. It never falls below one, so that it never freezes.
"""

from __future__ import annotations

import math

from swift_client.adapters.transport.rate_limit_headers import LimitStatus, RateLimitStatus

LONGEST_PAUSE = 120.0
"""Seconds that all requests wait where one was told to; who is told to wait longer fails by itself, and alone."""
_QUOTA_LIFETIME = 60.0
"""Seconds that a header's count of what is left is believed."""
_BURST_SHARE = 1 / 6
"""Share of a minute's requests or tokens that may go at once."""
_NEWEST_WEIGHT = 0.2
"""Weight of the newest reply in the mean number of tokens."""


class Bucket:
    """Units that flow back at a rate, ``most`` of them at the most; it may be overdrawn, and is then waited for.

    Args:
        rate: units a second, above 0.
        most: units that may go at once.
        level: units that are there.
        now: the time.
    """

    def __init__(self, rate: float, *, capacity: float, level: float, now: float) -> None:
        self._rate, self._capacity, self._level, self._updated_at = rate, capacity, level, now

    def wait_seconds(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` is there, or all that the bucket holds."""
        self._level = min(self._capacity, self._level + max(0.0, now - self._updated_at) * self._rate)
        self._updated_at = max(now, self._updated_at)
        return max(0.0, min(amount, self._capacity) - self._level) / self._rate

    def take(self, amount: float) -> None:
        """Take ``amount`` out."""
        self._level -= amount


class CongestionWindow:
    """The window and the waits of one provider and key. Times are seconds of any one clock.

    Args:
        size: requests at once, at most.
        requests_per_minute: the plan's own limit, if it is to be kept; ten seconds' worth may go at once.
        tokens_per_minute: likewise, prompt and completion tokens together.
        now: the time.
    """

    def __init__(
        self, size: int, *, requests_per_minute: float | None, tokens_per_minute: float | None, now: float
    ) -> None:
        self.size = size
        self.n_active = 0
        """Requests under way."""
        self.window_size = float(size)
        """The window: as many whole requests may run at once."""
        self._cut_at = self._paused_until = -math.inf
        self._is_probing = False
        self._request_bucket = _plan_bucket(requests_per_minute, now)
        self._token_bucket = _plan_bucket(tokens_per_minute, now)
        self._mean_tokens = 0.0
        self._request_quota: Bucket | None = None
        self._token_quota: Bucket | None = None
        self._quota_expires_at = -math.inf

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until a further request may start; infinite where one has to end first."""
        if self.n_active >= (1 if self._is_probing else int(self.window_size)):
            return math.inf
        if now >= self._quota_expires_at:
            self._request_quota = self._token_quota = None
        waits = [0.0, self._paused_until - now]
        if self._request_bucket:
            waits.append(self._request_bucket.wait_seconds(1, now))
        if self._token_bucket:  # those under way will take theirs too
            waits.append(self._token_bucket.wait_seconds(self._mean_tokens * (self.n_active + 1), now))
        if self._request_quota:
            waits.append(min(self._request_quota.wait_seconds(1, now), self._quota_expires_at - now))
        if self._token_quota:
            waits.append(min(self._token_quota.wait_seconds(self._mean_tokens, now), self._quota_expires_at - now))
        return max(waits)

    def start(self) -> None:
        """Count a request as under way."""
        self.n_active += 1
        for bucket, amount in (
            (self._request_bucket, 1.0),
            (self._request_quota, 1.0),
            (self._token_quota, self._mean_tokens),
        ):
            if bucket:
                bucket.take(amount)

    def end(self) -> None:
        """Count it as ended."""
        self.n_active -= 1

    def on_usage(self, tokens: int) -> None:
        """Take note of what a reply cost."""
        self._mean_tokens = (
            tokens if not self._mean_tokens else (1 - _NEWEST_WEIGHT) * self._mean_tokens + _NEWEST_WEIGHT * tokens
        )
        if self._token_bucket:
            self._token_bucket.take(tokens)

    def on_success(self, *, started_at: float) -> str | None:
        """Widen the window by one for each window of answers; say so where it is whole again."""
        if started_at < self._paused_until:  # it went out before the provider said wait: it says nothing of what is now
            return None
        self._is_probing = False
        before = self.window_size
        self.window_size = min(float(self.size), before + 1 / before)
        return f"all {self.size} requests may run at once again" if before < self.window_size == self.size else None

    def on_throttle(self, now: float, *, started_at: float, retry_after: float | None) -> str | None:
        """Halve the window, and wait as long as the provider asks; say what is new about it.

        Requests that had started before the last cut belong to its burst and cut no further.
        """
        said = []
        if started_at >= self._cut_at:
            self._cut_at, self.window_size = now, max(1.0, self.window_size / 2)
            said.append(f"at most {int(self.window_size)} at once from now on")
        if retry_after and retry_after <= LONGEST_PAUSE and now + retry_after > self._paused_until:
            self._paused_until, self._is_probing = now + retry_after, True
            said.append(f"none for {retry_after:.2f} s, and then one to try")
        return f"requests: {'; '.join(said)}" if said else None

    def on_headers(self, quota: RateLimitStatus, now: float) -> None:
        """Believe what a reply says is left, for a while; others under way may not be counted there yet."""
        others = max(0, self.n_active - 1)
        self._request_quota = _quota_bucket(quota.requests, others, now)
        self._token_quota = _quota_bucket(quota.tokens, others * self._mean_tokens, now)
        said = [left.reset_seconds for left in quota if left]
        self._quota_expires_at = now + min(max(said, default=0.0), _QUOTA_LIFETIME)


def _plan_bucket(per_minute: float | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    most = max(1.0, per_minute * _BURST_SHARE)
    return Bucket(per_minute / 60, capacity=most, level=most, now=now)


def _quota_bucket(quota_entry: LimitStatus | None, in_flight_amount: float, now: float) -> Bucket | None:
    """Return what flows back so that the limit is whole at its reset; where it is unknown, at the reset at once."""
    if quota_entry is None or quota_entry.reset_seconds <= 0:
        return None
    most = quota_entry.remaining + 1 if quota_entry.limit is None else max(quota_entry.limit, quota_entry.remaining + 1)
    return Bucket(
        (most - quota_entry.remaining) / quota_entry.reset_seconds,
        capacity=most,
        level=max(0.0, quota_entry.remaining - in_flight_amount),
        now=now,
    )
