"""One run of batches: ask for what is missing and not under way, wait for what is under way, take in what it brings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial

from swift_client.adapters.codecs.openai_batch import Batch
from swift_client.collect.batch.job import BatchJob, BatchRequest, open_jobs, split_into_files
from swift_client.collect.batch.plan import BatchPlan
from swift_client.collect.batch.results import BatchResults
from swift_client.collect.batch.service import BatchAPI
from swift_client.collect.budget import Prices
from swift_client.collect.result import CollectResult
from swift_client.errors import ConfigurationError, ResponseDecodeError, SwiftClientError
from swift_client.sampling import CallResult, sample_completions
from swift_client.types import Usage

MAX_FAILED_POLLS = 60
"""Looks at a batch that may fail one after another: an hour at one a minute."""
MAX_EMPTY_POLLS = 10
"""Times that a completed batch is asked again for output that it does not name, or not all of."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """How far the batches are. Samples, usage and cost include earlier runs on the same file."""

    samples: int
    wanted: int
    """Samples that there will be at the end."""
    batches: int
    """Batches under way."""
    statuses: tuple[str, ...]
    """What the provider calls their state, each once."""
    requests: int
    """Requests in them, as the provider counts."""
    completed: int
    failed: int
    usage: Usage
    cost: float | None
    """Spent so far; None where prices are not known. Batches under way are not in it."""
    elapsed: float
    """Seconds."""


@dataclass(kw_only=True)
class BatchRunner:
    """What one run works with; see ``collect_batch`` for what the settings mean. Call :meth:`all` once."""

    api: BatchAPI
    plan: BatchPlan
    results: BatchResults
    prices: Prices | None
    """Of direct calls."""
    max_lines: int
    max_bytes: int
    poll: tuple[float, float]
    on_progress: Callable[[BatchProgress], None] | None
    requests: int = 0
    """Put into batches by this run, and sent directly."""
    fetch_errors: list[SwiftClientError] = field(default_factory=list)
    """Why batches that may be paid for were not fetched; the file remembers those."""
    latest_batches: dict[str, Batch] = field(default_factory=dict)
    """How the batches under way stood at the last look, by token."""
    start_time: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.store, self.context = self.results.store, self.results.context
        self.prior_totals = self.store.totals()
        own = self.prices.cost(self.prior_totals.usage) if self.prices else 0.0
        self.prior_cost = own if self.prior_totals.cost is None else self.prior_totals.cost
        self._load_jobs()
        under_way, held = self.plan.pending_indices, self.results.existing_indices
        named = {question.id for question in self.plan.questions} | under_way.keys()
        self.initial_samples = sum(len(held.get(each, ())) for each in named)
        self.target_samples = self.initial_samples + sum(
            len(self.plan.missing_indices(question)) for question in self.plan.questions
        )
        self.target_samples += sum(len(numbers - held.get(each, set())) for each, numbers in under_way.items())

    async def run(self) -> CollectResult:
        """Do all of it; see ``collect_batch`` for what is raised."""
        self._report()
        await self._recover_jobs()
        await self._confirm_logprobs()
        await self._submit()
        await self._wait()
        if self.fetch_errors and not self.results.added_samples:
            raise self.fetch_errors[0]
        intake = self.results
        return CollectResult(
            path=str(self.store.path),
            questions=len(self.plan.questions),
            added=intake.added_samples,
            samples=self.initial_samples + intake.added_samples,
            wanted=self.target_samples + self.results.extra_samples,
            requests=self.requests,
            usage=self.prior_totals.usage + intake.usage,
            cost=self._cost(),
            stopped=self.plan.stop_reason,
            failures=tuple(intake.failures),
            notes=tuple(intake.notes),
            elapsed=time.perf_counter() - self.start_time,
        )

    def _load_jobs(self) -> None:
        self.jobs = open_jobs(self.store)
        """What the file remembers: paid for, or perhaps."""
        self.n_open = sum(job.batch_id is not None for job in self.jobs)
        self.plan.set_pending_jobs(self.jobs)

    async def _recover_jobs(self) -> None:
        """Learn what has become of batches that were asked for when an earlier run was killed, or make them."""
        for job in self.jobs:
            if job.batch_id is None:
                try:
                    await self.api.create(job, self.store, certainly_new=False)
                except ConfigurationError:
                    raise
                except SwiftClientError as error:
                    self._record_fetch_error(job, error)
        self._load_jobs()

    async def _confirm_logprobs(self) -> None:
        """Ask for one completion directly where nobody knows yet whether logprobs come, and raise where none do."""
        plan = self.plan
        lacking = next((question for question in plan.questions if plan.missing_indices(question)), None)
        if lacking is None or not self.context.must_have_logprobs:
            return
        first = plan.missing_indices(lacking)[0]
        asked = plan.sample_request(lacking, 1, first)
        if silent := self.context.endpoint.no_logprobs_reason(self.context.fields(asked)):
            raise self.context.logprobs_unavailable_error(silent)
        if self.store.lacks_logprobs:
            raise self.context.logprobs_unavailable_error(
                "replies of an earlier batch had text and none beside it (--forget-batches tries once more)."
            )
        if self.context.endpoint.logprobs_confirmed or self.prior_totals.samples or self.jobs:
            return
        self.requests += 1
        wish = BatchRequest(lacking.id, first, 1)
        drawn = await sample_completions(self.context, asked, on_arrival=partial(self._store_reply, wish, asked.seed))
        self.results.notes.update(dict.fromkeys(drawn.notes))

    def _store_reply(self, request: BatchRequest, seed: int | None, outcome: CallResult) -> None:
        cost = self.prices.cost(outcome.usage) if self.prices else None
        usage = replace(outcome.usage, calls=1)
        self.results.add(request, outcome.completions, usage=usage, cost=cost, seed=seed)

    async def _submit(self) -> None:
        """Put what is missing into batches, one after another."""
        spent = self.prior_cost + self.results.cost + self.plan.max_jobs_cost(self.jobs, self.store.questions())
        files = split_into_files(
            self.plan.iter_requests(spent),
            self.plan.format_line,
            self.store.path.parent,
            max_lines=self.max_lines,
            max_bytes=self.max_bytes,
        )
        with closing(files):
            for wishes, file in files:
                try:
                    file_id = await self.api.upload("swift-client-batch.jsonl", file)
                    columns = self.plan.requested_top_logprobs(wishes[0])
                    job = BatchJob.create(wishes, file_id, seed=self.plan.seed, top_logprobs=columns)
                    job = await self.api.create(job.save(self.store), self.store, certainly_new=True)
                except SwiftClientError as error:
                    if isinstance(error, ConfigurationError) or not self.jobs:
                        raise
                    self.results.record_missing(wishes, error)  # others are under way: bring those home
                    return
                self.jobs.append(job)
                self.n_open += 1
                self.requests += len(wishes)
                self._report()

    async def _wait(self) -> None:
        """Look at the batches under way until all have ended, and take in each that has."""
        pause, longest = self.poll
        failed = Counter[str]()
        waiting = [job for job in self.jobs if job.batch_id]
        while waiting:
            for job in list(waiting):
                try:
                    batch = self.latest_batches[job.token] = await self.api.retrieve(job)
                    if not batch.finished:
                        failed[job.token] = 0
                        continue
                    await self._fetch(job, batch)
                except ConfigurationError:
                    raise
                except SwiftClientError as error:
                    failed[job.token] += 1
                    most = MAX_EMPTY_POLLS if isinstance(error, ResponseDecodeError) else MAX_FAILED_POLLS
                    if error.retryable and failed[job.token] < most:
                        continue
                    self._record_fetch_error(job, error)
                waiting.remove(job)
                self.latest_batches.pop(job.token, None)
                self.n_open -= 1
                pause = self.poll[0]
            self._report()
            if waiting:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, longest)

    async def _fetch(self, job: BatchJob, batch: Batch) -> None:
        """Take in what a batch that has ended brought, and forget it."""
        if _lacks_output(batch):
            raise ResponseDecodeError(
                f"Batch {batch.id} is complete and names no output.",
                provider=self.context.provider.name,
                retryable=True,
            )
        with ExitStack() as stack:
            files = [
                stack.enter_context(await self.api.download(file_id, self.store.path.parent))
                for file_id in (batch.output_file_id, batch.error_file_id)
                if file_id
            ]
            await self.results.store_batch(job, batch, files, on_stored=self._report)
        self.store.drop_batch(job.token)

    def _record_fetch_error(self, job: BatchJob, error: SwiftClientError) -> None:
        """Note why a batch could not be fetched; whether it is remembered, the file knows."""
        if job.token in self.store.batches():
            error.hint = (
                "The file remembers this batch, which may be paid for: run the same command again, with the same key "
                "and address. If it is gone for good, --forget-batches (forget_batches=True) asks anew."
            )
        self.fetch_errors.append(error)
        self.results.record_missing(job.wishes, error)

    def _cost(self) -> float | None:
        return self.prior_cost + self.results.cost if self.prices else None

    def _report(self) -> None:
        """Report; a callback's own error may not cost what is under way."""
        if not self.on_progress:
            return
        states, samples = self.latest_batches.values(), self.initial_samples + self.results.added_samples
        told = BatchProgress(
            samples=samples,
            wanted=self.target_samples + self.results.extra_samples,
            batches=self.n_open,
            statuses=tuple(dict.fromkeys(state.status for state in states)),
            requests=sum(state.n_requests for state in states),
            completed=sum(state.n_completed for state in states),
            failed=sum(state.n_failed for state in states),
            usage=self.prior_totals.usage + self.results.usage,
            cost=self._cost(),
            elapsed=time.perf_counter() - self.start_time,
        )
        try:
            self.on_progress(told)
        except Exception:
            logger.exception("on_progress failed; collecting goes on")


def _lacks_output(batch: Batch) -> bool:
    """Whether a batch says that it has replies and not where; the name of the file may come a moment later."""
    uncounted = batch.status == "completed" and batch.n_requests == 0 and batch.error_file_id is None
    return batch.output_file_id is None and (batch.n_completed > 0 or uncounted)
