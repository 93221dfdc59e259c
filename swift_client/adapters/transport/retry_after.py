"""How long a server asks us to wait, from its headers or its sentence. All results are seconds >= 0, or None."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_RETRY_UNITS = {"ms": 0.001, "millisecond": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0}
_RETRY_UNITS |= {"m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0}

_RETRY_PHRASE = re.compile(r"\b(?:try again|retry)\s+(?:in|after)\s+", re.IGNORECASE)
_RETRY_PART = re.compile(
    r"\s*(?:and\s+)?(\d{1,9}(?:\.\d{1,9})?)\s*(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)(?![a-z])",
    re.IGNORECASE,
)


def retry_after_from_headers(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Read ``retry-after-ms``, then ``retry-after`` in seconds or as an HTTP date.

    Args:
        headers: names in lower case.
        now: seconds since the epoch, for tests; default is the clock.
    """
    milliseconds = _parse_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after")
    seconds = _parse_number(asked)
    if seconds is not None or asked is None:
        return seconds
    try:
        moment = parsedate_to_datetime(asked).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, moment - (time.time() if now is None else now))


def retry_after_from_message(message: str) -> float | None:
    """Read "try again in 17.28s", "retry in 1m3s", "retry after 20 seconds", "try again in 250ms"."""
    start = _RETRY_PHRASE.search(message)
    if start is None:
        return None
    total, at = None, start.end()
    while part := _RETRY_PART.match(message, at):
        unit = part[2].lower()
        total = (total or 0.0) + float(part[1]) * _RETRY_UNITS[unit if unit in _RETRY_UNITS else unit.rstrip("s")]
        at = part.end()
    return total


def _parse_number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
