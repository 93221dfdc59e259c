"""The progress bar of ``collect --batch``: what the provider counts, and where the state of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from swift_client.cli import output
from swift_client.display import plain

if TYPE_CHECKING:
    from swift_client.collect.batch.collect import BatchProgress


@contextmanager
def batch_bar() -> Iterator[Callable[[BatchProgress], None]]:
    """Show a progress bar on stderr, and after an interrupt that the batches go on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = output.progress()
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
                progress.update(task, total=told.requests or None, completed=done, facts=_facts(told))

            yield tell
    except KeyboardInterrupt:
        told = "Interrupted. The batches go on at the provider; the same command waits for them and fetches them."
        console.print(Text(told))
        raise


def _facts(told: BatchProgress) -> str:
    parts = [f"{told.batches} under way" + (f" ({plain(', '.join(told.statuses))})" if told.statuses else "")]
    if told.failed:
        parts.append(f"{told.failed:,} failed")
    parts.append(f"{told.samples:,} of {told.wanted:,} samples here")
    if told.cost is not None:
        parts.append(f"spent {told.cost:.4g}")
    return " · ".join(parts)
