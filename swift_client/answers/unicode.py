"""One writing for each character: ASCII digits and signs, lower case, no control or direction marks."""

from __future__ import annotations

import re
import unicodedata

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
    """ASCII digits and signs; no control or direction marks, no full-width forms."""
    if text.isascii() and text.isprintable():
        return text
    text = _NARROW_SPACE_IN_NUMBER.sub("", text).translate(_CHARACTERS)
    text = unicodedata.normalize("NFKC", text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_normalize_character, text))


def _normalize_character(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category[0] in "CZ" else character


_COMMAND_OR_TEXT = re.compile(r"\\[A-Za-z]+|[^\\]+|\\")


def fold_case(text: str) -> str:
    r"""Lower case, except in LaTeX commands: ``\Delta`` is not ``\delta``."""
    if "\\" not in text:
        return unicodedata.normalize("NFKC", text.casefold())
    return _COMMAND_OR_TEXT.sub(lambda part: part[0] if part[0][0] == "\\" else part[0].casefold(), text)
