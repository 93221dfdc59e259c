"""The progress bar of ``collect --batch``: what the provider counts, and where the state of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from swift_client.cli import output
from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from swift_client.collect.batch.collect import BatchProgress


@contextmanager
def batch_bar() -> Iterator[Callable[[BatchProgress], None]]:
    """Show a progress bar on stderr, and after an interrupt that the batches go on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = output.stderr_console()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("batches", total=None, facts="")

            def tell(told: BatchProgress) -> None:
                done = told.completed + told.failed
                progress.update(task, total=told.requests or None, completed=done, facts=_format_progress(told))

            yield tell
    except KeyboardInterrupt:
        told = "Interrupted. The batches go on at the provider; the same command waits for them and fetches them."
        console.print(Text(told))
        raise


def _format_progress(progress: BatchProgress) -> str:
    parts = [
        f"{progress.batches} under way"
        + (f" ({escape_unsafe(', '.join(progress.statuses))})" if progress.statuses else "")
    ]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    parts.append(f"{progress.samples:,} of {progress.wanted:,} samples here")
    if progress.cost is not None:
        parts.append(f"spent {progress.cost:.4g}")
    return " · ".join(parts)
