"""Answers: extracted from completions, normalized, and grouped by equality.

``read(texts, "number")`` returns for each text its normalized answer and the number of its group of equal answers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swift_client.answers.equality import group_answers
from swift_client.answers.extract import READERS, Reader, Spec, get_reader
from swift_client.answers.normalize import normalize
from swift_client.answers.sentences import breaks_off
from swift_client.answers.short_answers import read_short_answers
from swift_client.answers.tool_calls import call_text, has_calls
from swift_client.types import Completion, completeness
from swift_client.types.completion import HASHED_ANSWER

SCORES_ALONE = "the choice rests on scores alone"  # the end of notes on answers that could not be read

_HASHED = re.compile(re.escape(HASHED_ANSWER).replace(r"\{\}", "(none|[a-p]{16})") + r"\Z")
_LETTER = re.compile("[a-j]")
_OPTION = re.compile(r"([a-j])\. \w")

__all__ = [
    "READERS",
    "Answers",
    "Reader",
    "Spec",
    "are_equal",
    "find_hash",
    "get_reader",
    "is_stated",
    "normalize",
    "read",
    "read_answer",
    "texts_to_read",
]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers of N completions, in the order of the texts."""

    # (N,) normalized answers; None for a text without a readable answer.
    values: tuple[str | None, ...]
    # (N,) group numbers, equal for equal answers, from 0 in order of appearance; None for a text
    # without an answer.
    groups: tuple[int | None, ...]
    note: str | None = None  # sentences about problems, such as unreadable answers
    # Non-empty texts in which a reader that the caller asked for (not "auto") found no answer.
    n_unread: int = 0
    # (N,) groups that are voted on first, such as tools' names, None without an answer; empty if there are none.
    parents: tuple[int | None, ...] = ()


def texts_to_read(completions: Sequence[Completion], spec: Spec) -> tuple[list[str], Spec]:
    """Return the texts in which the answers of the completions of one question are read, and the reader for them.

    "auto" becomes "tool_call" if all complete completions call tools.

    Args:
        completions: N completions of one question.
        spec: the reader.

    Returns:
        (N,) texts, and the reader to use.
    """
    reader = get_reader(spec)
    if spec == "auto" and any(
        completion.finish_reason == "tool_calls" or completion.tool_calls for completion in completions
    ):
        pairs = zip(completions, completeness(completions), strict=True)
        complete = [completion for completion, is_complete in pairs if is_complete]
        if complete and all(map(has_calls, complete)):
            spec, reader = "tool_call", READERS["tool_call"]
    if reader is not None and reader.reads_calls:
        return [call_text(completion) for completion in completions], spec
    return [
        completion.text if completion.answer_text is None else completion.answer_text for completion in completions
    ], spec


def find_hash(text: str) -> re.Match[str] | None:
    """Return the hash of a private answer, which ends a stored text; None if the answer is in the text.

    Its group 1 is "none" if there was no answer.
    """
    return _HASHED.search(text, max(0, len(text) - 40)) if text.endswith("]") else None


def read(texts: Sequence[str], spec: Spec = "auto") -> Answers:
    """Read and group the answers of the completions of one question.

    "auto" reads answers that are marked as such, and short sentences by what differs between them
    (``short_answers.py``); if fewer than half of the texts have an answer, none is read and the note says so. Texts
    that are empty or break off within a formula do not count.
    If a custom reader raises an exception, that text has no answer and the note names the error.
    With math-verify installed this may take several seconds, so do not call it on an event loop.

    Args:
        texts: (N,) completions of one question.
        spec: the reader: a name, a regex, a function, or None to read no answers.

    Raises:
        ConfigurationError: ``spec`` is not a reader.
    """
    return read_by_deadline(texts, spec, None)


def read_answer(completion: Completion, spec: Spec = "auto") -> str | None:
    """Return the answer of one completion by itself; None if none can be read. Errors as of ``read()``."""
    return read(*texts_to_read([completion], spec)).values[0]


def read_by_deadline(
    texts: Sequence[str], spec: Spec, deadline_at: float | None, *, requires_half: bool = True
) -> Answers:
    """Do as ``read()``, but compare no formulas after ``deadline_at`` in seconds of ``time.monotonic()``.

    Without ``requires_half``, "auto" keeps even a single answer: callers that draw from ``texts`` decide for each draw.
    """
    reader = get_reader(spec)
    if reader is None:
        return Answers(values=(None,) * len(texts), groups=(None,) * len(texts))
    values: list[str | None] = []
    n_unread = 0
    error_counts: Counter[str] = Counter()
    for text in texts:
        if (hashed := find_hash(text)) is not None:
            values.append(None if hashed[1] == "none" else hashed[0])
            continue
        try:
            values.append(reader(text))
            n_unread += values[-1] is None and spec != "auto" and bool(text.strip())
        except (Exception, SystemExit) as error:  # a reader may raise anything; paid completions are kept
            values.append(None)
            error_counts[f"{type(error).__name__}: {error}"[:200]] += 1
    notes = [f"The answer reader failed on {n} of {len(texts)} texts: {error}." for error, n in error_counts.items()]
    if spec == "auto" and not all(map(_is_one_word, values)):
        if any(value is not None and _LETTER.fullmatch(value) for value in values):  # "B. Paris" is not a name
            values = [value and (option[1] if (option := _OPTION.match(value)) else value) for value in values]
        values = read_short_answers(list(map(_statement, texts, values)), values)
    n_answers = sum(value is not None for value in values)
    n_nonempty = sum(
        value is not None or bool(text.strip() and not breaks_off(text))
        for text, value in zip(texts, values, strict=True)
    )
    if spec == "auto" and requires_half and n_answers * 2 < n_nonempty:
        values = [None] * len(texts)
        notes.append(f"Only {n_answers} of {n_nonempty} texts have a marked answer, so {SCORES_ALONE}.")
    groups, note = group_answers(values, compare_values=reader.compares_values, deadline_at=deadline_at)
    parents: tuple[int | None, ...] = ()
    if (parent := reader.parent) is not None:
        pairs = zip(texts, values, strict=True)
        parents, _ = group_answers([value and parent(text) for text, value in pairs], compare_values=False)
    return Answers(
        values=tuple(values),
        groups=groups,
        note=" ".join([*notes, *([note] if note else [])]) or None,
        n_unread=n_unread,
        parents=parents,
    )


def is_stated(text: str, value: str | None, reference: str) -> bool:
    """Return whether a short sentence gives the answer ``reference``, as "It's Santiago." gives "Santiago".

    Args:
        text: the completion.
        value: what "auto" reads in it.
        reference: the other answer, normalized; it may be a sentence too.
    """
    found = read_short_answers([_statement(text, value), reference], [value, reference])
    groups, _ = group_answers(found)
    return groups[0] is not None and groups[0] == groups[1]


def _statement(text: str, value: str | None) -> str:
    """Return what states the answer as written: all of a text without a marked answer, the value if that is plain."""
    if value is None:
        return text
    return value if _is_one_word(value) else READERS["auto"].find(text) or text


def _is_one_word(value: str | None) -> bool:
    """Return whether an answer was read and cannot be a sentence."""
    return value is not None and " " not in value and value.isascii()


def are_equal(a: str, b: str, spec: Spec = "text") -> bool:
    """Return whether two answers are equal after the normalization of the reader ``spec``."""
    reader = get_reader(spec) or READERS["text"]
    left, right = reader.normalize(a), reader.normalize(b)
    groups, _ = group_answers((left, right), compare_values=reader.compares_values)
    return left is not None and groups[0] == groups[1]
