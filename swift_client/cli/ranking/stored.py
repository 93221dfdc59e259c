"""The part of ``rank`` that chooses for all questions of a file, and prints what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from swift_client.cli import output, progress
from swift_client.cli.error_facts import PROVIDER


def rank_stored(
    source: Path,
    out: Path,
    *,
    kind: Literal["samples", "replies"],
    workers: int | None,
    as_json: bool,
    settings: dict[str, Any],
) -> int:
    """Rank the questions of a file on this machine, and return the exit code: 0 if every question has its choice.

    Args:
        source: a file of samples or replies.
        out: the file for the choices.
        kind: what ``source`` contains.
        workers: processes at once; None: one per core.
        as_json: print one JSON document.
        settings: further arguments of ``rank_files()``.

    Raises:
        ConfigurationError: a setting or a file is wrong.
        SwiftClientError: a worker process died.
    """
    from swift_client.bulk import rank_files

    output.check_output_path(out)
    with progress.ranking_bar() as update:
        result = rank_files(source, out, kind=kind, workers=workers, on_progress=update, **settings)
    if as_json:
        output.print_json({"path": str(out), "questions": result.questions, "failed": result.failed})
    else:
        output.show(output.safe(f"{out}: the choices for {result.questions - result.failed:,} questions."))
    if result.failed:
        count = f"{result.failed:,} question{'s' * (result.failed > 1)}"
        output.warn(f"{count} could not be ranked; the column error in {out} says why.")
    return PROVIDER if result.failed else 0
