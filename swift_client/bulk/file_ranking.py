"""``rank_files``: rank a whole file of stored replies or samples, on all cores, in constant memory."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from swift_client.adapters import Provider
from swift_client.answers import Spec
from swift_client.bulk.cores import usable_cores
from swift_client.bulk.row_formats import RowFormat, format_of
from swift_client.bulk.settings import RankSettings
from swift_client.bulk.sources.open_source import open_source
from swift_client.bulk.sources.source import Kind, Source, Task
from swift_client.bulk.worker_pool import RankedTask, WorkerPool
from swift_client.dataset.sample_columns import import_pyarrow
from swift_client.dataset.sample_columns.locations import find_url, locate
from swift_client.errors import ConfigurationError
from swift_client.models.resolve_head import Head
from swift_client.scoring.result import UserSimilarity
from swift_client.selection.select import FALLBACK_SCORER, Scorer
from swift_client.store.atomic_write import atomic_write
from swift_client.types import Method

_FEW_TASKS = 2  # that many are ranked sooner than a worker process starts

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class RankProgress:
    """The state of a run.

    Attributes:
        questions: Rows so far.
        failed: Rows among them that have an error.
        share: Share of the source that they came from, 0..1.
    """

    questions: int = 0
    failed: int = 0
    share: float = 0.0


def rank_files(
    source: PathLike,
    out: PathLike,
    *,
    kind: Kind = "auto",
    head: Head = None,
    scorer: Scorer = FALLBACK_SCORER,
    answer: Spec = "auto",
    select: Method = "auto",
    similarity: str | UserSimilarity | None = None,
    provider: str | Provider = "openai",
    workers: int | None = None,
    on_progress: Callable[[RankProgress], None] = lambda progress: None,
) -> RankProgress:
    """Rank all questions of a file, each as ``rank()`` does, and write one row per question. Nothing is sent.

    Args:
        source: a samples file of ``collect``; a Parquet file of samples, or a folder or URL of them, with the rows of a
            question next to each other (others are refused if they return within about a million questions); or JSON
            lines ``{"id": ..., "reply": {...} or [...], "prompt": ...}``.
        out: a .jsonl or .parquet file, which is replaced when all is done. Its rows are in the order of ``source`` and
            have the members of ``RankedRow``; a question that cannot be ranked has an ``error``.
        kind: what ``source`` has to contain.
        head: as for ``rank()``; "auto" looks for the head of the samples' or replies' model.
        scorer: as for ``rank()``; so are ``answer``, ``select`` and ``similarity``.
        answer: see ``scorer``.
        select: see ``scorer``.
        similarity: see ``scorer``.
        provider: as for ``rank()``, for replies; samples name their own.
        workers: processes at once; None: one per core that this process may use; 1: no further process.
        on_progress: called after each part of the file.

    Returns:
        The counts of all rows.

    Raises:
        ConfigurationError: an argument is wrong, ``source`` cannot be read, or ``out`` cannot be written.
        ArtifactError: the head cannot be read.
        MissingExtraError: pyarrow is not installed and a file is Parquet.
        SwiftClientError: a worker process failed, died or cannot be started.
    """
    target = Path(out)
    row_format = format_of(target)
    settings = RankSettings.create(
        head=head, scorer=scorer, answer=answer, select=select, similarity=similarity, provider=provider
    )
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers={workers!r} is not a number from 1.", hint="Leave it out: one per core.")
    size = usable_cores() if workers is None else workers
    if size > 1:
        _require_picklable(settings)
    _require_other_file(Path(source), target)
    stored = open_source(Path(source), kind)
    progress = RankProgress()
    with (
        _open_out(target, row_format) as write,
        closing(_rank_tasks(stored, settings, row_format, size)) as results,  # an early end ends the workers
    ):
        for result in results:
            write(result.data)
            progress = RankProgress(
                questions=progress.questions + result.rows,
                failed=progress.failed + result.errors,
                share=result.share,
            )
            on_progress(progress)
    return progress


@contextmanager
def _open_out(target: Path, row_format: RowFormat) -> Iterator[Callable[[bytes], object]]:
    """Open a file that replaces ``target`` at the end; only its own errors become ConfigurationError."""
    with ExitStack() as stack:
        with _translate_write_errors(target):
            write = stack.enter_context(row_format.open(stack.enter_context(atomic_write(target))))

        def write_rows(data: bytes) -> None:
            with _translate_write_errors(target):
                write(data)

        yield write_rows
        with _translate_write_errors(target):
            stack.close()


@contextmanager
def _translate_write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error).rstrip(".")
        raise ConfigurationError(
            f"{target} cannot be written: {reason}.", hint="Check its folder, and the free disk space."
        ) from error


def _rank_tasks(
    source: Source, settings: RankSettings, row_format: RowFormat, size: int
) -> Generator[RankedTask, None, None]:
    tasks = source.tasks()
    first_tasks = list(islice(tasks, _FEW_TASKS + 1))
    all_tasks = chain(first_tasks, tasks)
    if size == 1 or len(first_tasks) <= _FEW_TASKS:
        yield from _rank_here(source, settings, row_format, all_tasks)
        return
    with WorkerPool((source, settings, row_format), size) as pool:
        yield from pool.rank(all_tasks)


def _rank_here(
    source: Source, settings: RankSettings, row_format: RowFormat, tasks: Iterator[tuple[Task, float]]
) -> Iterator[RankedTask]:
    with source.open(settings) as rank:
        for task, share in tasks:
            rows = rank(task)
            yield RankedTask(row_format.encode(rows), len(rows), sum(row.error is not None for row in rows), share)


def _require_picklable(settings: RankSettings) -> None:
    try:
        pickle.dumps(settings)
    except Exception as error:  # each kind of function fails in its own way
        raise ConfigurationError(
            f"scorer=, answer= or similarity= cannot be sent to worker processes: {error}.",
            hint="Define the function at the top level of a module, or use workers=1.",
        ) from error


def _require_other_file(source: Path, target: Path) -> None:
    """Raise ConfigurationError if the result would replace what it is read from, or become a part of it."""
    path = source if find_url(source) is None else _local_path(source)
    if path is not None and path.resolve() in (target.resolve(), *target.resolve().parents):
        raise ConfigurationError(f"{target} is, or would be, a part of {source}.", hint="Give another file.")


def _local_path(url: Path) -> Path | None:
    """Return the path of a URL on this machine; None for other file systems."""
    location = locate(url)
    is_local = isinstance(location.filesystem, import_pyarrow().fs.LocalFileSystem)
    return Path(location.path) if is_local else None
