"""Formats of numbers and texts in the report: shares in %, differences in points, "–" for unknown values."""

from __future__ import annotations

import math
from typing import Any

from swift_client.evaluation.result import Estimate

MISSING = "–"
PERCENT = "\N{NO-BREAK SPACE}%"


def is_finite(value: float | None) -> bool:
    """Return whether there is a number to show."""
    return value is not None and math.isfinite(value)


def format_percent(share: float | None) -> str:
    """Format 0.782 as "78.2"."""
    return format_decimal(None if share is None else 100 * share, 1)


def format_points(share: float | None) -> str:
    """Format a difference of shares, 0.048, as "+4.8", with a true minus sign; a rounded 0 has no sign."""
    if share is None or not math.isfinite(share):
        return MISSING
    value = round(100 * share, 1)
    return "0.0" if value == 0 else f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def format_decimal(value: float | None, digits: int = 3) -> str:
    """Format a number with a fixed number of decimals."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_count(value: float) -> str:
    """Format a count with thousands separators, rounded."""
    return f"{value:,.0f}" if math.isfinite(value) else MISSING


def pluralize(number: int, noun: str) -> str:
    """Format "1 question", "1,600 questions"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def format_prompt(content: Any, max_chars: int) -> str:
    """Return the text of a chat message, cut; parts that are not text are named in brackets."""
    if isinstance(content, list):
        parts = [
            str(part.get("text", f"[{part.get('type', 'part')}]")) if isinstance(part, dict) else str(part)
            for part in content
        ]
        content = " ".join(parts)
    text = "" if content is None else str(content)
    return text[:max_chars] + ("…" if len(text) > max_chars else "")


def interval_sign(difference: Estimate) -> int:
    """Return 1 if the interval, as displayed, is above 0, -1 if it is below, otherwise 0."""
    low, high = round(100 * difference.low, 1), round(100 * difference.high, 1)
    return int(low > 0) - int(high < 0)


def interval_direction(difference: Estimate) -> str:
    """Return the class of a difference: "up" or "down" if its displayed interval leaves out 0, else ""."""
    return ("", "up", "down")[interval_sign(difference)]
