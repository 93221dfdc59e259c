"""Chart of accuracy against tokens, for all replayed stopping rules."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from swift_client.errors import ConfigurationError
from swift_client.evaluation.result import Replayed, Simulation
from swift_client.report.charts.chart import HEIGHT, LINE_HEIGHT, Chart, Point, percent_range, percent_ticks

_RADIUS, _SWEPT_RADIUS = 4.0, 2.0
_WIDTH = 640.0
# Sides of a dot on which its number may stand, as offsets of the number's centre in user units.
_SIDES = ((0.0, -11.0), (0.0, 11.0), (12.0, 0.0), (-12.0, 0.0), (11.0, -9.0), (-11.0, -9.0), (11.0, 9.0), (-11.0, 9.0))
_NUMBER_WIDTH, _NUMBER_HEIGHT = 13.0, 10.0  # of two digits


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
    chart = Chart(description, (0.0, 1.0), y_range, labels=labels, width=_WIDTH, height=height)
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
        style, radius = (f"swept {_rule_name(row)}", _SWEPT_RADIUS) if row.swept else (_rule_name(row), _RADIUS)
        chart.dot(share, accuracy, f"rule {style}", title=title, radius=radius)
    dots = [(chart.x(row.token_share.value), chart.y(row.accuracy.value)) for row in numbered]
    for number, (label, (x, y)) in enumerate(zip(labels, place_numbers(dots), strict=True), 1):
        chart.text(x, y + 4, str(number), "number", "middle")
        chart.text(chart.right + 14, chart.top + 6 + LINE_HEIGHT * number, label, "label")
    return chart.document()


def place_numbers(dots: Sequence[Point]) -> list[Point]:
    """Return the centre of each dot's number: the side with the least overlap with dots and numbers."""
    places: list[Point] = []
    for x, y in dots:
        sides = [(x + right, y + down) for right, down in _SIDES]
        places.append(min(sides, key=lambda side: _overlap(side, dots, places)))
    return places


def _overlap(side: Point, dots: Sequence[Point], numbers: Sequence[Point]) -> float:
    """Return the area that a number at ``side`` shares with dots and numbers, in square user units."""
    boxes = [(dot, 2 * _RADIUS, 2 * _RADIUS) for dot in dots] + [
        (number, _NUMBER_WIDTH, _NUMBER_HEIGHT) for number in numbers
    ]
    return sum(
        max(0.0, (_NUMBER_WIDTH + width) / 2 - abs(side[0] - x))
        * max(0.0, (_NUMBER_HEIGHT + height) / 2 - abs(side[1] - y))
        for (x, y), width, height in boxes
    )


def _rule_name(row: Replayed) -> str:
    return row.name.partition(":")[0]


def _sort_by_tokens(rows: Sequence[Replayed]) -> list[Replayed]:
    return sorted(rows, key=lambda row: row.token_share.value)
