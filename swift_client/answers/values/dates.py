"""Dates and times of day, in words and digits. They are compared as dates and times, never as arithmetic.

``6/28/1972``, ``28 June 1972``, ``le 28 juin 1972`` and ``1972-06-28`` are one date. In digits with slashes or hyphens
the month comes first, with dots the day, unless only the other order is a date. Years of two digits up to 29 are in
this century. A partial date (``June 1972``, ``June 28``) equals only the same partial date. ``2:30 pm`` is ``14:30``.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from fractions import Fraction

from swift_client.answers.values.value import Value, split_words

_MONTH_NAMES = (
    "january jan januar janvier janv enero ene gennaio janeiro januari leden января январь 1月",
    "february feb februar fevrier fevr febrero febbraio fevereiro fev februari февраля февраль 2月",
    "march mar marz mrz maerz mars marzo marco maart mrt марта март 3月",
    "april apr avril avr abril abr aprile апреля апрель 4月",
    "may mai mayo maggio mag maio mei мая май 5月",
    "june jun juni juin junio giugno giu junho июня июнь 6月",
    "july jul juli juillet juil julio luglio lug julho июля июль 7月",
    "august aug aout agosto augustus августа август 8月",
    "september sept sep septembre septiembre settembre setembro сентября сентябрь 9月",
    "october oct oktober okt octobre octubre ottobre ott outubro октября октябрь 10月",
    "november nov novembre noviembre novembro ноября ноябрь 11月",
    "december dec dezember dez decembre diciembre dic dicembre dezembro декабря декабрь 12月",
)
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}
MONTH_PATTERN = "|".join(sorted(filter(str.isalpha, _MONTHS), key=len, reverse=True))
_ENGLISH = tuple(names.split()[0].title() for names in _MONTH_NAMES)
_WEEKDAYS = (
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun montag"
    " dienstag mittwoch donnerstag freitag samstag sonntag lundi mardi mercredi jeudi vendredi samedi dimanche lunes"
    " martes miercoles jueves viernes sabado domingo segunda terca quarta quinta sexta feira"
)
_FILLERS = split_words(f"{_WEEKDAYS} of the on de del do la le el den der dem am em st nd rd th er o a г года")

_DIGITS_DATE = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})|(\d{1,2}) ?([-/.]) ?(\d{1,2}) ?\6 ?(\d{4}|\d\d)")
_YEAR_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])|(0[1-9]|1[0-2])/(\d{4})")
_EAST_ASIAN = re.compile(r"(?:(\d{4}) ?[年년] ?)?(\d{1,2}) ?[月월](?: ?(\d{1,2}) ?[日号일])?")
_ERA = re.compile(r"(\d{1,5}) ?(b\.? ?c\.?(?: ?e\.?)?|a\.? ?d\.?|c\.? ?e\.?)|a\.?d\.? ?(\d{1,4})")
_WORDS = re.compile(r"[^\W\d_]+|\d+|'\d\d")
_SEPARATORS = re.compile(r"[\s.,/'()-]*")


def parse_date(text: str) -> Value | None:
    """Return the date, perhaps with a time of day, that ``text`` in lower case is as a whole, or None."""
    if not any(map(str.isdigit, text)):
        return None
    era = _ERA.fullmatch(text)
    if era:
        year = int(era[1] or era[3])
        is_before = era[2] is not None and era[2].startswith("b")
        return Value("date", ("bc", year), f"{year} bc") if is_before else Value("number", Fraction(year), str(year))
    date = _parse_digits(text) or _parse_words(text)
    if date is not None:
        return _make_date(date)
    return _parse_date_and_time(text)


_DATE_TIME = re.compile(r"(.{6,40}?)(?:, ?| at |t| )(?:at )?(\d{1,2}(?:[:.h]| ?[ap]).*)")


def _parse_date_and_time(text: str) -> Value | None:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    date, time = _parse_digits(match[1]) or _parse_words(match[1]), parse_time(match[2])
    if date is None or time is None:
        return None
    day = _make_date(date)
    return day and Value("date", (day.key, time.key), f"{day.text} {time.text}")


_Parts = tuple[int | None, int, int | None]  # year, month, day


def _make_date(parts: _Parts) -> Value | None:
    """Return the value of a date; None if there is no such day."""
    year, month, day = parts
    if not 1 <= month <= 12 or (year is not None and not 1 <= year <= 9999):
        return None
    if day is not None and not 1 <= day <= calendar.monthrange(2000 if year is None else year, month)[1]:
        return None
    if year is None:
        text = f"{_ENGLISH[month - 1]} {day}"
    else:
        text = f"{year:04}-{month:02}" + ("" if day is None else f"-{day:02}")
    return Value("date", ("date", year, month, day), text)


def _full_year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) > 2 else year + (2000 if year < 30 else 1900)


def _parse_digits(text: str) -> _Parts | None:
    match = _DIGITS_DATE.fullmatch(text)
    if match and match[1]:
        return int(match[1]), int(match[3]), int(match[4])
    if match:
        first, sign, second, year = match.group(5, 6, 7, 8)
        if sign != "/" and len(year) == 2 and not len(first) == len(second) == 2:  # 1.2.03 is a version
            return None
        if sign == "-" and len(year) == 2:  # 12-31-99 may be a code
            return None
        day_first = sign == "." if int(first) <= 12 and int(second) <= 12 else int(first) > 12
        month, day = (second, first) if day_first else (first, second)
        return _full_year(year), int(month), int(day)
    match = _YEAR_MONTH.fullmatch(text)
    if match:
        return int(match[1] or match[4]), int(match[2] or match[3]), None
    match = _EAST_ASIAN.fullmatch(text)
    if match and (match[1] or match[3]):
        return int(match[1]) if match[1] else None, int(match[2]), int(match[3]) if match[3] else None
    return None


def _parse_words(text: str) -> _Parts | None:
    """Parse a date with a month's name, such as ``monday, the 5th of may 2020`` or ``20-oct-56``."""
    if len(text) > 60 or " - " in text or _SEPARATORS.sub("", _WORDS.sub("", text)):
        return None
    month: int | None = None
    numbers: list[str] = []
    for token in _WORDS.findall(text):
        if token[0].isdigit() or token[0] == "'":
            numbers.append(str(_full_year(token[1:])) if token[0] == "'" else token)
            continue
        name = _strip_accents(token)
        number = _MONTHS.get(name)
        if number is not None and month is None:
            month = number
        elif name not in _FILLERS:
            return None
    if month is None or not 1 <= len(numbers) <= 2:
        return None
    years = [token for token in numbers if len(token) > 2 or not 1 <= int(token) <= 31]
    days = [token for token in numbers if token not in years]
    if len(numbers) == 2 and not years:  # 5 may 04
        years, days = [days[1]], [days[0]]
    if len(years) > 1 or len(days) > 1 or any(len(day) > 2 for day in days):
        return None
    year = _full_year(years[0]) if years else None
    if years and not days and len(years[0]) < 3:
        return None
    return year, month, int(days[0]) if days else None


