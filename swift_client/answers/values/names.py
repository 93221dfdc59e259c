"""Keys of names and phrases: articles, dots, hyphens, accents, quotation marks and titles do not count.

``The Miami Heat`` is ``Miami Heat``, ``George W. Bush`` is ``George W Bush``, ``J. K. Rowling`` is ``JK Rowling``, and
``Beyoncé`` is ``Beyonce``. ``Mr. Watson`` is not ``Mrs. Watson``, and ``C++`` is not ``C``.
"""

from __future__ import annotations

import re
import unicodedata

from swift_client.answers.values.value import split_words

_ARTICLE = re.compile(r"(?:the|an?) (?=.{2})")
_LETTERS_WITHOUT_ACCENT = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"}
)
_INITIAL = re.compile(r"(?<![^\W_])([^\W\d_])\.(?=[^\W\d_]?(?![^\W_]))")
_DOT = re.compile(r"(?<=[^\W\d_])\.(?=[\s,;)]|$)")
_SPACE_SIGN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_])|(?<=[^\W\d_])-(?=[^\W\d_]{2})|[,:;](?=\s)")
_SUBSCRIPT = re.compile(r"(?<=[a-z)])_\{?(\d+)\}?")  # H_2O is H2O
_IGNORED = re.compile(r"['\"`]|[!?]+$")
_SPELLINGS = {"mister": "mr", "doctor": "dr", "saint": "st", "mount": "mt", "professor": "prof", "versus": "vs"}
_SPELLINGS |= {"junior": "jr", "senior": "sr", "&": "and"}
_TITLES = split_words("mr dr prof sir")


def name_key(text: str) -> str:
    """Return the key by which a name or a phrase in lower case is compared."""
    if not text.isascii():
        text = _strip_accents(text)
    text = _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text
    if not text.replace(" ", "").isalnum():
        text = _DOT.sub("", _INITIAL.sub(r"\1 ", text))
        if "_" in text:
            text = _SUBSCRIPT.sub(r"\1", text)
        text = _IGNORED.sub("", _SPACE_SIGN.sub(" ", text))
    words = [_SPELLINGS.get(word, word) for word in text.split()]
    if len(words) > 2 and words[0] in _TITLES:
        del words[0]
    return " ".join(_join_initials(words))


def _strip_accents(text: str) -> str:
    """Remove the accents of Latin letters; in other alphabets a mark makes another letter."""
    kept: list[str] = []
    for sign in unicodedata.normalize("NFD", text):
        if unicodedata.combining(sign) and kept and (kept[-1].isascii() or kept[-1] == ""):
            continue
        kept.append(sign)
    return unicodedata.normalize("NFC", "".join(kept)).translate(_LETTERS_WITHOUT_ACCENT)


def _join_initials(words: list[str]) -> list[str]:
    """Write ``j k rowling`` as ``jk rowling``."""
    joined: list[str] = []
    is_initials = False
    for word in words:
        is_initial = len(word) == 1 and word.isalpha()
        if is_initial and is_initials:
            joined[-1] += word
        else:
            joined.append(word)
        is_initials = is_initial
    return joined
