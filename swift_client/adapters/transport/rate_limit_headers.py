"""Rate limits and waits that a server states in its headers or messages, in any provider's form."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import product
from typing import NamedTuple

_DEFAULT_RESET_SECONDS = 1.0  # seconds until a reset that no header states
_MAX_HEADER_CHARS = 64  # longer headers are ignored
_HEADER_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
_RESET_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "millisecond": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0}
_UNIT_SECONDS |= {"minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0}

_RETRY_PHRASE = re.compile(r"\b(?:try again|retry)\s+(?:in|after)\s+", re.IGNORECASE)
_RETRY_PART = re.compile(
    r"\s*(?:and\s+)?(\d{1,9}(?:\.\d{1,9})?)\s*(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)(?![a-z])",
    re.IGNORECASE,
)


class LimitStatus(NamedTuple):
    """The state of one limit, in requests or tokens.

    Attributes:
        remaining: requests or tokens that are left.
        reset_seconds: seconds until all of them are available again.
        limit: the full number; None if it is not stated.
    """

    remaining: float
    reset_seconds: float
    limit: float | None


class RateLimitStatus(NamedTuple):
    """The state of both limits; None for a limit that is not stated."""

    requests: LimitStatus | None
    tokens: LimitStatus | None


def parse_rate_limit_headers(headers: Mapping[str, str], *, now: float | None = None) -> RateLimitStatus:
    """Parse the rate-limit headers of OpenAI, Azure, Groq and the like, and of Anthropic.

    ``x-ratelimit-remaining-requests: 59`` with ``x-ratelimit-reset-requests: 1s``, "6m0s" or seconds; Anthropic writes
    ``anthropic-ratelimit-requests-remaining`` and resets as RFC 3339 times. Both state when the limit is full again
    (https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits).
    Unreadable headers are ignored.

    Args:
        headers: names in lower case.
        now: seconds since the epoch, for tests; default: the clock.
    """
    moment = time.time() if now is None else now
    return RateLimitStatus(_parse_limit(headers, "requests", moment), _parse_limit(headers, "tokens", moment))


def retry_after_from_headers(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Parse ``retry-after-ms``, else ``retry-after`` in seconds or as an HTTP date.

    Args:
        headers: names in lower case.
        now: seconds since the epoch, for tests; default: the clock.

    Returns:
        Seconds >= 0, or None.
    """
    milliseconds = _parse_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _parse_number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def retry_after_from_message(message: str) -> float | None:
    """Parse "try again in 17.28s", "retry in 1m3s", "retry after 20 seconds", "try again in 250ms".

    Returns:
        Seconds >= 0, or None.
    """
    phrase = _RETRY_PHRASE.search(message)
    if phrase is None:
        return None
    total, position = None, phrase.end()
    while part := _RETRY_PART.match(message, position):
        unit = part[2].lower()
        total = (total or 0.0) + float(part[1]) * _UNIT_SECONDS[unit if unit in _UNIT_SECONDS else unit.rstrip("s")]
        position = part.end()
    return total


def _parse_limit(headers: Mapping[str, str], kind: str, now: float) -> LimitStatus | None:
    values: dict[str, str] = {}
    for prefix, quantity in product(_HEADER_PREFIXES, ("remaining", "reset", "limit")):
        for name in (f"{prefix}{quantity}-{kind}", f"{prefix}{kind}-{quantity}"):
            if name in headers and len(headers[name]) <= _MAX_HEADER_CHARS:
                values.setdefault(quantity, headers[name].strip())
    if "remaining" not in values or (remaining := _parse_number(values["remaining"])) is None:
        return None
    reset_seconds = _parse_reset(values.get("reset"), now)
    return LimitStatus(remaining, reset_seconds, _parse_number(values.get("limit")))


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
        return max(0.0, value - now) if value > 1e9 else value  # large values are seconds since the epoch
    # "6m0s", then an RFC 3339 time.
    parts = _RESET_PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return _DEFAULT_RESET_SECONDS
