"""Grouping of equal answers: the same key of a typed value, or (with math-verify) the same formula.

Dates, times, ratios, scores, addresses and telephone numbers are compared by their keys only, never as arithmetic.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

from swift_client.answers import math_equality
from swift_client.answers.values import Value, read_value

TOTAL_SECONDS = 8.0  # time limit for all comparisons of formulas within one question
GRACE_SECONDS = 0.1  # time for the comparison of formulas after the deadline
# Limit on different formulas within one question; only the most frequent are compared.
_MAX_FORMULAS = 32
_TEXT_ONLY_NOTE = "Formulas were compared as text only; pip install 'swift-client[math]' compares them as mathematics."


def group_answers(
    values: Sequence[str | None], *, compare_values: bool = True, deadline_at: float | None = None
) -> tuple[tuple[int | None, ...], str | None]:
    """Group answers, normalized or as written.

    Args:
        values: (N,) answers; None for a completion without one.
        compare_values: compare typed values and formulas; if False, only equal texts are equal.
        deadline_at: the end of the comparison of formulas, in seconds of ``time.monotonic()``.

    Returns:
        (N,) group numbers in order of first appearance, None for None; and a note if formulas could not be compared.
    """
    if not compare_values:
        order: dict[object, int] = {}
        return tuple(None if value is None else order.setdefault(value, len(order)) for value in values), None
    typed = {text: read_value(text) for text in set(values) - {None} if text is not None}
    keys: list[Hashable] = [None if text is None else typed[text].key for text in values]
    by_key = {typed[text].key: typed[text] for text in values if text is not None}
    merged, note = _merge_formulas(by_key, Counter(key for key in keys if key is not None), deadline_at)
    order = {}
    groups = [None if key is None else order.setdefault(merged.get(key, key), len(order)) for key in keys]
    return tuple(groups), note


# Kinds that math-verify may compare with a formula; two values of these kinds have been compared by their keys.
_ARITHMETIC = frozenset(("number", "percent", "money", "quantity", "several"))


def _merge_formulas(
    values: Mapping[Hashable, Value], sizes: Counter[Hashable], deadline_at: float | None
) -> tuple[dict[Hashable, Hashable], str | None]:
    """Compare the different formulas with one another and with numbers, starting with the most frequent answers.

    Returns:
        The key that each key compared was merged into, and a note about what was not compared.
    """
    formulas = {key for key, value in values.items() if value.kind == "formula"}
    if not formulas:
        return {}, None
    comparable = [key for key, value in values.items() if key in formulas or value.kind in _ARITHMETIC]
    comparable.sort(key=lambda key: -sizes[key])
    compared = comparable[:_MAX_FORMULAS]
    pairs = [(a, b) for a, b in combinations(compared, 2) if a in formulas or b in formulas]
    if not pairs:
        return {}, None
    if not math_equality.is_available():
        return {}, _TEXT_ONLY_NOTE if len(formulas) > 1 else None

    merged = {key: key for key in compared}
    worker = math_equality.get_worker(os.getpid())
    worker.prepare(deadline_at)
    started = time.monotonic()  # the start of the worker does not count towards the total
    question_end = started + TOTAL_SECONDS
    if deadline_at is not None:  # when sampling took all the time, a moment is left for the easy pairs
        question_end = min(question_end, max(deadline_at, started + GRACE_SECONDS))
    timeouts, n_unknown, seconds_used = Counter[Hashable](), 0, 0.0
    for a, b in pairs:
        if merged[a] == merged[b]:
            continue
        seconds_left = question_end - time.monotonic()
        # A formula that timed out twice would take all the time.
        if seconds_left <= 0 or timeouts[a] > 1 or timeouts[b] > 1:
            n_unknown += 1
            continue
        seconds = min(seconds_left, math_equality.SECONDS_PER_PAIR)
        equal = worker.are_equal(
            values[a].text, values[b].text, seconds=seconds, wait_seconds=seconds_left, seconds_used=seconds_used
        )
        if equal is None:
            n_unknown += 1
            seconds_used += seconds  # the time of the others does not count
            timeouts.update((a, b))
        elif equal:
            target, source = merged[a], merged[b]
            merged = {key: target if root == source else root for key, root in merged.items()}

    notes = []
    if len(comparable) > len(compared):
        notes.append(f"Of {len(comparable)} different formulas only the {len(compared)} most frequent were compared.")
    if n_unknown:
        notes.append(f"{n_unknown} pairs of formulas could not be compared in time and count as different.")
    return merged, " ".join(notes) or None
