r"""The normal form of an answer: one text for the many ways in which models write the same answer.

The content of ``$\boxed{...}$``, ``**18** dollars.``, ``x = 18`` and ``18.00`` all become ``18``. Percent signs and
units are dropped, not converted: ``50%`` is ``50``, since the question determines the unit and models often leave it
out; reading ``50%`` as both 50 and 0.5 would make 50 equal 0.5. Texts longer than 300 characters are prose: only case
and white space are normalized. The steps follow the graders of MATH and GSM8K (hendrycks/math,
openai/grade-school-math).
"""

from __future__ import annotations

import re
import unicodedata

from swift_client.answers.numbers import shorten_decimal, strip_thousands_commas, strip_unit

MAX_VALUE_LENGTH = 300  # characters; a longer text is prose
# Of a longer text, only case and white space are normalized: unicodedata.normalize takes quadratic
# time on combining marks, with the interpreter's lock held, and makes 18 characters of one.
MAX_NFKC_LENGTH = 4_000
# Limit on the rounds of all steps. One step may enable another (``$18 dollars.$``); a few rounds are enough.
_MAX_ROUNDS = 8


def normalize(text: str) -> str:
    """Return the normal form of ``text``. Normalizing it again changes nothing."""
    for _ in range(_MAX_ROUNDS):
        before = text
        if len(text) > MAX_NFKC_LENGTH:
            text = " ".join(text.split())
        if len(text) > MAX_NFKC_LENGTH:
            text = text.casefold()
        else:
            text = " ".join(fold_case(normalize_characters(text)).split())
        if len(text) <= MAX_VALUE_LENGTH:
            for step in _STEPS:
                text = step(text).strip()
        if text == before:
            break
    return text


# Characters

_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}
_CHARACTERS = {
    **{ord(sign): "-" for sign in "−–—‒‐‑﹣－"},
    **{ord(sign): "*" for sign in "×·⋅∙"},
    **{ord(quote): "'" for quote in "‘’‚′"},
    **{ord(quote): '"' for quote in "“”„″"},
    **{ord(digit): f"^{value}" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{ord(half): f" {name}" for half, name in _VULGAR.items()},
    ord("÷"): "/",
    ord("≤"): r"\le ",
    ord("≥"): r"\ge ",
    ord("≠"): r"\ne ",
    ord("π"): r"\pi ",
    ord("∞"): r"\infty ",
    ord("∪"): r"\cup ",
    ord("∩"): r"\cap ",
    ord("٫"): ".",
    ord("٬"): ",",
    ord("\N{COMBINING ENCLOSING KEYCAP}"): "",
    ord("\N{VARIATION SELECTOR-16}"): "",
}
_NARROW_SPACE_IN_NUMBER = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")


def normalize_characters(text: str) -> str:
    """Replace digits and signs by ASCII; remove control characters, direction marks and full-width forms."""
    if text.isascii() and text.isprintable():
        return text
    text = _NARROW_SPACE_IN_NUMBER.sub("", text).translate(_CHARACTERS)
    text = unicodedata.normalize("NFKC", text)
    if text.isascii() and text.isprintable():
        return text
    return text.translate({ord(character): _normalize_character(character) for character in set(text)})


def _normalize_character(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category[0] in "CZ" else character


_COMMAND_OR_TEXT = re.compile(r"\\[A-Za-z]+|[^\\]+|\\")


def fold_case(text: str) -> str:
    r"""Convert to lower case, except for LaTeX commands: ``\Delta`` is not ``\delta``."""
    if "\\" not in text:
        return unicodedata.normalize("NFKC", text.casefold())
    return _COMMAND_OR_TEXT.sub(lambda part: part[0] if part[0][0] == "\\" else part[0].casefold(), text)


# LaTeX

_LATEX = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])\.?", ""),
        (r"\\!|\{,\}(?=\d)|\\,(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])|~", " "),
        (r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boxed|fbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*\{\s*([^{}\s]+)\s*\}\s*(?:\{\s*([^{}\s]+)\s*\}|(\d))", r"\\frac{\1}{\2\3}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\leq(?![A-Za-z])", r"\\le"),
        (r"\\geq(?![A-Za-z])", r"\\ge"),
        (r"\\neq(?![A-Za-z])", r"\\ne"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", ""),
        (r"([\^_])\{(\w)\}", r"\1\2"),
        (r"\\([%$#&_])", r"\1"),
        (r"\\[()\[\]](?=.|$)", ""),
    )
]


