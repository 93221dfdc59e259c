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
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-", "ratelimit-")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Quota(NamedTuple):
    """What is left, and the seconds until it is more; None where nothing is said of it."""

    requests: float | None
    requests_reset: float
    tokens: float | None
    tokens_reset: float


def quota_of(headers: Mapping[str, str], *, now: float | None = None) -> Quota | None:
    """Read the headers (names in lower case) of OpenAI, Azure, Groq and the like, and of Anthropic; None without any.

    ``x-ratelimit-remaining-requests: 59`` with ``x-ratelimit-reset-requests: 1s``, "6m0s" or seconds; Anthropic writes
    ``anthropic-ratelimit-requests-remaining`` and resets as RFC 3339 times. ``now`` is seconds since the epoch.
    """
    moment = time.time() if now is None else now
    counts = {kind: _first(headers, kind, "remaining") for kind in ("requests", "tokens")}
    left = {kind: _number(text) for kind, text in counts.items()}
    if left["requests"] is None and left["tokens"] is None:
        return None
    resets = {kind: _seconds(_first(headers, kind, "reset"), moment) for kind in left}
    return Quota(left["requests"], resets["requests"], left["tokens"], resets["tokens"])


def _first(headers: Mapping[str, str], kind: str, what: str) -> str | None:
    for prefix in _PREFIXES:
        for name in (f"{prefix}{what}-{kind}", f"{prefix}{kind}-{what}"):
            if name in headers:
                return headers[name]
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
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return min(sum(float(number) * _SECONDS[unit] for number, unit in parts), 86400.0)
    try:
        return max(0.0, datetime.fromisoformat(text.strip()).timestamp() - now)
    except (ValueError, OverflowError, OSError):
        return _DEFAULT_RESET
