"""What a reply's headers say is left of the rate limits, in any provider's form."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

_DEFAULT_RESET = 1.0
"""Seconds, where nothing is said of the reset."""
_LONGEST = 64
"""Characters of a header worth reading."""
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Left(NamedTuple):
    """What is left of one limit."""

    amount: float
    """Requests or tokens."""
    reset: float
    """Seconds until all of them are there again."""
    most: float | None
    """How many that is, where it is said."""


class Quota(NamedTuple):
    """What is left of both limits; None where nothing is said."""

    requests: Left | None
    tokens: Left | None


def quota_of(headers: Mapping[str, str], *, now: float | None = None) -> Quota:
    """Read the headers (names in lower case) of OpenAI, Azure, Groq and the like, and of Anthropic.

    ``x-ratelimit-remaining-requests: 59`` with ``x-ratelimit-reset-requests: 1s``, "6m0s" or seconds; Anthropic writes
    ``anthropic-ratelimit-requests-remaining`` and resets as RFC 3339 times. Both say when the limit will be whole again
    (https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits).
    ``now`` is seconds since the epoch. What cannot be read counts as not said.
    """
    moment = time.time() if now is None else now
    return Quota(_left(headers, "requests", moment), _left(headers, "tokens", moment))


def _left(headers: Mapping[str, str], kind: str, now: float) -> Left | None:
    amount = _number(_first(headers, kind, "remaining"))
    if amount is None:
        return None
    return Left(amount, _seconds(_first(headers, kind, "reset"), now), _number(_first(headers, kind, "limit")))


def _first(headers: Mapping[str, str], kind: str, what: str) -> str | None:
    for prefix in _PREFIXES:
        for name in (f"{prefix}{what}-{kind}", f"{prefix}{kind}-{what}"):
            if name in headers and len(headers[name]) <= _LONGEST:
                return headers[name].strip()
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _seconds(text: str | None, now: float) -> float:
    if text is None:
        return _DEFAULT_RESET
    if (value := _number(text)) is not None:
        return max(0.0, value - now) if value > 1e9 else value  # a moment, in seconds since the epoch
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return _DEFAULT_RESET
