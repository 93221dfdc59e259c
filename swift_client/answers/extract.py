"""Readers: extract the answer from the text of a completion, by name, by regex or with a custom function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from swift_client.answers.json import canonicalize, decode, find_json
from swift_client.answers.markers import find_boxed, find_marked_answer, last_match, short_reply
from swift_client.answers.normalize import normalize
from swift_client.answers.numbers import parse_number
from swift_client.errors import ConfigurationError

# A reader's name, a regex (as text or compiled), a function, or None for "do not compare answers".
Spec = str | re.Pattern[str] | Callable[[str], str | None] | None

# Characters at the end of a text that a custom regex searches, since Python's engine may backtrack for ever.
MAX_SEARCHED_LENGTH = 50_000


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A way to find the answer in a text and to normalize it for comparison."""

    name: str
    find: Callable[[str], str | None]  # returns the answer as written in the completion, or None
    # Returns the normal form of an answer; None if it is not an answer after all.
    normalize: Callable[[str], str | None] = normalize
    # Whether equal numbers and formulas are equal answers; otherwise only equal normal forms are.
    compares_values: bool = True

    def __call__(self, text: str) -> str | None:
        """Return the normalized answer in ``text``, or None."""
        answer = self.find(text)
        if answer is None:
            return None
        if not isinstance(answer, str):
            raise TypeError(f"it returned {type(answer).__name__}, not str or None")
        return self.normalize(answer) or None


def get_reader(spec: Spec) -> Reader | None:
    """Return the reader for ``spec``; None for None.

    A regex returns group 1 of its last match in the last 50,000 characters, or the complete match if it has no group.
    A text of letters only must be a name, so that a misspelt name is not taken for a regex.

    Raises:
        ConfigurationError: ``spec`` is not the name of a reader, a regex or a function.
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
        match = last_match(pattern, text[-MAX_SEARCHED_LENGTH:])
        return match[1 if pattern.groups else 0] if match else None

    return Reader(name=f"regex {pattern.pattern!r}", find=find)


def _find_auto(text: str) -> str | None:
    return find_marked_answer(text) or short_reply(text)


_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-+−])?[$€£¥₹]?(?:(?<![\w.,])-)?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+(?!\w))?(?: ?/ ?\d+(?!\.?\d))?"
)


def _find_number(text: str) -> str | None:
    """Return the marked answer if it is a number, else the last number in it, else the last number in the text."""
    for part in (find_marked_answer(text), text):
        if part is None:
            continue
        value = normalize(part)
        if parse_number(value) is not None:
            return value
        match = last_match(_NUMBER, part)
        if match:
            return match[0]
    return None


def _normalize_number(text: str) -> str | None:
    value = normalize(text)
    return value if any(map(str.isdigit, value)) else None


_LETTER = r"([B-HJ]|A(?! (?!is\b)[a-z])|I(?! ))"  # "A number" and "I think" do not name an option
_LETTER_FIRST = re.compile(rf"\W{{0,8}}(?:(?i:option|choice)\W{{1,3}})?{_LETTER}(?=[^\w\s'’&+=-]|\s*$)")
_LETTER_NAMED = re.compile(
    rf"\b(?i:option|choice|answer|ans)\b\W{{0,4}}{_LETTER}(?!\w)|\(([A-J])\)"
    rf"|\b{_LETTER} is (?:the )?(?:answer|correct|right)\b"
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf)\s*\{")


def _find_choice(text: str) -> str | None:
    """Return the marked letter A-J, else one that begins the last or first line, else the last "(B)" or "option B"."""
    marked_answer, lines = find_marked_answer(text), text.strip().splitlines()
    for part in (marked_answer, *lines[-1:], *lines[:1]):
        match = _LETTER_FIRST.match(_TEXT_COMMAND.sub("", part)) if part else None
        if match:
            return match[1]
    match = last_match(_LETTER_NAMED, text)
    if match:
        return str(next(filter(None, match.groups())))
    match = re.fullmatch(r"\W{0,3}([a-j])\W{0,3}", marked_answer or text.strip()[:8])
    return match[1].upper() if match else None


_YES_NO = re.compile(r"\W{0,8}(?:\\text\{)?(yes|no|true|false)\b", re.IGNORECASE)
_YES_NO_VALUES = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def _find_yes_no(text: str) -> str | None:
    """Return yes or no (or true, false) at the start of the marked answer, of the text, or of its last sentence."""
    last_sentence = re.split(r"\n|[.!?:,] ", text.rstrip()[-MAX_SEARCHED_LENGTH:])[-1]
    for part in (find_marked_answer(text), text, last_sentence):
        match = _YES_NO.match(part) if part else None
        if match:
            return _YES_NO_VALUES[match[1].lower()]
    return None


def _find_json_answer(text: str) -> str | None:
    """Return the JSON in the text in canonical form; see ``find_json()``."""
    try:
        span = find_json(text)
        return None if span is None else canonicalize(decode(text[slice(*span)]))
    except (ValueError, RecursionError):
        return None


def _identity(text: str) -> str:
    return text


# Readers by name.
READERS = {
    reader.name: reader
    for reader in (
        Reader(name="auto", find=_find_auto),
        Reader(name="number", find=_find_number, normalize=_normalize_number),
        Reader(name="boxed", find=find_boxed),
        Reader(name="choice", find=_find_choice, normalize=_identity, compares_values=False),
        Reader(name="yes_no", find=_find_yes_no, normalize=_identity, compares_values=False),
        Reader(name="json", find=_find_json_answer, normalize=_identity, compares_values=False),
        Reader(name="text", find=_identity),
    )
}
_READER_HINT = f"Use one of {', '.join(READERS)}, a regex, a function from text to answer, or None."
