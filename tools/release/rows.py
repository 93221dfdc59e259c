"""The table of results: one row per check."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "missed", "open", "FAILED"]
"""``missed``: a bar of ours. ``open``: a person must decide. Only ``open`` and ``FAILED`` stop a release."""


class CheckFailed(Exception):
    """A check found something wrong; the message says what."""


@dataclass(frozen=True)
class Row:
    """The outcome of one check."""

    check: str
    status: Status
    detail: str


def run_check(name: str, check: Callable[[], str]) -> Row:
    """Run a check that returns its detail; its failure becomes a row, so that the checks after it still run."""
    print(f"  {name} ...", file=sys.stderr, flush=True)
    try:
        return Row(name, "ok", check())
    except CheckFailed as failure:
        return Row(name, "FAILED", str(failure))


def render(rows: Sequence[Row]) -> str:
    """Return the rows as a table in plain text; further lines of a detail are indented below its first."""
    width = max(len(row.check) for row in rows)
    indent = " " * (width + 10)
    return "\n".join(
        f"{row.check:{width}}  {row.status:6}  {row.detail.strip()}".replace("\n", f"\n{indent}") for row in rows
    )


def verdict(rows: Sequence[Row]) -> tuple[int, str]:
    """Return the exit code and the last line."""
    failed = [row.check for row in rows if row.status == "FAILED"]
    waiting = [row.check for row in rows if row.status == "open"]
    if failed:
        return 1, f"Not ready. Failed: {', '.join(failed)}."
    if waiting:
        return 1, f"Everything that a machine can check holds. A person must still settle: {', '.join(waiting)}."
    return 0, "Ready to be tagged."
