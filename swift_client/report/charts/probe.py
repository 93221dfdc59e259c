"""Chart of a probe: accuracy and AUROC by layer, beside the baselines."""

from __future__ import annotations

import math

from swift_client.evaluation.probe import ProbeResult, ProbeRow
from swift_client.evaluation.result import Estimate
from swift_client.report.charts.chart import Chart, percent_ticks

# Class in the style sheet and label, in the order of ``_plotted_estimates``.
_SERIES = (("accuracy", "accuracy"), ("auroc", "AUROC"))


def probe_svg(result: ProbeResult) -> str:
    """Draw the layers from left to right; dashed lines are those of the logprob features and the majority class.

    A probe without layers has the dashed lines only.
    """
    layers = [row for row in result.rows if row.layer is not None]
    logprobs = next(row for row in result.rows if row.name == "logprob features")
    values = [estimate.value for row in (*layers, logprobs) for estimate in _plotted_estimates(row)]
    finite = [value for value in (result.baseline.value, *values) if not math.isnan(value)]
    y_range = math.floor(20 * min(finite)) / 20 - 0.05, math.ceil(20 * max(finite)) / 20 + 0.05
    last = max(len(layers) - 1, 1)
    labels = ["majority class", *(f"{label}{suffix}" for _, label in _SERIES for suffix in ("", " of logprobs"))]
    description = "Accuracy and AUROC within a question of a linear rule on one hidden state, by layer."
    chart = Chart(description, (0, last), y_range, labels=labels)
    step = max(1, len(layers) // 8)
    chart.axes(
        [(index, str(row.layer)) for index, row in enumerate(layers) if index % step == 0],
        percent_ticks(*y_range),
        x_title="hidden state (0: the embedding)",
        y_title="% on questions held out; AUROC: within a question",
    )
    chart.level(result.baseline.value, "line flat baseline")
    ends = [(float(last), result.baseline.value, "majority class", "baseline")]
    for index, (style, label) in enumerate(_SERIES):
        estimates = [_plotted_estimates(row)[index] for row in layers]
        chart.band([(x, estimate.low, estimate.high) for x, estimate in enumerate(estimates)], style)
        chart.line([(x, estimate.value) for x, estimate in enumerate(estimates)], f"line {style}")
        level = _plotted_estimates(logprobs)[index].value
        chart.level(level, f"line flat {style}")
        ends += [(len(estimates) - 1.0, estimate.value, label, style) for estimate in estimates[-1:]]
        ends.append((float(last), level, f"{label} of logprobs", style))
    chart.end_labels(ends)
    return chart.document()


def _plotted_estimates(row: ProbeRow) -> tuple[Estimate, Estimate]:
    return row.accuracy, row.within_question_auroc
