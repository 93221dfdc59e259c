"""Chart of a learning curve: lines against questions or n, or a table of families."""

from __future__ import annotations

import math

from swift_client.evaluation.result import Curve, Point
from swift_client.report.charts.chart import (
    WIDTH,
    Chart,
    Markup,
    element,
    percent_range,
    percent_ticks,
    svg_document,
    text,
)

# Label and class in the style sheet, by row of the evaluation.
_LINES = {
    "head_vote": ("head, vote", "head-vote"),
    "head": ("head, best", "head"),
    "majority": ("majority", "flat majority"),
    "mean_logprob": ("mean logprob", "flat free"),
    "oracle": ("any of n", "oracle"),
}
_DESCRIPTIONS = {
    "questions": "Accuracy against the number of questions that a head was trained on.",
    "n": "Accuracy against the number of completions to choose from.",
    "family": "Gain over majority of heads that were trained on one family of questions and tested on others.",
}
_CELL_WIDTH, _CELL_HEIGHT, _LABEL_WIDTH = 104.0, 60.0, 150.0


def curve_svg(curve: Curve) -> str:
    """Draw accuracy against questions or n; for families, the vote's points above majority.

    The band is the 95 % interval of the vote's paired difference to majority, drawn from the height of majority. If it
    does not contain the line of majority, the vote is better or worse.
    """
    return _family_table(curve) if curve.over == "family" else _line_chart(curve)


def _line_chart(curve: Curve) -> str:
    first = curve.points[0]
    xs = [float(point.n if curve.over == "n" else point.size) for point in curve.points]
    bounds = [_gain_interval(point) for point in curve.points]
    values = [point.accuracy[name].value for point in curve.points for name in _LINES]
    y_range = percent_range([*values, *(value for bound in bounds for value in bound)])
    chart = Chart(
        _DESCRIPTIONS[curve.over], (xs[0], xs[-1]), y_range, labels=[label for label, _ in _LINES.values()], log_x=True
    )
    fixed_n = "" if curve.over == "n" else f", n = {first.n}"
    chart.axes(
        [(x, f"{x:,g}") for x in xs],
        percent_ticks(*y_range),
        x_title="completions to choose from, n" if curve.over == "n" else "questions trained and validated on",
        y_title=f"right, % of {first.tested} test questions{fixed_n}; band: vote less majority, 95 %",
    )
    chart.band([(x, low, high) for x, (low, high) in zip(xs, bounds, strict=True)], "head-vote")
    ends = []
    for name, (label, style) in _LINES.items():
        points = [(x, point.accuracy[name].value) for x, point in zip(xs, curve.points, strict=True)]
        chart.line(points, f"line {style}")
        for x, value in points:
            chart.dot(x, value, style, title=f"{label}, {x:,g}: {100 * value:.1f} %")
        ends.append((*points[-1], label, style))
    chart.end_labels(ends)
    return chart.document()


def _family_table(curve: Curve) -> str:
    test_families = list(dict.fromkeys(point.tested_on for point in curve.points))
    train_families = list(dict.fromkeys(point.trained_on for point in curve.points))
    max_gain = max([0.01, *(abs(point.minus_majority["head_vote"].value) for point in curve.points)])
    title = f"points above majority with 95 % interval, n = {curve.points[0].n}; AUROC"
    parts = [text(2, 14, title, "title"), text(2, 40, "trained on ↓  tested on →", "tick")]
    for column, name in enumerate(test_families):
        parts.append(text(_LABEL_WIDTH + _CELL_WIDTH * (column + 0.5), 40, _shorten(name), anchor="middle"))
    for row, name in enumerate(train_families):
        parts.append(text(_LABEL_WIDTH - 8, 54 + _CELL_HEIGHT * (row + 0.5), _shorten(name), anchor="end"))
    for point in curve.points:
        x = _LABEL_WIDTH + _CELL_WIDTH * test_families.index(point.tested_on)
        y = 50 + _CELL_HEIGHT * train_families.index(point.trained_on)
        parts += _family_cell(point, x, y, max_gain)
    width = max(WIDTH, _LABEL_WIDTH + _CELL_WIDTH * len(test_families) + 20)
    height = 60 + _CELL_HEIGHT * len(train_families)
    return svg_document(_DESCRIPTIONS["family"], parts, width=width, height=height)


def _family_cell(point: Point, x: float, y: float, max_gain: float) -> list[Markup]:
    gain, auroc = point.minus_majority["head_vote"], point.within_question_auroc.value
    opacity = f"{0.05 + 0.25 * abs(gain.value) / max_gain:.3f}"
    style = "cell gain" if gain.value >= 0 else "cell loss"
    middle = x + _CELL_WIDTH / 2
    interval = f"{100 * gain.low:+.1f}…{100 * gain.high:+.1f}"
    return [
        element("rect", x=x, y=y, width=_CELL_WIDTH, height=_CELL_HEIGHT, class_=style, fill_opacity=opacity),
        text(middle, y + 19, f"{100 * gain.value:+.1f}", anchor="middle"),
        text(middle, y + 34, interval, "tick", "middle"),
        text(middle, y + 51, "–" if math.isnan(auroc) else f"{auroc:.3f}", "tick", "middle"),
    ]


def _gain_interval(point: Point) -> tuple[float, float]:
    """Return the interval of the vote's difference to majority, added to the accuracy of majority."""
    majority, gain = point.accuracy["majority"].value, point.minus_majority["head_vote"]
    return majority + gain.low, majority + gain.high


def _shorten(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"
