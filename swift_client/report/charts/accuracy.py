"""Accuracy against n, and against the tokens that it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swift_client.evaluation.result import Evaluation, Row
from swift_client.report.charts.axes import (
    LINE_HEIGHT,
    WIDTH,
    Frame,
    Scale,
    band,
    chart_svg,
    linear_scale,
    log_scale,
    path,
    split_at_gaps,
    spread_labels,
    text,
    ticks,
    visible_labels,
)
from swift_client.report.format import PERCENT, format_percent, is_finite
from swift_client.report.markup import Markup, tag

LINE_LABELS = {
    "oracle": "any of n",
    "head_vote": "head, vote",
    "head": "head, best",
    "majority": "majority",
    "first": "one answer",
}
"""Rows that are drawn, by the short names that stand at the ends of their lines."""

LETTER_WIDTH = 7.6
"""Width of a bold letter of a label, on the safe side."""

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


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row as it is drawn."""

    row: Row
    label: str
    style: str
    """Its class in the style sheet."""


def select_lines(evaluation: Evaluation) -> list[Line]:
    """Return the rows worth a line: the head's, majority, one answer, the oracle, and the best that needs no labels."""
    drawn = [
        Line(row=row, label=LINE_LABELS[row.name], style=row.name.replace("_", "-"))
        for row in evaluation.rows
        if row.name in LINE_LABELS
    ]
    if (free := best_label_free(evaluation)) is not None:
        drawn.append(Line(row=free, label=SHORT_LABELS.get(free.name, free.label), style="free"))
    return drawn


def best_label_free(evaluation: Evaluation) -> Row | None:
    """Return the scorer without labels that is right most often, over all n > 1.

    It is picked on these very questions, which flatters it.
    """
    several = [n for n in evaluation.ns if n > 1] or list(evaluation.ns)

    def mean(row: Row) -> float:
        values = [row.accuracy[n].value for n in several]
        return sum(values) / len(values)

    scorers = [row for row in evaluation.rows if row.kind == "single" and not row.needs_labels]
    known_ones = [row for row in scorers if row.name not in ("first", "random") and is_finite(mean(row))]
    return max(known_ones, key=mean, default=None)


def accuracy_by_n(evaluation: Evaluation) -> Markup:
    """Draw accuracy (%) against the number of completions, a logarithmic axis."""
    return _accuracy_chart(
        evaluation,
        xs=[float(n) for n in evaluation.ns],
        scale=log_scale,
        x_ticks=[(float(n), str(n)) for n in evaluation.ns],
        x_title="completions to choose from, n",
        description="Accuracy of each way to choose, against the number of completions.",
    )


def accuracy_by_tokens(evaluation: Evaluation) -> Markup:
    """Draw the same against the mean completion tokens that a question costs, a linear axis from 0."""
    xs = [evaluation.tokens[n] for n in evaluation.ns]
    if not all(math.isfinite(x) for x in xs):
        return tag("p", "Tokens were not counted.", class_="soft")
    return _accuracy_chart(
        evaluation,
        xs=xs,
        scale=lambda low, high, start, end: linear_scale(0.0, high, start, end),
        x_ticks=[(value, f"{value:,.0f}") for value in ticks(0.0, max(*xs, 1.0), 6)],
        x_title="completion tokens a question",
        description="Accuracy of each way to choose, against the mean completion tokens a question.",
    )


def _accuracy_chart(
    evaluation: Evaluation,
    *,
    xs: Sequence[float],
    scale: Callable[[float, float, float, float], Scale],
    x_ticks: Sequence[tuple[float, str]],
    x_title: str,
    description: str,
) -> Markup:
    drawn = select_lines(evaluation)
    frame = Frame(right=WIDTH - 20.0 - LETTER_WIDTH * max((len(each.label) for each in drawn), default=0))
    estimates = [each.row.accuracy[n] for each in drawn for n in evaluation.ns]
    values = [value for each in estimates for value in (each.value, each.low, each.high) if is_finite(value)]
    if not values:
        return tag("p", "There is nothing to draw.", class_="soft")
    low, high = math.floor(20 * min(values)) / 20, math.ceil(20 * max(values)) / 20
    x = scale(min(xs), max(xs), frame.left + 8, frame.right - 4)
    y = linear_scale(low, high if high > low else low + 0.05, frame.bottom, frame.top + 12)
    shown = visible_labels([x(value) for value, _ in x_ticks], 22.0)
    parts = frame.axes(
        x=x,
        y=y,
        x_ticks=[(value, label if keep else "") for (value, label), keep in zip(x_ticks, shown, strict=True)],
        y_ticks=[(value, f"{100 * value:.0f}") for value in ticks(low, high, 6)],
        x_title=x_title,
        y_title="right, % of questions",
    )
    ends: list[tuple[Line, float, float]] = []
    for each in drawn:
        at = [each.row.accuracy[n] for n in evaluation.ns]
        bounded = [
            (x(value), y(one.low), y(one.high))
            for value, one in zip(xs, at, strict=True)
            if is_finite(one.low) and is_finite(one.high)
        ]
        if len(bounded) > 1:
            parts.append(band(*map(list, zip(*bounded, strict=True)), class_=f"band {each.style}"))
        points = [(x(value), y(one.value)) if is_finite(one.value) else None for value, one in zip(xs, at, strict=True)]
        parts += [path(run, class_=f"line {each.style}") for run in split_at_gaps(points) if len(run) > 1]
        for point, one, n in zip(points, at, evaluation.ns, strict=True):
            if point is not None:
                said = f"{each.row.label}, n = {n}: {format_percent(one.value)} ({format_percent(one.low)} to {format_percent(one.high)})"
                dot = tag("circle", cx=point[0], cy=point[1], r=2.6)
                parts.append(tag("g", tag("title", said), dot, class_=f"dot {each.style}"))
        if last := next((point for point in reversed(points) if point is not None), None):
            ends.append((each, *last))
    places = spread_labels([end[2] for end in ends], frame.top + 6, frame.bottom - 2, LINE_HEIGHT)
    for (each, end_x, end_y), place in zip(ends, places, strict=True):
        start = frame.right + 12
        parts.append(path([(end_x + 4, end_y), (start - 3, place)], class_=f"leader {each.style}"))
        parts.append(text(start, place + 4, each.label, class_=f"label {each.style}"))
    return chart_svg(description, *parts)


def describe_token_savings(evaluation: Evaluation) -> str:
    """Say with how many tokens the head's vote is as good as majority at the largest n; "" where it never is."""
    rows = {row.name: row for row in evaluation.rows}
    if not {"majority", "head_vote"} <= rows.keys() or len(evaluation.ns) < 2:
        return ""
    most = evaluation.ns[-1]
    target = rows["majority"].accuracy[most].value
    for n in [n for n in evaluation.ns[:-1] if n > 1]:
        share = evaluation.tokens[n] / evaluation.tokens[most] if evaluation.tokens[most] else math.nan
        if rows["head_vote"].accuracy[n].value >= target and is_finite(share):
            return (
                f"The head’s vote with n = {n} is right at least as often as majority with n = {most}, "
                f"for {100 * share:.0f}{PERCENT} of its tokens."
            )
    return ""
