"""Text to one typed value, as a whole: never a piece of it."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from swift_client.answers.numbers import strip_thousands_commas
from swift_client.answers.values import markup
from swift_client.answers.values.codes import parse_code
from swift_client.answers.values.compounds import parse_compound
from swift_client.answers.values.dates import parse_date, parse_range, parse_time
from swift_client.answers.values.lists import parse_list
from swift_client.answers.values.names import name_key
from swift_client.answers.values.number_words import parse_number_words
from swift_client.answers.values.quantities import parse_quantity
from swift_client.answers.values.value import Value, split_words

# Limit on the rounds. One may enable another (``$18 dollars.$``); a few are enough.
_MAX_ROUNDS = 8
_MAX_FORMULA_LENGTH = 200

_PLAIN = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{0,17}[1-9])?", re.ASCII)


def parse_value(text: str) -> Value | None:
    """Return the value of a known kind that the whole of ``text`` is; None for prose and names."""
    value = read_value(text)
    return None if value.kind == "text" else value


def normalize(text: str) -> str:
    """Return the normal form of ``text``. Normalizing it again changes nothing."""
    return read_value(text).text


def read_value(text: str) -> Value:
    """Return the value that the whole of ``text`` is; of kind "text" if it is of no other kind.

    Reading ``text`` of the result again gives the same text and the same key.
    """
    kind = unit = ""
    for _ in range(_MAX_ROUNDS):
        value = _read_once(text)
        kind, unit = kind or value.kind, unit or value.unit
        if value.text == text or isinstance(value.key, Fraction):  # the text of a number is canonical at once
            break
        text = value.text
    # "50%" is of the kind "percent", though its canonical text is a number.
    return value if value.kind in (kind, "text", "formula") else replace(value, kind=kind, unit=unit)


def _read_once(text: str) -> Value:
    plain = text.lstrip(" *").rstrip(" *.")
    if _PLAIN.fullmatch(plain):
        text = "0" if plain == "-0" else plain
        return Value("number", Fraction(text) if "." in text else Fraction(int(text)), text)
    if len(text) > markup.MAX_NFKC_LENGTH:
        text = " ".join(text.split())
    if len(text) > markup.MAX_NFKC_LENGTH:
        text = text.casefold()
        return Value("text", ("text", text), text)
    written = " ".join(markup.normalize_characters(text).split())
    folded = " ".join(markup.fold_case(written).split())
    if len(folded) > markup.MAX_VALUE_LENGTH:
        return Value("text", ("text", folded), folded)
    cleaned = _clean(folded)
    value = parse_typed(cleaned, written)
    if value is not None:
        return value
    return _read_formula_or_text(cleaned, written)


def _clean(text: str) -> str:
    if text.replace(" ", "").isalpha():  # a name: there is nothing to remove
        return text
    for _ in range(_MAX_ROUNDS):
        before = text
        text = markup.strip_wrapping(" ".join(markup.strip_formatting(text).split()))
        text = markup.strip_lead(text)
        if text == before:
            break
    return text


_DIGIT = re.compile("[0-9]")
_YES = split_words("yes yeah yep yup true ja oui sí sim да 是 はい vrai wahr verdadero")
_NO = split_words("no nope nah false nein non não нет 否 不是 いいえ faux falsch falso")
_OPTION = re.compile(
    r"(?:(?:option|choice) ?)?(?:\(([a-j])\)|\[([a-j])\]|([a-j])[):])(?:\s(?!.*\b[a-j]\)).*)?|([a-j])\."
    r"|(?:option|choice) ([a-j])|([a-j])"
)


def parse_typed(text: str, written: str) -> Value | None:
    """Return the typed value that the cleaned ``text`` is as a whole; ``written`` shows its capitals."""
    if text in _YES or text in _NO:
        return Value("yes_no", ("yes_no", text in _YES), text)
    option = _OPTION.fullmatch(text)
    if option:
        letter = next(filter(None, option.groups()))
        return Value("letter", ("letter", letter), letter)
    amount = markup.simplify_fractions(text)
    if _DIGIT.search(text):
        value = (
            parse_date(text)
            or parse_time(text)
            or parse_code(text)
            or parse_compound(text)
            or parse_quantity(amount, written)
            or parse_range(text)
        )
    else:
        value = parse_time(text) or parse_number_words(text, written)
    return value or parse_list(amount, written, parse_typed) or _parse_twice(text, written)


_TWICE = re.compile(r"(.+) \(([^()]+)\)")
_CALCULATION = re.compile(r"[¤$]?[\d.,]+(?: ?[-+*/=] ?[¤$]?[\d.,]+)+")


def _parse_twice(text: str, written: str) -> Value | None:
    """Return the value of ``twelve (12)``, written twice, and of ``185 (160 + 25)``, with its calculation."""
    match = _TWICE.fullmatch(text)
    first = match and parse_typed(match[1], written)
    if match and first and isinstance(first.key, Fraction) and _CALCULATION.fullmatch(match[2]):
        return first
    second = first and match and parse_typed(match[2], written)
    if not first or not second:
        return None
    keys = [
        100 * value.key if value.kind != "percent" and isinstance(value.key, Fraction) else value.key
        for value in (first, second)
    ]  # 0.75 (75%)
    is_percentage = (first.kind == "percent") != (second.kind == "percent")
    return first if first.key == second.key or (is_percentage and keys[0] == keys[1]) else None


_MATH = re.compile(r"[\d\\+*/^=]")
# Decades and names with digits such as H2O and R2D2; bases such as 1011_2, and dates that do not exist.
_NO_MATH = re.compile(r"[12]\d\d0s|[a-z][a-z0-9_{}]*$")
_NO_MATH_WITHIN = re.compile(r"\d_\{?\d|\d[-/.:]\d+[-/.:]\d")
_NO_ANSWER = frozenset("\\$¤*`\"'()[]{}.,;:_ ")


def _find_no_math(text: str) -> bool:
    return _NO_MATH.match(text) is not None or _NO_MATH_WITHIN.search(text) is not None


def _read_formula_or_text(text: str, written: str) -> Value:
    """Return a formula, which math-verify can read, or a text."""
    if _NO_ANSWER.issuperset(text):  # what is left of a formula that was cut
        return Value("text", ("text", ""), "")
    if (
        len(text) <= _MAX_FORMULA_LENGTH
        and _MATH.search(text)
        and not markup.has_words(text)
        and not _find_no_math(text)
    ):
        text = markup.simplify_fractions(strip_thousands_commas(text.replace("¤", " ").strip()))
        text = markup.normalize_spaces(text)
        return Value("formula", ("formula", text), text)
    if written != text and parse_typed(text, text) is not None:  # "12 Monkeys" would be a quantity in lower case
        text = _clean(written)
    text = markup.normalize_spaces(markup.simplify_fractions(strip_thousands_commas(text.replace("¤", " "))))
    return Value("text", ("text", name_key(text.casefold())), text)
