"""Texts inside JSON: arguments of tools and structured answers, in which a new line is a backslash and an "n"."""

from __future__ import annotations

import re
from collections.abc import Callable

_ESCAPE = re.compile(r"(\\+)(?:([nrt])|u([0-9a-fA-F]{4}))")
# Code points that no text has take the place of escaped white space: a pattern must not read its letter as text.
_STAND_INS = {"n": "\ufdd0", "r": "\ufdd1", "t": "\ufdd2"}
_WHITE_SPACE = {"\n": "n", "\r": "r", "\t": "t"}
_TO_ESCAPES = str.maketrans({character: f"\\{letter}" for letter, character in _STAND_INS.items()})


def redact_escaped(redact: Callable[[str], str], text: str) -> str:
    """Return the text without what ``redact`` removes, also if it is written with the escapes of JSON.

    Escapes are read first: behind the two characters of a new line, a number would look like a part of a word. If
    that changes nothing, the text stays as it was written.
    """
    if "\\" in text:
        plain = _ESCAPE.sub(_read, text)
        if plain != text and (redacted := redact(plain)) != plain:
            text = redacted.translate(_TO_ESCAPES)
    return redact(text)


def _read(match: re.Match[str]) -> str:
    backslashes, letter, digits = match.groups()  # JSON in JSON has several
    character = "" if letter else chr(int(digits, 16))
    letter = letter or _WHITE_SPACE.get(character)
    if letter is not None:
        return backslashes[1:] + _STAND_INS[letter]
    # Quotes, backslashes, control characters and halves of characters cannot be written otherwise in JSON.
    return match[0] if character in '"\\' or character < " " or "\ud800" <= character <= "\udfff" else character
