"""Chart of drift: a small panel per statistic that moved, with the reference, the course, and the alarm."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from swift_client.diagnostics.drift.report import ModelDrift, Movement, Place, Trace
from swift_client.report.charts.chart import WIDTH, Chart, Markup, svg_document, text, ticks

_PANEL_HEIGHT = 150.0
_X_TITLE_HEIGHT = 16.0  # which panels above another one do not need
_HEADING = 46.0  # height of a model's title and legend
_MAX_PANELS = 8  # of one model
_DESCRIPTION = "Statistics of answers that moved, question by question, beside the range of their reference."


def drift_svg(models: Sequence[ModelDrift]) -> str:
    """Draw every statistic that moved: its running level, the reference's 5 to 95 % and 25 to 75 %, and the alarm."""
    parts: list[Markup] = []
    height = 4.0
    for model in models:
        parts.append(text(2, height + 14, _title(model), "heading"))
        by_statistic: dict[str, list[Movement]] = {}
        for movement in model.movements:
            by_statistic.setdefault(movement.statistic, []).append(movement)
        if not by_statistic:
            parts.append(text(2, height + 32, "Nothing moved.", "tick"))
        else:
            legend = "blue: running level · grey: 5 to 95 % and 25 to 75 % of the reference"
            parts.append(text(2, height + 32, legend, "tick"))
        height += _HEADING
        panels = list(by_statistic.values())[:_MAX_PANELS]
        for movements in panels:
            is_last = movements is panels[-1]
            trace = model.traces[movements[0].statistic]
            parts.append(_panel(model, movements, trace, x_title="question" if is_last else "").panel(height))
            height += _PANEL_HEIGHT if is_last else _PANEL_HEIGHT - _X_TITLE_HEIGHT
        hidden = len(by_statistic) - _MAX_PANELS
        if hidden > 0:
            parts.append(text(2, height + 14, f"… and {hidden} more statistics", "tick"))
            height += 24
        height += 10
    return svg_document(_DESCRIPTION, parts, width=WIDTH, height=height)


def _title(model: ModelDrift) -> str:
    name = model.name if len(model.name) <= 40 else model.name[:39] + "…"
    return f"{name} · {model.questions:,} questions"


def _panel(model: ModelDrift, movements: Sequence[Movement], trace: Trace, *, x_title: str) -> Chart:
    first = movements[0]
    low, high = _range(first, trace)
    chart = Chart(_describe(first), (1, max(model.questions, 2)), (low, high), width=WIDTH, height=_PANEL_HEIGHT)
    # The reference's outer and inner range; the second lies on the first and is darker.
    edges = (1.0, float(model.questions))
    for lower, upper in ((0, 4), (1, 3)):
        bounds = [(x, max(first.reference[lower], low), min(first.reference[upper], high)) for x in edges]
        chart.band(bounds, "reference")
    for movement in movements:
        end = model.questions if movement.end is None else movement.end.question
        chart.span(movement.start.question, end, "changed")
    chart.axes(
        _question_ticks(model),
        [(value, f"{value:.4g}".replace("-", "\N{MINUS SIGN}")) for value in ticks(low, high, 4)],
        x_title=x_title,
        y_title=first.label,
    )
    chart.line(list(zip(trace.questions.tolist(), trace.levels.tolist(), strict=True)), "line course")
    for movement in movements:
        chart.mark(movement.alarm.question, "alarm")
    more = f" and {len(movements) - 1} more" if len(movements) > 1 else ""
    chart.text(chart.right, chart.top - 2, f"alarm {place_label(first.alarm)}{more}", "alarm-label", "end")
    return chart


def _range(movement: Movement, trace: Trace) -> tuple[float, float]:
    levels = [value for value in trace.levels.tolist() if math.isfinite(value)]
    low, high = min([*levels, movement.reference[0]]), max([*levels, movement.reference[-1]])
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def _question_ticks(model: ModelDrift) -> list[tuple[float, str]]:
    values = [value for value in ticks(1, model.questions, 5) if value >= 1]
    return [(value, f"{value:,.0f}") for value in values]


def _describe(movement: Movement) -> str:
    return f"{movement.label}: {movement.before:.4g} in the reference, {movement.after:.4g} since the change"


def place_label(place: Place) -> str:
    """Return a question's day in local time, or its number without one."""
    if place.time is None:
        return f"at question {place.question:,}"
    return time.strftime("%Y-%m-%d", time.localtime(place.time))
