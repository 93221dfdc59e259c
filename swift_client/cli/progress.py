"""Progress bars of ``collect``, and the message after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from swift_client.cli import output
from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from swift_client.collect.batch.collect import BatchProgress
    from swift_client.collect.collect import CollectProgress

_INTERRUPTED = "Interrupted. The replies so far are in the file; run the same command again to continue."
_BATCH_INTERRUPTED = (
    "Interrupted. The batches continue at the provider; run the same command again to wait for them and fetch them."
)


@contextmanager
def collect_bar() -> Iterator[Callable[[CollectProgress], None]]:
    """Show a bar of the samples collected so far; the function that it yields updates it."""
    with _bar("collecting", TimeRemainingColumn(), _INTERRUPTED) as update:
        yield lambda progress: update(progress.wanted, progress.samples, _format_spending(progress))


@contextmanager
def batch_bar() -> Iterator[Callable[[BatchProgress], None]]:
    """Show a bar of the batch requests that the provider has finished; the function that it yields updates it."""
    with _bar("batches", TimeElapsedColumn(), _BATCH_INTERRUPTED) as update:
        yield lambda progress: update(
            progress.requests or None, progress.completed + progress.failed, _format_batches(progress)
        )


@contextmanager
def _bar(
    title: str, time_column: ProgressColumn, interrupt_message: str
) -> Iterator[Callable[[int | None, int, str], None]]:
    """Show a bar on stderr; the function that it yields takes the total, the count and a text."""
    console = output.stderr_console()
    columns = (
        TextColumn(title, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        time_column,
        TextColumn("{task.fields[facts]}", markup=False),
    )
    # Ctrl-C loses no replies: say so before the command ends.
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=None, facts="")
            yield lambda total, count, facts: progress.update(task, total=total, completed=count, facts=facts)
    except KeyboardInterrupt:
        console.print(Text(interrupt_message))
        raise


def _format_spending(progress: CollectProgress) -> str:
    """Return the tokens and the cost so far, and the expected cost in all."""
    parts = [f"{progress.usage.prompt_tokens + progress.usage.completion_tokens:,} tokens"]
    if progress.cost is not None:
        expected = "" if progress.expected_cost is None else f" of about {progress.expected_cost:.4g}"
        parts.append(f"spent {progress.cost:.4g}{expected}")
    if progress.failures:
        parts.append(f"{progress.failures} failed")
    return " · ".join(parts)


def _format_batches(progress: BatchProgress) -> str:
    """Return the state of the batches, the samples so far and the cost."""
    statuses = f" ({escape_unsafe(', '.join(progress.statuses))})" if progress.statuses else ""
    parts = [f"{progress.batches} running{statuses}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    parts.append(f"{progress.samples:,} of {progress.wanted:,} samples collected")
    if progress.cost is not None:
        parts.append(f"spent {progress.cost:.4g}")
    return " · ".join(parts)
