"""The congestion window: how many requests may run at once, and when the next may start. Pure arithmetic.

Additive increase, multiplicative decrease (Chiu and Jain 1989; TCP's rule): every answer widens the window a little;
a burst of refusals halves it once. It never falls below one request, so sampling never freezes.
"""

from __future__ import annotations

import math

from swift_client.adapters.transport.rate_limit_headers import LimitStatus, RateLimitStatus

# Longest wait in seconds, asked for by one refusal, that holds back all requests; longer ones fail
# their own call.
LONGEST_PAUSE = 120.0
_QUOTA_LIFETIME = 60.0  # seconds for which the remaining quota from a header is trusted
_BURST_SHARE = 1 / 6  # share of a minute's requests or tokens that may go at once
_NEWEST_WEIGHT = 0.2  # weight of the newest reply in the mean number of tokens


class Bucket:
    """A token bucket: refills at a rate up to a capacity; it may be overdrawn.

    Args:
        rate: units per second, above 0.
        capacity: units that may be taken at once.
        level: units in it now.
        now: time in seconds.
    """

    def __init__(self, rate: float, *, capacity: float, level: float, now: float) -> None:
        self._rate, self._capacity, self._level, self._updated_at = rate, capacity, level, now

    def wait_seconds(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` can be taken, or a full bucket if that is less."""
        self._level = min(self._capacity, self._level + max(0.0, now - self._updated_at) * self._rate)
        self._updated_at = max(now, self._updated_at)
        return max(0.0, min(amount, self._capacity) - self._level) / self._rate

    def take(self, amount: float) -> None:
        """Take ``amount`` out of the bucket."""
        self._level -= amount


class CongestionWindow:
    """The window and the waits of one provider and API key. Times are seconds of any one clock.

    Args:
        size: maximum of concurrent requests.
        requests_per_minute: the plan's limit, or None; ten seconds' worth may go at once.
        tokens_per_minute: likewise, for prompt and completion tokens together.
        now: time in seconds.
    """

    def __init__(
        self, size: int, *, requests_per_minute: float | None, tokens_per_minute: float | None, now: float
    ) -> None:
        self.size = size
        self.n_active = 0  # running requests
        self.window_size = float(size)  # concurrent requests allowed, rounded down
        self.paused_until = -math.inf  # no request may start before
        self._cut_at = -math.inf
        self._is_probing = False
        self.request_bucket = _plan_bucket(requests_per_minute, now)
        self.token_bucket = _plan_bucket(tokens_per_minute, now)
        self.mean_tokens = 0.0  # tokens of recent requests
        self._request_quota: Bucket | None = None
        self._token_quota: Bucket | None = None
        self._quota_expires_at = -math.inf

    def wait_seconds(self, now: float) -> float:
        """Return the seconds until another request may start; infinite if one must end first."""
        if self.n_active >= (1 if self._is_probing else int(self.window_size)):
            return math.inf
        if now >= self._quota_expires_at:
            self._request_quota = self._token_quota = None
        waits = [0.0, self.paused_until - now]
        if self.request_bucket:
            waits.append(self.request_bucket.wait_seconds(1, now))
        if self.token_bucket:  # running requests have not been charged yet
            waits.append(self.token_bucket.wait_seconds(self.mean_tokens * (self.n_active + 1), now))
        if self._request_quota:
            waits.append(min(self._request_quota.wait_seconds(1, now), self._quota_expires_at - now))
        if self._token_quota:
            waits.append(min(self._token_quota.wait_seconds(self.mean_tokens, now), self._quota_expires_at - now))
        return max(waits)

    def start(self) -> None:
        """Count a request as running."""
        self.n_active += 1
        for bucket, amount in (
            (self.request_bucket, 1.0),
            (self._request_quota, 1.0),
            (self._token_quota, self.mean_tokens),
        ):
            if bucket:
                bucket.take(amount)

    def end(self) -> None:
        """Count a request as ended."""
        self.n_active -= 1

    def on_usage(self, tokens: int) -> None:
        """Record the tokens of a reply."""
        self.mean_tokens = (
            tokens if not self.mean_tokens else (1 - _NEWEST_WEIGHT) * self.mean_tokens + _NEWEST_WEIGHT * tokens
        )
        if self.token_bucket:
            self.token_bucket.take(tokens)

    def on_success(self, *, started_at: float) -> str | None:
        """Widen the window by one per window of answers; return a sentence once it is full again."""
        if started_at < self.paused_until:  # sent before the provider asked to wait, so it says nothing about now
            return None
        self._is_probing = False
        old_size = self.window_size
        self.window_size = min(float(self.size), old_size + 1 / old_size)
        return f"all {self.size} requests may run at once again" if old_size < self.window_size == self.size else None

    def on_throttle(self, now: float, *, started_at: float, retry_after: float | None) -> str | None:
        """Halve the window, and wait as long as the provider asks; return a sentence if that changes anything.

        Requests that had started before the last cut belong to its burst and do not cut again.
        """
        changes = []
        if started_at >= self._cut_at:
            self._cut_at, self.window_size = now, max(1.0, self.window_size / 2)
            changes.append(f"at most {int(self.window_size)} at once from now on")
        if retry_after and retry_after <= LONGEST_PAUSE and now + retry_after > self.paused_until:
            self.paused_until, self._is_probing = now + retry_after, True
            changes.append(f"none for {retry_after:.2f} s, and then one to try")
        return f"requests: {'; '.join(changes)}" if changes else None

    def on_headers(self, quota: RateLimitStatus, now: float) -> None:
        """Trust the remaining quota of a reply for a while; other running requests may not be counted in it yet."""
        n_others = max(0, self.n_active - 1)
        self._request_quota = _quota_bucket(quota.requests, n_others, now)
        self._token_quota = _quota_bucket(quota.tokens, n_others * self.mean_tokens, now)
        resets = [entry.reset_seconds for entry in quota if entry]
        self._quota_expires_at = now + min(max(resets, default=0.0), _QUOTA_LIFETIME)


def burst_capacity(per_minute: float) -> float:
    """Return the units of a limit that may be taken at once."""
    return max(1.0, per_minute * _BURST_SHARE)


def _plan_bucket(per_minute: float | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    capacity = burst_capacity(per_minute)
    return Bucket(per_minute / 60, capacity=capacity, level=capacity, now=now)


def _quota_bucket(quota_entry: LimitStatus | None, in_flight_amount: float, now: float) -> Bucket | None:
    """Return a bucket that refills to the quota's limit by its reset; without a known limit, by one unit."""
    if quota_entry is None or not 0 < quota_entry.reset_seconds < math.inf:
        return None
    capacity = max(quota_entry.limit or 0, quota_entry.remaining + 1)
    rate = (capacity - quota_entry.remaining) / quota_entry.reset_seconds
    # Gateways write "unlimited" as 2^63-1, where adding one changes nothing.
    if not 0 < rate < math.inf:
        return None
    return Bucket(
        rate,
        capacity=capacity,
        level=max(0.0, quota_entry.remaining - in_flight_amount),
        now=now,
    )
