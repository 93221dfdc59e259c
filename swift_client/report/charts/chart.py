"""One builder for all charts: scales, axes, marks and labels as SVG, with the report's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources
from itertools import groupby

from swift_client.display import escape_unsafe

WIDTH, HEIGHT = 460.0, 320.0  # user units
PAGE_WIDTH = 380.0
"""Width of a chart on the page, in user units: one is about 0.95 pixels on a phone and 1.2 on a desktop."""
LINE_HEIGHT = 15.0  # minimum distance between two labels, one line of text
_LETTER_WIDTH = 7.6  # upper estimate of the width of a bold letter
_MAX_LABEL_WIDTH = 200.0

Scale = Callable[[float], float]  # map from a value to a coordinate
Point = tuple[float, float]


class Markup(str):
    """SVG or HTML source; ``element`` and, because of ``__html__``, Jinja2 insert it unescaped."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the source itself, as Jinja2 asks for."""
        return self


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an element with its text escaped, unless the text is Markup.

    ``class_`` becomes ``class`` and ``text_anchor`` ``text-anchor``; None leaves an attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{''.join(map(_escape, children))}</{name}>")


def _escape(value: str | float) -> str:
    if isinstance(value, Markup):
        return value
    return escape(escape_unsafe(value), quote=True) if isinstance(value, str) else _coordinate(value)


def _coordinate(value: float) -> str:
    """Write a coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def load_style() -> str:
    """Return the style sheet of the page and of all charts."""
    return resources.files("swift_client.report").joinpath("style.css").read_text(encoding="utf-8")


def svg(description: str, parts: Sequence[Markup], *, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Return a drawing for the page, which brings the style sheet; ``description`` is read out by screen readers."""
    box = f"0 0 {_coordinate(width)} {_coordinate(height)}"
    return element("svg", element("title", description), *parts, viewBox=box, role="img", class_="chart")


