r"""The numeric values in a text, from left to right, each as long as it can be.

Digits within a word (``CO2``), a unit (``cm^2``) or behind a letter are no values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from swift_client.answers.numbers import read_decimal
from swift_client.answers.values.dates import MONTH_PATTERN
from swift_client.answers.values.parse import parse_value
from swift_client.answers.values.quantities import CURRENCY_PATTERN, SCALE_PATTERN
from swift_client.answers.values.value import Value

_VULGAR = "[¼½¾⅐-⅞]"
_DECIMAL = (
    rf"(?:\d{{1,3}}+(?:[ \u00a0\u2009\u202f'’]\d{{3}}){{1,12}}+(?![\d/⁄])(?:[.,]\d++)?"
    r"|\d{1,3}+(?:(?:\{,\}|\\,|\\!|,\\!)\d{3}){1,12}+(?!\d)(?:\.\d++)?"
    r"|(?:\d\ufe0f?\u20e3){1,20}+\d*+"  # keycaps
    rf"|\d++(?:[.,٫٬．，]\d++){{0,12}}+|\.\d++){_VULGAR}?"
)
_POWER = r"(?:\^ ?(?:\{[-−+]?\d{1,9}\}|[-−+]?\d{1,9})|\*\* ?-?\d{1,9}|[⁺⁻]?[⁰¹²³⁴-⁹]{1,9}+)"
_FRACTION = r"\\[dtc]?frac ?(?:\{[-−]?[\d.,]{1,40}\} ?\{[\d.,]{1,40}\}|\d\d)"
_TIMES = r" ?(?:[×*·xX]|\\times|\\cdot) ?"
_NUMBER = (
    rf"(?:10{_POWER}|{_DECIMAL} ?{_FRACTION}|{_FRACTION}|{_VULGAR}"
    rf"|{_DECIMAL}(?:{_TIMES}10{_POWER}|[eE][-+]?\d{{1,9}}(?!\w)|[ \u00a0-]\d{{1,4}}[/⁄]\d{{1,4}}(?![\d/])"
    rf"| ?[/⁄] ?\d++(?:[.,]\d++){{0,8}}+(?![/⁄]))?)"
)
_SHORT_UNIT = (
    "km|cm|mm|nm|dm|m|kg|mg|g|lbs?|oz|ft|feet|foot|inch(?:es)?|mi|miles?|yd|yards?|ml|l|h|hrs?|s|secs?|mins?|mph|kmh"
    "|met(?:er|re)s?|square|cubic|sq|units?"
)
_UNIT = (
    rf"(?: ?(?:{_SHORT_UNIT})(?: (?:{_SHORT_UNIT}))?|(?<=\d)(?!st|nd|rd|th)[A-Za-z]{{2,5}}"
    r"|[ \u00a0]?\\(?:text|mathrm|mbox)\{ ?[^\W\d_][^{}]{0,30}\})"
    rf"(?:(?:\^ ?(?:\{{-?\d\}}|-?\d)|[²³])|(?![^\W_]))(?:/(?:{_SHORT_UNIT})(?:\^\d|[²³])?(?!\w))?"
)
_CURRENCY = rf"(?:(?:{CURRENCY_PATTERN}|\\\$)[ \u00a0]?)"
_AMOUNT = re.compile(
    rf"[-+−–]?{_CURRENCY}?[-−]?{_NUMBER}"
    rf"(?:[ \u00a0]?(?:{SCALE_PATTERN})\b|(?<=\d)[kKMB](?!\w)){{0,4}}(?: ?\\?%|{_UNIT}|[ \u00a0]?€)?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th|er|º|\.)?(?:[ -]|[ ](?:of|de)[ ])"
_MONTH = rf"(?i:{MONTH_PATTERN})\b\.?"
_YEAR = r"(?:,?[ -](?:of |de )?\d{4}(?!\d))"
_DATE = re.compile(
    rf"{_DAY}{_MONTH}(?:{_YEAR}|-\d\d(?!\d))?|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?!\d){_YEAR}?|{_MONTH}{_YEAR}"
    r"|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?![\d/-])(?:[T ]\d\d:\d\d(?::\d\d)?Z?)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d\d)(?![\d/-]|\.\d)|\d{4}年\d{1,2}月(?:\d{1,2}[日号])?"
)
_TIME = re.compile(
    r"\d{1,2}(?:[:.]\d\d(?::\d\d)?)?[ \u00a0]?(?:[aApP]\.?[mM]\b\.?|Uhr\b|o['’]clock)|\d{1,2}:\d\d(?::\d\d)?(?![\d:])"
)
_CODE = re.compile(
    r"\+\d{1,3}[-. ()\d]{6,18}\d|\(\d{2,5}\) ?\d{3,4}[- ]\d{4}|\d+(?:\.\d+){2,6}(?!\w|\.\d)"
    r"|\d+(?:[-–]\d+){1,8}+(?![\w%]|[.,]\d| ?[=+*/×])|\d+(?:\.\d+)?(?: ?: ?\d+(?:\.\d+)?){1,8}"
)
_UNIT_OF_TIME = r"(?i:years?|months?|weeks?|days?|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\b\.?"
_DURATION = re.compile(rf"\d++(?:\.\d++)? ?{_UNIT_OF_TIME}(?:,? (?:and )?\d++(?:\.\d++)? ?{_UNIT_OF_TIME}){{1,4}}")
# A letter of an alphabet whose words are separated by spaces; in "答案是5" the digit is no part of a word.
_LETTER = "A-Za-z\u00c0-\u024f\u0370-\u052f"
# Where a value may begin: a sign, currency, digit, fraction or month, but not within a word, number or power.
_START = re.compile(
    rf"(?<![{_LETTER}\d^_\\])(?<![{_LETTER}]-)(?<!\d\.)(?<![\^_]\{{)"
    rf"(?:[-+−–]?(?:{_CURRENCY}[-−]?(?=[\d.])|\d|\(\d{{2,5}}\)|\.\d|{_VULGAR}|\\[dtc]?frac(?![a-z]))|{_MONTH}(?=[ \d]))"
)
_PLAIN = re.compile(rf"[-+−–]?{_CURRENCY}?[-−]?(?:\d++(?:\.\d++)?|\.\d++)")
_WORD_AHEAD = re.compile(rf"[{_LETTER}\d]+|\\(?:pi|sqrt)")
_STREET_AHEAD = re.compile(r" \d{1,3}(?:st|nd|rd|th)\b")  # "25 42nd Street": the number of a house
_LIST = re.compile(r"(?<!\d)\d++(?:,\d++){2,}+")  # two or more commas group digits, or separate numbers
_OPERAND_END = tuple("0123456789)]}%")
_MAX_SCANNED = 10_000
_NO_NUMERIC_KIND = frozenset(("text", "formula", "several", "letter", "letters", "yes_no"))


def scan_values(text: str) -> Iterator[tuple[int, int, Value]]:
    """Yield the start, the end and the value of each numeric value in the last 10,000 characters of ``text``."""
    position = max(0, len(text) - _MAX_SCANNED)
    known: dict[str, Value | None] = {}  # a text of the same few values many times is read at once
    while match := _START.search(text, position):
        start = match.start()
        # Behind a number or a bracket, a minus is an operator even if no space follows it: "29 -17".
        if match[0][0] in "-+−–" and text[max(0, start - 2) : start].rstrip()[-1:] in _OPERAND_END:
            start += 1
        span = _value_at(text, start, known)
        if span is None:
            word = _WORD_AHEAD.match(text, start)
            position = word.end() if word else max(match.end(), start + 1)
        else:
            position = span[0]
            yield start, *span


def _value_at(text: str, start: int, known: dict[str, Value | None]) -> tuple[int, Value] | None:
    """Return the end and the value of the longest numeric value that begins at ``start``."""
    patterns = (_DATE, _DURATION, _TIME, _CODE, _AMOUNT) if text[start] not in "$-−–€£" else (_AMOUNT,)
    ends = {match.end() for pattern in patterns if (match := pattern.match(text, start))}
    plain = _PLAIN.match(text, start)
    if plain:
        ends.add(plain.end())
    for end in sorted(ends, reverse=True):
        if _WORD_AHEAD.match(text, end) and not (text[end - 1] in " ." or text[end - 1].isalpha()):
            continue
        if _STREET_AHEAD.match(text, end):
            continue
        if (list_ := _LIST.search(text, start, end)) and read_decimal(list_[0]) is None:
            continue
        part = text[start:end]
        if part not in known:
            known[part] = parse_value(part)
        value = known[part]
        if value is not None and value.kind not in _NO_NUMERIC_KIND:
            return end, value
    return None
