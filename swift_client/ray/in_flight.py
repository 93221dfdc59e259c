"""Journals of batches: the completions that may be paid for, written before they are requested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.pricing import add_costs
from swift_client.ray.folder import Folder
from swift_client.store import StoredQuestion

IN_FLIGHT = "in_flight"  # the folder of the journals
LOSSES = "lost.json"  # what earlier runs lost

_Content = TypeVar("_Content", bound=msgspec.Struct)
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Completions that were requested, and were not stored when their worker was killed.

    Attributes:
        completions: The most that were lost: some were not sent yet.
        cost: The most that they may cost; None if that is unknown.
    """

    completions: _Count = 0
    cost: float | None = 0.0

    def __add__(self, other: Losses) -> Losses:
        return Losses(completions=self.completions + other.completions, cost=add_costs(self.cost, other.cost))


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    question: str
    indices: list[_Count]
    cost: float | None  # the most that one completion may cost


class _Journal(msgspec.Struct, frozen=True, kw_only=True):
    entries: list[_Entry] = []
    losses: Losses = msgspec.field(default_factory=Losses)  # of earlier attempts at this batch


def journal_name(run: str, batch: int) -> str:
    """Return the name of the journal of a batch."""
    return f"{journal_prefix(run)}{batch:08d}.json"


def journal_prefix(run: str) -> str:
    """Return the beginning of the names of all journals of a run."""
    return f"{IN_FLIGHT}/{run}-"


def read_losses(folder: Folder, name: str, committed: Callable[[Sequence[str]], Mapping[str, set[int]]]) -> Losses:
    """Return what the killed worker of a journal lost; nothing if there is no journal.

    Args:
        folder: the folder of the run.
        name: the name of the journal.
        committed: returns the stored indices of questions.

    Raises:
        ConfigurationError: the journal is damaged.
    """
    data = folder.read(name)
    if data is None:
        return Losses()
    journal = _decode(folder, name, data, _Journal)
    stored = committed([entry.question for entry in journal.entries])
    losses = journal.losses
    for entry in journal.entries:
        count = len(set(entry.indices) - stored.get(entry.question, set()))
        losses += Losses(completions=count, cost=None if count and entry.cost is None else count * (entry.cost or 0.0))
    return losses


def read_total(folder: Folder) -> Losses:
    """Return the losses of all earlier runs. Raises ConfigurationError if their file is damaged."""
    data = folder.read(LOSSES)
    return Losses() if data is None else _decode(folder, LOSSES, data, Losses)


def write_total(folder: Folder, losses: Losses) -> None:
    """Store the losses of all runs so far."""
    folder.write(LOSSES, msgspec.json.encode(losses))


@dataclass(kw_only=True)
class BatchJournal:
    """The journal of one batch while a worker collects it.

    Attributes:
        folder: The folder of the run.
        name: The name of the journal.
        missing: The indices to request of each question, in the order in which questions begin.
        max_cost: Returns the most that one completion of a question may cost; None if unknown.
        ahead: Questions that one writing announces.
        losses: Of earlier attempts at this batch.
        check_run: Called after each writing; raises if another run has taken over, which may not see what was written.
    """

    folder: Folder
    name: str
    missing: Mapping[str, Sequence[int]]
    max_cost: Callable[[str], float | None]
    ahead: int
    losses: Losses
    check_run: Callable[[], None]

    def __post_init__(self) -> None:
        self._waiting = list(self.missing)
        self._entries: dict[str, _Entry] = {}
        self._lock = asyncio.Lock()

    async def announce(self, question: StoredQuestion) -> None:
        """Write that a question, and those after it, are about to be requested, unless it is written.

        Raises:
            ConfigurationError: the journal cannot be written, or another run has taken over the folder.
        """
        async with self._lock:
            while question.id not in self._entries:
                announced, self._waiting = self._waiting[: self.ahead], self._waiting[self.ahead :]
                entries = {key: _Entry(key, list(self.missing[key]), self.max_cost(key)) for key in announced}
                journal = _Journal(entries=[*self._entries.values(), *entries.values()], losses=self.losses)
                await asyncio.to_thread(self.folder.write, self.name, msgspec.json.encode(journal))
                await asyncio.to_thread(self.check_run)
                self._entries |= entries

    async def close(self, running: Collection[str] = ()) -> None:
        """Remove the journal of a batch that is stored; ``running`` questions and losses stay for the driver."""
        entries = [entry for question_id, entry in self._entries.items() if question_id in running]
        if entries or self.losses.completions:
            data = msgspec.json.encode(_Journal(entries=entries, losses=self.losses))
            await asyncio.to_thread(self.folder.write, self.name, data)
        elif self._entries:
            await asyncio.to_thread(self.folder.delete, self.name)


def _decode(folder: Folder, name: str, data: bytes, kind: type[_Content]) -> _Content:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{folder}/{name} is damaged: {error}.", hint="Delete it; its completions are then not counted."
        ) from error
