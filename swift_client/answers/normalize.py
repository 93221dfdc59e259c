r"""The normal form of an answer: one text for the many ways in which models write the same thing.

``$\boxed{...}$`` contents, ``**18** dollars.``, ``x = 18`` and ``18.00`` all become ``18``. Percent signs and units are
dropped, never converted: ``50%`` is ``50``, because questions fix the unit and models leave it out at will; reading
``50%`` as both 50 and 0.5 would make 50 equal 0.5. Values longer than 300 characters are prose: only case and white
space are evened out. The steps follow the graders of MATH and GSM8K (hendrycks/math, openai/grade-school-math).
"""

from __future__ import annotations

import re

from swift_client.answers.latex import has_words, simplify_fractions, strip_formatting
from swift_client.answers.numbers import shorten_decimal
from swift_client.answers.unicode import fold_case, normalize_characters
from swift_client.answers.units import strip_thousands_commas, strip_unit

MAX_VALUE_LENGTH = 300
"""Characters; anything longer is prose."""
_MAX_ROUNDS = 8
"""Steps feed each other (``$18 dollars.$``); each shortens or settles the text, so few rounds reach the end."""


def normalize(text: str) -> str:
    """Return the normal form of ``text``. A normal form is its own normal form."""
    text = " ".join(fold_case(normalize_characters(text)).split())
    if len(text) > MAX_VALUE_LENGTH:
        return text
    for _ in range(_MAX_ROUNDS):
        before = text
        for step in _STEPS:
            text = step(text).strip()
        if text == before:
            break
    return text


_BOLD = re.compile(r"(?<!\w)\*\*([^*]+)\*\*")


def _strip_wrapping(text: str) -> str:
    """Dollar signs, markdown, quotes, the full stop, and braces around the whole."""
    text = text.replace("$", " ").strip()
    text = _BOLD.sub(r"\1", text).strip("*`\"'").rstrip(".,;:").strip()
    if text.startswith("{") and text.endswith("}") and "{" not in text[1:] and "," not in text:
        text = text[1:-1]
    return text


_LETTER = re.compile(r"(?:\(([a-j])\)|\[([a-j])\]|([a-j])[):])(?:\s(?!.*\b[a-j]\)).*)?|([a-j])\.")


def _option_letter(text: str) -> str:
    """``(B)``, ``B)``, ``B.`` and ``(B) 12 apples`` are ``b``; ``A. Lincoln`` and ``(a) 3 (b) 4`` are no letters."""
    match = _LETTER.fullmatch(text)
    return next(filter(None, match.groups())) if match else text


_QUALIFIER = re.compile(r"^(?:approximately|about|around|roughly|exactly|only|≈|~|\\approx) ?(?=[-+]?[\d.])")
_EQUALS = re.compile(r"(?<![<>!=:\\])=(?!=)")
_SYMBOL = re.compile(r"(?:\\?[a-z]+(?: [a-z]+){0,4})(?:_\{?\w+\}?)?'?\s?(?:\([^()=]*\))?")
_MEMBER_OF = re.compile(r"^[a-z] ?\\in(?![A-Za-z]) ?")
_SEPARATOR = re.compile(r"[,;]|\b(?:or|and)\b")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def _strip_lead(text: str) -> str:
    r"""Drop "about", ``x \in`` and all but the end of a chain of equations.

    ``x = 3 + 4 = 7`` and ``21 + 49 = 70`` end in the answer; ``x^2 + y^2 = 4`` and ``x = 1, y = 2`` are answers.
    """
    text = _MEMBER_OF.sub("", _QUALIFIER.sub("", text, count=1), count=1)
    members = [member.strip() for member in _EQUALS.split(text)]
    if len(members) < 2 or not all(members) or _SEPARATOR.search(text):
        return text
    unknowns = re.search(r"(?<![a-z])[a-z](?![a-z])", _COMMAND.sub("", text))
    return members[-1] if _SYMBOL.fullmatch(members[0]) or not unknowns else text


_OPERATOR_SPACE = re.compile(r"\s*([+\-*/^=<>()\[\]{}|])\s*")
_COMMAND_SPACE = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
_SPACE_COMMAND = re.compile(r"(?<![A-Za-z,]) \\")


def _normalize_spaces(text: str) -> str:
    """One space after a comma, none around the signs of a formula; words keep theirs."""
    if not has_words(text):
        text = _OPERATOR_SPACE.sub(r"\1", text)
    text = _SPACE_COMMAND.sub(r"\\", _COMMAND_SPACE.sub(r"\1", text))
    return " ".join(re.sub(r"\s*,\s*", ", ", text).split())


_STEPS = (
    strip_formatting,
    _strip_wrapping,
    _option_letter,
    strip_thousands_commas,
    strip_unit,
    _strip_lead,
    simplify_fractions,
    _normalize_spaces,
    shorten_decimal,
)
