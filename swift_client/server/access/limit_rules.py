"""Rules of limits: requests, tokens and US dollars per minute and per day, of a client key or a virtual model. Pure.

A window begins with its first request and ends a minute or a day later. Requests are counted when they begin, tokens
and dollars when they are paid for. Until then a request reserves the cost that is expected of it, so that requests that
run at the same time do not exceed a limit together: the last one to begin can, by its own cost, and all of them by as
much as they cost more than expected.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal

from swift_client.server.config import LimitsConfig
from swift_client.server.http.error_reply import HttpError
from swift_client.store import UsageWindow, WindowKey

_SECONDS = {"minute": 60, "day": 86_400}
_UNITS = ("requests", "tokens", "usd")
_RETRY_RESERVED = 5.0  # seconds after which running requests may have cost less than expected

Windows = MutableMapping[WindowKey, UsageWindow]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Tokens, prompts and completions together, and US dollars; dollars of an unknown price are 0."""

    tokens: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A client key or a virtual model, whose requests are counted together."""

    kind: Literal["key", "model"]
    name: str
    limits: LimitsConfig

    @property
    def id(self) -> str:
        """The name of its counts."""
        return f"{self.kind} {self.name}"

    @property
    def has_limits(self) -> bool:
        """True if at least one limit is set."""
        return self.limits != LimitsConfig()


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A request that began: the expected cost, and the number of each window in which it is reserved."""

    cost: Cost
    numbers: Mapping[WindowKey, int]


def window_keys(scopes: Sequence[Scope]) -> list[WindowKey]:
    """Return the windows in which requests of these scopes are counted."""
    return [(scope.id, seconds) for scope in scopes for seconds in _SECONDS.values()]


def begin(windows: Windows, scopes: Sequence[Scope], cost: Cost, now: float) -> Reservation:
    """Count a request in all windows of its scopes, and reserve what it is expected to cost.

    Args:
        windows: the counts; those that are missing begin.
        scopes: the key and the model of the request.
        cost: the expected cost.
        now: Unix seconds.

    Raises:
        HttpError: 429: a limit is reached; ``retry_after`` is the rest of its window. Nothing is counted.
    """
    for key in window_keys(scopes):
        _roll(windows, key, now)
    for scope in scopes:
        for unit in _UNITS:
            for period, seconds in _SECONDS.items():
                limit: float | None = getattr(scope.limits, f"{unit}_per_{period}")
                if limit is not None:
                    _check(windows[scope.id, seconds], scope, unit, period, limit, now)
    numbers = {}
    for key in window_keys(scopes):
        window = windows[key]
        window.requests += 1
        window.reserved_tokens += cost.tokens
        window.reserved_usd += cost.usd
        numbers[key] = window.number
    return Reservation(cost=cost, numbers=numbers)


def settle(windows: Windows, reservation: Reservation, cost: Cost, now: float) -> None:
    """Count what a request cost instead of what it reserved; windows that have ended meanwhile begin anew."""
    for key, number in reservation.numbers.items():
        window = _roll(windows, key, now)
        window.tokens += round(cost.tokens)
        window.usd += cost.usd
        if window.number == number:  # else the reservation has ended with its window
            window.reserved_tokens = max(0.0, window.reserved_tokens - reservation.cost.tokens)
            window.reserved_usd = max(0.0, window.reserved_usd - reservation.cost.usd)


def _roll(windows: Windows, key: WindowKey, now: float) -> UsageWindow:
    """Return the window that holds at ``now``: the one before, or a new one if that has ended."""
    window = windows.get(key)
    if window is None or now - window.started >= key[1]:
        window = windows[key] = UsageWindow(number=1 if window is None else window.number + 1, started=now)
    # A clock that was put back must not make a window longer than it is.
    window.started = min(window.started, now)
    return window


def _check(window: UsageWindow, scope: Scope, unit: str, period: str, limit: float, now: float) -> None:
    """Raise HttpError if a limit is reached."""
    count = getattr(window, unit)
    reserved = getattr(window, f"reserved_{unit}", 0.0)
    if count + reserved < limit:
        return
    rest = _SECONDS[period] - (now - window.started)
    name = f"The {scope.kind}'s limit of {limit:g} {unit} per {period}"
    if count >= limit:
        raise HttpError(429, f"{name} is reached.", code="rate_limit_exceeded", retry_after=rest)
    raise HttpError(
        429, f"{name} is reserved for requests that are running.", code="rate_limit_exceeded",
        retry_after=min(rest, _RETRY_RESERVED),
    )  # fmt: skip
