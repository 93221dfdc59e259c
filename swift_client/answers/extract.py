"""Readers: extract the answer from the text of a completion, by name, by regex or with a custom function."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from swift_client.answers.conclusions import answering_parts, correction_end, find_conclusion, read_correction
from swift_client.answers.json import canonicalize, decode, find_json, is_json
from swift_client.answers.markers import Parse, find_boxed, find_statement, parse_typed
from swift_client.answers.marks import CORRECTIONS, RUN_ON_WORDS, TEMPLATE_TOKENS
from swift_client.answers.normalize import normalize
from swift_client.answers.sentence_words import NUMBER_WORDS
from swift_client.answers.sentences import breaks_off, last_match, short_reply, words_of
from swift_client.answers.tool_calls import CallRule
from swift_client.answers.values import parse_value
from swift_client.answers.values.scan import scan_values
from swift_client.answers.verdicts import find_choice, find_yes_no
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
    # Whether it reads tool calls: its text is then ``tool_calls.call_text()`` of the completion.
    reads_calls: bool = False
    # The reader of what is voted on first; the answers of the completions that agree with its winner are next.
    parent: Reader | None = None

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
    A text of letters only must be a name, so that a misspelt name is not taken for a regex. "tool_call" takes settings:
    "tool_call:ignore=id,filter.id" leaves arguments out, "tool_call:by=hierarchy" votes on the tool's name first.

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
    if spec.startswith("tool_") and ":" in spec:
        return _call_reader(spec)
    if re.fullmatch(r"[\w -]*", spec):
        raise ConfigurationError(f"There is no answer reader called {spec!r}.", hint=_READER_HINT)
    try:
        return _regex_reader(re.compile(spec))
    except re.error as error:
        raise ConfigurationError(f"answer={spec!r} is not a valid regex: {error}.", hint=_READER_HINT) from error


def _call_reader(spec: str) -> Reader:
    rule = CallRule.parse(spec)
    return Reader(
        name=spec,
        find=rule.find,
        normalize=rule.normalize,
        compares_values=False,
        reads_calls=True,
        parent=_call_reader("tool_name") if rule.name_first else None,
    )


def _regex_reader(pattern: re.Pattern[str]) -> Reader:
    def find(text: str) -> str | None:
        match = last_match(pattern, text[-MAX_SEARCHED_LENGTH:])
        return match[1 if pattern.groups else 0] if match else None

    return Reader(name=f"regex {pattern.pattern!r}", find=find)


def _find_answer(
    text: str, parse: Parse, *, phrases: bool = False, reply: Callable[[str], str | None] | None = None
) -> str | None:
    """Return the answer that ``text`` states; the order of the evidence is in ``markers.py``."""
    words = words_of(text)
    runs_on = "####" in text or not words.isdisjoint(RUN_ON_WORDS) or any(token in text for token in TEMPLATE_TOKENS)
    parts = answering_parts(text, words) if runs_on else [text]
    is_corrected = not words.isdisjoint(CORRECTIONS)
    for part in parts:
        value = None
        if is_corrected and (correction := correction_end(part, words)) is not None:
            end, takes_back = correction
            value = (
                find_statement(part[end:], parse, phrases=phrases)
                or read_correction(part, end, parse, phrases=phrases)
                or (find_conclusion(part[end:], parse, phrases=phrases) if takes_back else None)
            )
            if value is None and takes_back:
                return None
        value = value or find_statement(part, parse, phrases=phrases, words=words)
        if value is not None:
            return value
    if reply is not None and (value := reply(text)) is not None:
        return value
    return None if breaks_off(parts[0]) else find_conclusion(parts[0], parse, phrases=phrases)


def _find_auto(text: str) -> str | None:
    if text[:1] in "[{" and is_json(text) and not find_statement(text, parse_typed):
        return None
    return _find_answer(text, parse_typed, phrases=True, reply=_read_reply)


def _read_reply(text: str) -> str | None:
    """Return a short reply that is one value, else its bold or bracketed value, else all of it."""
    explained = _value_before_bracket(text)
    if explained is not None:
        return explained
    reply = short_reply(text)
    if reply is None or parse_typed(reply) is not None:
        return reply
    return find_conclusion(text, parse_typed, phrases=True) or reply


def _value_before_bracket(text: str) -> str | None:
    """Return the value of a line such as "22.5 (it is not possible to have .5 of a bus)"."""
    value, bracket, _ = text.strip().partition(" (")
    if not bracket or "\n" in text or len(value) > 40 or not any(map(str.isdigit, value)):
        return None
    return value if parse_typed(value) is not None else None


_SUM = re.compile(r"[-\d.+*/()]+")  # "162/122+360/9" is a number that was not worked out
_NUMERIC = ("number", "percent", "money", "quantity", "ordinal")


def _find_number(text: str) -> str | None:
    """Return the stated answer if it is a number, else the last number in the text.

    A stated answer of another kind, such as a date or several values, is not cut to a number.
    """
    answer = _find_answer(text, parse_typed, reply=_value_before_bracket)
    if answer is not None:
        value = parse_value(answer)
        if value is not None and value.kind in _NUMERIC:
            return answer
        if value is not None and (value.kind not in ("letter", "yes_no", "formula") or _SUM.fullmatch(value.text)):
            return None
    return _last_number(text) or _last_number_in_words(text)


_LAST_DIGIT = re.compile(r"[\d½¼¾⅓⅔]")
_MAX_NUMBER_LENGTH = 200  # characters around a digit that are searched for the number to which it belongs


def _last_number(text: str) -> str | None:
    """Return the last number in the last 4,000 characters, each time with as much of its line as it may need."""
    end = len(text)
    for _ in range(20):
        place = next((at for at in range(end - 1, max(-1, end - 4_000), -1) if _LAST_DIGIT.match(text[at])), None)
        if place is None:
            return None
        start = max(text.rfind("\n", 0, place) + 1, place - _MAX_NUMBER_LENGTH)
        window = text[start : place + 60].split("\n", 1)[0]
        found = [window[a:b] for a, b, value in scan_values(window) if value.kind in _NUMERIC]
        if found:
            return found[-1]
        end = start
    return None


_WORD = re.compile(r"[^\W\d_]+")


def _last_number_in_words(text: str) -> str | None:
    """Return the last number of "It costs twenty-five dollars." in the last 4,000 characters."""
    run: list[str] = []
    for word in (*reversed(_WORD.findall(text[-4_000:].lower())), ""):
        if word in NUMBER_WORDS or (word == "and" and run and run[0] != "and"):
            run.insert(0, word)
        elif run:
            number = " ".join(run).removeprefix("and ")
            value = parse_value(number)
            if value is not None and value.kind == "number":
                return number
            run = []
    return None


def _normalize_number(text: str) -> str | None:
    value = normalize(text)
    return value if any(map(str.isdigit, value)) else None


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
        Reader(name="choice", find=find_choice, normalize=_identity, compares_values=False),
        Reader(name="yes_no", find=find_yes_no, normalize=_identity, compares_values=False),
        Reader(name="json", find=_find_json_answer, normalize=_identity, compares_values=False),
        Reader(name="text", find=_identity),
        *map(_call_reader, ("tool_name", "tool_call")),
    )
}
_READER_HINT = f"Use one of {', '.join(READERS)}, a regex, a function from text to answer, or None."
