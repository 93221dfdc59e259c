"""Accuracy against tokens of all replayed rules, as an SVG picture that stands alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from swift_client.errors import ConfigurationError
from swift_client.evaluation.simulation.result import Replayed, Simulation
from swift_client.report.charts.axes import HEIGHT, LINE_HEIGHT, WIDTH, Frame, linear_scale, path, text, ticks
from swift_client.report.markup import Markup, tag

_STYLE = (
    "svg{font:12px system-ui,sans-serif;background:#fff}text{fill:#1a1d21}.tick,.title{fill:#5a626b}"
    ".grid{stroke:#dce0e5}.axis{stroke:#5a626b}.line{fill:none;stroke:#9aa2ab;stroke-width:1.2}"
    ".fixed.line{stroke:#1a1d21;stroke-dasharray:5 4}.auto.line{stroke:#0b5cad;stroke-width:2}"
    ".dot{fill:#b84a00}.auto.dot{fill:#0b5cad}.fixed.dot{fill:#1a1d21}.number{font-size:10px;font-weight:600}"
)


def savings_svg(simulation: Simulation) -> str:
    """Draw each rule where its share of tokens (%) and its accuracy (%) meet, with a number that the list explains.

    Rules stand as their authors choose; those with other parameters are joined to a line, and so are fixed numbers.
    Raises ConfigurationError where no question had a label.
    """
    rows = [row for row in simulation.rows if row.published]
    if math.isnan(simulation.majority.value):
        raise ConfigurationError(
            "Without labels there is no accuracy to draw.", hint="Give the questions answers with `swift-client grade`."
        )
    frame = Frame(right=WIDTH - 150.0)
    values = [row.accuracy.value for row in rows] or [0.0]
    low, high = math.floor(20 * min(values)) / 20, math.ceil(20 * max(values)) / 20
    x = linear_scale(0.0, 1.0, frame.left, frame.right)
    y = linear_scale(low, high if high > low else low + 0.05, frame.bottom, frame.top + 12)
    parts: list[Markup] = frame.axes(
        x=x,
        y=y,
        x_ticks=[(share / 100, str(share)) for share in (0, 25, 50, 75, 100)],
        y_ticks=[(value, f"{100 * value:.0f}") for value in ticks(low, high, 6)],
        x_title=f"completion tokens, % of {simulation.n} completions",
        y_title="right, % of questions",
    )
    lines: dict[str, list[Replayed]] = defaultdict(list)
    for row in rows:
        lines[row.name.partition(":")[0]].append(row)
    named: list[Replayed] = []
    for name, line in lines.items():
        points = [(x(row.token_share.value), y(row.accuracy.value)) for row in _sort_by_tokens(line)]
        if len(points) > 1:
            parts.append(path(points, class_=f"{name} line"))
        named += [row for row in line if not row.swept]
    for row in rows:
        name = row.name.partition(":")[0]
        said = f"{row.name}: {100 * row.accuracy.value:.1f} % right, {100 * row.token_share.value:.0f} % of tokens"
        dot = tag("circle", cx=x(row.token_share.value), cy=y(row.accuracy.value), r=2.0 if row.swept else 4.0)
        parts.append(tag("g", tag("title", said), dot, class_=f"dot {name}"))
    named = _sort_by_tokens(named)
    for number, row in enumerate(named, 1):
        at = x(row.token_share.value)
        parts.append(text(at, y(row.accuracy.value) - 7, str(number), class_="number", text_anchor="middle"))
        parts.append(
            text(frame.right + 20, frame.top + 6 + LINE_HEIGHT * number, f"{number}  {row.name}", class_="label")
        )
    described = "Accuracy of each stopping rule against the tokens that it costs."
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    style = tag("style", _STYLE)
    picture = tag("svg", tag("title", described), style, *parts, viewBox=box, xmlns="http://www.w3.org/2000/svg")
    return str(picture)


def _sort_by_tokens(rows: Sequence[Replayed]) -> list[Replayed]:
    return sorted(rows, key=lambda row: row.token_share.value)
