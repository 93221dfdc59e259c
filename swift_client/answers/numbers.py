"""Plain numbers as exact fractions: what can be read, and what it is worth. No float takes part."""

from __future__ import annotations

import re
from fractions import Fraction

_MAX_LENGTH = 400
"""Characters; a longer "number" is compared as text only."""
_MAX_EXPONENT = 400
"""Powers of ten; 1e999999999 would fill the memory, so it is compared as text only."""

_DIGITS = r"(?:\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?:(?P<whole>\d+) )?(?P<top>{_DIGITS})"
    rf"(?:/(?P<bottom>{_DIGITS})|(?:e|\*10\^)\{{?(?P<exponent>[+-]?\d{{1,9}})\}}?)?",
    re.ASCII,
)


def parse_number(text: str) -> Fraction | None:
    """Return the value of a plain number in normal form, or None where it is not one.

    Plain are ``-3``, ``0.50``, ``3/4``, ``2 1/2`` (mixed), ``1.5e3`` and ``1.5*10^3``.
    """
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None or (match["whole"] and not match["bottom"]):
        return None
    exponent = int(match["exponent"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(match["top"]) * Fraction(10) ** exponent
    if match["bottom"]:
        bottom = Fraction(match["bottom"])
        if not bottom:
            return None
        value /= bottom
    value += int(match["whole"] or 0)
    return -value if match["sign"] == "-" else value


_DECIMAL = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*?)0*)?", re.ASCII)


def shorten_decimal(text: str) -> str:
    """Return a decimal without needless signs and zeros (``+007.50`` is ``7.5``); other texts as they are."""
    match = _DECIMAL.fullmatch(text) if any(map(str.isdigit, text)) else None
    if match is None:
        return text
    sign, whole, part = match[1], match[2] or "0", match[3]
    number = f"{whole}.{part}" if part else whole
    return f"-{number}" if sign == "-" and number != "0" else number
