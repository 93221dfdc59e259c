"""Numbers as the report writes them: shares in %, differences in points, "–" where there is none."""

from __future__ import annotations

import math

from swift_client.evaluation.result import Estimate

MISSING = "–"
PERCENT = "\N{NO-BREAK SPACE}%"


def is_finite(value: float | None) -> bool:
    """Return whether there is a number to show."""
    return value is not None and math.isfinite(value)


def format_percent(share: float | None) -> str:
    """Write 0.782 as "78.2"."""
    return format_decimal(None if share is None else 100 * share, 1)


def format_points(share: float | None) -> str:
    """Write a difference of shares, 0.048, as "+4.8", with a true minus; what rounds to 0 has no sign."""
    if share is None or not math.isfinite(share):
        return MISSING
    value = round(100 * share, 1)
    return "0.0" if value == 0 else f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")


def format_decimal(value: float | None, digits: int = 3) -> str:
    """Write a number with so many decimals."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def interval_sign(difference: Estimate) -> int:
    """Return 1 where the interval, as it is shown, lies above 0, -1 below, and 0 where it says neither."""
    low, high = round(100 * difference.low, 1), round(100 * difference.high, 1)
    return int(low > 0) - int(high < 0)
