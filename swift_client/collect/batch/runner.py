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
from swift_client.collect.batch.job import Job, Wish, open_jobs, packed
from swift_client.collect.batch.plan import Plan
from swift_client.collect.batch.results import Intake
from swift_client.collect.batch.service import Service
from swift_client.collect.budget import Prices
from swift_client.collect.result import CollectResult
from swift_client.errors import ConfigurationError, ResponseDecodeError, SwiftClientError
from swift_client.sampling import Outcome, draw
from swift_client.types import Usage

OUTAGES = 60
"""Looks at a batch that may fail one after another: an hour at one a minute."""
EMPTY_HANDED = 10
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
class BatchRun:
    """What one run works with; see ``collect_batch`` for what the settings mean. Call :meth:`all` once."""

    service: Service
    plan: Plan
    intake: Intake
    prices: Prices | None
    """Of direct calls."""
    max_lines: int
    max_bytes: int
    poll: tuple[float, float]
    on_progress: Callable[[BatchProgress], None] | None
    requests: int = 0
    """Put into batches by this run, and sent directly."""
    broken: list[SwiftClientError] = field(default_factory=list)
    """Why batches that may be paid for were not fetched; the file remembers those."""
    states: dict[str, Batch] = field(default_factory=dict)
    """How the batches under way stood at the last look, by token."""
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.store, self.line = self.intake.store, self.intake.line
        self.before = self.store.spent()
        own = self.prices.cost(self.before.usage) if self.prices else 0.0
        self.paid = own if self.before.cost is None else self.before.cost
        self._remember()
        under_way, held = self.plan.under_way, self.intake.held
        named = {question.id for question in self.plan.questions} | under_way.keys()
        self.had = sum(len(held.get(each, ())) for each in named)
        self.wanted = self.had + sum(len(self.plan.missing(question)) for question in self.plan.questions)
        self.wanted += sum(len(numbers - held.get(each, set())) for each, numbers in under_way.items())

    async def all(self) -> CollectResult:
        """Do all of it; see ``collect_batch`` for what is raised."""
        self._tell()
        await self._find()
        await self._vouch()
        await self._submit()
        await self._wait()
        if self.broken and not self.intake.added:
            raise self.broken[0]
        intake = self.intake
        return CollectResult(
            path=str(self.store.path),
            questions=len(self.plan.questions),
            added=intake.added,
            samples=self.had + intake.added,
            wanted=self.wanted + self.intake.unasked,
            requests=self.requests,
            usage=self.before.usage + intake.usage,
            cost=self._cost(),
            stopped=self.plan.stopped,
            failures=tuple(intake.failures),
            notes=tuple(intake.notes),
            elapsed=time.perf_counter() - self.started,
        )

    def _remember(self) -> None:
        self.jobs = open_jobs(self.store)
        """What the file remembers: paid for, or perhaps."""
        self.open = sum(job.batch_id is not None for job in self.jobs)
        self.plan.remember(self.jobs)

    async def _find(self) -> None:
        """Learn what has become of batches that were asked for when an earlier run was killed, or make them."""
        for job in self.jobs:
            if job.batch_id is None:
                try:
                    await self.service.make(job, self.store, fresh=False)
                except ConfigurationError:
                    raise
                except SwiftClientError as error:
                    self._broke(job, error)
        self._remember()

    async def _vouch(self) -> None:
        """Ask for one completion directly where nobody knows yet whether logprobs come, and raise where none do."""
        plan = self.plan
        lacking = next((question for question in plan.questions if plan.missing(question)), None)
        if lacking is None or not self.line.must_have_logprobs:
            return
        first = plan.missing(lacking)[0]
        asked = plan.order(lacking, 1, first)
        if silent := self.line.endpoint.silent(self.line.fields(asked)):
            raise self.line.unavailable(silent)
        if self.store.silent:
            raise self.line.unavailable(
                "replies of an earlier batch had text and none beside it (--forget-batches tries once more)."
            )
        if self.line.endpoint.vouched or self.before.samples or self.jobs:
            return
        self.requests += 1
        wish = Wish(lacking.id, first, 1)
        drawn = await draw(self.line, asked, on_arrival=partial(self._arrived, wish, asked.seed))
        self.intake.notes.update(dict.fromkeys(drawn.notes))

    def _arrived(self, wish: Wish, seed: int | None, outcome: Outcome) -> None:
        cost = self.prices.cost(outcome.usage) if self.prices else None
        usage = replace(outcome.usage, calls=1)
        self.intake.add(wish, outcome.completions, usage=usage, cost=cost, seed=seed)

    async def _submit(self) -> None:
        """Put what is missing into batches, one after another."""
        spent = self.paid + self.intake.cost + self.plan.dearest(self.jobs, self.store.questions())
        files = packed(
            self.plan.wishes(spent),
            self.plan.written,
            self.store.path.parent,
            most_lines=self.max_lines,
            most_bytes=self.max_bytes,
        )
        with closing(files):
            for wishes, file in files:
                try:
                    file_id = await self.service.upload("swift-client-batch.jsonl", file)
                    columns = self.plan.columns(wishes[0])
                    job = Job.asked(wishes, file_id, seed=self.plan.seed, top_logprobs=columns)
                    job = await self.service.make(job.keep(self.store), self.store, fresh=True)
                except SwiftClientError as error:
                    if isinstance(error, ConfigurationError) or not self.jobs:
                        raise
                    self.intake.lost(wishes, error)  # others are under way: bring those home
                    return
                self.jobs.append(job)
                self.open += 1
                self.requests += len(wishes)
                self._tell()

    async def _wait(self) -> None:
        """Look at the batches under way until all have ended, and take in each that has."""
        pause, longest = self.poll
        failed = Counter[str]()
        waiting = [job for job in self.jobs if job.batch_id]
        while waiting:
            for job in list(waiting):
                try:
                    batch = self.states[job.token] = await self.service.state(job)
                    if not batch.ended:
                        failed[job.token] = 0
                        continue
                    await self._fetch(job, batch)
                except ConfigurationError:
                    raise
                except SwiftClientError as error:
                    failed[job.token] += 1
                    most = EMPTY_HANDED if isinstance(error, ResponseDecodeError) else OUTAGES
                    if error.retryable and failed[job.token] < most:
                        continue
                    self._broke(job, error)
                waiting.remove(job)
                self.states.pop(job.token, None)
                self.open -= 1
                pause = self.poll[0]
            self._tell()
            if waiting:
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, longest)

    async def _fetch(self, job: Job, batch: Batch) -> None:
        """Take in what a batch that has ended brought, and forget it."""
        if _lacks_output(batch):
            raise ResponseDecodeError(
                f"Batch {batch.id} is complete and names no output.", provider=self.line.provider.name, retryable=True
            )
        with ExitStack() as stack:
            files = [
                stack.enter_context(await self.service.download(file_id, self.store.path.parent))
                for file_id in (batch.output_file, batch.error_file)
                if file_id
            ]
            await self.intake.take(job, batch, files, on_kept=self._tell)
        self.store.drop_batch(job.token)

    def _broke(self, job: Job, error: SwiftClientError) -> None:
        """Note why a batch could not be fetched; whether it is remembered, the file knows."""
        if job.token in self.store.batches():
            error.hint = (
                "The file remembers this batch, which may be paid for: run the same command again, with the same key "
                "and address. If it is gone for good, --forget-batches (forget_batches=True) asks anew."
            )
        self.broken.append(error)
        self.intake.lost(job.wishes, error)

    def _cost(self) -> float | None:
        return self.paid + self.intake.cost if self.prices else None

    def _tell(self) -> None:
        """Report; a callback's own error may not cost what is under way."""
        if not self.on_progress:
            return
        states, samples = self.states.values(), self.had + self.intake.added
        told = BatchProgress(
            samples=samples,
            wanted=self.wanted + self.intake.unasked,
            batches=self.open,
            statuses=tuple(dict.fromkeys(state.status for state in states)),
            requests=sum(state.total for state in states),
            completed=sum(state.completed for state in states),
            failed=sum(state.failed for state in states),
            usage=self.before.usage + self.intake.usage,
            cost=self._cost(),
            elapsed=time.perf_counter() - self.started,
        )
        try:
            self.on_progress(told)
        except Exception:
            logger.exception("on_progress failed; collecting goes on")


def _lacks_output(batch: Batch) -> bool:
    """Whether a batch says that it has replies and not where; the name of the file may come a moment later."""
    uncounted = batch.status == "completed" and batch.total == 0 and batch.error_file is None
    return batch.output_file is None and (batch.completed > 0 or uncounted)
