"""Changes on the user's own side at the time of a movement: other settings of the requests, other questions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swift_client.diagnostics.drift.report import Movement
from swift_client.diagnostics.drift.series import F64, Series

_WINDOW = 100  # questions before and after a change that are compared
_MIN_DEVIATIONS = 4.0  # of the rank sum of prompt lengths, in standard deviations
_MAX_SETTINGS = 5


def find_reasons(series: Series, movements: Sequence[Movement]) -> tuple[str, ...]:
    """Return one sentence per change of the requests or the questions where a statistic began to move."""
    reasons: list[str] = []
    previous = -_WINDOW
    for start in sorted({movement.start.question - 1 for movement in movements}):
        if start - previous < _WINDOW:  # one change moves several statistics
            continue
        previous = start
        before, after = slice(max(0, start - _WINDOW), start), slice(start, start + _WINDOW)
        if not series.settings[before]:
            continue
        reasons += _settings_reasons(series.settings[before], series.settings[after])
        reasons += _question_reasons(np.array(series.prompt_lengths[before]), np.array(series.prompt_lengths[after]))
    return tuple(dict.fromkeys(reasons))


def _settings_reasons(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Compare the settings of most requests before and after; none may prevail, if each request has its own."""
    ((old, n_old),), ((new, n_new),) = Counter(before).most_common(1), Counter(after).most_common(1)
    if old == new or 2 * n_old < len(before) or 2 * n_new < len(after):
        return []
    old_fields, new_fields = _flatten(json.loads(old)), _flatten(json.loads(new))
    names = [name for name in sorted({*old_fields, *new_fields}) if old_fields.get(name) != new_fields.get(name)]
    changes = [f"{name} {_show(old_fields.get(name))} → {_show(new_fields.get(name))}" for name in names]
    return [f"Your own requests changed at that time: {', '.join(changes[:_MAX_SETTINGS])}."]


def _flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    sampling = settings.get("sampling")
    own = sampling if isinstance(sampling, Mapping) else {}
    return {**{name: value for name, value in settings.items() if name != "sampling"}, **own}


def _show(value: object) -> str:
    text = "unset" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _question_reasons(before: F64, after: F64) -> list[str]:
    """Compare the lengths of the prompts by Wilcoxon's rank sum, in its normal approximation with ties."""
    n, m = len(before), len(after)
    joined = np.concatenate([before, after])
    _, inverse, counts = np.unique(joined, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    total = n + m
    ties = float((counts.astype(np.float64) ** 3 - counts).sum()) / (total * (total - 1)) if total > 1 else 0.0
    variance = n * m / 12 * (total + 1 - ties)
    if variance <= 0:
        return []
    deviations = (ranks[:n].sum() - n * (total + 1) / 2) / variance**0.5
    if abs(deviations) < _MIN_DEVIATIONS:
        return []
    return [
        f"Your questions changed at that time: their median length went from {np.median(before):,.0f} to "
        f"{np.median(after):,.0f} characters. An unchanged model answers other questions differently."
    ]
