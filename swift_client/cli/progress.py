"""Progress on stderr: spinners and bars on a terminal, elsewhere a line every ten seconds; nothing with ``--quiet``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from swift_client.cli import output
from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from rich.console import Console

    from swift_client.bulk import RankProgress
    from swift_client.cli.questions.run import RunSummary
    from swift_client.collect.batch.collect import BatchProgress
    from swift_client.collect.collect import CollectProgress

LINE_SECONDS = 10.0
"""Seconds between two lines of progress where stderr is not a terminal."""
_INTERRUPTED = "Interrupted. The replies so far are in the file; run the same command again to continue."
_ANSWERS_INTERRUPTED = "Interrupted. The answers so far are in the file; run the same command again to continue."
_RANKING_INTERRUPTED = "Interrupted. No file was written."
_BATCH_INTERRUPTED = (
    "Interrupted. The batches continue at the provider; run the same command again to wait for them and fetch them."
)


@contextmanager
def show_status(title: str, *, seconds: float = LINE_SECONDS) -> Iterator[Callable[[str], None]]:
    """Show a spinner; the function that it yields replaces the title.

    Args:
        title: the text at first.
        seconds: time between two lines where stderr is not a terminal.
    """
    console = output.stderr_console()
    if output.is_quiet():
        yield lambda text: None
    elif console.is_terminal:
        with console.status(title) as status:
            yield status.update
    else:
        with _print_regularly(title, seconds) as update:
            yield update


@contextmanager
def stage_status(title: str = "reading samples …") -> Iterator[Callable[[str, int], None]]:
    """Show a spinner; the function that it yields takes a stage and a count."""
    with show_status(title) as update:
        yield lambda stage, done: update(f"{done} {stage} …")


@contextmanager
def _print_regularly(title: str, seconds: float) -> Iterator[Callable[[str], None]]:
    """Print the latest text and the seconds so far, from a thread: a step may take minutes."""
    start, latest, has_ended = time.monotonic(), [title], threading.Event()

    def print_latest() -> None:
        while not has_ended.wait(seconds):
            output.print_lines(f"{latest[0]} ({time.monotonic() - start:.0f} s)")

    def replace_text(text: str) -> None:
        latest[0] = text

    thread = threading.Thread(target=print_latest, name="swift-client-progress", daemon=True)
    thread.start()
    try:
        yield replace_text
    finally:
        has_ended.set()
        thread.join()


@contextmanager
def collect_bar(*, seconds: float = LINE_SECONDS) -> Iterator[Callable[[CollectProgress], None]]:
    """Show a bar of the samples collected so far; the function that it yields updates it."""
    with _bar("collecting", _INTERRUPTED, shows_rest=True, seconds=seconds) as update:
        yield lambda progress: update(progress.wanted, progress.samples, _format_spending(progress))


@contextmanager
def questions_bar(*, seconds: float = LINE_SECONDS) -> Iterator[Callable[[RunSummary], None]]:
    """Show a bar of the questions that have an answer; the function that it yields updates it."""
    with _bar("answering", _ANSWERS_INTERRUPTED, shows_rest=True, seconds=seconds) as update:
        yield lambda summary: update(summary.questions, summary.questions - summary.missing, _format_answers(summary))


@contextmanager
def ranking_bar(*, seconds: float = LINE_SECONDS) -> Iterator[Callable[[RankProgress], None]]:
    """Show a bar of the part of a file that is ranked, in percent; the function that it yields updates it."""
    with _bar("ranked, in %", _RANKING_INTERRUPTED, shows_rest=True, seconds=seconds) as update:
        yield lambda progress: update(100, int(100 * progress.share), _format_ranking(progress))


@contextmanager
def batch_bar() -> Iterator[Callable[[BatchProgress], None]]:
    """Show a bar of the batch requests that the provider has finished; the function that it yields updates it."""
    with _bar("batches", _BATCH_INTERRUPTED) as update:
        yield lambda progress: update(
            progress.requests or None, progress.completed + progress.failed, _format_batches(progress)
        )


@contextmanager
def _bar(
    title: str, interrupt_message: str, *, shows_rest: bool = False, seconds: float = LINE_SECONDS
) -> Iterator[Callable[[int | None, int, str], None]]:
    """Show a bar on stderr; the function that it yields takes the total, the count and a text.

    Args:
        title: the word before the bar.
        interrupt_message: what Ctrl-C left behind.
        shows_rest: show the time that is left, not the time so far.
        seconds: time between two lines where stderr is not a terminal.
    """
    console = output.stderr_console()
    # Ctrl-C loses no replies: say so before the command ends.
    try:
        if output.is_quiet() or not console.is_terminal:
            with show_status(f"{title} …", seconds=seconds) as show:
                yield lambda total, count, facts: show(
                    f"{title}: {count:,}{'' if total is None else f' of {total:,}'}{' · ' * bool(facts)}{facts}"
                )
        else:
            with _terminal_bar(title, console, shows_rest=shows_rest) as update:
                yield update
    except KeyboardInterrupt:
        console.print(Text(interrupt_message))
        raise


@contextmanager
def _terminal_bar(
    title: str, console: Console, *, shows_rest: bool
) -> Iterator[Callable[[int | None, int, str], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(title, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn() if shows_rest else TimeElapsedColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None, facts="")
        yield lambda total, count, facts: progress.update(task, total=total, completed=count, facts=facts)


def _format_spending(progress: CollectProgress) -> str:
    """Return the tokens and the cost so far, and the expected cost in all."""
    parts = [f"{progress.usage.prompt_tokens + progress.usage.completion_tokens:,} tokens"]
    if progress.cost is not None:
        expected = "" if progress.expected_cost is None else f" of about {progress.expected_cost:.4g}"
        parts.append(f"spent {progress.cost:.4g}{expected}")
    if progress.judged:
        parts.append(f"{progress.judged:,} answers judged")
    if progress.failures:
        parts.append(f"{progress.failures} failed")
    return " · ".join(parts)


def _format_answers(summary: RunSummary) -> str:
    """Return the tokens and the cost of this run, and its failures."""
    parts = [f"{summary.usage.prompt_tokens + summary.usage.completion_tokens:,} tokens"]
    if summary.cost is not None:
        parts.append(f"spent {summary.cost:.4g}")
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    return " · ".join(parts)


def _format_ranking(progress: RankProgress) -> str:
    """Return the questions so far, and those that could not be ranked."""
    failed = f" · {progress.failed:,} failed" if progress.failed else ""
    return f"{progress.questions:,} questions{failed}"


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
