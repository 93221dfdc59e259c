"""Numbers: parsed as exact fractions, and freed of currencies, units and thousands commas. No floats are used."""

from __future__ import annotations

import re
from fractions import Fraction

_MAX_LENGTH = 400  # characters; a longer number is compared only as text
# Powers of ten; a larger number such as 1e999999999 would fill the memory and is compared only as text.
_MAX_EXPONENT = 400

_DIGITS = r"(?:\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?:(?P<integer>\d+) )?(?P<numerator>{_DIGITS})"
    rf"(?:/(?P<denominator>{_DIGITS})|(?:e|\*10\^)\{{?(?P<exponent>[+-]?\d{{1,9}})\}}?)?",
    re.ASCII,
)


def parse_number(text: str) -> Fraction | None:
    """Return the value of a normalized number, or None for any other text.

    Numbers are ``-3``, ``0.50``, ``3/4``, ``2 1/2`` (mixed), ``1.5e3`` and ``1.5*10^3``.
    """
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None or (match["integer"] and not match["denominator"]):
        return None
    exponent = int(match["exponent"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(match["numerator"]) * Fraction(10) ** exponent
    if match["denominator"]:
        denominator = Fraction(match["denominator"])
        if not denominator:
            return None
        value /= denominator
    value += int(match["integer"] or 0)
    return -value if match["sign"] == "-" else value


_DECIMAL = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*?)0*)?", re.ASCII)


def shorten_decimal(text: str) -> str:
    """Remove the plus sign and surplus zeros of a decimal (``+007.50`` is ``7.5``); leave other texts unchanged."""
    match = _DECIMAL.fullmatch(text) if any(map(str.isdigit, text)) else None
    if match is None:
        return text
    sign, integer, fraction = match[1], match[2] or "0", match[3]
    number = f"{integer}.{fraction}" if fraction else integer
    return f"-{number}" if sign == "-" and number != "0" else number


_AMOUNT = r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:/\d+| \d+/\d+)?"
_MONEY = re.compile(rf"([+-]?)(?:us|usd|eur|gbp|rs\.?|[€£¥₹₩])\s?({_AMOUNT}.*)")
_QUANTITY = re.compile(rf"({_AMOUNT})( ?)(%|[€£¥₹₩]|[a-z][a-z ./-]*?(?:\^?[23])?)")
_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_GLUED_UNIT = re.compile("[cmk]m|[mk]g|ml|lbs?|oz|ft|mph|kmh|usd|eur|cents|dollars|percent")
_SHORT_UNIT = re.compile("[mgshl]")
_NO_UNIT = re.compile(
    r"\b(?:am|pm|ad|bce?|ce|pi|mod|or|and|to|sqrt|root|log|ln|sin|cos|tan|base|over|not|th|st|nd|rd)\b"
)


def strip_unit(text: str) -> str:
    """Remove the currency, percent sign or unit of a number; multiply by words such as "million"."""
    text = _MONEY.sub(r"\1\2", text) if _MONEY.fullmatch(text) else text
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return text
    number, gap, unit = match.groups()
    words = re.findall("[a-z]+", unit)
    if not words:
        return number
    if len(words) > 5 or _NO_UNIT.search(unit):
        return text
    if words[0] in _SCALES:
        value = parse_number(strip_thousands_commas(number))
        return text if value is None else str(value * _SCALES[words[0]])
    is_unit = (len(words[0]) > 1 or _SHORT_UNIT.fullmatch(words[0])) if gap else _GLUED_UNIT.fullmatch(words[0])
    return number if is_unit else text


_THOUSANDS = re.compile(r"(?<![\w,.])\d{1,3}(?:,\d{3})+(?![\d,])")


def strip_thousands_commas(text: str) -> str:
    """Write ``1,234`` as 1234; but ``(1,234)`` and ``1, 234`` are two numbers."""
    if any(bracket in text for bracket in "([{"):
        return text
    return _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
