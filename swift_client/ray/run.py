"""One run on a cluster: batches of questions go to the workers, and their results come back."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from swift_client.collect.result import CollectFailure, CollectProgress
from swift_client.collect.runner import MAX_CONSECUTIVE_FAILURES
from swift_client.errors import ConfigurationError, SwiftClientError
from swift_client.pricing import add_costs
from swift_client.ray.batch import Batch
from swift_client.ray.cluster import own_error
from swift_client.ray.committed import Committed, digest_id
from swift_client.ray.in_flight import Losses
from swift_client.ray.job import CollectJob, WorkerPool
from swift_client.ray.worker import BatchResult, CollectWorker
from swift_client.store import StoredQuestion
from swift_client.types import Usage

BATCHES_PER_WORKER = 2  # the next one fills the gap that the last questions of a batch leave
QUESTIONS_PER_SLOT = 4  # questions of a batch per concurrent request
MAX_FAILURES = 100  # failures that are listed; the others are counted
_RETURN_SECONDS = 2.0  # seconds within which a worker that has nothing to do gives back what it has leased
_STOP_SECONDS = 30.0  # seconds that workers have to store their samples when a run ends early

logger = logging.getLogger(__name__)
Row = StoredQuestion | tuple[str, ConfigurationError]


@dataclass(kw_only=True)
class Tally:
    """The totals of a run so far."""

    questions: int = 0
    stored_before: int = 0  # completions of these questions that the folder had
    wanted: int = 0
    added: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    losses: Losses = field(default_factory=Losses)
    lost: int = 0  # completions that failed
    failures: list[CollectFailure] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    stopped: str | None = None
    requests: dict[str, int] = field(default_factory=dict)  # by the life of a worker

    def add_failure(self, failure: CollectFailure) -> None:
        """Count the completions that a question lacks."""
        self.lost += failure.lost
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(failure)

    def add_result(self, result: BatchResult) -> None:
        """Add what came of a batch."""
        self.added += result.samples
        self.usage += result.usage
        self.cost = add_costs(self.cost, result.cost)
        self.losses += result.losses
        self.notes |= dict.fromkeys(result.notes)
        self.requests[result.life] = max(result.requests, self.requests.get(result.life, 0))
        for failure in result.failures:
            self.add_failure(failure)


@dataclass(kw_only=True)
class ClusterRun:
    """The driver's side of a run. Call ``run()`` once.

    Attributes:
        ray: The library.
        job: The settings of the workers.
        committed: The completions that the folder has.
        n: Completions per question.
        pool: The workers.
        on_progress: Called after each batch.
    """

    ray: Any
    job: CollectJob
    committed: Committed
    n: int
    pool: WorkerPool
    on_progress: Callable[[CollectProgress], None] | None

    def __post_init__(self) -> None:
        self.tally = Tally()
        self._started_at = time.perf_counter()
        self._actors: list[Any] = []
        self._limits_actor: Any = None
        self._free: list[Any] = []  # an actor for each batch that may be given to it
        self._running: dict[Any, Any] = {}  # actor by the reference of its result
        self._failed_batches = 0  # in a row
        self._numbers = itertools.count()  # of batches
        self._postponed: list[Batch] = []  # those that found the rest of max_cost reserved by others
        self._max_running = self.pool.size * BATCHES_PER_WORKER  # fewer when max_cost does not cover all at once
        self._is_alone = False  # True if the batch that runs is the only one that may run

    def run(self, rows: Iterator[Row]) -> Tally:
        """Collect all questions, and leave no worker behind.

        Raises:
            SwiftClientError: an error that every question would meet, as the worker raised it.
        """
        try:
            batches = self._batches(rows)
            while not self.tally.stopped:
                batch = self._postponed.pop() if self._postponed else next(batches, None)
                if batch:
                    self._submit(batch)
                elif self._running:
                    self._take_result()
                else:
                    break
            while self._running:
                self._take_result()
        except BaseException as error:
            self._stop()
            cause = own_error(error)
            if cause is None or cause is error:
                raise
            raise cause from None
        finally:
            own_limits = [self._limits_actor] if self._limits_actor and self.job.limits.is_own else []
            for actor in [*self._actors, *own_limits]:
                self.ray.kill(actor)
        return self.tally

    def _start_workers(self) -> None:
        """Start the actors: there is something to collect."""
        n_cpus, n_needed = self.ray.cluster_resources().get("CPU", 0.0), self.pool.size * self.pool.options["num_cpus"]
        if n_needed >= n_cpus:
            logger.warning(
                "%d workers take %g of the cluster's %g CPUs: unless it grows, no task is left to read the dataset",
                self.pool.size, n_needed, n_cpus,
            )  # fmt: skip
        self._limits_actor = self.job.limits.leases.start()  # it runs as long as its starter has the handle
        worker_class = self.ray.remote(CollectWorker)
        options = {
            "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 2 * BATCHES_PER_WORKER, **self.pool.options
        }  # fmt: skip
        self._actors = [worker_class.options(**options).remote(self.job) for _ in range(self.pool.size)]
        self._free = self._actors * BATCHES_PER_WORKER

    def _submit(self, batch: Batch) -> None:
        """Give a batch to a worker, as soon as one may take it."""
        if not self._actors:
            self._start_workers()
        while len(self._running) >= self._max_running:
            self._take_result()
        if self.tally.stopped:
            return
        was_alone, self._is_alone = self._is_alone, self._max_running == 1
        if self._is_alone and not was_alone:
            time.sleep(_RETURN_SECONDS)
        actor = self._free.pop()
        self._running[actor.collect.remote(batch)] = actor

    def _batches(self, rows: Iterator[Row]) -> Iterator[Batch]:
        """Yield batches of the questions that lack completions."""
        size = QUESTIONS_PER_SLOT * self.job.max_concurrency
        waiting: dict[str, StoredQuestion] = {}
        known_ids: set[bytes] = set()
        for row in rows:
            self.tally.questions += 1
            self.tally.wanted += self.n
            if not isinstance(row, StoredQuestion):
                question_id, error = row
                self.tally.add_failure(CollectFailure(question_id=question_id, lost=self.n, error=error))
            elif (digest := digest_id(row.id)) in known_ids:
                twice = ConfigurationError(f"The id {row.id!r} appears twice.", hint="Give each question its own id.")
                self.tally.add_failure(CollectFailure(question_id=row.id, lost=self.n, error=twice))
            else:
                known_ids.add(digest)
                waiting[row.id] = row
            if len(waiting) == size:
                if batch := self._create_batch(waiting):
                    yield batch
                waiting = {}
        if batch := self._create_batch(waiting):
            yield batch

    def _create_batch(self, questions: dict[str, StoredQuestion]) -> Batch | None:
        """Return a batch of the questions that lack completions; None if none does."""
        existing = self.committed.indices(list(questions))
        for indices in existing.values():
            self.tally.stored_before += len(indices)
            self.tally.wanted += len(indices - set(range(self.n)))  # those of a larger n of an earlier run
        missing = tuple(
            question for key, question in questions.items() if not existing.get(key, set()) >= set(range(self.n))
        )
        if not missing:
            return None
        return Batch(run=self.job.run, number=next(self._numbers), questions=missing, existing=existing)

    def _take_result(self) -> None:
        """Wait for a batch, and add its result."""
        (reference,), _ = self.ray.wait(list(self._running), num_returns=1)
        actor = self._running.pop(reference)
        result: BatchResult = self.ray.get(reference)
        self.tally.add_result(result)
        if result.error is None or result.samples:
            self._failed_batches = 0
        else:
            self._count_failure(result.error)
        self._free.append(actor)
        if result.stopped != "max_cost":
            self.tally.stopped = self.tally.stopped or result.stopped
        elif result.rest:
            self._postpone(result.rest)
        self._report()

    def _postpone(self, rest: Batch) -> None:
        """Collect the rest of a batch later, beside fewer others; stop if it had the rest of max_cost for itself."""
        if self._is_alone:
            self.tally.stopped = self.tally.stopped or "max_cost"
        self._max_running = max(1, min(self._max_running - 1, len(self._running)))
        self._postponed.append(replace(rest, number=next(self._numbers)))

    def _count_failure(self, error: SwiftClientError) -> None:
        """Give up if nothing comes: a wrong model name would cost thousands of requests."""
        self._failed_batches += 1
        if not self.tally.added:
            raise error
        if self._failed_batches >= MAX_CONSECUTIVE_FAILURES:
            self.tally.stopped = "failures"

    def _stop(self) -> None:
        """Let workers store what has arrived; what is under way is lost, and counted by the next run."""
        references = [*(actor.stop.remote() for actor in self._actors), *self._running]
        if references:
            self.ray.wait(references, num_returns=len(references), timeout=_STOP_SECONDS)

    def _report(self) -> None:
        if self.on_progress is None:
            return
        tally, folder = self.tally, self.committed
        samples = tally.stored_before + tally.added
        cost = add_costs(folder.cost, tally.cost)
        in_folder = folder.samples + tally.added
        n_missing = max(0, tally.wanted - samples)
        self.on_progress(
            CollectProgress(
                samples=samples,
                wanted=max(tally.wanted, samples),
                requests=sum(tally.requests.values()),
                failures=tally.lost,
                usage=folder.usage + tally.usage,
                cost=cost,
                expected_cost=None if cost is None or not in_folder else cost + cost / in_folder * n_missing,
                elapsed=time.perf_counter() - self._started_at,
            )
        )
