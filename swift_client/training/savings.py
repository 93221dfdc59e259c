"""Accuracy against tokens of all replayed rules, as an SVG picture that stands alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from swift_client.training.report.markup import Markup, tag
from swift_client.training.report.plot import HEIGHT, WIDTH, Frame, apart, linear, path, text, ticks
from swift_client.training.simulation import Replayed, Simulation

_STYLE = (
    "svg{font:12px system-ui,sans-serif;background:#fff}text{fill:#1a1d21}.tick,.title{fill:#5a626b}"
    ".grid{stroke:#dce0e5}.axis{stroke:#5a626b}.line{fill:none;stroke:#9aa2ab;stroke-width:1.2}"
    ".fixed.line{stroke:#1a1d21;stroke-dasharray:5 4}.leader{fill:none;stroke:#5a626b;stroke-width:.6}"
    ".dot{fill:#b84a00}.auto{fill:#0b5cad}.auto.line{fill:none;stroke:#0b5cad}.fixed{fill:#1a1d21}"
)


def savings_svg(found: Simulation) -> str:
    """Draw each rule where its share of tokens (%) and its accuracy (%) meet, one label a rule.

    Rules stand as their authors choose; those with other parameters are joined to a line, and so are fixed numbers.
    """
    rows = [row for row in found.rows if row.published]
    frame = Frame(right=WIDTH - 150.0)
    values = [row.accuracy.value for row in rows] or [0.0]
    low, high = math.floor(20 * min(values)) / 20, math.ceil(20 * max(values)) / 20
    x = linear(0.0, 1.0, frame.left, frame.right)
    y = linear(low, high if high > low else low + 0.05, frame.bottom, frame.top + 12)
    parts: list[Markup] = frame.axes(
        x=x,
        y=y,
        x_ticks=[(share / 100, str(share)) for share in (0, 25, 50, 75, 100)],
        y_ticks=[(value, f"{100 * value:.0f}") for value in ticks(low, high, 6)],
        x_title=f"completion tokens, % of {found.n} completions",
        y_title="right, % of questions",
    )
    lines: dict[str, list[Replayed]] = defaultdict(list)
    for row in rows:
        lines[row.name.partition(":")[0]].append(row)
    ends: list[tuple[str, float, float]] = []
    for name, line in lines.items():
        points = [(x(row.token_share.value), y(row.accuracy.value)) for row in _by_cost(line)]
        if len(points) > 1:
            parts.append(path(points, class_=f"{name} line"))
        for row in line:
            at = (x(row.token_share.value), y(row.accuracy.value))
            said = f"{row.name}: {100 * row.accuracy.value:.1f} % right, {100 * row.token_share.value:.0f} % of tokens"
            size = 2.0 if row.swept else 4.0
            parts.append(tag("g", tag("title", said), tag("circle", cx=at[0], cy=at[1], r=size), class_=f"dot {name}"))
        shown = next((row for row in line if not row.swept), line[0])
        if name == "fixed":
            shown, name = line[-1], f"majority over {line[-1].name.partition(':')[2]}"
        ends.append((name, x(shown.token_share.value), y(shown.accuracy.value)))
    places = apart([end[2] for end in ends], frame.top + 6, frame.bottom - 2)
    for (name, end_x, end_y), place in zip(ends, places, strict=True):
        parts.append(path([(end_x + 4, end_y), (frame.right + 10, place)], class_="leader"))
        parts.append(text(frame.right + 13, place + 4, name, class_="label"))
    described = "Accuracy of each stopping rule against the tokens that it costs."
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    style = tag("style", _STYLE)
    picture = tag("svg", tag("title", described), style, *parts, viewBox=box, xmlns="http://www.w3.org/2000/svg")
    return str(picture)


def _by_cost(line: Sequence[Replayed]) -> list[Replayed]:
    return sorted(line, key=lambda row: row.token_share.value)
