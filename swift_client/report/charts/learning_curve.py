"""A curve as a picture: lines against questions or n, or a square of families."""

from __future__ import annotations

import math

from swift_client.evaluation.learning_curve.curve import Curve, Point
from swift_client.report.charts.axes import (
    HEIGHT,
    WIDTH,
    Frame,
    band,
    linear_scale,
    log_scale,
    path,
    spread_labels,
    text,
    ticks,
    visible_labels,
)
from swift_client.report.markup import Markup, tag

_STYLE = (
    "svg{font:12px system-ui,sans-serif;background:#fff}text{fill:#1a1d21}.tick,.title{fill:#5a626b}"
    ".grid{stroke:#dce0e5}.axis{stroke:#5a626b}.line{fill:none;stroke-width:2}.dot{stroke:none}"
    ".head_vote{stroke:#0b5cad}.head_vote.dot,.head_vote.label,.area{fill:#0b5cad;stroke:none}.area{opacity:.15}"
    ".head{stroke:#b84a00}.head.dot,.head.label{fill:#b84a00;stroke:none}"
    ".flat{stroke:#5a626b;stroke-dasharray:5 4;stroke-width:1.2}.flat.dot{fill:#5a626b}"
    ".cell{stroke:#fff;stroke-width:2}"
)
_LINE_LABELS = {
    "head_vote": "head, vote",
    "head": "head, best",
    "majority": "majority",
    "mean_logprob": "mean logprob",
    "oracle": "any of n",
}
_CELL_SIZE, _LABEL_WIDTH = (104.0, 60.0), 150.0


def curve_svg(curve: Curve) -> str:
    """Draw the points: accuracy, or for families the vote's points above majority.

    The band is the 95 % interval of the vote's paired difference to majority, drawn from majority's height: where it
    leaves out majority's line, the vote is better or worse.
    """
    body, height = _family_grid(curve) if curve.over == "family" else (_line_chart(curve), HEIGHT)
    width = WIDTH if curve.over != "family" else _LABEL_WIDTH + _CELL_SIZE[0] * len(_test_names(curve)) + 20
    described = {
        "questions": "Accuracy against the questions that a head was trained on.",
        "n": "Accuracy against the number of completions to choose from.",
        "family": "What heads trained on one family of questions gain over majority on the others.",
    }[curve.over]
    box = f"0 0 {max(width, WIDTH):g} {height:g}"
    parts = (tag("title", described), tag("style", _STYLE), *body)
    return str(tag("svg", *parts, viewBox=box, xmlns="http://www.w3.org/2000/svg"))


def _line_chart(curve: Curve) -> list[Markup]:
    frame = Frame(right=WIDTH - 110.0)
    xs = [float(point.n if curve.over == "n" else point.size) for point in curve.points]
    values = [100 * point.accuracy[name].value for point in curve.points for name in _LINE_LABELS]
    values += [100 * edge for point in curve.points for edge in _gain_interval(point)]
    known = [value for value in values if math.isfinite(value)]
    low, high = 5 * math.floor(min(known) / 5), 5 * math.ceil(max(known) / 5)
    x = log_scale(xs[0], xs[-1], frame.left, frame.right)
    y = linear_scale(low, high, frame.bottom, frame.top + 12)
    parts = frame.axes(
        x=x,
        y=y,
        x_ticks=[
            (at, f"{at:,g}" if shown else "")
            for at, shown in zip(xs, visible_labels([x(at) for at in xs], 36), strict=True)
        ],
        y_ticks=[(value, f"{value:g}") for value in ticks(low, high, 6)],
        x_title="completions to choose from, n" if curve.over == "n" else "questions trained and validated on",
        y_title=f"right, % of {curve.points[0].tested} test questions"
        + ("" if curve.over == "n" else f", n = {curve.points[0].n}")
        + "; band: vote less majority, 95 %",
    )
    edges = [_gain_interval(point) for point in curve.points]
    parts.append(
        band([x(at) for at in xs], [y(100 * a) for a, _ in edges], [y(100 * b) for _, b in edges], class_="area")
    )
    labels: list[tuple[float, str, str]] = []
    for name, label in _LINE_LABELS.items():
        style = name if name.startswith("head") else "flat"
        drawn = [(x(at), y(100 * point.accuracy[name].value)) for at, point in zip(xs, curve.points, strict=True)]
        parts.append(path(drawn, class_=f"{style} line"))
        parts += [tag("circle", cx=cx, cy=cy, r=2.5, class_=f"{style} dot") for cx, cy in drawn]
        labels.append((drawn[-1][1], label, f"{style} label" if style != "flat" else "tick"))
    heights = spread_labels([at for at, _, _ in labels], frame.top, frame.bottom)
    for at, (_, words, style) in zip(heights, labels, strict=True):
        parts.append(text(frame.right + 8, at + 4, words, class_=style))
    return parts


def _family_grid(curve: Curve) -> tuple[list[Markup], float]:
    tested, trained = _test_names(curve), list(dict.fromkeys(point.trained_on for point in curve.points))
    width, height = _CELL_SIZE
    most = max([0.01, *(abs(point.minus_majority["head_vote"].value) for point in curve.points)])
    parts: list[Markup] = [
        text(
            2,
            14,
            f"points above majority with 95 % interval, n = {curve.points[0].n}; AUROC",
            class_="title",
        ),
        text(2, 40, "trained on ↓  tested on →", class_="tick"),
    ]
    for at, name in enumerate(tested):
        parts.append(text(_LABEL_WIDTH + width * (at + 0.5), 40, _shorten(name), text_anchor="middle"))
    for at, name in enumerate(trained):
        parts.append(text(_LABEL_WIDTH - 8, 50 + height * (at + 0.5) + 4, _shorten(name), text_anchor="end"))
    for point in curve.points:
        x, y = _LABEL_WIDTH + width * tested.index(point.tested_on), 50 + height * trained.index(point.trained_on)
        beyond, auroc = point.minus_majority["head_vote"], point.within_question_auroc.value
        gain = beyond.value
        fill = "#0b5cad" if gain >= 0 else "#b84a00"
        shade = round(0.05 + 0.35 * abs(gain) / most, 3)
        parts.append(tag("rect", x=x, y=y, width=width, height=height, class_="cell", fill=fill, fill_opacity=shade))
        parts.append(text(x + width / 2, y + 19, f"{100 * gain:+.1f}", text_anchor="middle"))
        interval = f"{100 * beyond.low:+.1f}…{100 * beyond.high:+.1f}"
        parts.append(text(x + width / 2, y + 34, interval, class_="tick", text_anchor="middle"))
        parts.append(
            text(
                x + width / 2, y + 51, "–" if math.isnan(auroc) else f"{auroc:.3f}", class_="tick", text_anchor="middle"
            )
        )
    return parts, 50 + height * len(trained) + 10


def _test_names(curve: Curve) -> list[str]:
    return list(dict.fromkeys(point.tested_on for point in curve.points))


def _gain_interval(point: Point) -> tuple[float, float]:
    """Return the interval of the vote's difference to majority, from majority's height."""
    height, beyond = point.accuracy["majority"].value, point.minus_majority["head_vote"]
    return height + beyond.low, height + beyond.high


def _shorten(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"
