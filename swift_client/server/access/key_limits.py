"""Limits of one client key: requests, tokens and US dollars per minute and per day.

A window begins with its first request and ends a minute or a day later. Tokens and dollars are counted when an answer
is paid for, so the requests that run at that moment can exceed a limit, each by its own cost at most. The counts are of
this process: they begin anew when it starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from swift_client.server.config import LimitsConfig
from swift_client.server.http.error_reply import HttpError

_SECONDS = {"minute": 60.0, "day": 86_400.0}


@dataclass
class _Window:
    """The counts of one minute or one day."""

    seconds: float
    started: float | None = None  # in seconds of the clock; None before the first request
    counts: dict[str, float] = field(default_factory=lambda: {"requests": 0.0, "tokens": 0.0, "usd": 0.0})

    def roll(self, now: float) -> None:
        """Begin anew if the window has ended."""
        if self.started is None or now - self.started >= self.seconds:
            self.started = now
            self.counts = dict.fromkeys(self.counts, 0.0)


class KeyUsage:
    """The counts of one key, on one event loop.

    Args:
        limits: the table of the key; a limit that is None is none.
        clock: seconds, rising.
    """

    def __init__(self, limits: LimitsConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._windows = {name: _Window(seconds) for name, seconds in _SECONDS.items()}

    def with_limits(self, limits: LimitsConfig) -> KeyUsage:
        """Return the same counts under other limits, after a reload."""
        usage = KeyUsage(limits, clock=self._clock)
        usage._windows = self._windows
        return usage

    def begin(self) -> None:
        """Count one request.

        Raises:
            HttpError: 429: a limit is reached; ``retry_after`` is the rest of its window. The request is not counted.
        """
        now = self._clock()
        for name, window in self._windows.items():
            window.roll(now)
            for unit, count in window.counts.items():
                limit = getattr(self._limits, f"{unit}_per_{name}")
                if limit is not None and count >= limit:
                    rest = window.seconds - (now - (window.started or now))
                    raise HttpError(
                        429, f"The key's limit of {limit:g} {unit} per {name} is reached.", code="rate_limit_exceeded",
                        retry_after=rest,
                    )  # fmt: skip
        self._count("requests", 1.0)

    def pay(self, *, tokens: int, usd: float | None) -> None:
        """Count the cost of an answer, US dollars; None if the price is unknown."""
        now = self._clock()
        for window in self._windows.values():
            window.roll(now)
        self._count("tokens", float(tokens))
        self._count("usd", usd or 0.0)

    def _count(self, unit: str, amount: float) -> None:
        for window in self._windows.values():
            window.counts[unit] += amount
