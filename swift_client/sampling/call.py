"""One call of a draw: sent, retried, and asked for less where it was refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from swift_client.adapters import Reply
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    LogprobsUnavailableError,
    ResponseDecodeError,
    SwiftClientError,
)
from swift_client.logprobs.checks import Lie, lie_of
from swift_client.sampling import receive
from swift_client.sampling.context import Line, Progress
from swift_client.sampling.endpoint import Terms, lacks_logprobs
from swift_client.sampling.retry import retrying
from swift_client.types import Completion, Event, Failure, Usage


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one call brought: completions, a failure, or (cut by the deadline) both."""

    first: int = 0
    """Number of its first completion within the draw; the call sent the draw's seed plus this."""
    completions: tuple[Completion, ...] = ()
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None
    reused: bool = False
    """Whether they were there before, and no call was made."""
    closed: bool = False
    """Whether its stream was closed on purpose: what came is no sample of what the model says."""


class Call:
    """One call for ``wanted`` completions, the first of which is number ``first`` of its draw."""

    def __init__(self, line: Line, progress: Progress, *, number: int, wanted: int, first: int) -> None:
        self._line = line
        self._progress = progress
        self.number = number
        self.wanted = wanted
        self._first = first
        self._attempts = 0
        self._failed: SwiftClientError | None = None

    @property
    def sent(self) -> bool:
        """Whether a request has gone out."""
        return self._attempts > 0

    async def place(self) -> Outcome:
        """Make the call. Errors of ours become a Failure, and only this call's completions are lost.

        Raises:
            LogprobsUnavailableError: logprobs are a must, and no call of this draw has brought any.
        """
        policy = retrying(self._line.max_retries, self._progress.last_start(), self._on_retry)
        try:
            outcome: Outcome = await policy(self._attempt)
        except BudgetExceededError as error:
            if self._progress.meter is None:
                outcome = self._lost(error)
            elif self._failed is None:  # not tried; there may be room again when those under way have been paid
                return Outcome(first=self._first)
            else:
                outcome = self._lost(self._failed)
        except SwiftClientError as error:
            error.provider = error.provider or self._line.provider.name  # a codec does not know whose reply it reads
            if isinstance(error, LogprobsUnavailableError) and not self._progress.arrived:
                raise
            if not error.retryable and isinstance(error, (ConfigurationError, AuthenticationError, BadRequestError)):
                self._progress.hopeless = error
            outcome = self._lost(error)
        if outcome.failure:
            self._tell("failure", f"lost {outcome.failure.lost} completions", error=outcome.failure.error)
        self._progress.arrived |= bool(outcome.completions)
        return outcome

    def _lost(self, error: SwiftClientError) -> Outcome:
        return Outcome(first=self._first, failure=Failure(error=error, lost=self.wanted, attempts=self._attempts))

    async def _attempt(self) -> Outcome:
        """Ask once; where the endpoint refuses a field, ask for less of it, once a field."""
        conceded = set()
        while True:
            async with self._slot():
                endpoint = self._line.endpoint
                terms = endpoint.terms(
                    self.wanted,
                    stream=self._progress.until is not None or self._progress.aborting is not None,
                    fields=self._line.fields(self._progress.order),
                )
                try:
                    self._attempts += 1
                    return await self._ask(terms)
                except (BadRequestError, AuthenticationError) as refusal:
                    concession = endpoint.concede(refusal, terms)
                    if concession is None or concession.field in conceded:
                        raise
                    if concession.field == "logprobs" and self._line.must_have_logprobs:
                        raise self._line.unavailable(refusal.message) from refusal
                    conceded.add(concession.field)
                    self._note(concession.note, error=refusal)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for this call's turn; refuse it where it has become pointless meanwhile."""
        limit, progress = self._line.limit, self._progress
        news: str | None = None
        async with progress.within_deadline():
            await limit.acquire(progress)
        started = limit.now()
        try:
            if progress.hopeless and not progress.arrived:
                raise progress.hopeless
            yield
            news = limit.answered(started=started)
        except SwiftClientError as error:
            news = limit.failed(error, started=started)
            raise
        finally:
            limit.release()
            if news:
                self._tell("limit", news)

    async def _ask(self, terms: Terms) -> Outcome:
        line, progress = self._line, self._progress
        seed = progress.order.seed
        request = line.codec.request(
            line.provider,
            line.model,
            progress.order.messages,
            n=terms.n,
            top_logprobs=terms.top_logprobs,
            stream=terms.stream,
            sampling={
                **line.endpoint.spelled(progress.order.sampling),
                **({} if seed is None else {"seed": seed + self._first}),
            },
        )
        with progress.meter.request(terms.n) if progress.meter else nullcontext(_unmetered) as paid:
            self._tell("request", f"asks for {terms.n} completions, top_logprobs={terms.top_logprobs}", n=terms.n)
            progress.requests += 1
            try:
                read = receive.streamed if terms.stream else receive.whole
                reply, broken = await read(line, progress, request, terms.top_logprobs)
            except ConfigurationError:  # a missing key, say: nothing was sent
                progress.requests -= 1
                raise
            if broken is None:
                paid(reply)
            line.limit.spent(reply.usage.prompt_tokens + reply.usage.completion_tokens)
        came = len(reply.completions)
        if not came:
            raise ResponseDecodeError("The reply holds no completion.", provider=line.provider.name, retryable=True)
        if line.must_have_logprobs and (lie := _shared_lie(reply.completions)):
            raise line.unavailable(f"those of the reply {lie.sentence}.")
        if lacks_logprobs(reply.completions):
            if line.must_have_logprobs:
                raise line.unavailable(" ".join(("the reply has text and none beside it.", *reply.notes)))
            if terms.top_logprobs is not None:
                progress.notes.setdefault("The provider answered without logprobs, although they were asked for.")
        if broken is None and (concession := line.endpoint.observe(reply, terms)):
            self._note(concession.note)
        where = f"Call {self.number}: " if self._first else ""  # a reply numbers its own completions from 0
        progress.notes.update(dict.fromkeys(where + note for note in reply.notes))
        self._tell("reply", f"brought {came} completions", n=came)
        # What a broken connection took is topped up; what the deadline took is lost.
        lost = self.wanted - came if broken and progress.too_late() else 0
        failure = Failure(error=broken, lost=lost, attempts=self._attempts) if broken and lost > 0 else None
        return Outcome(
            first=self._first, completions=reply.completions, usage=reply.usage, failure=failure, closed=reply.closed
        )

    def _on_retry(self, error: SwiftClientError, attempt: int, wait: float) -> None:
        self._failed = error
        self._tell("retry", f"attempt {attempt} failed; next in {wait:.2f} s", error=error, wait=wait)

    def _note(self, note: str, **facts: Any) -> None:
        self._progress.notes.setdefault(note)
        self._tell("clamp", note, **facts)

    def _tell(self, kind: Any, message: str, **facts: Any) -> None:
        self._line.tell(Event(kind=kind, call=self.number, message=message, **{"n": self.wanted, **facts}))


def _shared_lie(completions: Sequence[Completion]) -> Lie | None:
    """Return what gives the logprobs of all completions away; None where those of one may be believed, or none came."""
    lies = [lie_of(completion) for completion in completions if completion.tokens]
    return lies[0] if lies and all(lies) else None


def _unmetered(reply: Reply) -> None:
    """Take note of a reply where no budget is to be kept."""
