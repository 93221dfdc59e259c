"""Whether the head's probabilities come true, and how its scores of right and of wrong completions differ."""

from __future__ import annotations

import numpy as np

from swift_client.features.segments import F64
from swift_client.report.charts.axes import Frame, chart_svg, linear_scale, path, text, ticks
from swift_client.report.format import PERCENT, format_percent
from swift_client.report.markup import Markup, tag
from swift_client.training.metrics import Reliability

BINS = 30
OUTLIER_SHARE = 0.005
"""Share of the scores at either end that the outermost bars gather, so that one outlier does not flatten the rest."""


def reliability_diagram(reliability: Reliability) -> Markup:
    """Draw what the head said against what came true; on the diagonal the two are the same."""
    frame = Frame(bottom=300.0 - 44.0)
    x = linear_scale(0.0, 1.0, frame.left + 8, frame.right - 8)
    y = linear_scale(0.0, 1.0, frame.bottom, frame.top + 12)
    steps = [(value, f"{100 * value:.0f}") for value in ticks(0.0, 1.0, 5)]
    parts = frame.axes(
        x=x, y=y, x_ticks=steps, y_ticks=steps, x_title="the head said, %", y_title="came true, % of completions"
    )
    parts.append(path([(x(0), y(0)), (x(1), y(1))], class_="ideal"))
    # Below the diagonal's upper end lie the probabilities that were too high.
    parts.append(text(x(0.97), y(0.06), "too sure", class_="note", text_anchor="end"))
    parts.append(text(x(0.03), y(0.94), "not sure enough", class_="note"))
    bins = list(
        zip(reliability.predicted.tolist(), reliability.observed.tolist(), reliability.counts.tolist(), strict=True)
    )
    parts.append(path([(x(said), y(true)) for said, true, _ in bins], class_="line head-vote"))
    for said, true, count in bins:
        words = (
            f"said {format_percent(said)}{PERCENT}, came true {format_percent(true)}{PERCENT}, {count:,} completions"
        )
        parts.append(path([(x(said), y(said)), (x(said), y(true))], class_="gap"))
        parts.append(
            tag("g", tag("title", words), tag("circle", cx=x(said), cy=y(true), r=4.0), class_="dot head-vote")
        )
    return chart_svg("Reliability: what the head said against what came true.", *parts, height=300.0)


def score_histogram(scores: F64, labels: F64) -> Markup:
    """Draw scores (N,) of right completions upwards and of wrong ones downwards, as shares of each; labels (N,)."""
    right, wrong = (scores[(labels == value) & np.isfinite(scores)] for value in (1.0, 0.0))
    if not len(right) + len(wrong):
        return tag("p", "No completion has both a score and a label.", class_="soft")
    low, high = np.quantile(np.concatenate([right, wrong]), [OUTLIER_SHARE, 1 - OUTLIER_SHARE]).tolist()
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(np.clip(each, low, high), edges)[0] / max(len(each), 1) for each in (right, wrong)]
    most = max(float(share.max()) for share in shares)
    frame = Frame(bottom=300.0 - 44.0)
    x = linear_scale(low, high, frame.left + 8, frame.right - 4)
    y = linear_scale(-most, most, frame.bottom, frame.top + 12)
    parts = frame.axes(
        x=x,
        y=y,
        x_ticks=[(value, f"{value:g}".replace("-", "\N{MINUS SIGN}")) for value in ticks(low, high, 7)],
        y_ticks=[(value, f"{abs(100 * value):g}") for value in ticks(-most, most, 6)],
        x_title="score by the head",
        y_title="share of completions, %",
    )
    for share, kind, sign in zip(shares, ("right", "wrong"), (1, -1), strict=True):
        for value, left, end in zip(share.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if value:
                top, bottom = sorted((y(0), y(sign * value)))
                bar = {"x": x(left) + 0.5, "width": x(end) - x(left) - 1, "y": top, "height": bottom - top}
                parts.append(tag("rect", **bar, class_=f"bar {kind}"))
    parts.append(path([(frame.left, y(0)), (frame.right, y(0))], class_="axis"))
    parts.append(text(frame.left + 10, frame.top + 26, f"right ({len(right):,})", class_="label right"))
    parts.append(text(frame.left + 10, frame.bottom - 10, f"wrong ({len(wrong):,})", class_="label wrong"))
    return chart_svg("Histogram of the head's scores of right and of wrong completions.", *parts, height=300.0)
