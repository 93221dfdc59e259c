"""Readers: from a completion's text to the answer that is compared, by name, by regex or by your own function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from swift_client.answers.json import canonical, decode, find_json
from swift_client.answers.markers import boxed, last_match, marked, short_reply
from swift_client.answers.normalize import normal
from swift_client.answers.numbers import exact
from swift_client.errors import ConfigurationError

Spec = str | re.Pattern[str] | Callable[[str], str | None] | None
"""A reader's name, a regex (as text or compiled), a function, or None for "answers are not compared"."""

LONGEST_SEARCHED = 50_000
"""Characters at the end of a text that a regex of yours sees: Python's own engine may backtrack without end."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How answers are found in a text, and how they are written for comparison."""

    name: str
    find: Callable[[str], str | None]
    """The answer as the completion writes it, or None where it has none."""
    normal: Callable[[str], str | None] = normal
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
        return self.normal(found) or None


def reader(spec: Spec) -> Reader | None:
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
        raise ConfigurationError(f"answer={spec!r} is not a reader.", hint=_CHOICES)
    if spec in READERS:
        return READERS[spec]
    if re.fullmatch(r"[\w -]*", spec):
        raise ConfigurationError(f"There is no answer reader called {spec!r}.", hint=_CHOICES)
    try:
        return _regex_reader(re.compile(spec))
    except re.error as error:
        raise ConfigurationError(f"answer={spec!r} is not a valid regex: {error}.", hint=_CHOICES) from error


def _regex_reader(pattern: re.Pattern[str]) -> Reader:
    def find(text: str) -> str | None:
        last = last_match(pattern, text[-LONGEST_SEARCHED:])
        return last[1 if pattern.groups else 0] if last else None

    return Reader(name=f"regex {pattern.pattern!r}", find=find)


def _auto(text: str) -> str | None:
    return marked(text) or short_reply(text)


_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-+−])?[$€£¥₹]?(?:(?<![\w.,])-)?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+(?!\w))?(?: ?/ ?\d+(?!\.?\d))?"
)


def _number(text: str) -> str | None:
    """Read the marked answer where it is a number, else the last number in it, else the last number of the text."""
    mark = marked(text)
    for part in (mark, text):
        if part is None:
            continue
        whole = normal(part)
        if exact(whole) is not None:
            return whole
        last = last_match(_NUMBER, part)
        if last:
            return last[0]
    return None


def _normal_number(text: str) -> str | None:
    value = normal(text)
    return value if any(map(str.isdigit, value)) else None


_L = r"([B-HJ]|A(?! (?!is\b)[a-z])|I(?! ))"  # "A number" and "I think" name no option
_LETTER_FIRST = re.compile(rf"\W{{0,8}}(?:(?i:option|choice)\W{{1,3}})?{_L}(?=[^\w\s'’&+=-]|\s*$)")
_LETTER_NAMED = re.compile(
    rf"\b(?i:option|choice|answer|ans)\b\W{{0,4}}{_L}(?!\w)|\(([A-J])\)|\b{_L} is (?:the )?(?:answer|correct|right)\b"
)
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf)\s*\{")


def _choice(text: str) -> str | None:
    """Read the marked letter A-J, else one that begins the last or first line, else the last "(B)" or "option B"."""
    mark, lines = marked(text), text.strip().splitlines()
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
_YES = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def _yes_no(text: str) -> str | None:
    """Yes/no (or true/false) at the start of the marked answer, of the reply, or of its last line or sentence."""
    last_sentence = re.split(r"\n|[.!?:,] ", text.rstrip()[-LONGEST_SEARCHED:])[-1]
    for place in (marked(text), text, last_sentence):
        match = _YES_NO.match(place) if place else None
        if match:
            return _YES[match[1].lower()]
    return None


def _json(text: str) -> str | None:
    """Read the JSON in the text; see :func:`find_json`."""
    try:
        span = find_json(text)
        return None if span is None else canonical(decode(text[slice(*span)]))
    except (ValueError, RecursionError):
        return None


def _as_is(text: str) -> str:
    return text


READERS = {
    each.name: each
    for each in (
        Reader(name="auto", find=_auto),
        Reader(name="number", find=_number, normal=_normal_number),
        Reader(name="boxed", find=boxed),
        Reader(name="choice", find=_choice, normal=_as_is, compares_values=False),
        Reader(name="yes_no", find=_yes_no, normal=_as_is, compares_values=False),
        Reader(name="json", find=_json, normal=_as_is, compares_values=False),
        Reader(name="text", find=_as_is),
    )
}
"""One row for each reader that has a name."""
_CHOICES = f"Use one of {', '.join(READERS)}, a regex, a function from text to answer, or None."
