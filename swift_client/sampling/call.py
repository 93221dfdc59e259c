"""One call: sends a request, retries it, drops refused fields, and decodes the reply."""

from __future__ import annotations

import asyncio
import math
import time
import types
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from swift_client.adapters import Reply, Request, Transport
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.transport.redaction import redact_error, scrub
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ConnectionFailedError,
    LogprobsUnavailableError,
    ProviderError,
    RequestTimeoutError,
    ResponseDecodeError,
    SwiftClientError,
)
from swift_client.logprobs.checks import LogprobCheck, failed_check
from swift_client.sampling.context import CallContext, DrawState
from swift_client.sampling.endpoint import RequestParams, lacks_logprobs
from swift_client.sampling.retry import retry_policy
from swift_client.types import Completion, Failure, Usage


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """The result of one call: completions, a failure, or both if the deadline cut it."""

    # Number of its first completion within the draw; the call's seed is the request's seed plus it.
    first_index: int = 0
    completions: tuple[Completion, ...] = ()
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None
    from_cache: bool = False  # True if the completions existed before and no call was made
    # True if its stream was closed on purpose: the completion is cut, not a fair sample.
    closed_early: bool = False
    fingerprints: tuple[str, ...] = ()  # the model and the system fingerprint that the reply names

    @property
    def n_settled(self) -> int:
        """Number of completions that arrived or were lost for good."""
        return len(self.completions) + (self.failure.lost if self.failure else 0)


