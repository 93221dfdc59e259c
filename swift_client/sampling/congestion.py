"""How many requests may run at once, and when the next may start: all that a provider's answers teach. Pure numbers.

Additive increase, multiplicative decrease (Chiu and Jain 1989; TCP's rule): every answer widens the window a little,
a refusal halves it, once for a burst of them. It never falls below one, so that it never freezes.
"""

from __future__ import annotations

import math

from swift_client.adapters.transport.rate_limit_headers import Left, Quota

LONGEST_PAUSE = 120.0
"""Seconds that all requests wait where one was told to; who is told to wait longer fails by itself, and alone."""
_LONGEST_BELIEF = 60.0
"""Seconds that a header's count of what is left is believed."""
_BURST = 1 / 6
"""Share of a minute's requests or tokens that may go at once."""
_NEWEST = 0.2
"""Weight of the newest reply in the mean number of tokens."""


class Bucket:
    """Units that flow back at a rate, ``most`` of them at the most; it may be overdrawn, and is then waited for.

    Args:
        rate: units a second, above 0.
        most: units that may go at once.
        level: units that are there.
        now: the time.
    """

    def __init__(self, rate: float, *, most: float, level: float, now: float) -> None:
        self._rate, self._most, self._level, self._at = rate, most, level, now

    def wait(self, amount: float, now: float) -> float:
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
        requests_per_minute: the plan's own limit, if it is to be kept; ten seconds' worth may go at once.
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
        self._requests = _plan(requests_per_minute, now)
        self._tokens = _plan(tokens_per_minute, now)
        self._mean = 0.0
        self._heard_requests: Bucket | None = None
        self._heard_tokens: Bucket | None = None
        self._heard_until = -math.inf

    def wait(self, now: float) -> float:
        """Return the seconds until a further request may start; infinite where one has to end first."""
        if self.busy >= (1 if self._probing else int(self.allowed)):
            return math.inf
        if now >= self._heard_until:
            self._heard_requests = self._heard_tokens = None
        waits = [0.0, self._paused_until - now]
        if self._requests:
            waits.append(self._requests.wait(1, now))
        if self._tokens:  # those under way will take theirs too
            waits.append(self._tokens.wait(self._mean * (self.busy + 1), now))
        if self._heard_requests:
            waits.append(min(self._heard_requests.wait(1, now), self._heard_until - now))
        if self._heard_tokens:
            waits.append(min(self._heard_tokens.wait(self._mean, now), self._heard_until - now))
        return max(waits)

    def start(self) -> None:
        """Count a request as under way."""
        self.busy += 1
        for bucket, amount in (
            (self._requests, 1.0),
            (self._heard_requests, 1.0),
            (self._heard_tokens, self._mean),
        ):
            if bucket:
                bucket.take(amount)

    def end(self) -> None:
        """Count it as ended."""
        self.busy -= 1

    def spent(self, tokens: int) -> None:
        """Take note of what a reply cost."""
        self._mean = tokens if not self._mean else (1 - _NEWEST) * self._mean + _NEWEST * tokens
        if self._tokens:
            self._tokens.take(tokens)

    def answered(self, *, started: float) -> str | None:
        """Widen the window by one for each window of answers; say so where it is whole again."""
        if started < self._paused_until:  # it went out before the provider said wait: it says nothing of what is now
            return None
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
            said.append(f"at most {int(self.allowed)} at once from now on")
        if retry_after and retry_after <= LONGEST_PAUSE and now + retry_after > self._paused_until:
            self._paused_until, self._probing = now + retry_after, True
            said.append(f"none for {retry_after:.2f} s, and then one to try")
        return f"requests: {'; '.join(said)}" if said else None

    def heard(self, quota: Quota, now: float) -> None:
        """Believe what a reply says is left, for a while; others under way may not be counted there yet."""
        others = max(0, self.busy - 1)
        self._heard_requests = _told(quota.requests, others, now)
        self._heard_tokens = _told(quota.tokens, others * self._mean, now)
        said = [left.reset for left in quota if left]
        self._heard_until = now + min(max(said, default=0.0), _LONGEST_BELIEF)


def _plan(per_minute: float | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    most = max(1.0, per_minute * _BURST)
    return Bucket(per_minute / 60, most=most, level=most, now=now)


def _told(left: Left | None, under_way: float, now: float) -> Bucket | None:
    """Return what flows back so that the limit is whole at its reset; where it is unknown, at the reset at once."""
    if left is None or left.reset <= 0:
        return None
    most = left.amount + 1 if left.most is None else max(left.most, left.amount + 1)
    return Bucket((most - left.amount) / left.reset, most=most, level=max(0.0, left.amount - under_way), now=now)
