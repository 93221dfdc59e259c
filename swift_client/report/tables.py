"""Every number of an evaluation, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from swift_client.evaluation.result import Estimate, Evaluation, Row
from swift_client.report.format import (
    MISSING,
    PERCENT,
    format_decimal,
    format_percent,
    format_points,
    interval_sign,
    is_finite,
)
from swift_client.report.markup import Markup, Part, join, tag

KIND_LABELS = {"single": "One completion is picked", "vote": "Answers are voted on", "oracle": "The bound"}


def accuracy_table(evaluation: Evaluation) -> Markup:
    """Return the main table: accuracy at each n, and the difference to majority with its interval."""
    columns = len(evaluation.ns) + 1
    head = tag("tr", tag("th", "", scope="col"), *(tag("th", f"n = {n}", scope="col") for n in evaluation.ns))
    body: list[Markup] = []
    for kind, rows in groupby(evaluation.rows, key=lambda row: row.kind):
        body.append(tag("tr", tag("th", KIND_LABELS[kind], colspan=str(columns), scope="colgroup"), class_="kind"))
        body += [
            tag("tr", _row_header(row), *(_accuracy_cell(row, n) for n in evaluation.ns), class_=_row_class(row))
            for row in rows
        ]
    tokens = (
        tag("td", MISSING if not is_finite(evaluation.tokens[n]) else f"{evaluation.tokens[n]:,.0f}")
        for n in evaluation.ns
    )
    body.append(tag("tr", tag("th", "Completion tokens a question", scope="row"), *tokens, class_="cost"))
    return scrolling_table(head, body)


def interval_table(evaluation: Evaluation) -> Markup:
    """Return accuracy with its own interval, and the share of the oracle's gain that each row has."""
    head = tag("tr", tag("th", "", scope="col"), *(tag("th", f"n = {n}", scope="col") for n in evaluation.ns))
    body = [
        tag(
            "tr",
            _row_header(row),
            *(
                tag(
                    "td",
                    _format_interval(row.accuracy[n], format_percent),
                    tag("small", "gap closed ", MISSING if gap is None else f"{format_percent(gap)}{PERCENT}"),
                )
                for n in evaluation.ns
                for gap in (row.gap_closed[n],)
            ),
            class_=_row_class(row),
        )
        for row in evaluation.rows
    ]
    return scrolling_table(head, body)


def scorer_table(evaluation: Evaluation) -> Markup:
    """Return how well each row's scores tell right from wrong, and how true its probabilities are."""
    titles = ("AUROC within a question", "AUROC over all", "Brier", "ECE")
    head = tag("tr", tag("th", "", scope="col"), *(tag("th", title, scope="col") for title in titles))
    body = []
    for row in evaluation.rows:
        auroc = row.within_question_auroc
        if auroc is None and row.pooled_auroc is None and row.brier is None and row.ece is None:
            continue
        cells: list[Part] = [
            MISSING if auroc is None else _format_interval(auroc, format_decimal),
            format_decimal(row.pooled_auroc),
            join(format_decimal(row.brier), _values_by_n(row.brier_at)),
            join(format_decimal(row.ece), _values_by_n(row.ece_at)),
        ]
        body.append(tag("tr", _row_header(row), *(tag("td", cell) for cell in cells), class_=_row_class(row)))
    return scrolling_table(head, body) if body else tag("p", "No row has scores of its own.", class_="soft")


def scrolling_table(head: Markup, body: Sequence[Markup]) -> Markup:
    """Return a table that scrolls sideways within its own frame where the page is narrow."""
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll", tabindex="0")


def _values_by_n(values: Mapping[int, float]) -> Markup:
    return join(*(tag("small", f"n = {n}: {format_decimal(value)}") for n, value in values.items()))


def _row_header(row: Row) -> Markup:
    trained = tag("small", "trained on labels") if row.needs_labels and not row.name.startswith("head") else None
    return tag("th", row.label, trained, scope="row")


def _row_class(row: Row) -> str | None:
    return "ours" if row.name.startswith("head") else "versus" if row.name in ("majority", "oracle") else None


def _accuracy_cell(row: Row, n: int) -> Markup:
    right = format_percent(row.accuracy[n].value)
    if row.name == "majority":
        return tag("td", right, tag("small", "reference"))
    difference = row.minus_majority[n]
    if not is_finite(difference.value):
        return tag("td", right)
    if difference.value == difference.low == difference.high == 0:
        return tag("td", right, tag("small", "the same"))
    told = "" if row.kind == "oracle" else ("", "up", "down")[interval_sign(difference)]
    return tag(
        "td",
        right,
        tag("b", format_points(difference.value), class_=told or None),
        tag("small", f"{format_points(difference.low)} to {format_points(difference.high)}"),
    )


def _format_interval(value: Estimate, format_value: Callable[[float], str]) -> Markup:
    return join(format_value(value.value), tag("small", f"{format_value(value.low)} to {format_value(value.high)}"))
