"""Chart of accuracy against the tokens that n completions cost."""

from __future__ import annotations

import math
from typing import NamedTuple

from swift_client.evaluation.result import Evaluation, Row
from swift_client.report.charts.chart import PAGE_WIDTH, Chart, Markup, element, percent_range, percent_ticks, ticks
from swift_client.report.format import PERCENT, format_percent, is_finite

# Rows that are always drawn, and the labels of their lines.
LINE_LABELS = {
    "oracle": "any of n",
    "head_vote": "head, vote",
    "head": "head, best",
    "majority": "majority",
    "first": "one answer",
}

SHORT_LABELS = {
    "shortest": "shortest",
    "longest": "longest",
    "mean_logprob": "mean logprob",
    "sum_logprob": "sum logprob",
    "min_logprob": "least likely",
    "entropy": "entropy",
    "self_certainty": "self-certainty",
    "deepconf_mean": "DeepConf mean",
    "deepconf_tail": "DeepConf tail",
    "deepconf_bottom": "DeepConf 10 %",
    "deepconf_lowest": "DeepConf low",
}


class Line(NamedTuple):
    """One row of the evaluation as a line."""

    row: Row
    label: str
    style: str  # class in the style sheet


def select_lines(evaluation: Evaluation) -> list[Line]:
    """Return the head's rows, majority, one answer, the oracle, and the best scorer without labels."""
    lines = [
        Line(row, LINE_LABELS[row.name], row.name.replace("_", "-"))
        for row in evaluation.rows
        if row.name in LINE_LABELS
    ]
    if (label_free := best_label_free(evaluation)) is not None:
        lines.append(Line(label_free, SHORT_LABELS.get(label_free.name, label_free.label), "free"))
    return lines


def best_label_free(evaluation: Evaluation) -> Row | None:
    """Return the scorer without labels that is most accurate, averaged over all n > 1.

    It is chosen on these very questions, which flatters it.
    """
    ns = [n for n in evaluation.ns if n > 1] or list(evaluation.ns)

    def mean_accuracy(row: Row) -> float:
        return sum(row.accuracy[n].value for n in ns) / len(ns)

    scorers = [row for row in evaluation.rows if row.kind == "single" and not row.needs_labels]
    scorers = [row for row in scorers if row.name not in ("first", "random") and is_finite(mean_accuracy(row))]
    return max(scorers, key=mean_accuracy, default=None)


def accuracy_by_tokens(evaluation: Evaluation) -> Markup:
    """Draw accuracy (%) against the mean completion tokens per question, on a linear axis from 0."""
    tokens = [evaluation.tokens[n] for n in evaluation.ns]
    if not all(math.isfinite(count) for count in tokens):
        return element("p", "Tokens were not counted.", class_="soft")
    lines = select_lines(evaluation)
    values = [line.row.accuracy[n].value for line in lines for n in evaluation.ns]
    if not any(map(is_finite, values)):
        return element("p", "There is nothing to draw.", class_="soft")
    y_range = percent_range(values)
    chart = Chart(
        "Accuracy of each way to choose, against the mean completion tokens per question.",
        (0.0, max(tokens)),
        y_range,
        labels=[line.label for line in lines],
        width=PAGE_WIDTH,
    )
    chart.axes(
        [(count, f"{count:,.0f}") for count in ticks(0.0, max(*tokens, 1.0), 5)],
        percent_ticks(*y_range),
        x_title="completion tokens per question",
        y_title="right, % of questions",
    )
    # Without bands: the intervals of paired differences are in the chart of differences.
    ends = []
    for row, label, style in lines:
        points = [(count, n, row.accuracy[n]) for count, n in zip(tokens, evaluation.ns, strict=True)]
        chart.line([(count, estimate.value) for count, _, estimate in points], f"line {style}")
        for count, n, estimate in points:
            interval = f"{format_percent(estimate.low)} to {format_percent(estimate.high)}"
            title = f"{row.label}, n = {n}: {format_percent(estimate.value)} ({interval})"
            chart.dot(count, estimate.value, style, title=title)
        # Each line is labelled at its last finite point.
        finite = [(count, estimate.value) for count, _, estimate in points if is_finite(estimate.value)]
        ends += [(*point, label, style) for point in finite[-1:]]
    chart.end_labels(ends)
    return chart.inline()


def describe_cost(evaluation: Evaluation) -> str:
    """Name the best scorer without labels, and the tokens that the head saves."""
    label_free = best_label_free(evaluation)
    best = "" if label_free is None else f"“{label_free.label}” is the best single score without labels here. "
    return f"{best}Points mark n = {', '.join(map(str, evaluation.ns))}. {describe_token_savings(evaluation)}".rstrip()


def describe_token_savings(evaluation: Evaluation) -> str:
    """Say with how many tokens the head's vote equals majority at the largest n; "" if it never does."""
    rows = {row.name: row for row in evaluation.rows}
    if not {"majority", "head_vote"} <= rows.keys() or len(evaluation.ns) < 2:
        return ""
    max_n = evaluation.ns[-1]
    target = rows["majority"].accuracy[max_n].value
    for n in [n for n in evaluation.ns[:-1] if n > 1]:
        share = evaluation.tokens[n] / evaluation.tokens[max_n] if evaluation.tokens[max_n] else math.nan
        if rows["head_vote"].accuracy[n].value >= target and is_finite(share):
            return (
                f"The head’s vote with n = {n} is right at least as often as majority with n = {max_n}, "
                f"for {100 * share:.0f}{PERCENT} of its tokens."
            )
    return ""