def _strip_accents(word: str) -> str:
    return word if word.isascii() else "".join(sign for sign in unicodedata.normalize("NFD", word) if sign.isalnum())


_RANGE = re.compile(r"(?:from )?(?:(.{1,60}?) (?:--?|to|until|through|bis) (.{1,60})|([^-]{1,60})-([^-]{1,60}))")


def parse_range(text: str) -> Value | None:
    """Return the time from one date or time of day to another, such as ``9am-5pm``; or None."""
    match = _RANGE.fullmatch(text) if re.search(r"[ap]\.?m\b|:|[a-z]{3}|\d{4}-\d", text) else None
    if match is None:
        return None
    first, last = filter(None, match.groups())
    begin = parse_date(first) or parse_time(first)
    end = begin and (parse_date(last) or parse_time(last))
    if begin is None or end is None or begin.kind != end.kind:
        return None
    return Value(begin.kind, ("range", begin.key, end.key), f"{begin.text} to {end.text}")


_HOUR_UHR_MINUTE = re.compile(r"(\d{1,2}) uhr (\d\d)")
_ZONES = "utc gmt z est edt cst cdt mst mdt pst pdt et ct mt pt cet cest bst ist jst"
_TIME = re.compile(
    r"(?:at |um |a las |à )?(?P<hour>\d{1,2})(?:(?P<sign>[:.h]) ?(?P<minute>\d\d))?(?::(?P<second>\d\d)(?:\.0+)?)?"
    r" ?(?P<half>[ap]\.? ?m\b\.?|noon|midnight|uhr|o'?clock(?: ?[ap]\.? ?m\b\.?)?|hrs|h)?(?: (?:sharp|exactly))?"
    rf" ?\(?(?P<zone>{_ZONES.replace(' ', '|')}|[+-]\d\d:?\d\d)?\)?"
)


def parse_time(text: str) -> Value | None:
    """Return the time of day that ``text`` in lower case is as a whole, or None.

    A time without "am" or "pm" may also be a ratio (``2:30``), so both have one key.
    """
    if text in ("noon", "midday", "12 noon"):
        return Value("time", ("ratio", "12", "00"), "12 pm")
    if text in ("midnight", "12 midnight"):
        return Value("time", ("ratio", "0", "00"), "12 am")
    match = _TIME.fullmatch(_HOUR_UHR_MINUTE.sub(r"\1:\2", text) if " uhr " in text else text)
    if match is None:
        return None
    half = re.sub(r"[^a-z]", "", match["half"] or "")
    half = half.removeprefix("oclock") or half
    hour, minute, second = int(match["hour"]), match["minute"], match["second"]
    if minute is None and (second or half not in ("am", "pm", "uhr", "oclock")):
        return None
    if match["sign"] == "." and half not in ("am", "pm", "uhr", "oclock", "hrs"):  # 2.30 is a number
        return None
    if hour > (12 if half in ("am", "pm") else 24) or max(int(minute or 0), int(second or 0)) > 59:
        return None
    if half in ("am", "pm"):
        if hour == 0:
            return None
        day_hour = hour % 12 + (12 if half == "pm" else 0)
        shown = f":{minute or '00'}:{second}" if second else f":{minute}" if minute and minute != "00" else ""
        text = f"{hour}{shown} {half}"
    else:
        day_hour = hour
        text = ":".join(filter(None, (str(hour), minute or "00", second)))
    zone = (match["zone"] or "").replace(":", "")
    key = ("ratio", str(day_hour), minute or "00", *filter(None, (second, zone)))
    return Value("time", key, f"{text} {zone}" if zone else text)