@dataclass(eq=False)
class Call:
    """One call for ``n_requested`` completions, numbered from ``first_index`` within its draw."""

    context: CallContext
    state: DrawState
    number: int
    n_requested: int
    first_index: int
    attempts: int = 0  # requests sent so far
    last_error: SwiftClientError | None = None  # the error of the last attempt that was retried
    sent_at: float | None = None  # when the last request was sent, in seconds of ``time.monotonic()``

    async def run(self, on_arrival: Callable[[CallResult], None] | None = None) -> CallResult:
        """Make the call; our own errors become a Failure that costs only this call's completions.

        Args:
            on_arrival: called with a result that has completions, unless its stream was closed on purpose.

        Raises:
            LogprobsUnavailableError: logprobs are required, and no call of this draw has brought any.
        """
        policy = retry_policy(self.context.max_retries, self.state.last_start(), self._on_retry)
        try:
            result: CallResult = await policy(self._attempt)
        except BudgetExceededError as error:
            if self.state.request_budget is None:
                result = self._failure_result(error)
            elif self.last_error is None:  # never sent; there may be room again once running calls are settled
                return CallResult(first_index=self.first_index)
            else:
                result = self._failure_result(self.last_error)
        except SwiftClientError as error:
            error.provider = error.provider or self.context.provider.name  # codecs do not know the provider
            if isinstance(error, LogprobsUnavailableError) and not self.state.has_completions:
                raise
            if not error.retryable and isinstance(error, (ConfigurationError, AuthenticationError, BadRequestError)):
                self.state.fatal_error = error
            result = self._failure_result(error)
        if result.failure:
            message, cause = f"lost {result.failure.lost} completions", result.failure.error
            self._emit("failure", message, error=cause, duration=self._seconds())
        self.state.has_completions |= bool(result.completions)
        if on_arrival and result.completions and not result.closed_early:
            on_arrival(result)
        return result

    def _failure_result(self, error: SwiftClientError) -> CallResult:
        failure = Failure(error=error, lost=self.n_requested, attempts=self.attempts)
        return CallResult(first_index=self.first_index, failure=failure)

    async def _attempt(self) -> CallResult:
        """Send once; if the endpoint refuses a field, send again with less of it, once per field."""
        relaxed_fields = set()
        while True:
            async with self._slot():
                endpoint = self.context.endpoint
                params = endpoint.request_params(
                    self.n_requested,
                    stream=self.state.deadline_at is not None or self.state.abort_monitor is not None,
                    fields=self.context.fields(self.state.sample_request),
                )
                try:
                    self.attempts += 1
                    return await self._send(params)
                except (BadRequestError, AuthenticationError) as error:
                    relaxation = endpoint.relax(error, params)
                    if relaxation is None or relaxation.field in relaxed_fields:
                        raise
                    if relaxation.field == "logprobs" and self.context.must_have_logprobs:
                        raise self.context.logprobs_unavailable_error(error.message) from error
                    relaxed_fields.add(relaxation.field)
                    self._add_note(relaxation.note, error=error)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait for this call's turn; raise if another call has failed with an error that this one would meet too."""
        limiter, state = self.context.rate_limiter, self.state
        limit_change: str | None = None
        async with state.within_deadline():
            await limiter.acquire(state)
        if note := limiter.note:
            state.add_note(note)
        started_at = limiter.now()
        try:
            if state.fatal_error and not state.has_completions:
                raise state.fatal_error
            yield
            limit_change = limiter.on_success(started_at=started_at)
        except SwiftClientError as error:
            limit_change = limiter.on_error(error, started_at=started_at)
            raise
        finally:
            limiter.release()
            if limit_change:
                self._emit("limit", limit_change)

    async def _send(self, params: RequestParams) -> CallResult:
        context, state = self.context, self.state
        sample_request = state.sample_request
        sampling = context.endpoint.rename_params(sample_request.sampling)
        if sample_request.seed is not None:
            sampling["seed"] = sample_request.seed + self.first_index
        completion_request = CompletionRequest(
            context.provider,
            context.model,
            sample_request.messages,
            n=params.n,
            top_logprobs=params.top_logprobs,
            stream=params.stream,
            sampling=sampling,
        )
        request = context.codec.request(completion_request)
        # Reserve the worst case, send, and settle the actual cost.
        budget = state.request_budget
        with budget.reserve(params.n) if budget else nullcontext(None) as on_reply:
            message = f"asks for {params.n} completions, top_logprobs={params.top_logprobs}"
            self._emit("request", message, n=params.n)
            state.n_requests += 1
            self.sent_at = time.monotonic()
            try:
                receive = receive_stream if params.stream else receive_full
                reply, break_error = await receive(context, state, request, params.top_logprobs)
            except SwiftClientError as error:
                if isinstance(error, ConfigurationError):  # a missing key, say: nothing was sent
                    state.n_requests -= 1
                    self.sent_at = None
                redact_error(error, context.transport.secrets)
                raise
            secrets = context.transport.secrets
            reply_notes = [scrub(note, secrets) for note in reply.notes]
            if break_error:
                redact_error(break_error, secrets)
            elif on_reply:
                on_reply(reply)
            context.rate_limiter.on_usage(reply.usage.prompt_tokens + reply.usage.completion_tokens)
        # Check that the reply has completions, and logprobs if they are required.
        count = len(reply.completions)
        if not count:
            raise ResponseDecodeError("The reply holds no completion.", provider=context.provider.name, retryable=True)
        if context.must_have_logprobs and (check := _common_failed_check(reply.completions)):
            raise context.logprobs_unavailable_error(f"those of the reply {check.sentence}.")
        if lacks_logprobs(reply.completions):
            if context.must_have_logprobs:
                reason = " ".join(("the reply has text but no logprobs.", *reply_notes))
                raise context.logprobs_unavailable_error(reason)
            if params.top_logprobs is not None:
                state.add_note("The provider answered without logprobs, although they were requested.")
        # Learn from the reply, and report it.
        if break_error is None and (relaxation := context.endpoint.observe(reply, params)):
            self._add_note(relaxation.note)
        prefix = f"Call {self.number}: " if self.first_index else ""  # a reply numbers its own completions from 0
        for note in reply_notes:
            state.add_note(prefix + note)
        status = 200 if isinstance(context.transport, Transport) else None  # others have no status
        message = f"brought {count} completions"
        self._emit("reply", message, n=count, usage=reply.usage, duration=self._seconds(), status=status)
        # Completions lost to a broken connection are topped up later; those lost to the deadline are not.
        lost = self.n_requested - count if break_error and state.is_past_deadline() else 0
        failure = Failure(error=break_error, lost=lost, attempts=self.attempts) if break_error and lost > 0 else None
        return CallResult(
            first_index=self.first_index,
            completions=reply.completions,
            usage=reply.usage,
            failure=failure,
            closed_early=reply.closed_early,
            fingerprints=tuple(filter(None, (reply.model, reply.system_fingerprint))),
        )

    def _on_retry(self, error: SwiftClientError, attempt: int, wait: float) -> None:
        self.last_error = error
        message = f"attempt {attempt} failed; next in {wait:.2f} s"
        self._emit("retry", message, error=error, wait=wait, duration=self._seconds())

    def _add_note(self, note: str, **facts: Any) -> None:
        self.state.add_note(note)
        self._emit("clamp", note, **facts)

    def _emit(self, kind: Any, message: str, *, n: int | None = None, **facts: Any) -> None:
        self.context.emit_event(kind, self.number, self.n_requested if n is None else n, message, **facts)

    def _seconds(self) -> float | None:
        """Return the seconds since the last request was sent; None if none was."""
        return None if self.sent_at is None else time.monotonic() - self.sent_at


