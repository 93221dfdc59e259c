"""Numbers in words: ``twelve``, ``one hundred and five``, ``two thirds``, ``minus three and a half``, ``a dozen``.

Compounds are read in English; of other languages only single words up to twenty. ``two dozen`` is 2 as ``2 dozen`` is,
and ``a dozen`` alone is 12.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from swift_client.answers.numbers import format_number
from swift_client.answers.values.quantities import SCALES, read_unit
from swift_client.answers.values.value import Value

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_ONES = {word: number for number, word in enumerate(_UNITS.split())}
_TENS = {
    word: 10 * number
    for number, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)
}
_SMALL = {**_ONES, **_TENS, "fourty": 40}
_ENGLISH_SCALES = {word: SCALES[word] for word in ("thousand", "million", "billion", "trillion", "quadrillion")}
_PART_NAMES = "half 2 third 3 quarter 4 fourth 4 fifth 5 sixth 6 seventh 7 eighth 8 ninth 9 tenth 10 twelfth 12"
_PARTS = {"halves": 2}
_PARTS |= dict(zip(_PART_NAMES.split()[::2], map(int, _PART_NAMES.split()[1::2]), strict=True))
_PARTS |= {"sixteenth": 16, "twentieth": 20, "hundredth": 100, "thousandth": 1000}
_PARTS.update({f"{word}s": size for word, size in tuple(_PARTS.items()) if not word.endswith("s")})
_ORDINALS = {f"{word}th": number for word, number in _ONES.items() if number not in (0, 1, 2, 3, 5, 8, 9, 12)}
_ORDINALS |= {f"{word[:-1]}ieth": number for word, number in _TENS.items()}
_ORDINALS |= {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12, "hundredth": 100}
# Zero to twenty; left out are words that mean something else in English ("once", "due", "seize").
_OTHER_LANGUAGES = (
    "null zero cero|eins ein un une uno una um uma один одна|zwei deux dos dois duas два две|drei trois tres tre três"
    " три|vier quatre cuatro quattro quatro четыре|fünf cinq cinco cinque пять|sechs seis шесть|sieben sept siete sette"
    " sete семь|acht huit ocho otto oito восемь|neun neuf nueve nove девять|zehn dix diez dieci dez десять|elf onze"
    " undici одиннадцать|zwölf douze doce dodici doze двенадцать|dreizehn treize trece tredici treze|vierzehn quatorze"
    " catorce quattordici|fünfzehn quinze quince quindici|sechzehn dieciséis sedici dezesseis|siebzehn diecisiete"
    " diciassette dezessete|achtzehn dieciocho diciotto dezoito|neunzehn diecinueve diciannove dezenove|zwanzig vingt"
    " veinte venti vinte двадцать"
)
_FOREIGN = {word: number for number, words in enumerate(_OTHER_LANGUAGES.split("|")) for word in words.split()}
_EAST_ASIAN = re.compile("[零〇一二两三四五六七八九十百千万]{1,12}")
_EAST_ASIAN_DIGITS = {sign: number for number, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_FIRST = frozenset(
    (*_SMALL, "a", "an", "minus", "negative", "half", "quarter", "hundred", "thousand", "million", "dozen", *_ORDINALS)
)


def parse_number_words(text: str, written: str) -> Value | None:
    """Return the number that ``text`` in lower case is as a whole, in words; or None."""
    if text in _FOREIGN:
        return _make_number(Fraction(_FOREIGN[text]))
    if not text.isascii():
        return _parse_east_asian(text)
    words = re.findall(r"[a-z]+|[^\sa-z-]", text.removeprefix("the "))
    if not words or words[0] not in _FIRST or len(words) > 20:
        return None
    ordinal = _parse_ordinal(words)
    if ordinal is not None:
        return Value("ordinal", ("ordinal", ordinal), text)
    if text.startswith("the "):
        return None
    clock = _CLOCK.fullmatch(text)
    if clock and clock[3] in _SMALL:
        return _read_clock(clock[1], clock[2], _SMALL[clock[3]])
    negative = words[0] in ("minus", "negative")
    value, size = _read_number(words[negative:])
    if value is None:
        return None
    rest = words[negative + size :]
    value = -value if negative else value
    if not rest:
        return _make_number(value)
    if rest == ["percent"] or rest == ["per", "cent"]:
        return Value("percent", value, format_number(value))
    is_fraction = value.denominator > 1
    # "One Hundred Years of Solitude" and "one of the two" are no quantities
    if len(rest) > 4 or re.search(r"\b[A-Z][a-z]+ +[A-Z]", written) or (rest[0] == "of" and not is_fraction):
        return None
    unit = read_unit(" " + " ".join(rest), written)
    return unit and Value("quantity", value, format_number(value), unit)  # type: ignore[return-value]


_CLOCK = re.compile(r"(?:a )?([a-z]+) (past|to) ([a-z]+)")


def _read_clock(first: str, word: str, last: int) -> Value | None:
    """Return the time ``half past two``, or the ratio ``two to one``."""
    minutes = {"half": 30, "quarter": 15}.get(first) or (_SMALL.get(first) if word == "past" else None)
    if minutes and 0 < last <= 12 and not (first == "half" and word == "to"):
        hour, minutes = (last, minutes) if word == "past" else ((last - 2) % 12 + 1, 60 - minutes)
        return Value("time", ("ratio", str(hour), f"{minutes:02}"), f"{hour}:{minutes:02}")
    if first in _SMALL and word == "to":
        return Value("ratio", ("ratio", str(_SMALL[first]), str(last)), f"{_SMALL[first]}:{last}")
    return None


def _make_number(value: Fraction) -> Value:
    return Value("number", value, format_number(value))


def _parse_ordinal(words: Sequence[str]) -> int | None:
    """Return the ordinal number that the words are, such as 21 for ``twenty first``."""
    last = _ORDINALS.get(words[-1])
    if last is None:
        return None
    if len(words) == 1:
        return last
    if words[0] in ("a", "one") and len(words) == 2:  # "a third" is a fraction
        return None
    value, size = _read_integer(words[:-1])
    if value is None or size != len(words) - 1 or value % (100 if last >= 10 else 10):
        return None
    return value + last


def _read_number(words: Sequence[str]) -> tuple[Fraction | None, int]:
    """Return the number that begins the words, and how many of them it has."""
    if words[:1] == ["half"]:
        if words[1:3] == ["a", "dozen"] or words[1:2] == ["dozen"]:
            return Fraction(6), 3 if words[1] == "a" else 2
        return Fraction(1, 2), 2 if words[1:2] == ["a"] else 1
    if words[:1] in (["a"], ["an"]):
        following = words[1] if len(words) > 1 else ""
        if following == "dozen":
            return Fraction(12), 2
        if following not in ("half", "third", "quarter", "fifth", "tenth", "hundred", *_ENGLISH_SCALES):
            return None, 0
        words = ["one", *words[1:]]
    if words[:1] == ["dozen"]:
        return (Fraction(12), 1) if len(words) == 1 else (None, 0)
    integer, size = _read_integer(words)
    if integer is None:
        return None, 0
    value, rest = Fraction(integer), words[size:]
    if rest and rest[0] in _PARTS and (integer == 1 or rest[0].endswith("s")):
        return value / _PARTS[rest[0]], size + 1
    if rest[:1] == ["point"]:
        digits = [_ONES[word] for word in _take_digits(rest[1:])]
        if digits:
            return value + Fraction(int("".join(map(str, digits))), 10 ** len(digits)), size + 1 + len(digits)
    if rest[:1] == ["and"]:
        part, part_size = _read_number(rest[1:])
        if part is not None and 0 < part < 1:
            return value + part, size + 1 + part_size
    return value, size


def _take_digits(words: Sequence[str]) -> list[str]:
    digits: list[str] = []
    for word in words:
        if _ONES.get(word, 10) > 9:
            break
        digits.append(word)
    return digits


def _read_integer(words: Sequence[str]) -> tuple[int | None, int]:
    """Return the whole number that begins the words, and how many of them it has."""
    total, group, size = 0, -1, 0  # group: the part below a thousand, -1 if it has not begun
    smallest_scale = 10**18
    for index, word in enumerate(words):
        number = _SMALL.get(word)
        if number is not None:
            if group < 0:
                group = number
            elif 10 <= group < 100 and number >= 10 and total == 0:  # nineteen eighty-four
                group = group * 100 + number
            elif (group % 100 == 0 and group) or (group % 10 == 0 and group % 100 >= 20 and 0 < number < 10):
                group += number
            else:
                break
        elif word == "hundred" and -1 <= group < 100:
            group = 100 * (1 if group < 0 else group)
        elif word in _ENGLISH_SCALES and _ENGLISH_SCALES[word] < smallest_scale and (group > 0 or size == 0):
            smallest_scale = _ENGLISH_SCALES[word]
            total, group = total + max(group, 1) * smallest_scale, -1
        elif (
            word == "and"
            and size
            and index + 1 < len(words)
            and words[index + 1] in _SMALL
            and _takes_and(words[index - 1])
        ):
            continue
        else:
            break
        size = index + 1
    return (None, 0) if size == 0 else (total + max(group, 0), size)


def _takes_and(word: str) -> bool:
    return word == "hundred" or word in _ENGLISH_SCALES


def _parse_east_asian(text: str) -> Value | None:
    if not _EAST_ASIAN.fullmatch(text):
        return None
    total = group = digit = 0
    for sign in text:
        if sign in _EAST_ASIAN_DIGITS:
            digit = _EAST_ASIAN_DIGITS[sign]
        elif sign == "万":
            total, group, digit = (group + digit) * 10_000, 0, 0
        else:
            group, digit = group + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[sign], 0
    return _make_number(Fraction(total + group + digit))
