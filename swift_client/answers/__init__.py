"""Answers: read from completions, brought to a normal form, and grouped by equality.

``read(texts, "number")`` gives for each text its answer in normal form and the group of equal answers it belongs to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from swift_client.answers.equality import group_answers
from swift_client.answers.extract import READERS, Reader, Spec, get_reader
from swift_client.answers.normalize import normalize

__all__ = ["READERS", "Answers", "Reader", "Spec", "are_equal", "get_reader", "normalize", "read"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What N completions answer; all three have the order of the texts."""

    values: tuple[str | None, ...]
    """(N,) answers in normal form; None where none could be read."""
    groups: tuple[int | None, ...]
    """(N,) equal numbers for equal answers, counted from 0 in order of appearance; None where there is no answer."""
    note: str | None = None
    """What did not go as asked, in sentences."""


def read(texts: Sequence[str], spec: Spec = "auto") -> Answers:
    """Read and group the answers of completions of one question.

    "auto" reads what is marked as an answer; where fewer than half of the non-empty texts have one, none is read and
    the note says so. An exception in a function of yours makes that text unreadable, and the note names it.
    With math-verify installed this may take seconds in all: keep it off an event loop. Raises ConfigurationError for a
    spec that is no reader.
    """
    chosen = get_reader(spec)
    if chosen is None:
        return Answers(values=(None,) * len(texts), groups=(None,) * len(texts))
    values: list[str | None] = []
    faults: Counter[str] = Counter()
    for text in texts:
        try:
            values.append(chosen(text))
        except Exception as error:  # a caller's function may raise anything; paid completions are not lost over it
            values.append(None)
            faults[f"{type(error).__name__}: {error}"[:200]] += 1
    notes = [f"The answer reader failed on {count} of {len(texts)} texts: {what}." for what, count in faults.items()]
    found, wanted = sum(value is not None for value in values), sum(bool(text.strip()) for text in texts)
    if spec == "auto" and found * 2 < wanted:
        values = [None] * len(texts)
        notes.append(f"Only {found} of {wanted} texts have a marked answer, so the choice rests on scores alone.")
    groups, note = group_answers(values, compare_values=chosen.compares_values)
    return Answers(values=tuple(values), groups=groups, note=" ".join([*notes, *([note] if note else [])]) or None)


def are_equal(a: str, b: str, spec: Spec = "text") -> bool:
    """Return whether two answers, as written, are equal once in the normal form of the reader ``spec``."""
    chosen = get_reader(spec) or READERS["text"]
    left, right = chosen.normalize(a), chosen.normalize(b)
    groups, _ = group_answers((left, right), compare_values=chosen.compares_values)
    return left is not None and groups[0] == groups[1]
