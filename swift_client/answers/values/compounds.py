"""Quantities in several units: ``2 hours and 45 minutes``, ``6 ft 2 in``, ``5 dollars and 50 cents``.

They are compared by their total, in a family of units. A quantity in one unit stays a plain number, so ``165 minutes``
is 165 and not ``2 hours 45 minutes``: which unit was asked for is not known here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from swift_client.answers.numbers import format_number, read_decimal
from swift_client.answers.values.value import Value

# Family -> size of its units in its smallest one.
_FAMILIES = {
    "duration": (
        (7 * 86400, "weeks week wks wk w wochen woche semaines semaine semanas semana"),
        (
            86400,
            "days day d tage tag tagen jours jour dias días dia día giorni dagen dag dagar dni дней дня день 天 日",
        ),
        (
            3600,
            "hours hour hrs hr h stunden stunde std heures heure horas hora ore uur uren timmar timme godziny godzin"
            " часов часа час ч 时间 時間 小时 小時 시간",
        ),
        (
            60,
            "minutes minute mins min m minuten minutos minuto minuti minuter minut minuty минут минуты минута мин 分"
            " 分钟 分鐘 분",
        ),
        (
            1,
            "seconds second secs sec s sekunden sekunde secondes seconde segundos segundo secondi seconden sekunder"
            " sekund секунд секунды секунда сек 秒 초",
        ),
    ),
    "months": (
        (12, "years year yrs yr y jahre jahr ans années año años ano anos"),
        (1, "months month mos mo monate monat mois mes meses"),
    ),
    "length": (
        (63360, "miles mile mi"),
        (36, "yards yard yd yds"),
        (12, "feet foot ft '"),
        (1, "inches inch in ins \" ''"),
    ),
    "metric length": (
        (1000_000, "km kilometers kilometres kilometer kilometre"),
        (1000, "m meters metres meter metre"),
        (10, "cm centimeters centimetres centimeter centimetre"),
        (1, "mm millimeters millimetres millimeter millimetre"),
    ),
    "weight": ((224, "stone st"), (16, "pounds pound lbs lb"), (1, "ounces ounce oz")),
    "metric weight": ((1000, "kg kilograms kilogram kilos kilo"), (1, "g grams gram gramm")),
    "volume": ((1000, "l liters litres liter litre"), (1, "ml milliliters millilitres milliliter millilitre")),
    "money": ((100, "dollars dollar euros euro € $ usd eur"), (1, "cents cent ct")),
    "sterling": ((100, "pounds pound £"), (1, "pence penny p")),
    "rupees": ((100, "rupees rupee rs ₹"), (1, "paise paisa")),
}
_SIZES: dict[str, list[tuple[str, int]]] = {}  # unit -> its families with its size there
for _family, _units in _FAMILIES.items():
    for _size, _names in _units:
        for _name in _names.split():
            _SIZES.setdefault(_name, []).append((_family, _size))

_PART = re.compile(
    r"(\d[\d,.]*)(?: (\d+)/(\d+))? ?([^\W\d_]+|''?|\"|[$€£₹])\.?|(?:,? ?\b(?:and|und|et|y|e|och|og|en|i|и)\b|,|&)"
)
_MAY_BE_COMPOUND = re.compile("[^\\W\\d_'].*\\d|['$€£₹:]")
_CLOCK = re.compile(r"(\d{1,3}):(\d\d)(?::(\d\d))? ?(?:h|hrs?|hours?|stunden)\.?")


def parse_compound(text: str) -> Value | None:
    """Return the quantity in two or more units that ``text`` in lower case is as a whole, or None."""
    if not _MAY_BE_COMPOUND.search(text):
        return None
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        shown = f"{hours} hours {minutes} minutes" + (f" {seconds} seconds" if seconds else "")
        return Value("duration", ("duration", Fraction(3600 * hours + 60 * minutes + seconds)), shown)
    parts: list[tuple[Fraction, str]] = []
    shown_parts = []
    position = 0
    for match in _PART.finditer(text):
        if text[position : match.start()].strip():
            return None
        position = match.end()
        if match[1] is None:
            continue
        number = read_decimal(match[1].rstrip(".,"), has_unit=True)
        if number is None or (match[3] and not int(match[3])):
            return None
        amount = Fraction(number) + (Fraction(int(match[2]), int(match[3])) if match[2] else 0)
        parts.append((amount, match[4]))
        shown_parts.append(f"{number}{f' {match[2]}/{match[3]}' if match[2] else ''} {match[4]}")
    rest = text[position:].strip(" .")
    if (
        len(parts) == 1 and parts[0][1] == "'" and re.fullmatch(r"\d\d?", rest)
    ):  # 6'2, its closing quotation mark removed
        parts.append((Fraction(rest), "''"))
        shown_parts.append(f"{rest} ''")
    elif rest or len(parts) < 2:
        return None
    return _add_up(parts, " ".join(shown_parts))


def _add_up(parts: list[tuple[Fraction, str]], shown: str) -> Value | None:
    """Return the total, if the units are of one family and become smaller from part to part."""
    for family in _FAMILIES:
        sizes = [size for _, unit in parts for name, size in _SIZES.get(unit, ()) if name == family]
        if len(sizes) == len(parts) and all(a > b for a, b in pairwise(sizes)):
            total = sum((amount * size for (amount, _), size in zip(parts, sizes, strict=True)), Fraction())
            if family in ("money", "sterling", "rupees"):
                return Value("money", total / 100, format_number(total / 100))
            if family in ("duration", "months"):
                return Value("duration", (family, total), shown)
            return Value("quantity", (family, total), shown)
    return None
