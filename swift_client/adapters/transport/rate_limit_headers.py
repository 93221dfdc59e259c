"""What a reply's headers say is left of the rate limits, in any provider's form."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

_DEFAULT_RESET_SECONDS = 1.0
"""Seconds, where nothing is said of the reset."""
_MAX_HEADER_CHARS = 64
"""Characters of a header worth reading."""
_HEADER_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
_RESET_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_RESET_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class LimitStatus(NamedTuple):
    """What is left of one limit."""

    remaining: float
    """Requests or tokens."""
    reset_seconds: float
    """Seconds until all of them are there again."""
    limit: float | None
    """How many that is, where it is said."""


class RateLimitStatus(NamedTuple):
    """What is left of both limits; None where nothing is said."""

    requests: LimitStatus | None
    tokens: LimitStatus | None


def parse_rate_limit_headers(headers: Mapping[str, str], *, now: float | None = None) -> RateLimitStatus:
    """Read the headers (names in lower case) of OpenAI, Azure, Groq and the like, and of Anthropic.

    ``x-ratelimit-remaining-requests: 59`` with ``x-ratelimit-reset-requests: 1s``, "6m0s" or seconds; Anthropic writes
    ``anthropic-ratelimit-requests-remaining`` and resets as RFC 3339 times. Both say when the limit will be whole again
    (https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits).
    ``now`` is seconds since the epoch. What cannot be read counts as not said.
    """
    moment = time.time() if now is None else now
    return RateLimitStatus(_parse_limit(headers, "requests", moment), _parse_limit(headers, "tokens", moment))


def _parse_limit(headers: Mapping[str, str], kind: str, now: float) -> LimitStatus | None:
    amount = _parse_number(_find_header(headers, kind, "remaining"))
    if amount is None:
        return None
    return LimitStatus(
        amount,
        _parse_reset(_find_header(headers, kind, "reset"), now),
        _parse_number(_find_header(headers, kind, "limit")),
    )


def _find_header(headers: Mapping[str, str], kind: str, quantity: str) -> str | None:
    for prefix in _HEADER_PREFIXES:
        for name in (f"{prefix}{quantity}-{kind}", f"{prefix}{kind}-{quantity}"):
            if name in headers and len(headers[name]) <= _MAX_HEADER_CHARS:
                return headers[name].strip()
    return None


def _parse_number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _parse_reset(text: str | None, now: float) -> float:
    if text is None:
        return _DEFAULT_RESET_SECONDS
    if (value := _parse_number(text)) is not None:
        return max(0.0, value - now) if value > 1e9 else value  # a moment, in seconds since the epoch
    parts = _RESET_PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _RESET_UNITS[unit] for number, unit in parts)
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return _DEFAULT_RESET_SECONDS
