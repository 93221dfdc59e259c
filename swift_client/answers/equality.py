"""Grouping of equal answers: the same normalized text, the same number, or (with math-verify) the same formula."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from swift_client.answers import math_equality
from swift_client.answers.normalize import has_words
from swift_client.answers.numbers import parse_number

TOTAL_SECONDS = 8.0  # time limit for all comparisons of formulas within one question
GRACE_SECONDS = 0.1  # time for the comparison of formulas after the deadline
_MAX_FORMULA_LENGTH = 200
# Limit on different formulas within one question; only the most frequent are compared.
_MAX_FORMULAS = 32
_TEXT_ONLY_NOTE = "Formulas were compared as text only; pip install 'swift-client[math]' compares them as mathematics."


def group_answers(
    values: Sequence[str | None], *, compare_values: bool = True, deadline_at: float | None = None
) -> tuple[tuple[int | None, ...], str | None]:
    """Group normalized answers.

    Args:
        values: (N,) normalized answers; None for a completion without one.
        compare_values: compare numbers and formulas by value; if False, only equal texts are equal.
        deadline_at: the end of the comparison of formulas, in seconds of ``time.monotonic()``.

    Returns:
        (N,) group numbers in order of first appearance, None for None; and a note if formulas could not be compared.
    """
    group_by_key: dict[object, int] = {}
    group_by_text: dict[str, int] = {}
    for value in values:
        if value is not None and value not in group_by_text:
            number = parse_number(value) if compare_values else None
            key = value if number is None else number
            group_by_text[value] = group_by_key.setdefault(key, len(group_by_key))
    note = _merge_formulas(values, group_by_text, deadline_at) if compare_values else None
    # Merged groups leave gaps: number them anew.
    order: dict[int, int] = {}
    groups = [None if value is None else order.setdefault(group_by_text[value], len(order)) for value in values]
    return tuple(groups), note


def _merge_formulas(
    values: Sequence[str | None], group_by_text: dict[str, int], deadline_at: float | None
) -> str | None:
    """Give equal formulas the same group in ``group_by_text``, starting with the most frequent answers."""
    sizes = Counter(group_by_text[value] for value in values if value is not None)
    first_text = {group: text for text, group in reversed(group_by_text.items())}
    formulas = sorted((group for group in first_text if _is_math(first_text[group])), key=lambda group: -sizes[group])
    compared = formulas[:_MAX_FORMULAS]
    numbers = {group for group in compared if parse_number(first_text[group]) is not None}
    # Two numbers were compared as fractions already.
    pairs = [(a, b) for a, b in combinations(compared, 2) if not numbers.issuperset((a, b))]
    if not pairs:
        return None
    if not math_equality.is_available():
        return _TEXT_ONLY_NOTE if len(compared) - len(numbers) > 1 else None

    merged = {group: group for group in compared}  # group -> the group that it was merged into
    worker = math_equality.get_worker(os.getpid())
    worker.prepare(deadline_at)
    started = time.monotonic()  # the start of the worker does not count towards the total
    question_end = started + TOTAL_SECONDS
    if deadline_at is not None:  # when sampling took all the time, a moment is left for the easy pairs
        question_end = min(question_end, max(deadline_at, started + GRACE_SECONDS))
    timeouts, n_unknown = Counter[int](), 0
    for a, b in pairs:
        if merged[a] == merged[b]:
            continue
        seconds_left = question_end - time.monotonic()
        # A formula that timed out twice would take all the time.
        if seconds_left <= 0 or timeouts[a] > 1 or timeouts[b] > 1:
            n_unknown += 1
            continue
        seconds = min(seconds_left, math_equality.SECONDS_PER_PAIR)
        equal = worker.are_equal(first_text[a], first_text[b], seconds=seconds, wait_seconds=seconds_left)
        if equal is None:
            n_unknown += 1
            timeouts.update((a, b))
        elif equal:
            target, source = merged[a], merged[b]
            merged = {group: target if root == source else root for group, root in merged.items()}
    for text, group in group_by_text.items():
        group_by_text[text] = merged.get(group, group)

    notes = []
    if len(formulas) > len(compared):
        notes.append(f"Of {len(formulas)} different formulas only the {len(compared)} most frequent were compared.")
    if n_unknown:
        notes.append(f"{n_unknown} pairs of formulas could not be compared in time and count as different.")
    return " ".join(notes) or None


_MATH = re.compile(r"[\d\\+*/^=]")
_OTHER_BASE = re.compile(r"\d_\{?\d")


def _is_math(text: str) -> bool:
    """Return whether math-verify should read a text.

    Words are excluded: it reads "star" as s·t·a·r, drops "am" from "5 am" and the base from ``1011_2``.
    """
    if len(text) > _MAX_FORMULA_LENGTH or has_words(text) or _OTHER_BASE.search(text):
        return False
    return _MATH.search(text) is not None
