"""HTML and SVG in which text cannot become markup: only ``tag`` makes markup, and it escapes whatever is not."""

from __future__ import annotations

from html import escape

from swift_client.display import escape_unsafe


class Markup(str):
    """Text that is HTML already; any other string is escaped before it gets into a page."""

    __slots__ = ()


Part = Markup | str | float | None
"""A child: markup, text, a number (written as :func:`short` does), or nothing."""

VOID_ELEMENTS = frozenset({"meta", "circle", "line", "path", "polygon", "rect", "br"})
"""Elements that are written without children; in SVG they are closed by a slash, which HTML ignores."""


def tag(name: str, /, *children: Part, **attributes: str | float | None) -> Markup:
    """Return an element. ``class_`` becomes ``class`` and ``stroke_width`` ``stroke-width``; None leaves one out."""
    facts = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID_ELEMENTS:
        return Markup(f"<{name}{facts}/>")
    return Markup(f"<{name}{facts}>{join(*children)}</{name}>")


def join(*parts: Part) -> Markup:
    """Put parts one after another."""
    return Markup("".join(part if isinstance(part, Markup) else _escape(part) for part in parts if part is not None))


def format_coordinate(value: float) -> str:
    """Write a coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def _escape(value: str | float) -> str:
    return escape(escape_unsafe(value), quote=True) if isinstance(value, str) else format_coordinate(value)
