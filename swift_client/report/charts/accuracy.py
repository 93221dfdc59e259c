"""Accuracy against n, and against the tokens that it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swift_client.evaluation.result import Evaluation, Row
from swift_client.report.charts.axes import (
    LINE,
    WIDTH,
    Frame,
    Scale,
    apart,
    band,
    clear,
    linear,
    logarithmic,
    path,
    picture,
    runs,
    text,
    ticks,
)
from swift_client.report.format import PERCENT, known, percent
from swift_client.report.markup import Markup, tag

NAMES = {
    "oracle": "any of n",
    "head_vote": "head, vote",
    "head": "head, best",
    "majority": "majority",
    "first": "one answer",
}
"""Rows that are drawn, by the short names that stand at the ends of their lines."""

LETTER = 7.6
"""Width of a bold letter of a label, on the safe side."""

SHORT = {
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


def lines(found: Evaluation) -> list[Line]:
    """Return the rows worth a line: the head's, majority, one answer, the oracle, and the best that needs no labels."""
    drawn = [
        Line(row=row, label=NAMES[row.name], style=row.name.replace("_", "-"))
        for row in found.rows
        if row.name in NAMES
    ]
    if (free := best_free(found)) is not None:
        drawn.append(Line(row=free, label=SHORT.get(free.name, free.label), style="free"))
    return drawn


def best_free(found: Evaluation) -> Row | None:
    """Return the scorer without labels that is right most often, over all n > 1.

    It is picked on these very questions, which flatters it.
    """
    several = [n for n in found.ns if n > 1] or list(found.ns)

    def mean(row: Row) -> float:
        values = [row.accuracy[n].value for n in several]
        return sum(values) / len(values)

    scorers = [row for row in found.rows if row.kind == "single" and not row.needs_labels]
    known_ones = [row for row in scorers if row.name not in ("first", "random") and known(mean(row))]
    return max(known_ones, key=mean, default=None)


def against_n(found: Evaluation) -> Markup:
    """Draw accuracy (%) against the number of completions, a logarithmic axis."""
    return _curves(
        found,
        xs=[float(n) for n in found.ns],
        scale=logarithmic,
        x_ticks=[(float(n), str(n)) for n in found.ns],
        x_title="completions to choose from, n",
        described="Accuracy of each way to choose, against the number of completions.",
    )


def against_tokens(found: Evaluation) -> Markup:
    """Draw the same against the mean completion tokens that a question costs, a linear axis from 0."""
    xs = [found.tokens[n] for n in found.ns]
    if not all(math.isfinite(x) for x in xs):
        return tag("p", "Tokens were not counted.", class_="soft")
    return _curves(
        found,
        xs=xs,
        scale=lambda low, high, start, end: linear(0.0, high, start, end),
        x_ticks=[(value, f"{value:,.0f}") for value in ticks(0.0, max(*xs, 1.0), 6)],
        x_title="completion tokens a question",
        described="Accuracy of each way to choose, against the mean completion tokens a question.",
    )


def _curves(
    found: Evaluation,
    *,
    xs: Sequence[float],
    scale: Callable[[float, float, float, float], Scale],
    x_ticks: Sequence[tuple[float, str]],
    x_title: str,
    described: str,
) -> Markup:
    drawn = lines(found)
    frame = Frame(right=WIDTH - 20.0 - LETTER * max((len(each.label) for each in drawn), default=0))
    estimates = [each.row.accuracy[n] for each in drawn for n in found.ns]
    values = [value for each in estimates for value in (each.value, each.low, each.high) if known(value)]
    if not values:
        return tag("p", "There is nothing to draw.", class_="soft")
    low, high = math.floor(20 * min(values)) / 20, math.ceil(20 * max(values)) / 20
    x = scale(min(xs), max(xs), frame.left + 8, frame.right - 4)
    y = linear(low, high if high > low else low + 0.05, frame.bottom, frame.top + 12)
    shown = clear([x(value) for value, _ in x_ticks], 22.0)
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
        at = [each.row.accuracy[n] for n in found.ns]
        bounded = [
            (x(value), y(one.low), y(one.high))
            for value, one in zip(xs, at, strict=True)
            if known(one.low) and known(one.high)
        ]
        if len(bounded) > 1:
            parts.append(band(*map(list, zip(*bounded, strict=True)), class_=f"band {each.style}"))
        points = [(x(value), y(one.value)) if known(one.value) else None for value, one in zip(xs, at, strict=True)]
        parts += [path(run, class_=f"line {each.style}") for run in runs(points) if len(run) > 1]
        for point, one, n in zip(points, at, found.ns, strict=True):
            if point is not None:
                said = f"{each.row.label}, n = {n}: {percent(one.value)} ({percent(one.low)} to {percent(one.high)})"
                dot = tag("circle", cx=point[0], cy=point[1], r=2.6)
                parts.append(tag("g", tag("title", said), dot, class_=f"dot {each.style}"))
        if last := next((point for point in reversed(points) if point is not None), None):
            ends.append((each, *last))
    places = apart([end[2] for end in ends], frame.top + 6, frame.bottom - 2, LINE)
    for (each, end_x, end_y), place in zip(ends, places, strict=True):
        start = frame.right + 12
        parts.append(path([(end_x + 4, end_y), (start - 3, place)], class_=f"leader {each.style}"))
        parts.append(text(start, place + 4, each.label, class_=f"label {each.style}"))
    return picture(described, *parts)


def same_for_less(found: Evaluation) -> str:
    """Say with how many tokens the head's vote is as good as majority at the largest n; "" where it never is."""
    rows = {row.name: row for row in found.rows}
    if not {"majority", "head_vote"} <= rows.keys() or len(found.ns) < 2:
        return ""
    most = found.ns[-1]
    target = rows["majority"].accuracy[most].value
    for n in [n for n in found.ns[:-1] if n > 1]:
        share = found.tokens[n] / found.tokens[most] if found.tokens[most] else math.nan
        if rows["head_vote"].accuracy[n].value >= target and known(share):
            return (
                f"The head’s vote with n = {n} is right at least as often as majority with n = {most}, "
                f"for {100 * share:.0f}{PERCENT} of its tokens."
            )
    return ""
