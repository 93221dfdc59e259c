"""Forest chart: each method minus the best label-free rule, paired by question, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from swift_client.evaluation.result import Estimate, Evaluation
from swift_client.report.charts.chart import (
    PAGE_WIDTH,
    Markup,
    Scale,
    element,
    linear_scale,
    svg,
    text,
    ticks,
)
from swift_client.report.format import format_points, interval_sign, is_finite

# Methods that are drawn beside the head's vote, with their labels and classes in the style sheet.
METHODS = {
    "head_vote": ("head, vote", "head-vote"),
    "head": ("head, best", "head"),
    "swift_vote": ("SWIFT, vote", "first"),
    "default": ("default, no head", "free"),
    "majority": ("majority", "majority"),
}
_LINE, _GROUP, _TOP, _BOTTOM = 19.0, 34.0, 6.0, 46.0  # heights in user units
_LEFT, _RIGHT = 118.0, PAGE_WIDTH - 48.0  # ends of the plot area, in user units


class Difference(NamedTuple):
    """One method's difference to the rule, as a share of the questions."""

    label: str
    style: str
    estimate: Estimate


def forest(evaluation: Evaluation) -> Markup:
    """Draw the differences in groups: their mean over the gate's n, then each n above 1."""
    groups = _groups(evaluation)
    differences = [difference.estimate for _, group in groups for difference in group]
    if not differences:
        return element("p", "There is nothing to draw.", class_="soft")
    low = min(0.0, *(estimate.low for estimate in differences))
    high = max(0.0, *(estimate.high for estimate in differences))
    if high - low < 0.01:  # at least one point, or all would look large
        low, high = low - 0.005, high + 0.005
    x = linear_scale(low, high, _LEFT + 6, _RIGHT - 6)
    height = _TOP + sum(_GROUP + _LINE * len(group) for _, group in groups) + _BOTTOM
    bottom = height - _BOTTOM
    rule = evaluation.row(evaluation.label_free).label

    # The grid, then the line of no difference above it.
    parts: list[Markup] = []
    for value in ticks(low, high, 6):
        parts.append(element("line", x1=x(value), x2=x(value), y1=_TOP, y2=bottom, class_="grid"))
        parts.append(text(x(value), bottom + 17, _format_tick(value), "tick", "middle"))
    parts.append(element("line", x1=x(0.0), x2=x(0.0), y1=_TOP - 4, y2=bottom, class_="axis"))
    parts.append(text((_LEFT + _RIGHT) / 2, bottom + 36, f"points against “{rule}”", "title", "middle"))
    y = _TOP
    for title, group in groups:
        y += _GROUP
        parts.append(text(2, y - 15, title, "heading"))
        for difference in group:
            parts += _mark(difference, title, x, y)
            y += _LINE
    return svg("Difference of each method to the best label-free rule.", parts, width=PAGE_WIDTH, height=height)


def _groups(evaluation: Evaluation) -> list[tuple[str, list[Difference]]]:
    rows = {row.name: row for row in evaluation.rows}
    drawn = [
        (rows[name], label, style)
        for name, (label, style) in METHODS.items()
        if name in rows and name != evaluation.label_free
    ]
    titles = [(f"n = {n}", [row.minus_label_free[n] for row, *_ in drawn]) for n in evaluation.ns if n > 1]
    if len(evaluation.gain_ns) > 1:
        ns = ", ".join(map(str, evaluation.gain_ns))
        titles.insert(0, (f"mean of n = {ns}", [row.gain for row, *_ in drawn if row.gain is not None]))
    groups = []
    for title, estimates in titles:
        differences = [
            Difference(label, style, estimate)
            for (_, label, style), estimate in zip(drawn, estimates, strict=False)
            if is_finite(estimate.value) and is_finite(estimate.low) and is_finite(estimate.high)
        ]
        if differences:
            groups.append((title, differences))
    return groups


def _mark(difference: Difference, group: str, x: Scale, y: float) -> Sequence[Markup]:
    """Return the label, the interval, the point and the number of one difference."""
    label, style, estimate = difference
    words = f"{label}, {group}: {format_points(estimate.value)} ({_format_interval(estimate)})"
    is_clear = interval_sign(estimate) != 0
    return [
        text(_LEFT - 6, y + 4, label, f"method {style}", "end"),
        element(
            "g",
            element("title", words),
            element("line", x1=x(estimate.low), x2=x(estimate.high), y1=y, y2=y, class_=f"interval {style}"),
            element("circle", cx=x(estimate.value), cy=y, r=4.0),
            class_=f"dot {style}",
        ),
        text(PAGE_WIDTH - 2, y + 4, format_points(estimate.value), "clear" if is_clear else "tick", "end"),
    ]


def _format_interval(estimate: Estimate) -> str:
    return f"{format_points(estimate.low)} to {format_points(estimate.high)}"


def _format_tick(share: float) -> str:
    """Format 0.02 as "+2"."""
    points = round(100 * share, 2)
    return f"{points:+g}".replace("-", "\N{MINUS SIGN}") if points else "0"