def strip_formatting(text: str) -> str:
    """Remove LaTeX commands for layout, and use one command per meaning."""
    if "\\" in text or "~" in text or "{" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    text = re.sub(r"°\s?[cf]?(?![a-z])", "", text)
    text = re.sub(r"√\s?(\d+|[a-z])", r"\\sqrt{\1}", text)
    return re.sub(r"(?<![a-z\\])sqrt\(([^()]*)\)", r"\\sqrt{\1}", text)


_MIXED = re.compile(r"([+-]?)\s?(\d+)\s?\\frac\{(\d+)\}\{(\d+)\}")
_FRACTION = re.compile(r"(?:^|(?<=[\s(\[,{+=-]))\\frac\{(-?\w+|-?\\pi)\}\{(\d+|[a-z])\}(?=$|[\s,)\]}+=-])")


def simplify_fractions(text: str) -> str:
    r"""Write ``\frac{14}{3}`` as ``14/3`` and ``2\frac{1}{2}`` as ``2 1/2``, but not within products."""
    text = _MIXED.sub(r"\1\2 \3/\4", text) if _MIXED.fullmatch(text) else text
    return _FRACTION.sub(r"\1/\2", text)


_WORD = re.compile(r"(?<![\\A-Za-z{])(?!(?:and|or)\b)(?:[A-Za-z]{3}|(?<=\d )[A-Za-z]{2})")


def has_words(text: str) -> bool:
    r"""Return whether ``text`` has words ("star", "5 pm") and not only symbols (``2xy``, ``\begin{matrix}``)."""
    return _WORD.search(text) is not None


# Wording and spaces

_BOLD = re.compile(r"(?<!\w)\*\*([^*]+)\*\*")


def _strip_wrapping(text: str) -> str:
    """Remove dollar signs, Markdown, quotes, the full stop, and braces around the text."""
    text = text.replace("$", " ").strip()
    text = _BOLD.sub(r"\1", text).strip("*`\"'").rstrip(".,;:").strip()
    if text.startswith("{") and text.endswith("}") and "{" not in text[1:] and "," not in text:
        text = text[1:-1]
    return text


_LETTER = re.compile(r"(?:\(([a-j])\)|\[([a-j])\]|([a-j])[):])(?:\s(?!.*\b[a-j]\)).*)?|([a-j])\.")


def _simplify_option(text: str) -> str:
    """Reduce ``(B)``, ``B)``, ``B.`` and ``(B) 12 apples`` to ``b``, but not ``A. Lincoln`` or ``(a) 3 (b) 4``."""
    match = _LETTER.fullmatch(text)
    return next(filter(None, match.groups())) if match else text


_QUALIFIER = re.compile(r"^(?:approximately|about|around|roughly|exactly|only|≈|~|\\approx) ?(?=[-+]?[\d.])")
_EQUALS = re.compile(r"(?<![<>!=:\\])=(?!=)")
_SYMBOL = re.compile(r"(?:\\?[a-z]+(?: [a-z]+){0,4})(?:_\{?\w+\}?)?'?\s?(?:\([^()=]*\))?")
_MEMBER_OF = re.compile(r"^[a-z] ?\\in(?![A-Za-z]) ?")
_SEPARATOR = re.compile(r"[,;]|\b(?:or|and)\b")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def _strip_lead(text: str) -> str:
    r"""Remove "about", ``x \in`` and all but the last member of a chain of equations.

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
    """Put one space after a comma, and none around the operators of a formula without words."""
    if not has_words(text):
        text = _OPERATOR_SPACE.sub(r"\1", text)
    text = _SPACE_COMMAND.sub(r"\\", _COMMAND_SPACE.sub(r"\1", text))
    return " ".join(re.sub(r"\s*,\s*", ", ", text).split())


_STEPS = (
    strip_formatting,
    _strip_wrapping,
    _simplify_option,
    strip_thousands_commas,
    strip_unit,
    _strip_lead,
    simplify_fractions,
    _normalize_spaces,
    shorten_decimal,
)
