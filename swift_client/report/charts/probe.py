"""A probe as a picture: accuracy and within-question AUROC by layer, with what they have to beat."""

from __future__ import annotations

import math

from swift_client.evaluation.probe import ProbeResult, ProbeRow
from swift_client.evaluation.result import Estimate
from swift_client.report.charts.axes import HEIGHT, WIDTH, Frame, band, linear_scale, path, spread_labels, text, ticks
from swift_client.report.markup import Markup, tag

_STYLE = (
    "svg{font:12px system-ui,sans-serif;background:#fff}text{fill:#1a1d21}.tick,.title{fill:#5a626b}"
    ".grid{stroke:#dce0e5}.axis{stroke:#5a626b}.line{fill:none;stroke-width:2}.area{opacity:.15}"
    ".accuracy{stroke:#0b5cad}.accuracy.area,.accuracy.label{fill:#0b5cad;stroke:none}"
    ".auroc{stroke:#b84a00}.auroc.area,.auroc.label{fill:#b84a00;stroke:none}"
    ".flat{stroke-dasharray:5 4;stroke-width:1.2}.baseline{stroke:#5a626b}"
)


def probe_svg(result: ProbeResult) -> str:
    """Draw the layers from left to right; dashed lines are the logprob features' and the majority class's.

    A probe without layers shows the dashed lines alone.
    """
    layers = [row for row in result.rows if row.layer is not None]
    flat = next(row for row in result.rows if row.name == "logprob features")
    frame = Frame(right=WIDTH - 150.0)
    values = [result.baseline.value, *(each.value for row in (*layers, flat) for each in _plotted_estimates(row))]
    known = [value for value in values if not math.isnan(value)]
    low, high = math.floor(20 * min(known)) / 20 - 0.05, math.ceil(20 * max(known)) / 20 + 0.05
    last = max(len(layers) - 1, 1)
    x, y = linear_scale(0, last, frame.left, frame.right), linear_scale(low, high, frame.bottom, frame.top + 12)
    step = max(1, len(layers) // 8)
    parts: list[Markup] = frame.axes(
        x=x,
        y=y,
        x_ticks=[(at, str(row.layer)) for at, row in enumerate(layers) if at % step == 0],
        y_ticks=[(value, f"{100 * value:.0f}") for value in ticks(low, high, 6)],
        x_title="hidden state (0: the embedding)",
        y_title="% on questions held out",
    )
    labels = [(y(result.baseline.value), "majority class", "tick")]
    parts.append(path([(frame.left, labels[0][0]), (frame.right, labels[0][0])], class_="baseline line flat"))
    for which, class_, label in ((0, "accuracy", "accuracy"), (1, "auroc", "within-question AUROC")):
        said = [_plotted_estimates(row)[which] for row in layers]
        xs = [x(at) for at in range(len(layers))]
        if said:
            lows, highs = [y(each.low) for each in said], [y(each.high) for each in said]
            parts.append(band(xs, lows, highs, class_=f"{class_} area"))
            parts.append(path([(a, y(each.value)) for a, each in zip(xs, said, strict=True)], class_=f"{class_} line"))
            labels.append((y(said[-1].value), label, f"{class_} label"))
        level = y(_plotted_estimates(flat)[which].value)
        parts.append(path([(frame.left, level), (frame.right, level)], class_=f"{class_} line flat"))
        labels.append((level, f"{label.removeprefix('within-question ')} of logprobs", f"{class_} label"))
    heights = spread_labels([height for height, _, _ in labels], frame.top, frame.bottom)
    for height, (_, words, class_) in zip(heights, labels, strict=True):
        parts.append(text(frame.right + 8, height + 4, words, class_=class_))
    described = "What a linear rule on one hidden state tells of an answer's correctness, by layer."
    style = tag("style", _STYLE)
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return str(tag("svg", tag("title", described), style, *parts, viewBox=box, xmlns="http://www.w3.org/2000/svg"))


def _plotted_estimates(row: ProbeRow) -> tuple[Estimate, Estimate]:
    return row.accuracy, row.within_question_auroc
