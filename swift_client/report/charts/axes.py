"""Axes, ticks, lines and labels of the report's charts, as SVG that scales with the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from swift_client.report.markup import Markup, Part, format_coordinate, tag

WIDTH, HEIGHT = 460.0, 320.0
"""User units; on a phone one is about 0.8 pixels, on a desk about 1.1."""
LINE_HEIGHT = 15.0
"""Least distance between two labels, one line of text."""

Scale = Callable[[float], float]
"""From a value to a coordinate."""


def linear_scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return the straight map of low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def log_scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return the map that gives equal ratios equal lengths; values are greater than 0."""
    place = linear_scale(math.log(low), math.log(high), start, end)
    return lambda value: place(math.log(value))


def ticks(low: float, high: float, max_ticks: int = 7) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) that lie within low..high."""
    if not high > low:
        return [low]
    raw = (high - low) / max_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(step * at, 10) for at in range(first, math.floor(high / step + 1e-9) + 1)]


def spread_labels(positions: Sequence[float], low: float, high: float, min_gap: float = LINE_HEIGHT) -> list[float]:
    """Move positions as little as needed so that they keep ``least`` apart within low..high, in their order."""

    def within(centre: float, count: int) -> float:
        half = min_gap * (count - 1) / 2
        return min(max(centre, low + half), max(high - half, low + half))

    blocks: list[tuple[float, list[int]]] = []
    for at in sorted(range(len(positions)), key=lambda at: positions[at]):
        members, centre = [at], within(positions[at], 1)
        while blocks and centre - blocks[-1][0] < min_gap * (len(members) + len(blocks[-1][1])) / 2:
            before_centre, before = blocks.pop()
            centre = (before_centre * len(before) + centre * len(members)) / (len(before) + len(members))
            members = before + members
            centre = within(centre, len(members))
        blocks.append((centre, members))
    placed = [0.0] * len(positions)
    for centre, members in blocks:
        for place, at in enumerate(members):
            placed[at] = centre + min_gap * (place - (len(members) - 1) / 2)
    return placed


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The rectangle that data is drawn in, and the axes around it."""

    left: float = 44.0
    right: float = WIDTH - 14.0
    top: float = 14.0
    bottom: float = HEIGHT - 44.0

    def axes(
        self,
        *,
        x: Scale,
        y: Scale,
        x_ticks: Sequence[tuple[float, str]],
        y_ticks: Sequence[tuple[float, str]],
        x_title: str,
        y_title: str,
    ) -> list[Markup]:
        """Return grid lines, tick labels and titles; the y title stands above its axis, so that it reads level."""
        parts = []
        for value, label in y_ticks:
            at = y(value)
            parts.append(tag("line", x1=self.left, x2=self.right, y1=at, y2=at, class_="grid"))
            parts.append(text(self.left - 7, at + 4, label, class_="tick", text_anchor="end"))
        parts.append(tag("line", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom, class_="axis"))
        for value, label in x_ticks:
            at = x(value)
            parts.append(tag("line", x1=at, x2=at, y1=self.bottom, y2=self.bottom + 4, class_="axis"))
            parts.append(text(at, self.bottom + 18, label, class_="tick", text_anchor="middle"))
        middle = (self.left + self.right) / 2
        parts.append(text(middle, self.bottom + 37, x_title, class_="title", text_anchor="middle"))
        parts.append(text(2, self.top - 2, y_title, class_="title"))
        return parts


def text(x: float, y: float, words: str, **attributes: str | float | None) -> Markup:
    """Return a line of text that starts, or is anchored, at x, y."""
    return tag("text", words, x=x, y=y, **attributes)


def path(points: Sequence[tuple[float, float]], **attributes: str | float | None) -> Markup:
    """Return a line through the points."""
    steps = "L".join(f"{format_coordinate(x)} {format_coordinate(y)}" for x, y in points)
    return tag("path", d=f"M{steps}", **attributes)


def band(xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], **attributes: str) -> Markup:
    """Return the area between two lines over the same xs."""
    corners = [*zip(xs, highs, strict=True), *reversed(list(zip(xs, lows, strict=True)))]
    return tag(
        "polygon", points=" ".join(f"{format_coordinate(x)},{format_coordinate(y)}" for x, y in corners), **attributes
    )


def chart_svg(description: str, *parts: Part, height: float = HEIGHT) -> Markup:
    """Return the drawing, with words for those who cannot see it."""
    box = f"0 0 {format_coordinate(WIDTH)} {format_coordinate(height)}"
    return tag("svg", tag("title", description), *parts, viewBox=box, role="img", class_="chart")


def visible_labels(positions: Sequence[float], min_gap: float) -> list[bool]:
    """Return which of rising positions may carry a label that is ``least`` wide; the last one always does."""
    shown = [True] * len(positions)
    kept = len(positions) - 1
    for at in range(len(positions) - 2, -1, -1):
        shown[at] = positions[kept] - positions[at] >= min_gap
        kept = at if shown[at] else kept
    return shown


def split_at_gaps(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """Cut a line where a point is missing."""
    gaps = [-1, *(at for at, point in enumerate(points) if point is None), len(points)]
    cut = [[point for point in points[start + 1 : end] if point is not None] for start, end in pairwise(gaps)]
    return [run for run in cut if run]