async def receive_full(
    context: CallContext, state: DrawState, request: Request, k: int | None
) -> tuple[Reply, ProviderError | None]:
    """Send, read the complete reply, and decode it.

    Returns:
        The reply, and the error that cut it short, if any. Completions that had ended by then are paid for and kept.
    """
    break_error: ProviderError | None = None
    parts: list[bytes] = []
    data: bytes | Sequence[Completion] | Reply
    try:
        async with state.within_deadline():
            data = await context.transport.send(request, parts=parts)
    except (ConnectionFailedError, RequestTimeoutError, ResponseDecodeError) as error:
        if not parts:
            raise
        data, break_error = b"".join(parts), error
        parts.clear()
        if isinstance(error, ConnectionFailedError):
            error.received = b""  # the completions in it are kept instead
    if isinstance(data, Reply):
        return data, None
    if not isinstance(data, bytes):  # a custom provider's own Completion objects
        tokens = sum(len(completion.tokens) for completion in data)
        return Reply(completions=tuple(data), usage=Usage(completion_tokens=tokens, estimated=True)), None
    try:
        # The codec yields after each completion: awaited, it lets the event loop run in between.
        decode = types.coroutine(context.codec.parse_steps)
        reply: Reply = await decode(data, top_logprobs=k, token_ids=context.token_ids)
        problem = break_error or reply.error
        return _keep_finished(reply, problem) if problem else (reply, None)
    except ProviderError as error:  # a choice without an end looks like one that failed: what cut it is the cause
        raise break_error or error from None


async def receive_stream(
    context: CallContext, state: DrawState, request: Request, k: int | None
) -> tuple[Reply, ProviderError | None]:
    """Send, and decode while the reply arrives, so a deadline costs only unfinished completions.

    A stream that loses confidence is closed; its completion then counts as cut.

    Returns:
        As ``receive_full()``.
    """
    assembler = context.codec.StreamAssembler(top_logprobs=k, token_ids=context.token_ids)
    abort_monitor = state.abort_monitor if request.n == 1 else None
    monitor = abort_monitor.begin() if abort_monitor else None
    break_error: ProviderError | None = None
    closed_early = False
    try:
        # Under a deadline a stream may take longer than the timeout, as long as tokens come.
        total_timeout = math.inf if state.deadline_at else None
        stream = context.transport.stream(request, total_timeout=total_timeout)
        async with state.within_deadline(), stream as chunks:
            async for chunk in chunks:
                assembler.feed(chunk)
                piece = assembler.take_new_tokens() if monitor else None
                if monitor and piece and monitor.below_threshold(piece) and not assembler.finished:
                    closed_early = True
                    break
                await asyncio.sleep(0)
    except (ConnectionFailedError, RequestTimeoutError) as error:
        break_error = error
    except ResponseDecodeError as error:  # too long: its last event, of hundreds of megabytes, is not decoded
        break_error = error
        assembler.discard_rest()
    try:
        reply: Reply = await types.coroutine(assembler.close_steps)()
    except ProviderError as error:  # a choice without an end looks like one that failed: what cut it is the cause
        raise break_error or error from None
    if closed_early and abort_monitor:
        return abort_monitor.truncate_reply(reply), None
    if break_error is None and reply.error is None:
        if monitor and abort_monitor:
            abort_monitor.record_finished(monitor, reply)
        return reply, None
    return _keep_finished(reply, break_error or reply.error)


def _keep_finished(reply: Reply, error: ProviderError | None) -> tuple[Reply, ProviderError | None]:
    """Return the completions that had ended before the error, and the error; raise it if there are none."""
    finished = tuple(completion for completion in reply.completions if completion.finish_reason != "error")
    if error and not finished:
        raise error
    return replace(reply, completions=finished), error


def _common_failed_check(completions: Sequence[Completion]) -> LogprobCheck | None:
    """Return a check that the logprobs fail if those of every completion fail one; None if any can be trusted."""
    checks = [failed_check(completion) for completion in completions if completion.tokens]
    return checks[0] if checks and all(checks) else None
