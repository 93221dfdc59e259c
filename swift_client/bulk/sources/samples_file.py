"""A samples file (SQLite) as a source: tasks are ranges of its questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swift_client.bulk.rank_questions import rank_samples
from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.settings import RankSettings
from swift_client.bulk.sources.source import Task
from swift_client.errors import ConfigurationError
from swift_client.store import SampleStore, StoredQuestion

_QUESTIONS_PER_TASK = 16  # enough that messages between processes cost nothing, few enough that no worker waits long


@dataclass(frozen=True)
class SamplesFile:
    """The questions of a samples file that have samples. A task is a range of row numbers."""

    path: Path

    def tasks(self) -> Iterator[tuple[Task, float]]:
        """See ``Source``."""
        with SampleStore(self.path) as store:
            total, done = store.count_questions(), 0
            for first, last, count in store.question_ranges(_QUESTIONS_PER_TASK):
                done += count
                yield (first, last), min(1.0, done / max(total, 1))

    @contextmanager
    def open(self, settings: RankSettings) -> Iterator[Callable[[Task], list[RankedRow]]]:
        """See ``Source``."""
        with SampleStore(self.path) as store:

            def rank(task: Task) -> list[RankedRow]:
                rows = (_rank_question(store, question, settings) for question in store.questions_between(*task))
                return [row for row in rows if row is not None]

            yield rank


def _rank_question(store: SampleStore, question: StoredQuestion, settings: RankSettings) -> RankedRow | None:
    """Return the row of a question; None if it has no samples."""
    try:
        samples = store.samples(question.id)
        if not samples:
            return None
        provider, model = store.source_of(question.id)
    except ConfigurationError as error:  # a damaged sample costs its question only
        return RankedRow.of_error(question.id, error)
    return rank_samples(question, samples, settings, provider=provider, model=model)
