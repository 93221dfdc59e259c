"""One call of a draw: sent, retried, and asked for less where it was refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
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
from swift_client.logprobs.checks import LogprobCheck, failed_check
from swift_client.sampling import receive
from swift_client.sampling.context import CallContext, DrawState
from swift_client.sampling.endpoint import RequestParams, lacks_logprobs
from swift_client.sampling.retry import retry_policy
from swift_client.types import Completion, Event, Failure, Usage


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """What one call brought: completions, a failure, or (cut by the deadline) both."""

    first_index: int = 0
    """Number of its first completion within the draw; the call sent the draw's seed plus this."""
    completions: tuple[Completion, ...] = ()
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None
    from_cache: bool = False
    """Whether they were there before, and no call was made."""
    closed_early: bool = False
    """Whether its stream was closed on purpose: what came is no sample of what the model says."""


class Call:
    """One call for ``wanted`` completions, the first of which is number ``first`` of its draw."""

    def __init__(
        self, context: CallContext, state: DrawState, *, number: int, n_requested: int, first_index: int
    ) -> None:
        self._context = context
        self._state = state
        self.number = number
        self.n_requested = n_requested
        self._first_index = first_index
        self._attempts = 0
        self._last_error: SwiftClientError | None = None

    @property
    def was_sent(self) -> bool:
        """Whether a request has gone out."""
        return self._attempts > 0

    async def run(self, on_arrival: Callable[[CallResult], None] | None = None) -> CallResult:
        """Make the call. Errors of ours become a Failure, and only this call's completions are lost.

        ``on_arrival`` is called with a result that has completions, unless its stream was closed on purpose.

        Raises:
            LogprobsUnavailableError: logprobs are a must, and no call of this draw has brought any.
        """
        policy = retry_policy(self._context.max_retries, self._state.last_start(), self._on_retry)
        try:
            outcome: CallResult = await policy(self._attempt)
        except BudgetExceededError as error:
            if self._state.request_budget is None:
                outcome = self._failure_result(error)
            elif self._last_error is None:  # not tried; there may be room again when those under way have been paid
                return CallResult(first_index=self._first_index)
            else:
                outcome = self._failure_result(self._last_error)
        except SwiftClientError as error:
            error.provider = error.provider or self._context.provider.name  # a codec does not know whose reply it reads
            if isinstance(error, LogprobsUnavailableError) and not self._state.has_completions:
                raise
            if not error.retryable and isinstance(error, (ConfigurationError, AuthenticationError, BadRequestError)):
                self._state.fatal_error = error
            outcome = self._failure_result(error)
        if outcome.failure:
            self._emit("failure", f"lost {outcome.failure.lost} completions", error=outcome.failure.error)
        self._state.has_completions |= bool(outcome.completions)
        if on_arrival and outcome.completions and not outcome.closed_early:
            on_arrival(outcome)
        return outcome

    def _failure_result(self, error: SwiftClientError) -> CallResult:
        return CallResult(
            first_index=self._first_index, failure=Failure(error=error, lost=self.n_requested, attempts=self._attempts)
        )

    async def _attempt(self) -> CallResult:
        """Ask once; where the endpoint refuses a field, ask for less of it, once a field."""
        conceded = set()
        while True:
            async with self._slot():
                endpoint = self._context.endpoint
                terms = endpoint.request_params(
                    self.n_requested,
                    stream=self._state.deadline_at is not None or self._state.abort_monitor is not None,
                    fields=self._context.fields(self._state.sample_request),
                )
                try:
                    self._attempts += 1
                    return await self._send(terms)
                except (BadRequestError, AuthenticationError) as refusal:
                    concession = endpoint.relax(refusal, terms)
                    if concession is None or concession.field in conceded:
                        raise
                    if concession.field == "logprobs" and self._context.must_have_logprobs:
                        raise self._context.logprobs_unavailable_error(refusal.message) from refusal
                    conceded.add(concession.field)
                    self._add_note(concession.note, error=refusal)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for this call's turn; refuse it where it has become pointless meanwhile."""
        limit, progress = self._context.rate_limiter, self._state
        news: str | None = None
        async with progress.within_deadline():
            await limit.acquire(progress)
        started = limit.now()
        try:
            if progress.fatal_error and not progress.has_completions:
                raise progress.fatal_error
            yield
            news = limit.on_success(started_at=started)
        except SwiftClientError as error:
            news = limit.on_error(error, started_at=started)
            raise
        finally:
            limit.release()
            if news:
                self._emit("limit", news)

    async def _send(self, request_params: RequestParams) -> CallResult:
        line, progress = self._context, self._state
        seed = progress.sample_request.seed
        request = line.codec.request(
            line.provider,
            line.model,
            progress.sample_request.messages,
            n=request_params.n,
            top_logprobs=request_params.top_logprobs,
            stream=request_params.stream,
            sampling={
                **line.endpoint.rename_params(progress.sample_request.sampling),
                **({} if seed is None else {"seed": seed + self._first_index}),
            },
        )
        with (
            progress.request_budget.reserve(request_params.n)
            if progress.request_budget
            else nullcontext(_ignore_reply) as paid
        ):
            self._emit(
                "request",
                f"asks for {request_params.n} completions, top_logprobs={request_params.top_logprobs}",
                n=request_params.n,
            )
            progress.n_requests += 1
            try:
                read = receive.receive_stream if request_params.stream else receive.receive_full
                reply, broken = await read(line, progress, request, request_params.top_logprobs)
            except ConfigurationError:  # a missing key, say: nothing was sent
                progress.n_requests -= 1
                raise
            if broken is None:
                paid(reply)
            line.rate_limiter.on_usage(reply.usage.prompt_tokens + reply.usage.completion_tokens)
        came = len(reply.completions)
        if not came:
            raise ResponseDecodeError("The reply holds no completion.", provider=line.provider.name, retryable=True)
        if line.must_have_logprobs and (lie := _common_failed_check(reply.completions)):
            raise line.logprobs_unavailable_error(f"those of the reply {lie.sentence}.")
        if lacks_logprobs(reply.completions):
            if line.must_have_logprobs:
                raise line.logprobs_unavailable_error(
                    " ".join(("the reply has text and none beside it.", *reply.notes))
                )
            if request_params.top_logprobs is not None:
                progress.notes.setdefault("The provider answered without logprobs, although they were asked for.")
        if broken is None and (concession := line.endpoint.observe(reply, request_params)):
            self._add_note(concession.note)
        where = f"Call {self.number}: " if self._first_index else ""  # a reply numbers its own completions from 0
        progress.notes.update(dict.fromkeys(where + note for note in reply.notes))
        self._emit("reply", f"brought {came} completions", n=came)
        # What a broken connection took is topped up; what the deadline took is lost.
        lost = self.n_requested - came if broken and progress.is_past_deadline() else 0
        failure = Failure(error=broken, lost=lost, attempts=self._attempts) if broken and lost > 0 else None
        return CallResult(
            first_index=self._first_index,
            completions=reply.completions,
            usage=reply.usage,
            failure=failure,
            closed_early=reply.closed_early,
        )

    def _on_retry(self, error: SwiftClientError, attempt: int, wait: float) -> None:
        self._last_error = error
        self._emit("retry", f"attempt {attempt} failed; next in {wait:.2f} s", error=error, wait=wait)

    def _add_note(self, note: str, **facts: Any) -> None:
        self._state.notes.setdefault(note)
        self._emit("clamp", note, **facts)

    def _emit(self, kind: Any, message: str, **facts: Any) -> None:
        self._context.emit_event(
            Event(kind=kind, call=self.number, message=message, **{"n": self.n_requested, **facts})
        )


def _common_failed_check(completions: Sequence[Completion]) -> LogprobCheck | None:
    """Return what gives the logprobs of all completions away; None where those of one may be believed, or none came."""
    lies = [failed_check(completion) for completion in completions if completion.tokens]
    return lies[0] if lies and all(lies) else None


def _ignore_reply(reply: Reply) -> None:
    """Take note of a reply where no budget is to be kept."""
