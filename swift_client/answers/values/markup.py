r"""One notation for characters, LaTeX and Markdown: ``$\dfrac12$`` and ``½`` both become ``1/2``."""

from __future__ import annotations

import re
import unicodedata

MAX_VALUE_LENGTH = 300  # characters; a longer text is prose
# Of a longer text, only case and white space are normalized: unicodedata.normalize takes quadratic
# time on combining marks, with the interpreter's lock held, and makes 18 characters of one.
MAX_NFKC_LENGTH = 4_000

# Characters

_CHARACTERS = {
    **{ord(sign): "-" for sign in "−–—‒‐‑﹣－"},
    **{ord(sign): "*" for sign in "×·⋅∙✕"},
    **{ord(quote): "'" for quote in "‘’‚′ʼ"},
    **{ord(quote): '"' for quote in "“”„″«»"},
    **{
        code: " " + unicodedata.normalize("NFKC", chr(code)).replace("\N{FRACTION SLASH}", "/")
        for code in (*range(0xBC, 0xBF), *range(0x2150, 0x215F))
    },
    ord("\N{FRACTION SLASH}"): "/",
    ord("÷"): "/",
    ord("∶"): ":",
    ord("≤"): r"\le ",
    ord("≥"): r"\ge ",
    ord("≠"): r"\ne ",
    ord("π"): r"\pi ",
    ord("∞"): r"\infty ",
    ord("∪"): r"\cup ",
    ord("∩"): r"\cap ",
    ord("٫"): ".",
    ord("٬"): ",",
    ord("،"): ",",
    ord("、"): ",",
    ord("٪"): "%",
    ord("\N{COMBINING ENCLOSING KEYCAP}"): "",
    ord("\N{VARIATION SELECTOR-16}"): "",
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_NARROW_SPACE_IN_NUMBER = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")


def normalize_characters(text: str) -> str:
    """Replace digits and signs by ASCII; remove control characters, direction marks and full-width forms."""
    if text.isascii() and text.isprintable():
        return text
    text = _NARROW_SPACE_IN_NUMBER.sub("", text)
    text = _SUPERSCRIPT.sub(_write_power, text).translate(_CHARACTERS)
    text = unicodedata.normalize("NFKC", text)
    if text.isascii() and text.isprintable():
        return text
    return text.translate({ord(character): _normalize_character(character) for character in set(text)})


def _write_power(match: re.Match[str]) -> str:
    power = match[0].translate(_SUPERSCRIPTS)
    return f"^{power}" if len(power) == 1 else f"^{{{power}}}"


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
        (r",\\! ?(?=\d{3}(?!\d))", ","),
        (r"\\!|\{,\}(?=\d)|\\,(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[,;: ]|\\q?quad(?![A-Za-z])|~", " "),
        (
            r"\\(?:text|textbf|textit|textrm|texttt|textsf|emph|underline|mathrm|mathbf|mathit|mathsf|mbox|operatorname"
            r"|boxed|fbox)\s*\{([^{}]*)\}",
            r" \1 ",
        ),
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
        (r"\\\$", "¤"),  # money; a bare dollar sign may also begin a formula
        (r"\\([%#&_])", r"\1"),
        (r"\\[()\[\]](?=.|$)", ""),
    )
]


_EMOJI_BEHIND = re.compile(r"(?<=[\w%)*.]) ?[\u2600-\u27bf\U0001f300-\U0001faff]{1,8}$")


def strip_formatting(text: str) -> str:
    """Remove LaTeX commands for layout, and use one command per meaning."""
    if "\\" in text or "~" in text or "{" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    if not text.isascii():
        text = re.sub(r"°\s?[cf]?(?![a-z])", "", text)
        text = _EMOJI_BEHIND.sub("", text)
        text = re.sub(r"√\s?(\d+|[a-z])", r"\\sqrt{\1}", text)
    return re.sub(r"(?<![a-z\\])sqrt\(([^()]*)\)", r"\\sqrt{\1}", text) if "sqrt(" in text else text


