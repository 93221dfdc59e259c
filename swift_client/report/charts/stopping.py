"""Chart of accuracy against tokens, for all replayed stopping rules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from swift_client.errors import ConfigurationError
from swift_client.evaluation.result import Replayed, Simulation
from swift_client.report.charts.chart import HEIGHT, LINE_HEIGHT, Chart, percent_range, percent_ticks

_RADIUS, _SWEPT_RADIUS = 4.0, 2.0


def savings_svg(simulation: Simulation) -> str:
    """Draw each rule at its share of tokens (%) and its accuracy (%), with a number that the list explains.

    Rules choose as their authors do. Variants of a rule with other parameters are joined to a line, and so are fixed
    numbers. Raises ConfigurationError if no question has a label.
    """
    if math.isnan(simulation.majority.value):
        raise ConfigurationError(
            "Without labels there is no accuracy to draw.", hint="Give the questions answers with `swift-client grade`."
        )
    rows = _sort_by_tokens([row for row in simulation.rows if row.published])
    numbered = [row for row in rows if not row.swept]
    labels = [f"{number}  {row.name}" for number, row in enumerate(numbered, 1)]
    y_range = percent_range([row.accuracy.value for row in rows])
    height = max(HEIGHT, 60.0 + LINE_HEIGHT * len(labels))
    description = "Accuracy of each stopping rule against the tokens that it costs."
    chart = Chart(description, (0.0, 1.0), y_range, labels=labels, height=height)
    chart.axes(
        [(share / 100, str(share)) for share in (0, 25, 50, 75, 100)],
        percent_ticks(*y_range),
        x_title=f"completion tokens, % of {simulation.n} completions",
        y_title="right, % of questions",
    )
    # Lines join the variants of a rule, below all dots and numbers.
    variants: dict[str, list[Replayed]] = defaultdict(list)
    for row in rows:
        variants[_rule_name(row)].append(row)
    for name, line in variants.items():
        chart.line([(row.token_share.value, row.accuracy.value) for row in line], f"line rule {name}")
    for row in rows:
        share, accuracy = row.token_share.value, row.accuracy.value
        title = f"{row.name}: {100 * accuracy:.1f} % right, {100 * share:.0f} % of tokens"
        radius = _SWEPT_RADIUS if row.swept else _RADIUS
        chart.dot(share, accuracy, f"rule {_rule_name(row)}", title=title, radius=radius)
    for number, (row, label) in enumerate(zip(numbered, labels, strict=True), 1):
        place, top = chart.x(row.token_share.value), chart.y(row.accuracy.value) - 7
        chart.text(place, top, str(number), "number", "middle")
        chart.text(chart.right + 14, chart.top + 6 + LINE_HEIGHT * number, label, "label")
    return chart.document()


def _rule_name(row: Replayed) -> str:
    return row.name.partition(":")[0]


def _sort_by_tokens(rows: Sequence[Replayed]) -> list[Replayed]:
    return sorted(rows, key=lambda row: row.token_share.value)
