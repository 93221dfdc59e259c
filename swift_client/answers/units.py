"""Numbers with a currency, a percent sign, a unit or thousands commas, reduced to the number."""

from __future__ import annotations

import re

from swift_client.answers.numbers import parse_number

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
    """Drop the currency, the percent sign or the unit of a number; multiply by "million" and its kind."""
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
    """``1,234`` is 1234, but ``(1,234)`` and ``1, 234`` are two numbers."""
    if any(bracket in text for bracket in "([{"):
        return text
    return _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