_MIXED = re.compile(r"([+-]?)\s?(\d+)\s?\\frac\{(\d+)\}\{(\d+)\}")
_FRACTION = re.compile(r"(?:^|(?<=[\s(\[,{+=-]))\\frac\{(-?\w+|-?\\pi)\}\{(\d+|[a-z])\}(?=$|[\s,)\]}+=-])")


def simplify_fractions(text: str) -> str:
    r"""Write ``\frac{14}{3}`` as ``14/3`` and ``2\frac{1}{2}`` as ``2 1/2``, but not within products."""
    if "\\frac" not in text:
        return text
    text = _MIXED.sub(r"\1\2 \3/\4", text) if _MIXED.match(text) else text
    return _FRACTION.sub(r"\1/\2", text)


_WORD = re.compile(r"(?<![\\A-Za-z{])(?!(?:and|or)\b)(?:[A-Za-z]{3}|(?<=\d )[A-Za-z]{2})")


def has_words(text: str) -> bool:
    r"""Return whether ``text`` has words ("star", "5 pm") and not only symbols (``2xy``, ``\begin{matrix}``)."""
    return _WORD.search(text) is not None


# Wording and spaces

_BOLD = re.compile(r"(?<!\w)\*\*([^*]+)\*\*")


def strip_wrapping(text: str) -> str:
    """Remove dollar signs, Markdown, quotes, the full stop, and braces around the text."""
    text = text.replace("$", "¤" if text.count("$") == 1 else " ").strip()
    text = _BOLD.sub(r"\1", text).strip("*`\"'").rstrip(".,;:").strip()
    if text.startswith("{") and text.endswith("}") and "{" not in text[1:] and "," not in text:
        text = text[1:-1]
    return text


_QUALIFIER = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|nearly|almost|exactly|only|just|circa|ca\.|c\.|etwa|ungefähr"
    r"|environ|aproximadamente|a total of|(?:in |the )*year|≈|~|\\approx) ?)(?=[-+]?[¤€£¥₹]?[\d.])"
)
_EQUALS = re.compile(r"(?<![<>!=:\\])=(?!=)")
_SYMBOL = re.compile(r"(?:\\?[a-z]+(?: [a-z]+){0,4})(?:_\{?\w+\}?)?'?\s?(?:\([^()=]*\))?")
_MEMBER_OF = re.compile(r"^[a-z] ?\\in(?![A-Za-z]) ?")
_SEPARATOR = re.compile(r"[,;]|\b(?:or|and)\b")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def strip_lead(text: str) -> str:
    r"""Remove "about", ``x \in`` and all but the last member of a chain of equations.

    ``x = 3 + 4 = 7`` and ``21 + 49 = 70`` end in the answer; ``x^2 + y^2 = 4`` and ``x = 1, y = 2`` are answers.
    """
    text = _MEMBER_OF.sub("", _QUALIFIER.sub("", text, count=1), count=1)
    if "=" not in text:
        return text
    members = [member.strip() for member in _EQUALS.split(text)]
    if len(members) < 2 or not all(members) or _SEPARATOR.search(text):
        return text
    unknowns = re.search(r"(?<![a-z])[a-z](?![a-z])", _COMMAND.sub("", text))
    return members[-1] if _SYMBOL.fullmatch(members[0]) or not unknowns else text


_OPERATOR_SPACE = re.compile(r"\s*([+\-*/^=<>()\[\]{}|])\s*")
_COMMAND_SPACE = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
_SPACE_COMMAND = re.compile(r"(?<![A-Za-z,]) \\")


def normalize_spaces(text: str) -> str:
    """Put one space after a comma, and none around the operators of a formula without words."""
    if not has_words(text):
        text = _OPERATOR_SPACE.sub(r"\1", text)
    if "\\" in text:
        text = _SPACE_COMMAND.sub(r"\\", _COMMAND_SPACE.sub(r"\1", text))
    if "," in text:
        text = re.sub(r"\s*,\s*", ", ", text)
    return " ".join(text.split())
