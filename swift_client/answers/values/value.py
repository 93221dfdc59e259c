"""One typed value: what it is, the key by which it is compared, and its canonical text."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Value:
    """A value read from text. Two values are the same answer if their keys are equal."""

    # "number", "percent", "money", "quantity", "ordinal", "date", "time", "duration", "ratio", "score", "version",
    # "address", "phone", "letter", "letters", "yes_no", "several", "formula" or "text"
    kind: str
    key: Hashable  # numbers, percentages, money and quantities by Fraction; the others by tuples that begin with a word
    text: str  # canonical text; reading it again gives the same key and the same text
    unit: str = ""  # the unit or counted noun of a quantity; not part of the key


def split_words(text: str) -> frozenset[str]:
    """Return the words of a constant; a set of many words is easier to read as one text."""
    return frozenset(text.split())
