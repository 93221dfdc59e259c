"""Printing: results go to stdout, everything else (progress, notes, errors) to stderr."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from swift_client.cli.command_words import CommandWords, option_flags
from swift_client.display import escape_unsafe, selection_table, summaries, warnings
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.evaluation.result import Estimate, HeadDifference
    from swift_client.types import Selection

QUIET = "swift_client.quiet"
"""Key of ``--quiet`` in the meta of the running command's context."""


def safe(text: str, style: str = "") -> Text:
    """Return text for the terminal, with control characters escaped."""
    return Text(escape_unsafe(text), style=style)


def show(*parts: RenderableType, wrap: bool = True) -> None:
    """Print a result for a person, without interpreting rich markup.

    ``wrap=False`` leaves long lines in one piece, so that they can be copied.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=not wrap)


def warn(*messages: str) -> None:
    """Print notes to stderr in the command's words, unless ``--quiet`` is given."""
    context = current_context()
    words = CommandWords(option_flags(context.command.params if context else ()))
    if not is_quiet():
        print_lines(*map(words.translate, messages), style="yellow")


def print_lines(*lines: str, style: str = "") -> None:
    """Print texts to stderr. In a log file each is one line, so that paths in it can be found and copied."""
    console = stderr_console()
    for line in lines:
        console.print(safe(line, style), soft_wrap=not console.is_terminal)


def current_context() -> Any:
    """Return the context of the command that is running, or None outside of one."""
    # typer has its own copy of click since 0.2x; its context is that of the click in use.
    package = typer.Context.__mro__[1].__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.globals").get_current_context(silent=True)


def is_quiet() -> bool:
    """Return True if the command that is running has ``--quiet``."""
    context = current_context()
    return bool(context and context.meta.get(QUIET))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document in ASCII, which every terminal and locale can show."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def stderr_console() -> Console:
    """Return a console on stderr, for spinners, progress bars, notes and errors."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def show_selection(selection: Selection, *, as_json: bool) -> None:
    """Print a selection: the chosen text, the candidates, a summary, and the notes on stderr."""
    if as_json:
        print_json(selection.to_dict())
        return
    lines = (Text(line, style="dim") for line in summaries(selection))
    show(safe(selection.text), "", selection_table(selection), *lines)
    warn(*warnings(selection))


def make_table(text_columns: tuple[str, ...], number_columns: tuple[str, ...], *, rules: bool = True) -> Table:
    """Return an empty table: text columns fold to the left, number columns stand to the right.

    ``rules=False`` leaves out the line below the header.
    """
    table = Table(box=box.SIMPLE_HEAD if rules else None, pad_edge=not rules)
    for name in text_columns:
        table.add_column(name, overflow="fold")
    for name in number_columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def percent(share: float) -> str:
    """Return a share as percent with one decimal, without the sign."""
    return f"{100 * share:.1f}"


def interval_points(estimate: Estimate) -> tuple[float, float]:
    """Return an interval in points, rounded as it is shown, so that 0.04 points count as 0."""
    return round(100 * estimate.low, 1) + 0.0, round(100 * estimate.high, 1) + 0.0


def difference_cell(value: str, difference: Estimate, *, style: str = "", separator: str = " ") -> Text:
    """Return a value and the interval of its difference to majority: green if better, red if worse."""
    # An interval that contains 0 is no evidence, so it has no colour.
    low, high = interval_points(difference)
    colour = "green" if low > 0 else "red" if high < 0 else "dim"
    interval = "–" if math.isnan(low) else f"{low:+.1f}…{high:+.1f}"
    return Text(value, style=style).append(f"{separator}{interval}", style=colour)


def gain_cell(gain: Estimate) -> Text:
    """Return a difference in points with its interval, such as "+1.9 +0.7…+3.2"."""
    return difference_cell("–" if math.isnan(gain.value) else f"{round(100 * gain.value, 1) + 0.0:+.1f}", gain)


def difference_table(difference: HeadDifference, first: str, second: str) -> Table:
    """Return the comparison of two heads as a table, under their names."""
    table = make_table(("",), (first, second, "Difference"))
    for n, change in difference.at.items():
        cells = (percent(part[n].value) for part in (difference.accuracy, difference.other_accuracy))
        table.add_row(f"n={n}", *cells, gain_cell(change))
    table.add_row("mean", "", "", gain_cell(difference.mean))
    return table


def check_output_path(path: Path | None) -> None:
    """Raise ConfigurationError for a file that cannot be written, before any work is done or anything is sent."""
    if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise ConfigurationError(f"{path} cannot be written.", hint="Give a file in a folder that you may write to.")


def write_svg(svg: Path | None, draw: Callable[[], str]) -> None:
    """Draw a chart into a file, if there is one. Raises ConfigurationError if it cannot be written."""
    if svg is None:
        return
    try:
        svg.write_text(draw(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{svg} cannot be written: {error}.", hint="Give another file.") from error
