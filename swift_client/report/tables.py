"""Every number of an evaluation, as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from swift_client.evaluation.result import Estimate, Evaluation, Row
from swift_client.report.format import NONE, PERCENT, decimal, known, percent, points, side
from swift_client.report.markup import Markup, Part, join, tag

KINDS = {"single": "One completion is picked", "vote": "Answers are voted on", "oracle": "The bound"}


def results(found: Evaluation) -> Markup:
    """Return the main table: accuracy at each n, and the difference to majority with its interval."""
    columns = len(found.ns) + 1
    head = tag("tr", tag("th", "", scope="col"), *(tag("th", f"n = {n}", scope="col") for n in found.ns))
    body: list[Markup] = []
    for kind, rows in groupby(found.rows, key=lambda row: row.kind):
        body.append(tag("tr", tag("th", KINDS[kind], colspan=str(columns), scope="colgroup"), class_="kind"))
        body += [tag("tr", _name(row), *(_right(row, n) for n in found.ns), class_=_marked(row)) for row in rows]
    tokens = (tag("td", NONE if not known(found.tokens[n]) else f"{found.tokens[n]:,.0f}") for n in found.ns)
    body.append(tag("tr", tag("th", "Completion tokens a question", scope="row"), *tokens, class_="cost"))
    return scrolling(head, body)


def intervals(found: Evaluation) -> Markup:
    """Return accuracy with its own interval, and the share of the oracle's gain that each row has."""
    head = tag("tr", tag("th", "", scope="col"), *(tag("th", f"n = {n}", scope="col") for n in found.ns))
    body = [
        tag(
            "tr",
            _name(row),
            *(
                tag(
                    "td",
                    _interval(row.accuracy[n], percent),
                    tag("small", "gap closed ", NONE if gap is None else f"{percent(gap)}{PERCENT}"),
                )
                for n in found.ns
                for gap in (row.gap_closed[n],)
            ),
            class_=_marked(row),
        )
        for row in found.rows
    ]
    return scrolling(head, body)


def scorers(found: Evaluation) -> Markup:
    """Return how well each row's scores tell right from wrong, and how true its probabilities are."""
    titles = ("AUROC within a question", "AUROC over all", "Brier", "ECE")
    head = tag("tr", tag("th", "", scope="col"), *(tag("th", title, scope="col") for title in titles))
    body = []
    for row in found.rows:
        auroc = row.within_question_auroc
        if auroc is None and row.pooled_auroc is None and row.brier is None and row.ece is None:
            continue
        cells: list[Part] = [
            NONE if auroc is None else _interval(auroc, decimal),
            decimal(row.pooled_auroc),
            join(decimal(row.brier), _each(row.brier_at)),
            join(decimal(row.ece), _each(row.ece_at)),
        ]
        body.append(tag("tr", _name(row), *(tag("td", cell) for cell in cells), class_=_marked(row)))
    return scrolling(head, body) if body else tag("p", "No row has scores of its own.", class_="soft")


def scrolling(head: Markup, body: Sequence[Markup]) -> Markup:
    """Return a table that scrolls sideways within its own frame where the page is narrow."""
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll", tabindex="0")


def _each(values: Mapping[int, float]) -> Markup:
    return join(*(tag("small", f"n = {n}: {decimal(value)}") for n, value in values.items()))


def _name(row: Row) -> Markup:
    trained = tag("small", "trained on labels") if row.needs_labels and not row.name.startswith("head") else None
    return tag("th", row.label, trained, scope="row")


def _marked(row: Row) -> str | None:
    return "ours" if row.name.startswith("head") else "versus" if row.name in ("majority", "oracle") else None


def _right(row: Row, n: int) -> Markup:
    right = percent(row.accuracy[n].value)
    if row.name == "majority":
        return tag("td", right, tag("small", "reference"))
    difference = row.minus_majority[n]
    if not known(difference.value):
        return tag("td", right)
    if difference.value == difference.low == difference.high == 0:
        return tag("td", right, tag("small", "the same"))
    told = "" if row.kind == "oracle" else ("", "up", "down")[side(difference)]
    return tag(
        "td",
        right,
        tag("b", points(difference.value), class_=told or None),
        tag("small", f"{points(difference.low)} to {points(difference.high)}"),
    )


def _interval(value: Estimate, write: Callable[[float], str]) -> Markup:
    return join(write(value.value), tag("small", f"{write(value.low)} to {write(value.high)}"))
