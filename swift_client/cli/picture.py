"""Where ``--svg`` draws to: refused before any time is spent, or written at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from swift_client.errors import ConfigurationError


def check_svg_path(svg: Path | None) -> None:
    """Raise ConfigurationError for a place that no file can be written to."""
    if svg is not None and (svg.is_dir() or not svg.absolute().parent.is_dir()):
        raise ConfigurationError(f"{svg} cannot be written.", hint="Give a file in a folder that there is.")


def write_svg(svg: Path | None, draw: Callable[[], str]) -> None:
    """Draw into the file, where there is one. Raises ConfigurationError where it cannot be written."""
    if svg is None:
        return
    try:
        svg.write_text(draw(), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{svg} cannot be written: {error}.", hint="Give another file.") from error
