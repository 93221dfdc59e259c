"""Charts of the head's calibration, and of its scores of right and of wrong completions."""

from __future__ import annotations

import numpy as np

from swift_client.features.segments import F64
from swift_client.report.charts.chart import PAGE_WIDTH, Chart, Markup, element, percent_ticks, ticks
from swift_client.report.format import PERCENT, format_percent
from swift_client.training.metrics import Reliability

BINS = 30
# Share of the scores at either end that the outermost bars gather, so one outlier does not flatten the rest.
OUTLIER_SHARE = 0.005
TENTHS = 10
_HEIGHT, _COUNTS_HEIGHT = 300.0, 130.0


def reliability_diagram(reliability: Reliability) -> Markup:
    """Draw predicted probabilities against the observed share; on the diagonal the two are the same."""
    description = "Reliability: what the head said against what came true."
    chart = Chart(description, (0.0, 1.0), (0.0, 1.0), width=PAGE_WIDTH, height=_HEIGHT)
    steps = percent_ticks(0.0, 1.0)
    chart.axes(steps, steps, x_title="the head said, %", y_title="came true, % of completions")
    chart.line([(0.0, 0.0), (1.0, 1.0)], "ideal")
    # Probabilities that were too high are below the upper end of the diagonal.
    chart.text(chart.x(0.97), chart.y(0.06), "too sure", "note", "end")
    chart.text(chart.x(0.03), chart.y(0.94), "not sure enough", "note")
    bins = list(
        zip(reliability.predicted.tolist(), reliability.observed.tolist(), reliability.counts.tolist(), strict=True)
    )
    chart.line([(predicted, observed) for predicted, observed, _ in bins], "line head-vote")
    for predicted, observed, count in bins:
        title = (
            f"said {format_percent(predicted)}{PERCENT}, came true {format_percent(observed)}{PERCENT}, "
            f"{count:,} completions"
        )
        # A thin vertical line shows the distance to the diagonal.
        chart.line([(predicted, predicted), (predicted, observed)], "gap")
        chart.dot(predicted, observed, "head-vote", title=title, radius=4.0)
    return chart.inline()


def probability_counts(probabilities: F64) -> Markup:
    """Draw the number of completions in each tenth of probability; ``probabilities`` (N,) may be NaN."""
    counts, edges = np.histogram(probabilities[np.isfinite(probabilities)], bins=TENTHS, range=(0.0, 1.0))
    if not counts.any():
        return element("p", "No completion has a probability.", class_="soft")
    top = float(counts.max())
    description = "Number of completions in each tenth of the head's probability."
    chart = Chart(description, (0.0, 1.0), (0.0, 1.15 * top), width=PAGE_WIDTH, height=_COUNTS_HEIGHT)
    chart.axes(percent_ticks(0.0, 1.0), [], x_title="the head said, %", y_title="completions")
    for count, start, end in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            chart.bar(start, end, count, "right")
        chart.text(chart.x((start + end) / 2), chart.y(count) - 4, _short_count(count), "count", "middle")
    return chart.inline()


def _short_count(count: int) -> str:
    """Format a count in at most four characters: "950", "1.2k", "17k"."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


def score_histogram(scores: F64, labels: F64) -> Markup:
    """Draw scores (N,) of right completions upwards and of wrong ones downwards, as shares of each; labels (N,)."""
    right, wrong = (scores[(labels == value) & np.isfinite(scores)] for value in (1.0, 0.0))
    if not len(right) + len(wrong):
        return element("p", "No completion has both a score and a label.", class_="soft")
    low, high = np.quantile(np.concatenate([right, wrong]), [OUTLIER_SHARE, 1 - OUTLIER_SHARE]).tolist()
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    shares = [np.histogram(np.clip(values, low, high), edges)[0] / max(len(values), 1) for values in (right, wrong)]
    max_share = max(float(share.max()) for share in shares)
    chart = Chart(
        "Histogram of the head's scores of right and of wrong completions.",
        (low, high),
        (-max_share, max_share),
        width=PAGE_WIDTH,
        height=_HEIGHT,
    )
    chart.axes(
        [(value, f"{value:g}".replace("-", "\N{MINUS SIGN}")) for value in ticks(low, high, 7)],
        [(value, f"{abs(100 * value):g}") for value in ticks(-max_share, max_share, 6)],
        x_title="score by the head",
        y_title="share of completions, %",
    )
    # Right completions point upwards, wrong ones downwards.
    for share, style, sign in zip(shares, ("right", "wrong"), (1, -1), strict=True):
        for value, start, end in zip(share.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            if value:
                chart.bar(start, end, sign * value, style)
    chart.baseline(chart.y(0))
    chart.text(chart.left + 10, chart.top + 26, f"right ({len(right):,})", "label right")
    chart.text(chart.left + 10, chart.bottom - 10, f"wrong ({len(wrong):,})", "label wrong")
    return chart.inline()
