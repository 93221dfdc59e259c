"""Which answers are equal: the same normal text, the same exact number, or (with math-verify) the same formula."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from swift_client.answers import math_equality
from swift_client.answers.latex import has_words
from swift_client.answers.numbers import parse_number

TOTAL_SECONDS = 8.0
"""For all comparisons of formulas within one question."""
_MAX_FORMULA_LENGTH = 200
_MAX_FORMULAS = 32
"""Different answers within one question; beyond, only the most frequent are compared as formulas."""
_TEXT_ONLY_NOTE = "Formulas were compared as text only; pip install 'swift-client[math]' compares them as mathematics."


def group_answers(
    values: Sequence[str | None], *, compare_values: bool = True
) -> tuple[tuple[int | None, ...], str | None]:
    """Return a group number for each value in normal form, and a note where formulas could not be compared.

    Equal answers share a number; groups are numbered by first appearance; None stays None. With ``compare_values``
    False only equal texts are equal.
    """
    keys: dict[object, int] = {}
    texts: dict[str, int] = {}  # each distinct text -> its group
    for value in values:
        if value is not None and value not in texts:
            number = parse_number(value) if compare_values else None
            texts[value] = keys.setdefault(value if number is None else number, len(keys))
    note = _join_formulas(values, texts) if compare_values else None
    order: dict[int, int] = {}
    joined = [None if value is None else order.setdefault(texts[value], len(order)) for value in values]
    return tuple(joined), note


def _join_formulas(values: Sequence[str | None], texts: dict[str, int]) -> str | None:
    """Give equal formulas the same group in ``texts``; the most frequent answers are compared first."""
    sizes = Counter(texts[value] for value in values if value is not None)
    heads = {at: text for text, at in reversed(texts.items())}  # the first text of each group
    found = sorted((at for at in heads if _is_math(heads[at])), key=lambda at: -sizes[at])
    known = found[:_MAX_FORMULAS]
    numbers = {at for at in known if parse_number(heads[at]) is not None}
    pairs = [(a, b) for a, b in combinations(known, 2) if not numbers.issuperset((a, b))]
    if not pairs:
        return None
    if not math_equality.is_available():
        return _TEXT_ONLY_NOTE if len(known) - len(numbers) > 1 else None
    root = {at: at for at in known}
    worker = math_equality.get_worker(os.getpid())
    until, suspects, unknown = None, Counter[int](), 0
    for a, b in pairs:
        if root[a] == root[b]:
            continue
        left = TOTAL_SECONDS if until is None else until - time.monotonic()
        if left <= 0 or suspects[a] > 1 or suspects[b] > 1:
            unknown += 1
            continue
        same = worker.are_equal(heads[a], heads[b], seconds=min(left, math_equality.SECONDS_PER_PAIR))
        until = until or time.monotonic() + TOTAL_SECONDS  # the first start of the worker is not counted
        if same is None:
            unknown += 1
            suspects.update((a, b))
        elif same:
            kept, gone = root[a], root[b]
            root = {at: kept if up == gone else up for at, up in root.items()}
    for text, at in texts.items():
        texts[text] = root.get(at, at)
    notes = []
    if len(found) > len(known):
        notes.append(f"Of {len(found)} different formulas only the {len(known)} most frequent were compared.")
    if unknown:
        notes.append(f"{unknown} pairs of formulas could not be compared in time and count as different.")
    return " ".join(notes) or None


_MATH = re.compile(r"[\d\\+*/^=]")
_OTHER_BASE = re.compile(r"\d_\{?\d")


def _is_math(text: str) -> bool:
    """Words are not: math-verify reads "star" as s·t·a·r, drops "am" from "5 am" and the base from ``1011_2``."""
    if len(text) > _MAX_FORMULA_LENGTH or has_words(text) or _OTHER_BASE.search(text):
        return False
    return _MATH.search(text) is not None
