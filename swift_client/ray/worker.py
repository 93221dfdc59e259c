"""The actor that collects batches: one connection, one limiter and one event loop for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_hex

from swift_client.adapters import connect
from swift_client.adapters.local.model import resolve_local_provider
from swift_client.collect.result import CollectFailure, CollectResult, CollectState
from swift_client.collect.runner import FATAL_ERRORS, CollectRunner, QuestionObserver
from swift_client.collect.setup import CollectSetup
from swift_client.errors import AuthenticationError, ConfigurationError, SwiftClientError
from swift_client.pricing import add_costs
from swift_client.ray.batch import Attempt, Batch, ShardWriter, require_current_run
from swift_client.ray.buffer import Rows, SampleBuffer
from swift_client.ray.in_flight import BatchJournal, Losses, journal_name, read_losses
from swift_client.ray.job import CollectJob
from swift_client.ray.limits import OpenLimits
from swift_client.sampling import CallContext
from swift_client.store import StoredQuestion
from swift_client.types import Usage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """The result of one batch.

    Attributes:
        samples: Completions that the run has stored, those of killed attempts too.
        usage: Of these.
        cost: Of these; None if unknown.
        failures: Completions that are missing.
        losses: Completions of killed attempts that may have been paid for.
        error: The error that all questions met, one after another, so that the batch ended early.
        stopped: The limit that ended it early: "max_cost" or "max_requests".
        rest: What it lacks after "max_cost", without the questions that failed; other batches may have had the money.
        life: Name of the worker's process.
        requests: Requests of this process so far.
    """

    samples: int
    usage: Usage
    cost: float | None
    failures: tuple[CollectFailure, ...]
    notes: tuple[str, ...]
    losses: Losses
    life: str
    requests: int
    error: SwiftClientError | None = None
    stopped: str | None = None
    rest: Batch | None = None


@dataclass(frozen=True, kw_only=True)
class _Connection:
    """The parts of a worker that all of its batches share."""

    setup: CollectSetup
    limits: OpenLimits
    context: CallContext

    @classmethod
    def open(cls, job: CollectJob) -> _Connection:
        setup = job.create_setup()
        server = resolve_local_provider(job.provider, setup.provider, setup.model)
        timeout = job.settings["timeout"]
        transport = connect(
            server, setup.provider, api_key=job.api_key, timeout=timeout, max_connections=job.max_concurrency
        )
        limits = job.limits.open(job.max_concurrency)
        context = setup.create_context(
            transport,
            rate_limiter=limits.rate_limit.for_this_process(),
            require_logprobs=job.require_logprobs,
            token_ids=job.token_ids,
        )
        return cls(setup=setup, limits=limits, context=context)


@dataclass
class CollectWorker:
    """Collects batches, several at a time. Ray starts it again if it is killed, and repeats its calls."""

    job: CollectJob

    def __post_init__(self) -> None:
        self._life = token_hex(8)
        self._opening: asyncio.Task[_Connection] | None = None
        self._running: set[asyncio.Task[CollectResult]] = set()
        self._is_stopping = False

    async def _connect(self) -> _Connection:
        """Connect with the first batch: Ray would raise an error of the constructor without its cause."""
        if self._opening is None:
            self._opening = asyncio.create_task(asyncio.to_thread(_Connection.open, self.job))
        return await self._opening

    async def collect(self, batch: Batch) -> BatchResult:
        """Collect what the batch lacks, and store it.

        Raises:
            AuthenticationError: or another error that every question would meet as well.
            ConfigurationError: a shard cannot be written.
        """
        folder, name = self.job.folder, journal_name(batch.run, batch.number)
        if folder is None:
            raise ConfigurationError("There is no folder to store samples in.")
        attempt = await asyncio.to_thread(Attempt.find, folder, batch)
        losses = await asyncio.to_thread(read_losses, folder, name, lambda _: attempt.existing)
        connection = await self._connect()
        setup = connection.setup.for_questions(batch.questions)
        questions = {question.id: question for question in batch.questions}
        missing = {
            key: [index for index in range(setup.n) if index not in attempt.existing.get(key, ())] for key in questions
        }
        journal = BatchJournal(
            folder=folder,
            name=name,
            missing={key: indices for key, indices in missing.items() if indices},
            max_cost=lambda key: setup.cost_bound(questions[key]),
            ahead=self.job.max_concurrency,
            losses=losses,
            check_run=partial(require_current_run, folder, batch.run),
        )
        buffer = SampleBuffer(path=str(folder), questions=questions, existing=attempt.existing)
        writer = ShardWriter(
            folder=folder,
            batch=batch,
            buffer=buffer,
            journal=journal,
            meta=setup.meta,
            next_shard=attempt.n_shards,
            seconds=self.job.commit_seconds,
        )
        runner = _create_runner(connection, setup, buffer, writer)
        state = runner.state
        try:
            error = await self._run(runner, writer)
        except AuthenticationError:  # refused requests cost nothing
            if not state.added_samples:
                await journal.close()
            raise
        await journal.close(writer.running if self._is_stopping else ())  # the next run counts what was under way
        return BatchResult(
            samples=attempt.samples + state.added_samples,
            usage=attempt.usage + state.usage,
            cost=add_costs(attempt.cost, buffer.cost),
            failures=tuple(state.failures),
            notes=tuple(state.notes),
            losses=losses,
            life=self._life,
            requests=connection.limits.requests.spent.calls,
            error=error,
            stopped=runner.stop_reason if runner.stop_reason != "failures" else None,
            rest=_find_rest(batch, state) if runner.stop_reason == "max_cost" else None,
        )

    async def sample(self, questions: Mapping[str, StoredQuestion]) -> Rows:
        """Return completions of the questions without storing them; log those that fail. Errors as of ``collect()``."""
        connection = await self._connect()
        setup = connection.setup.for_questions(list(questions.values()))
        buffer = SampleBuffer(path="memory", questions=questions, existing={})
        runner = _create_runner(connection, setup, buffer, buffer)
        await runner.run(workers=self.job.max_concurrency)
        for failure in runner.state.failures:
            logger.warning("question %r lost %d completions: %s", failure.question_id, failure.lost, failure.error)
        buffer.end_all()
        return buffer.take_ended()

    async def _run(self, runner: CollectRunner, writer: ShardWriter) -> SwiftClientError | None:
        """Run to the end and store everything; return the error that all questions met, if any."""
        writing = asyncio.create_task(writer.write_regularly())
        collecting = asyncio.create_task(runner.run(workers=self.job.max_concurrency))
        self._running.add(collecting)
        error = None
        try:
            await asyncio.wait({writing, collecting}, return_when=asyncio.FIRST_COMPLETED)
            if collecting.done() and not collecting.cancelled():
                collecting.result()
        except FATAL_ERRORS:
            raise
        except SwiftClientError as failure:
            error = failure
        finally:
            self._running.discard(collecting)
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
            await writer.close()
            await writing
        return error

    async def stop(self) -> None:
        """End all batches early, storing what has arrived: the run is about to end."""
        self._is_stopping = True
        for collecting in self._running:
            collecting.cancel()


def _find_rest(batch: Batch, state: CollectState[SampleBuffer]) -> Batch | None:
    """Return the questions that lack completions and have not failed, with what they have; None if there are none."""
    failed = {failure.question_id for failure in state.failures}
    existing = {question.id: set(state.indices(question.id)) for question in batch.questions}
    questions = tuple(
        question
        for question in batch.questions
        if question.id not in failed and any(state.setup.missing_ranges(existing[question.id]))
    )
    return replace(batch, questions=questions, existing=existing) if questions else None


def _create_runner(
    connection: _Connection, setup: CollectSetup, buffer: SampleBuffer, observer: QuestionObserver
) -> CollectRunner:
    return CollectRunner(
        state=CollectState(setup=setup, store=buffer, direct_prices=setup.prices, on_progress=None),
        context=connection.context,
        observer=observer,
        costs=connection.limits.costs,
        requests=connection.limits.requests,
    )
