"""One batch of questions in a worker, whose samples are stored in shards while they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from swift_client.errors import ConfigurationError
from swift_client.pricing import add_costs
from swift_client.ray.buffer import Rows, SampleBuffer
from swift_client.ray.committed import read_keys
from swift_client.ray.folder import Folder
from swift_client.ray.in_flight import BatchJournal
from swift_client.ray.shards import encode_shard, shard_name
from swift_client.store import Meta, StoredQuestion
from swift_client.types import Usage

RUN = "run.json"  # the name of the run that may write
_WRITE_PAUSES = (0.5, 2.0)  # seconds before the second and the third attempt to write a shard
MAX_SHARD_SAMPLES = 1024  # samples in memory that are stored without waiting for the next regular time


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Questions that one worker collects.

    Attributes:
        run: Name of the run.
        number: Number within the run.
        questions: The questions.
        existing: Indices that were stored before the run, by question.
    """

    run: str
    number: int
    questions: tuple[StoredQuestion, ...]
    existing: Mapping[str, set[int]]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The part of a batch that an earlier attempt of the same run has stored.

    Attributes:
        existing: Stored indices by question, those from before the run too.
        n_shards: Shards of the batch.
        samples: Completions in them.
        usage: Tokens and requests of these.
        cost: Of these; None if unknown.
    """

    existing: dict[str, set[int]]
    n_shards: int = 0
    samples: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0

    @classmethod
    def find(cls, folder: Folder, batch: Batch) -> Attempt:
        """Read the shards of a batch, of which there are some only if its worker was killed before."""
        attempt = cls(existing={question_id: set(indices) for question_id, indices in batch.existing.items()})
        while folder.exists(name := shard_name(batch.run, batch.number, attempt.n_shards)):
            facts, indices = read_keys(folder, name)
            for question_id, own_indices in indices.items():
                attempt.existing.setdefault(question_id, set()).update(own_indices)
            attempt = replace(
                attempt,
                n_shards=attempt.n_shards + 1,
                samples=attempt.samples + sum(map(len, indices.values())),
                usage=attempt.usage + facts.usage,
                cost=add_costs(attempt.cost, facts.cost),
            )
        return attempt


@dataclass(kw_only=True)
class ShardWriter:
    """The observer of a batch: announces its questions, and stores their samples every few seconds.

    Attributes:
        folder: The folder of the run.
        batch: The batch.
        buffer: Its samples.
        journal: Told of each question before it is requested.
        meta: Settings of all samples.
        next_shard: Number of the next shard.
        seconds: Time between two shards.
    """

    folder: Folder
    batch: Batch
    buffer: SampleBuffer
    journal: BatchJournal
    meta: Meta
    next_shard: int
    seconds: float

    def __post_init__(self) -> None:
        self._is_closing = False
        self._unwritten: Rows | None = None  # rows that could not be written yet
        self.running: set[str] = set()  # questions that have begun and not ended
        self._wakes = asyncio.Event()
        self._lock = asyncio.Lock()

    async def begin(self, question: StoredQuestion) -> None:
        """Write to the journal that a question is about to be requested."""
        await self.journal.announce(question)
        self.running.add(question.id)

    def end(self, question: StoredQuestion) -> None:
        """Let the samples of a question be stored."""
        self.buffer.end(question)
        self.running.discard(question.id)
        if self.buffer.n_ended >= MAX_SHARD_SAMPLES:
            self._wakes.set()

    async def write_regularly(self) -> None:
        """Store the samples of ended questions every few seconds, until ``close()``.

        Raises:
            ConfigurationError: a shard cannot be written, or another run has taken over the folder.
        """
        while not self._is_closing:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wakes.wait(), self.seconds)
            self._wakes.clear()
            await self._flush()

    async def close(self) -> None:
        """Store all samples, also those of questions that have not ended. Errors as of ``write_regularly()``."""
        self._is_closing = True
        self._wakes.set()
        self.buffer.end_all()
        await self._flush()

    async def _flush(self) -> None:
        async with self._lock:
            while (rows := self._unwritten or self.buffer.take_ended()).samples:
                self._unwritten = rows
                await self._write_patiently(rows)
                self._unwritten = None

    async def _write_patiently(self, rows: Rows) -> None:
        """Write a shard; try again if the file system fails, since the samples are paid for."""
        for pause in (*_WRITE_PAUSES, None):
            try:
                return await asyncio.to_thread(self._write, rows)
            except ConfigurationError as error:
                if pause is None or not isinstance(error.__cause__, OSError):
                    raise
                await asyncio.sleep(pause)

    def _write(self, rows: Rows) -> None:
        name = shard_name(self.batch.run, self.batch.number, self.next_shard)
        data = encode_shard(rows, meta=self.meta)  # may take seconds, after which the folder may have another writer
        require_current_run(self.folder, self.batch.run)
        self.folder.write(name, data)
        self.next_shard += 1


def require_current_run(folder: Folder, run: str) -> None:
    """Raise ConfigurationError if another run has taken over the folder, which counts on this one to store nothing."""
    current = folder.read(RUN)
    if current is None:
        raise ConfigurationError(
            f"A worker does not see {folder} as the driver does.",
            hint="Give a folder that all machines share, or a URL.",
        )
    if current != run.encode():
        raise ConfigurationError(
            f"Another run collects into {folder} now.", hint="Let one run at a time write to a folder."
        )
