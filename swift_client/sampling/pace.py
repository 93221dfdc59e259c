"""How many requests may run at once, and when the next may start: all that a provider's answers teach. Pure numbers.

Additive increase, multiplicative decrease (Chiu and Jain 1989; TCP's rule): every answer widens the window a little,
a refusal halves it, once for a burst of them. It never falls below one, so that it never freezes.
"""

from __future__ import annotations

import math

from swift_client.adapters.quota import Quota

LONGEST_PAUSE = 120.0
"""Seconds that all requests wait where one was told to; who is told to wait longer fails by itself, and alone."""
_LONGEST_RESET = 60.0
"""Seconds that a header's count of what remains is believed."""
_BURST = 1 / 6
"""Share of a minute's requests or tokens that may go at once."""
_NEWEST = 0.2
"""Weight of the newest reply in the mean number of tokens."""


class Bucket:
    """So many units a minute, ten seconds' worth at once; it may be overdrawn, and is then waited for."""

    def __init__(self, per_minute: float, now: float) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, per_minute * _BURST)
        self._level, self._at = self._most, now

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until ``amount`` is there, or all that the bucket holds."""
        self._level = min(self._most, self._level + max(0.0, now - self._at) * self._rate)
        self._at = max(now, self._at)
        return max(0.0, min(amount, self._most) - self._level) / self._rate

    def take(self, amount: float) -> None:
        """Take ``amount`` out."""
        self._level -= amount


class Pace:
    """The window and the waits of one provider and key. Times are seconds of any one clock.

    Args:
        size: requests at once, at most.
        requests_per_minute: the plan's own limit, if it is to be kept.
        tokens_per_minute: likewise, prompt and completion tokens together.
        now: the time.
    """

    def __init__(
        self, size: int, *, requests_per_minute: float | None, tokens_per_minute: float | None, now: float
    ) -> None:
        self.size = size
        self.busy = 0
        """Requests under way."""
        self.allowed = float(size)
        """The window: as many whole requests may run at once."""
        self._cut_at = self._paused_until = -math.inf
        self._probing = False
        self._quota, self._quota_until = math.inf, -math.inf
        self._requests = Bucket(requests_per_minute, now) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, now) if tokens_per_minute else None
        self._mean = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until a further request may start; infinite where one has to end first."""
        if self.busy >= (1 if self._probing else int(self.allowed)):
            return math.inf
        if now >= self._quota_until:
            self._quota = math.inf
        waits = [0.0, self._paused_until - now]
        if self._quota < 1:
            waits.append(self._quota_until - now)
        if self._requests:
            waits.append(self._requests.wait(now, 1))
        if self._tokens:  # those under way will take theirs too
            waits.append(self._tokens.wait(now, self._mean * (self.busy + 1)))
        return max(waits)

    def start(self) -> None:
        """Count a request as under way."""
        self.busy += 1
        self._quota -= 1
        if self._requests:
            self._requests.take(1)

    def end(self) -> None:
        """Count it as ended."""
        self.busy -= 1

    def spent(self, tokens: int) -> None:
        """Take note of what a reply cost."""
        self._mean = tokens if not self._mean else (1 - _NEWEST) * self._mean + _NEWEST * tokens
        if self._tokens:
            self._tokens.take(tokens)

    def answered(self) -> str | None:
        """Widen the window by one for each window of answers; say so where it is whole again."""
        self._probing = False
        before = self.allowed
        self.allowed = min(float(self.size), before + 1 / before)
        return f"all {self.size} requests may run at once again" if before < self.allowed == self.size else None

    def refused(self, now: float, *, started: float, retry_after: float | None) -> str | None:
        """Halve the window, and wait as long as the provider asks; say what is new about it.

        Requests that had started before the last cut belong to its burst and cut no further.
        """
        said = []
        if started >= self._cut_at:
            self._cut_at, self.allowed = now, max(1.0, self.allowed / 2)
            said.append(f"{int(self.allowed)} requests at once from now on")
        if retry_after is not None and retry_after <= LONGEST_PAUSE and now + retry_after > self._paused_until:
            self._paused_until, self._probing = now + retry_after, True
            said.append(f"none for {retry_after:.2f} s, and then one to try")
        return "; ".join(said) or None

    def heard(self, quota: Quota, now: float) -> None:
        """Believe what a reply says is left until its reset; requests under way are not counted there yet."""
        left, until = math.inf, now
        if quota.requests is not None:
            left, until = quota.requests, now + min(quota.requests_reset, _LONGEST_RESET)
        if quota.tokens is not None and self._mean and (most := quota.tokens / self._mean) < left:
            left, until = most, now + min(quota.tokens_reset, _LONGEST_RESET)
        self._quota, self._quota_until = left - max(0, self.busy - 1), until
