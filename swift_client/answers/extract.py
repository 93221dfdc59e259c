"""Readers: from a completion's text to the answer that is compared, by name, by regex or by your own function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from swift_client.answers.json import canonicalize, decode, find_json
from swift_client.answers.markers import find_boxed, find_marked_answer, last_match, short_reply
from swift_client.answers.normalize import normalize
from swift_client.answers.numbers import parse_number
from swift_client.errors import ConfigurationError

Spec = str | re.Pattern[str] | Callable[[str], str | None] | None
"""A reader's name, a regex (as text or compiled), a function, or None for "answers are not compared"."""

MAX_SEARCHED_LENGTH = 50_000
"""Characters at the end of a text that a regex of yours sees: Python's own engine may backtrack without end."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How answers are found in a text, and how they are written for comparison."""

    name: str
    find: Callable[[str], str | None]
    """The answer as the completion writes it, or None where it has none."""
    normalize: Callable[[str], str | None] = normalize
    """Its normal form; None where it turns out not to be an answer."""
    compares_values: bool = True
    """Whether equal numbers and formulas are equal answers; otherwise only equal normal forms are."""

    def __call__(self, text: str) -> str | None:
        """Return the answer in ``text`` in normal form, or None where it cannot be read."""
        found = self.find(text)
        if found is None:
            return None
        if not isinstance(found, str):
            raise TypeError(f"it returned {type(found).__name__}, not str or None")
        return self.normalize(found) or None


def get_reader(spec: Spec) -> Reader | None:
    """Return the reader for ``spec``; None for None. Raises ConfigurationError for what is neither name nor regex.

    A regex answers with group 1, or the whole match where it has no group, of its last match in the last
    50,000 characters. A text of letters only must be a name, so that a misspelt name is not taken for a regex.
    """
    if spec is None:
        return None
    if isinstance(spec, re.Pattern):
        return _regex_reader(spec)
    if callable(spec):
        return Reader(name=getattr(spec, "__name__", type(spec).__name__), find=spec)
    if not isinstance(spec, str):
        raise ConfigurationError(f"answer={spec!r} is not a reader.", hint=_READER_HINT)
    if spec in READERS:
        return READERS[spec]
    if re.fullmatch(r"[\w -]*", spec):
        raise ConfigurationError(f"There is no answer reader called {spec!r}.", hint=_READER_HINT)
    try:
        return _regex_reader(re.compile(spec))
    except re.error as error:
        raise ConfigurationError(f"answer={spec!r} is not a valid regex: {error}.", hint=_READER_HINT) from error


def _regex_reader(pattern: re.Pattern[str]) -> Reader:
    def find(text: str) -> str | None:
        last = last_match(pattern, text[-MAX_SEARCHED_LENGTH:])
        return last[1 if pattern.groups else 0] if last else None

    return Reader(name=f"regex {pattern.pattern!r}", find=find)


def _find_auto(text: str) -> str | None:
    return find_marked_answer(text) or short_reply(text)


_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-+−])?[$€£¥₹]?(?:(?<![\w.,])-)?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+(?!\w))?(?: ?/ ?\d+(?!\.?\d))?"
)


def _find_number(text: str) -> str | None:
    """Read the marked answer where it is a number, else the last number in it, else the last number of the text."""
    mark = find_marked_answer(text)
    for part in (mark, text):
        if part is None:
            continue
        whole = normalize(part)
        if parse_number(whole) is not None:
            return whole
        last = last_match(_NUMBER, part)
        if last:
            return last[0]
    return None


def _normalize_number(text: str) -> str | None:
    value = normalize(text)
    return value if any(map(str.isdigit, value)) else None


_LETTER = r"([B-HJ]|A(?! (?!is\b)[a-z])|I(?! ))"  # "A number" and "I think" name no option
_LETTER_FIRST = re.compile(rf"\W{{0,8}}(?:(?i:option|choice)\W{{1,3}})?{_LETTER}(?=[^\w\s'’&+=-]|\s*$)")
_LETTER_NAMED = re.compile(
    rf"\b(?i:option|choice|answer|ans)\b\W{{0,4}}{_LETTER}(?!\w)|\(([A-J])\)|\b{_LETTER} is (?:the )?(?:answer|correct|right)\b"
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf)\s*\{")


def _find_choice(text: str) -> str | None:
    """Read the marked letter A-J, else one that begins the last or first line, else the last "(B)" or "option B"."""
    mark, lines = find_marked_answer(text), text.strip().splitlines()
    for place in (mark, *lines[-1:], *lines[:1]):
        letter = _LETTER_FIRST.match(_TEXT_COMMAND.sub("", place)) if place else None
        if letter:
            return letter[1]
    named = last_match(_LETTER_NAMED, text)
    if named:
        return str(next(filter(None, named.groups())))
    alone = re.fullmatch(r"\W{0,3}([a-j])\W{0,3}", mark or text.strip()[:8])
    return alone[1].upper() if alone else None


_YES_NO = re.compile(r"\W{0,8}(?:\\text\{)?(yes|no|true|false)\b", re.IGNORECASE)
_YES_NO_VALUES = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def _find_yes_no(text: str) -> str | None:
    """Yes/no (or true/false) at the start of the marked answer, of the reply, or of its last line or sentence."""
    last_sentence = re.split(r"\n|[.!?:,] ", text.rstrip()[-MAX_SEARCHED_LENGTH:])[-1]
    for place in (find_marked_answer(text), text, last_sentence):
        match = _YES_NO.match(place) if place else None
        if match:
            return _YES_NO_VALUES[match[1].lower()]
    return None


def _find_json_answer(text: str) -> str | None:
    """Read the JSON in the text; see :func:`find_json`."""
    try:
        span = find_json(text)
        return None if span is None else canonicalize(decode(text[slice(*span)]))
    except (ValueError, RecursionError):
        return None


def _identity(text: str) -> str:
    return text


READERS = {
    each.name: each
    for each in (
        Reader(name="auto", find=_find_auto),
        Reader(name="number", find=_find_number, normalize=_normalize_number),
        Reader(name="boxed", find=find_boxed),
        Reader(name="choice", find=_find_choice, normalize=_identity, compares_values=False),
        Reader(name="yes_no", find=_find_yes_no, normalize=_identity, compares_values=False),
        Reader(name="json", find=_find_json_answer, normalize=_identity, compares_values=False),
        Reader(name="text", find=_identity),
    )
}
"""One row for each reader that has a name."""
_READER_HINT = f"Use one of {', '.join(READERS)}, a regex, a function from text to answer, or None."
