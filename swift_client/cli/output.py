"""Where the command writes: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from swift_client.display import escape_unsafe, selection_table, summary, warnings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.types import Selection


def show(*parts: RenderableType, wrap: bool = True) -> None:
    """Print a result for a person. rich markup is not interpreted; without ``wrap`` lines stay whole, to be copied."""
    console = Console(markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=not wrap)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document in ASCII, which no terminal and no locale can spoil."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def stderr_console() -> Console:
    """Return the console of stderr, for spinners, bars, warnings and errors."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def show_selection(selection: Selection, *, as_json: bool) -> None:
    """Print a selection: the chosen text first, then what it rests on."""
    if as_json:
        print_json(selection.to_dict())
        return
    show(Text(escape_unsafe(selection.text)), "", selection_table(selection), Text(summary(selection), style="dim"))
    for line in warnings(selection):
        stderr_console().print(Text(line, style="yellow"))
