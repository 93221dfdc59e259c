"""Numbers: digits grouped in any country's way, fractions and powers of ten, as exact fractions. No floats are used."""

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
_POWER_OF_TEN = re.compile(r"(-?)10\^\{?([+-]?\d{1,9})\}?", re.ASCII)


def parse_number(text: str) -> Fraction | None:
    """Return the value of a normalized number, or None for any other text.

    Numbers are ``-3``, ``0.50``, ``3/4``, ``2 1/2`` (mixed), ``1.5e3``, ``1.5*10^3`` and ``10^-3``.
    """
    if len(text) > _MAX_LENGTH:
        return None
    if text.isascii() and text.isdigit():
        return Fraction(int(text))
    power = _POWER_OF_TEN.fullmatch(text)
    if power:
        text = f"{power[1]}1e{power[2]}"
    match = _NUMBER.fullmatch(text)
    if match is None or (match["integer"] and not match["denominator"]):
        return None
    exponent = int(match["exponent"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(match["numerator"])
    if exponent:
        value *= Fraction(10) ** exponent
    if match["denominator"]:
        denominator = Fraction(match["denominator"])
        if not denominator:
            return None
        value /= denominator
    if match["integer"]:
        value += int(match["integer"])
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


def format_number(value: Fraction) -> str:
    """Write a number as a decimal if that is exact, else as a fraction."""
    denominator, places = value.denominator, 0
    for prime in (2, 5):
        exponent = 0
        while denominator % prime == 0:
            denominator, exponent = denominator // prime, exponent + 1
        places = max(places, exponent)
    if denominator > 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    number = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{number}" if value < 0 else number


# Groups of digits in the ways of many countries. The first group never begins with 0: 0,345 is a decimal.
_GROUPED = re.compile(
    r"(?P<english>[1-9]\d{0,2}(?:,\d{3})+)(?:\.\d+)?"
    r"|(?P<indian>[1-9]\d?(?:,\d{2})+,\d{3})(?:\.\d+)?"
    r"|(?P<swiss>[1-9]\d{0,2}(?:'\d{3})+)(?:\.\d+)?"
    r"|(?P<python>[1-9]\d{0,2}(?:_\d{3})+)(?:\.\d+)?"
    r"|(?P<spaced>[1-9]\d{0,2}(?: \d{3})+)(?:[.,]\d+)?"
    r"|(?P<european>[1-9]\d{0,2}(?:(?:\.\d{3}){2,}(?:,\d+)?|\.\d{3},\d+))",
    re.ASCII,
)
_DECIMAL_COMMA = re.compile(r"(\d+),(\d+)", re.ASCII)
_DECIMAL_POINT = re.compile(_DIGITS, re.ASCII)
_POINT_FOR_THOUSANDS = re.compile(r"[1-9]\d{0,2}\.\d{3}", re.ASCII)


def read_decimal(text: str, *, has_unit: bool = False, is_euro: bool = False) -> str | None:
    """Return an unsigned decimal with grouped digits as plain digits with a point; None if it is none or ambiguous.

    Args:
        text: such as ``1,234.5``, ``1.234,56``, ``12 500``, ``12,34,567`` or ``3,5``.
        has_unit: a unit or currency follows or precedes it, so ``3,5`` is one number and not two.
        is_euro: amounts in euros write ``1.234`` for 1234.
    """
    if is_euro and _POINT_FOR_THOUSANDS.fullmatch(text):
        return text.replace(".", "")
    if _DECIMAL_POINT.fullmatch(text):
        return text
    grouped = _GROUPED.fullmatch(text)
    if grouped:
        if grouped.lastgroup in ("european", "spaced"):
            if grouped.lastgroup == "european":
                text = text.replace(".", "")
            return text.replace(" ", "").replace(",", ".")
        return re.sub("[,'_]", "", text)
    comma = _DECIMAL_COMMA.fullmatch(text)
    if comma:
        integer, fraction = comma.groups()
        # Without a unit, "3,5" may be two numbers; "0,75", "1234,5" and "3,1416" are one.
        if has_unit or len(integer) > 3 or len(fraction) > 3 or (integer == "0" and len(fraction) > 1):
            return f"{integer}.{fraction}"
    return None


_THOUSANDS = re.compile(r"(?<![\w,.])\d{1,3}(?:,\d{3})+(?![\d,])")


def strip_thousands_commas(text: str) -> str:
    """Write ``1,234`` as 1234; but ``(1,234)`` and ``1, 234`` are two numbers."""
    if "," not in text or any(bracket in text for bracket in "([{"):
        return text
    return _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
