"""The interface of a file that workers read in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.settings import RankSettings

Kind = Literal["auto", "samples", "replies"]
"""What a source has to contain."""
# A part of a file: plain values that say where it is, so that a worker reads it itself.
Task = tuple[Any, ...]


class Source(Protocol):
    """A file, or several, of stored questions. It is sent to workers, so it holds no open file.

    Whole questions are in one task, and tasks are in the order of the file.
    """

    def tasks(self) -> Iterator[tuple[Task, float]]:
        """Yield each task with the share of the source up to its end, 0..1.

        Raises:
            ConfigurationError: the source cannot be read, or is not what it should be.
        """
        ...

    def open(self, settings: RankSettings) -> AbstractContextManager[Callable[[Task], list[RankedRow]]]:
        """Open the source for tasks; the function ranks the questions of one task, in order.

        Raises:
            ConfigurationError: as ``tasks()``; also the function.
        """
        ...
