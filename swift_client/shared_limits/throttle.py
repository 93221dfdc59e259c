"""Refusals of a provider, which an account passes on to all members."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec.structs import replace

from swift_client.shared_limits.messages import Refusal

_REFUSAL_SECONDS = 10.0  # seconds for which members are told of a refusal
_MAX_PAUSE = 120.0  # seconds; a longer one fails its own call alone (``congestion.LONGEST_PAUSE``)
_LONG_AGO = -1e12

Time = Annotated[float, msgspec.Meta(ge=_LONG_AGO, le=1e12)]


class Throttle(msgspec.Struct, frozen=True):
    """The newest refusals. Times are Unix seconds of the account's home."""

    began_at: Time = _LONG_AGO  # start of the request whose refusal was counted
    counted_at: Time = _LONG_AGO
    paused_until: Time = _LONG_AGO

    def advance(self, refusal: Refusal | None, now: float) -> Throttle:
        """Count a refusal, unless it belongs to the burst of the last one.

        Its request had been sent before that one was counted, then. Times in the future, which were stored before the
        clock jumped back, become now.
        """
        throttle = Throttle(
            began_at=min(self.began_at, now),
            counted_at=min(self.counted_at, now),
            paused_until=min(self.paused_until, now + _MAX_PAUSE),
        )
        if refusal is None:
            return throttle
        began_at = now - max(0.0, refusal.age)
        if began_at >= throttle.counted_at:
            throttle = replace(throttle, began_at=began_at, counted_at=now)
        if 0 < refusal.pause <= _MAX_PAUSE:
            throttle = replace(throttle, paused_until=max(throttle.paused_until, now + refusal.pause))
        return throttle

    def newest_refusal(self, now: float) -> Refusal | None:
        """Return the refusal that members should know of; None if there was none lately."""
        pause = max(0.0, self.paused_until - now)
        if not pause and now - self.counted_at > _REFUSAL_SECONDS:
            return None
        return Refusal(age=now - self.began_at, pause=pause)