def svg_document(description: str, parts: Sequence[Markup], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Return a drawing as a standalone document, with the style sheet in it."""
    box = f"0 0 {_coordinate(width)} {_coordinate(height)}"
    style = element("style", Markup(load_style()))
    title = element("title", description)
    return str(element("svg", title, style, *parts, viewBox=box, role="img", xmlns="http://www.w3.org/2000/svg"))


def text(x: float, y: float, words: str, style: str | None = None, anchor: str | None = None) -> Markup:
    """Return a line of text that starts at (x, y), or is anchored there."""
    return element("text", words, x=x, y=y, class_=style, text_anchor=anchor)


class Chart:
    """A chart under construction. Marks take values of the data and are drawn in the order of the calls."""

    def __init__(
        self,
        description: str,
        x_range: Point,
        y_range: Point,
        *,
        labels: Sequence[str] = (),
        log_x: bool = False,
        width: float = WIDTH,
        height: float = HEIGHT,
    ) -> None:
        """Prepare the plot area.

        Args:
            description: words for those who cannot see the chart.
            x_range: lowest and highest value of the horizontal axis.
            y_range: the same of the vertical axis.
            labels: the texts that will stand right of the plot area; room is left for the longest.
            log_x: a logarithmic horizontal axis.
            width: of the drawing, in user units.
            height: of the drawing, in user units.
        """
        self._description, self._width, self._height = description, width, height
        room = min(max(map(len, labels)) * _LETTER_WIDTH, _MAX_LABEL_WIDTH) + 6.0 if labels else 0.0
        self.left, self.right = 44.0, width - 14.0 - room
        self.top, self.bottom = 14.0, height - 44.0
        self.x = (log_scale if log_x else linear_scale)(*x_range, self.left + 8, self.right - 6)
        self.y = linear_scale(*y_range, self.bottom, self.top + 12)
        self._parts: list[Markup] = []

    def axes(
        self, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], *, x_title: str, y_title: str
    ) -> None:
        """Draw grid lines, tick labels and titles. The y title stands above its axis, so it reads horizontally."""
        # Horizontal grid lines with their values on the left.
        for value, label in y_ticks:
            height = self.y(value)
            self._parts.append(element("line", x1=self.left, x2=self.right, y1=height, y2=height, class_="grid"))
            self._parts.append(text(self.left - 7, height + 4, label, "tick", "end"))
        # The horizontal axis; labels that would touch are left out.
        self.baseline(self.bottom)
        label_width = max((7.2 * len(label) for _, label in x_ticks), default=0.0)
        visible = visible_labels([self.x(value) for value, _ in x_ticks], max(22.0, label_width))
        for (value, label), is_visible in zip(x_ticks, visible, strict=True):
            place = self.x(value)
            self._parts.append(element("line", x1=place, x2=place, y1=self.bottom, y2=self.bottom + 4, class_="axis"))
            if is_visible:
                self._parts.append(text(place, self.bottom + 18, label, "tick", "middle"))
        self._parts.append(text((self.left + self.right) / 2, self.bottom + 37, x_title, "title", "middle"))
        self._parts.append(text(2, self.top - 2, y_title, "title"))

    def baseline(self, height: float) -> None:
        """Draw a horizontal axis at a height in user units."""
        self._parts.append(element("line", x1=self.left, x2=self.right, y1=height, y2=height, class_="axis"))

    def line(self, points: Sequence[Point], style: str) -> None:
        """Draw a line through the points, broken where a value is not finite."""
        for is_finite, run in groupby(points, key=lambda point: math.isfinite(sum(point))):
            corners = (
                "L".join(f"{_coordinate(self.x(x))} {_coordinate(self.y(y))}" for x, y in run) if is_finite else ""
            )
            if "L" in corners:  # one point makes no line
                self._parts.append(element("path", d=f"M{corners}", class_=style))

    def level(self, value: float, style: str) -> None:
        """Draw a horizontal line over the whole width."""
        if math.isfinite(value):
            height = self.y(value)
            self._parts.append(element("line", x1=self.left, x2=self.right, y1=height, y2=height, class_=style))

    def band(self, bounds: Sequence[tuple[float, float, float]], style: str) -> None:
        """Fill the area between low and high values, given as (x, low, high)."""
        finite = [bound for bound in bounds if math.isfinite(sum(bound))]
        if len(finite) > 1:
            corners = [(x, high) for x, _, high in finite] + [(x, low) for x, low, _ in reversed(finite)]
            points = " ".join(f"{_coordinate(self.x(x))},{_coordinate(self.y(y))}" for x, y in corners)
            self._parts.append(element("polygon", points=points, class_=f"band {style}"))

    def dot(self, x: float, y: float, style: str, *, title: str, radius: float = 2.6) -> None:
        """Draw a point; ``title`` appears when the pointer is over it."""
        if math.isfinite(x + y):
            circle = element("circle", cx=self.x(x), cy=self.y(y), r=radius)
            self._parts.append(element("g", element("title", title), circle, class_=f"dot {style}"))

    def bar(self, start: float, end: float, value: float, style: str) -> None:
        """Draw a bar from 0 to ``value`` over start..end."""
        top, bottom = sorted((self.y(0), self.y(value)))
        left, right = self.x(start) + 0.5, self.x(end) - 0.5
        box = {"x": left, "width": right - left, "y": top, "height": bottom - top}
        self._parts.append(element("rect", **box, class_=f"bar {style}"))

    def text(self, x: float, y: float, words: str, style: str, anchor: str | None = None) -> None:
        """Write words at a place in user units."""
        self._parts.append(text(x, y, words, style, anchor))

    def end_labels(self, ends: Sequence[tuple[float, float, str, str]]) -> None:
        """Label the right ends of lines, given as (x, y, label, style), with a leader to each label."""
        ends = [end for end in ends if math.isfinite(end[0] + end[1])]
        # Labels keep their order and do not overlap; a thin leader connects each with its line.
        heights = spread_labels([self.y(y) for _, y, _, _ in ends], self.top + 6, self.bottom - 2)
        start = self.right + 12
        for (x, y, label, style), height in zip(ends, heights, strict=True):
            path = (
                f"M{_coordinate(self.x(x) + 4)} {_coordinate(self.y(y))}L{_coordinate(start - 3)} {_coordinate(height)}"
            )
            self._parts.append(element("path", d=path, class_=f"leader {style}"))
            self._parts.append(text(start, height + 4, label, f"label {style}"))

    def span(self, start: float, end: float, style: str) -> None:
        """Fill the area between two horizontal values, over the whole height."""
        left, right = sorted((self.x(start), self.x(end)))
        box = {"x": left, "width": max(right - left, 1.0), "y": self.top, "height": self.bottom - self.top}
        self._parts.append(element("rect", **box, class_=f"band {style}"))

    def mark(self, value: float, style: str) -> None:
        """Draw a vertical line over the whole height."""
        place = self.x(value)
        self._parts.append(element("line", x1=place, x2=place, y1=self.top, y2=self.bottom, class_=style))

    def panel(self, y: float) -> Markup:
        """Return the chart as a part of a larger drawing, ``y`` user units below its top."""
        return element("g", element("title", self._description), *self._parts, transform=f"translate(0 {y:g})")

    def inline(self) -> Markup:
        """Return the chart for the page."""
        return svg(self._description, self._parts, width=self._width, height=self._height)

    def document(self) -> str:
        """Return the chart as a standalone document."""
        return svg_document(self._description, self._parts, width=self._width, height=self._height)


def linear_scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return the linear map of low..high to start..end."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def log_scale(low: float, high: float, start: float, end: float) -> Scale:
    """Return the map that gives equal ratios equal lengths; values are greater than 0."""
    scale = linear_scale(math.log(low), math.log(high), start, end)
    return lambda value: scale(math.log(value))


def ticks(low: float, high: float, max_ticks: int = 7) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) within low..high."""
    if not high > low:
        return [low]
    # Round the raw step up to 1, 2 or 5 times a power of ten; the small terms absorb rounding errors.
    raw = (high - low) / max_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def percent_range(shares: Sequence[float]) -> Point:
    """Return the multiples of 0.05 around the finite shares; 0..0.05 without any."""
    finite = [share for share in shares if math.isfinite(share)] or [0.0]
    low, high = math.floor(20 * min(finite)) / 20, math.ceil(20 * max(finite)) / 20
    return low, high if high > low else low + 0.05


def percent_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks of shares, labelled in percent."""
    return [(value, f"{100 * value:g}") for value in ticks(low, high, 6)]


def spread_labels(positions: Sequence[float], low: float, high: float, min_gap: float = LINE_HEIGHT) -> list[float]:
    """Move positions as little as needed to keep them ``min_gap`` apart within low..high, in their order."""

    def clamp(centre: float, count: int) -> float:
        half = min_gap * (count - 1) / 2
        return min(max(centre, low + half), max(high - half, low + half))

    # Labels that touch form a block, which stands around the mean of their positions.
    blocks: list[tuple[float, list[int]]] = []
    for index in sorted(range(len(positions)), key=positions.__getitem__):
        members, centre = [index], clamp(positions[index], 1)
        while blocks and centre - blocks[-1][0] < min_gap * (len(members) + len(blocks[-1][1])) / 2:
            previous_centre, previous = blocks.pop()
            centre = (previous_centre * len(previous) + centre * len(members)) / (len(previous) + len(members))
            members = previous + members
            centre = clamp(centre, len(members))
        blocks.append((centre, members))
    spread = [0.0] * len(positions)
    for centre, members in blocks:
        for rank, index in enumerate(members):
            spread[index] = centre + min_gap * (rank - (len(members) - 1) / 2)
    return spread


def visible_labels(positions: Sequence[float], min_gap: float) -> list[bool]:
    """Return which of rising positions carry a label when labels need ``min_gap``; the last one always does."""
    visible: list[bool] = []
    next_label = math.inf
    for position in reversed(positions):
        visible.append(next_label - position >= min_gap)
        next_label = position if visible[-1] else next_label
    return visible[::-1]
