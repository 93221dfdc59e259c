"""A batch's output into the samples file, line by line. Whatever a line holds, it costs itself alone."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from swift_client.adapters.codecs import openai_batch
from swift_client.adapters.codecs.openai_batch import Answered, Batch
from swift_client.collect.batch.job import Job, Wish
from swift_client.collect.budget import Prices
from swift_client.collect.result import CollectFailure
from swift_client.collect.runner import seed_of
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    LogprobsUnavailableError,
    ProviderError,
    RequestTimeoutError,
    ResponseDecodeError,
    SwiftClientError,
)
from swift_client.sampling import Line, lacks_logprobs
from swift_client.store import BatchStore
from swift_client.store.packing import pack
from swift_client.types import Completion, Usage

LONGEST_LINE = 256 * 2**20
"""Bytes of the longest line that is read; 100 completions of 4,000 tokens with 20 alternatives take about 200 MB."""
_AGAIN = "Run the same command again; it asks for what is missing."


@dataclass(kw_only=True)
class Intake:
    """Takes in what batches brought, and counts."""

    store: BatchStore
    line: Line
    prices: Prices | None
    """Of a batch."""
    held: dict[str, set[int]]
    """Indices in the file by question."""
    beyond: int
    """No request asks for a completion of this number or a higher one: there those go that came unasked."""
    added: int = 0
    unasked: int = 0
    """How many of those added were not asked for."""
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    failures: list[CollectFailure] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    async def take(self, job: Job, batch: Batch, files: Sequence[BinaryIO], *, on_kept: Callable[[], None]) -> None:
        """Keep each reply of a batch that has ended, unless it was kept by an earlier run, and note what is missing.

        Raises:
            ResponseDecodeError: a download is no output, or holds less than the provider completed: what came is kept,
                and the batch not given up.
            ConfigurationError: there is no room in the samples file.
        """
        wishes = {wish.custom_id: wish for wish in job.wishes}
        odd = Counter[str]()
        failed: dict[str, SwiftClientError] = {}
        done: set[str] = set()
        for data in itertools.chain.from_iterable(lines(file, LONGEST_LINE) for file in files):
            if data is not None and data.lstrip()[:1] == b"<":
                raise self._no_output(batch, "it is a web page")
            answer = None if data is None else openai_batch.answered(data, self.line.provider)
            wish = wishes.get(answer.custom_id) if answer else None
            if answer is None:
                odd["too long" if data is None else "unreadable"] += 1
            elif wish is None:
                odd["of no request of it"] += 1
            elif answer.custom_id in done or (answer.problem and answer.custom_id in failed):
                odd["repeated"] += 1
            elif wish.first in self.held.get(wish.question_id, ()):
                done.add(answer.custom_id)
            elif (error := await self._kept(job, wish, answer)) is None:
                done.add(answer.custom_id)
                failed.pop(answer.custom_id, None)
                on_kept()
            else:
                failed[answer.custom_id] = error
            await asyncio.sleep(0)
        told = len(done | failed.keys()) + odd["too long"] + odd["unreadable"]
        completed = min(batch.completed, len(job.wishes))
        if told < completed or (completed and not done | failed.keys()):
            raise self._no_output(batch, f"it tells of {told:,} requests, and {completed:,} were completed")
        if failed and not done and all(isinstance(each, LogprobsUnavailableError) for each in failed.values()):
            self.store.silence()
        self._note(job, batch, odd, failed, wishes.keys() - done)

    async def _kept(self, job: Job, wish: Wish, answer: Answered) -> SwiftClientError | None:
        """Write one reply down; return why there is none."""
        if answer.problem:
            return answer.problem
        try:
            reply = await asyncio.to_thread(
                self.line.codec.parse, answer.body, top_logprobs=job.top_logprobs, token_ids=self.line.token_ids
            )
        except ProviderError as error:
            return error
        if not reply.completions:
            return ResponseDecodeError("The reply holds no completion.", hint=_AGAIN)
        if lacks_logprobs(reply.completions) and self.line.must_have_logprobs:
            return self.line.unavailable("the reply has text and none beside it.")
        seed = None if job.seed is None else seed_of(wish.question_id, job.seed) + wish.first
        usage = replace(reply.usage, calls=1)
        cost = self.prices.cost(usage) if self.prices else None
        try:
            self.add(wish, reply.completions, usage=usage, cost=cost, seed=seed)
        except ConfigurationError as error:
            if all(map(_fits, reply.completions)):
                raise
            return error
        self.notes.update(dict.fromkeys(reply.notes))
        return None

    def add(
        self, wish: Wish, completions: Sequence[Completion], *, usage: Usage, cost: float | None, seed: int | None
    ) -> None:
        """Write completions down under the numbers that were wished for; those beyond get numbers nobody asks for."""
        held = self.held.setdefault(wish.question_id, set())
        room = itertools.chain(range(wish.first, wish.first + wish.wanted), itertools.count(self.beyond))
        numbers = list(itertools.islice((number for number in room if number not in held), len(completions)))
        self.store.add_samples(wish.question_id, completions, numbers=numbers, usage=usage, cost=cost, seed=seed)
        held.update(numbers)
        self.added += len(numbers)
        self.unasked += sum(number >= self.beyond for number in numbers)
        self.usage += usage
        self.cost += cost or 0.0

    def lost(self, wishes: Sequence[Wish], error: SwiftClientError) -> None:
        """Note what is missing for the same reason."""
        self.failures += [
            CollectFailure(question_id=wish.question_id, lost=wish.wanted, error=error)
            for wish in wishes
            if wish.first not in self.held.get(wish.question_id, ())
        ]

    def _no_output(self, batch: Batch, why: str) -> ResponseDecodeError:
        return ResponseDecodeError(
            f"What was downloaded of batch {batch.id} is not its output: {why}.",
            hint="Run the same command again, which downloads it again; the batch is paid for.",
            provider=self.line.provider.name,
            retryable=True,
        )

    def _note(
        self,
        job: Job,
        batch: Batch,
        odd: Mapping[str, int],
        failed: Mapping[str, SwiftClientError],
        missing: set[str],
    ) -> None:
        absent = _absent(batch, self.line.provider.name)
        for wish in job.wishes:
            if wish.custom_id in missing:
                self.lost([wish], failed.get(wish.custom_id, absent))
        if missing or batch.status != "completed":
            self.notes.setdefault(
                f"Batch {batch.id} is {batch.status}: {len(missing):,} of its {len(job.wishes):,} requests brought "
                f"nothing.{' ' + batch.problem if batch.problem else ''}"
            )
        if odd:
            told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(odd.items()))
            self.notes.setdefault(f"Lines of batch {batch.id} that were passed over: {told}.")


def lines(file: BinaryIO, longest: int) -> Iterator[bytes | None]:
    """Yield the lines of a file that are not empty; None stands for one of more than ``longest`` bytes."""
    while data := file.readline(longest + 1):
        if len(data) <= longest or data.endswith(b"\n"):
            if data.strip():
                yield data
            continue
        while data and not data.endswith(b"\n"):
            data = file.readline(longest + 1)
        yield None


def _fits(completion: Completion) -> bool:
    try:
        pack(completion)
    except ValueError:
        return False
    return True


def _absent(batch: Batch, provider: str) -> ProviderError:
    """Return why a request stands in none of a batch's files."""
    if batch.status == "completed":
        return ResponseDecodeError(
            f"Batch {batch.id} is complete and says nothing of this request.", hint=_AGAIN, provider=provider
        )
    if batch.status == "failed":
        reason = batch.problem or "the provider does not say why."
        return BadRequestError(
            f"Batch {batch.id} failed: {reason}",
            hint="None of it was run. Mend that and run the same command again; --max-requests asks for less at once.",
            provider=provider,
        )
    return RequestTimeoutError(
        f"Batch {batch.id} is {batch.status}, and did not come to this request.", hint=_AGAIN, provider=provider
    )
