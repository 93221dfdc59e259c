"""One batch run: request what is missing, wait for open batches, and store their results."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial

from swift_client.adapters.codecs.openai_batch import Batch
from swift_client.collect.batch.plan import BatchPlan, BatchRequest, split_into_files
from swift_client.collect.batch.results import BatchResults
from swift_client.collect.batch.service import BatchAPI, BatchJob, open_jobs
from swift_client.collect.result import CollectResult
from swift_client.errors import ConfigurationError, ResponseDecodeError, SwiftClientError
from swift_client.sampling import CallResult, Sampler
from swift_client.types import Usage

MAX_FAILED_POLLS = 60  # polls of a batch that may fail in a row: an hour at one per minute
MAX_EMPTY_POLLS = 10  # polls of a completed batch whose output is missing or incomplete


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """Progress of the batches. Samples, usage and cost include earlier runs on the same file.

    Attributes:
        wanted: Samples in the file at the end.
        batches: Open batches.
        statuses: The provider's names of their states, each once.
        requests: Requests in them, as counted by the provider.
        cost: Spent so far, open batches not included; None without prices.
        elapsed: Seconds.
    """

    samples: int
    wanted: int
    batches: int
    statuses: tuple[str, ...]
    requests: int
    completed: int
    failed: int
    usage: Usage
    cost: float | None
    elapsed: float


@dataclass(kw_only=True)
class BatchRunner:
    """The state of one batch run; see ``collect_batch`` for the settings. Call ``run()`` once."""

    api: BatchAPI
    plan: BatchPlan
    results: BatchResults
    max_lines: int
    max_bytes: int
    poll: tuple[float, float]
    requests: int = 0  # requests of this run, in batches or sent directly
    # Errors of batches that may be paid for and were not fetched; the file remembers those batches.
    fetch_errors: list[SwiftClientError] = field(default_factory=list)
    # The open batches as of the last poll, by token.
    latest_batches: dict[str, Batch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state, self.context = self.results.state, self.results.context
        self.store = self.state.store
        self._load_jobs()
        self.state.count_samples(self.plan.pending_indices)

    async def run(self) -> CollectResult:
        """Run all steps; see ``collect_batch`` for the errors."""
        self._report()
        await self._recover_jobs()
        await self._confirm_logprobs()
        await self._submit()
        await self._wait()
        if self.fetch_errors and not self.state.added_samples:
            raise self.fetch_errors[0]
        return self.state.result(requests=self.requests, cost=self._cost(), stopped=self.plan.stop_reason)

    def _load_jobs(self) -> None:
        self.jobs = open_jobs(self.store)
        """Batches in the file: paid for, or perhaps."""
        self.n_open = sum(job.batch_id is not None for job in self.jobs)
        self.plan.set_pending(request for job in self.jobs for request in job.wishes)

    async def _recover_jobs(self) -> None:
        """Find or create the batches that were being requested when an earlier run was killed."""
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
        """Sample one completion directly if it is unknown whether logprobs come; raise if none do."""
        setup, context = self.plan.setup, self.context
        missing = (
            (question, start)
            for question in setup.questions
            for start, _ in setup.missing_ranges(self.plan.taken_indices(question))
        )
        first_missing = next(missing, None)
        if first_missing is None or not context.must_have_logprobs:
            return
        question, index = first_missing
        sample_request = setup.sample_request(question, 1, index)
        if reason := context.endpoint.no_logprobs_reason(context.fields(sample_request)):
            raise context.logprobs_unavailable_error(reason)
        if self.store.lacks_logprobs:
            raise context.logprobs_unavailable_error(
                "replies of an earlier batch had text but no logprobs (--forget-batches tries again)."
            )
        if context.endpoint.logprobs_confirmed or self.state.prior_totals.samples or self.jobs:
            return
        self.requests += 1
        on_arrival = partial(self._store_reply, BatchRequest(question.id, index, 1), sample_request.seed)
        result = await Sampler(context, sample_request, on_arrival=on_arrival).run()
        self.state.notes.update(dict.fromkeys(result.notes))

    def _store_reply(self, request: BatchRequest, seed: int | None, result: CallResult) -> None:
        self.results.add(request, result.completions, result.usage, prices=self.state.direct_prices, seed=seed)

    async def _submit(self) -> None:
        """Put everything that is missing into batches, one after another."""
        open_requests = [request for job in self.jobs for request in job.wishes]
        open_cost = self.plan.max_requests_cost(open_requests, self.store.iterate_questions())
        files = split_into_files(
            self.plan.iter_requests(self.state.prior_cost + self.results.cost + open_cost),
            self.plan.format_line,
            self.store.scratch_folder,
            max_lines=self.max_lines,
            max_bytes=self.max_bytes,
        )
        with closing(files):
            for requests, file in files:
                try:
                    file_id = await self.api.upload("swift-client-batch.jsonl", file)
                    k = self.plan.requested_top_logprobs(requests[0])
                    job = BatchJob(
                        token=secrets.token_hex(16),
                        wishes=tuple(requests),
                        file_id=file_id,
                        asked_at=time.time(),
                        seed=self.plan.setup.seed,
                        top_logprobs=k,
                    )
                    job = await self.api.create(job.save(self.store), self.store, certainly_new=True)
                except SwiftClientError as error:
                    if isinstance(error, ConfigurationError) or not self.jobs:
                        raise
                    self.results.record_missing(requests, error)  # other batches are open: wait for those
                    return
                self.jobs.append(job)
                self.n_open += 1
                self.requests += len(requests)
                self._report()

    async def _wait(self) -> None:
        """Poll the open batches until all have ended, and store the results of each."""
        pause, max_pause = self.poll
        n_failed_polls = Counter[str]()
        waiting = [job for job in self.jobs if job.batch_id]
        while waiting:
            for job in list(waiting):
                try:
                    batch = self.latest_batches[job.token] = await self.api.retrieve(job)
                    if not batch.finished:
                        n_failed_polls[job.token] = 0
                        continue
                    await self._fetch(job, batch)
                except ConfigurationError:
                    raise
                except SwiftClientError as error:
                    n_failed_polls[job.token] += 1
                    limit = MAX_EMPTY_POLLS if isinstance(error, ResponseDecodeError) else MAX_FAILED_POLLS
                    if error.retryable and n_failed_polls[job.token] < limit:
                        continue
                    self._record_fetch_error(job, error)
                # The batch is stored or given up: the next poll comes soon, since others may have ended as well.
                waiting.remove(job)
                self.latest_batches.pop(job.token, None)
                self.n_open -= 1
                pause = self.poll[0]
            self._report()
            if waiting:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, max_pause)

    async def _fetch(self, job: BatchJob, batch: Batch) -> None:
        """Store the results of a finished batch, and drop it from the file."""
        if _lacks_output(batch):
            raise ResponseDecodeError(
                f"Batch {batch.id} is complete but names no output file.",
                provider=self.context.provider.name,
                retryable=True,
            )
        with ExitStack() as stack:
            files = [
                stack.enter_context(await self.api.download(file_id, self.store.scratch_folder))
                for file_id in (batch.output_file_id, batch.error_file_id)
                if file_id
            ]
            await self.results.store_batch(job, batch, files, on_stored=self._report)
        self.store.drop_batch(job.token)

    def _record_fetch_error(self, job: BatchJob, error: SwiftClientError) -> None:
        """Record why a batch could not be fetched, with a hint if the file still remembers it."""
        if job.token in self.store.batches():
            error.hint = (
                "The file remembers this batch, which may be paid for: run the same command again, with the same key "
                "and address. If it is lost for good, --forget-batches (forget_batches=True) requests it anew."
            )
        self.fetch_errors.append(error)
        self.results.record_missing(job.wishes, error)

    def _cost(self) -> float | None:
        return self.state.prior_cost + self.results.cost if self.state.direct_prices else None

    def _report(self) -> None:
        self.state.report(self._progress)

    def _progress(self) -> BatchProgress:
        batches = self.latest_batches.values()
        return BatchProgress(
            samples=self.state.samples,
            wanted=self.state.target_samples,
            batches=self.n_open,
            statuses=tuple(dict.fromkeys(batch.status for batch in batches)),
            requests=sum(batch.n_requests for batch in batches),
            completed=sum(batch.n_completed for batch in batches),
            failed=sum(batch.n_failed for batch in batches),
            usage=self.state.usage,
            cost=self._cost(),
            elapsed=self.state.elapsed,
        )


def _lacks_output(batch: Batch) -> bool:
    """Return True if a batch has replies but names no file; the name may follow a moment later."""
    is_uncounted = batch.status == "completed" and batch.n_requests == 0 and batch.error_file_id is None
    return batch.output_file_id is None and (batch.n_completed > 0 or is_uncounted)
