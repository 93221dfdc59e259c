"""The request of one ``best_of`` call, the endpoint it goes to, and the state that its HTTP calls share."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from swift_client.adapters import Codec, CustomTransport, Provider, Transport
from swift_client.errors import ConfigurationError, LogprobsUnavailableError, RequestTimeoutError, SwiftClientError
from swift_client.sampling.early_abort import AbortMonitor
from swift_client.sampling.endpoint import Endpoint
from swift_client.sampling.field_names import ALLOWED_FIELDS, check_extra_body, refuse_names
from swift_client.sampling.rate_limiter import RateLimiter
from swift_client.sampling.request_budget import RequestBudget
from swift_client.types import Event, Message, Usage
from swift_client.validation import require_int, require_positive

logger = logging.getLogger(__name__)

# Remedy for missing logprobs: the beginning of a sentence.
NO_LOGPROBS_HINT = 'Use another model or server (gpt-4.1-mini, vLLM, llama.cpp; reasoning_effort="none" on gpt-5.x)'
MAX_N = 1024  # largest ``n``: above it a typing error costs more than any question is worth
_MESSAGE_HINT = 'A message is {"role": "user", "content": "..."}.'


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One prompt, and how to sample it. Build it with ``create_sample_request()``."""

    messages: tuple[Message, ...]
    n: int
    min_completions: int
    deadline: float | None  # seconds from the call
    seed: int | None
    sampling: Mapping[str, Any]  # fields that go to the provider untouched

    def deadline_at(self) -> float | None:
        """Return the deadline of a call that begins now, in the running loop's time; None without one."""
        return None if self.deadline is None else asyncio.get_running_loop().time() + self.deadline


def create_sample_request(
    prompt: str | Sequence[Message],
    n: int,
    *,
    min_completions: int = 1,
    deadline: float | None = None,
    seed: int | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> SampleRequest:
    """Check the arguments of ``best_of`` and return them as one value; ``sampling`` as of ``resolve_sampling()``.

    Raises:
        ConfigurationError: an argument is wrong; the sentence names the first one.
    """
    messages = check_messages(prompt)
    require_int("n", n, low=1, high=MAX_N)
    require_int("min_completions", min_completions, low=1, high=n)
    if deadline is not None:
        require_positive("deadline", deadline)
    if seed is not None:
        require_int("seed", seed, low=-(2**63), high=2**64 - 1)
    return SampleRequest(
        messages=messages,
        n=n,
        min_completions=min_completions,
        deadline=deadline,
        seed=seed,
        sampling=dict(sampling or {}),
    )


def resolve_sampling(sampling: Mapping[str, Any], extra_body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check the names of sampling fields, and add those of ``extra_body``, which may have any name.

    Raises:
        ConfigurationError: a name is that of an argument, or almost that of a known field.
    """
    if refusable := sampling.keys() - ALLOWED_FIELDS:  # most calls have none
        refuse_names(name for name in sampling if name in refusable)
    return {**sampling, **(check_extra_body(extra_body) if extra_body else {})}


def check_messages(prompt: object) -> tuple[Message, ...]:
    """Return a prompt as a list of chat messages. Raises ConfigurationError for anything else."""
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ConfigurationError("The prompt is empty.", hint="Give a question, or a list of chat messages.")
        return ({"role": "user", "content": prompt},)
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
        raise ConfigurationError(
            f"The prompt must be a str or a list of chat messages, not {type(prompt).__name__}.", hint=_MESSAGE_HINT
        )
    for position, message in enumerate(prompt):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            raise ConfigurationError(f"Message {position} of the prompt has no role and content.", hint=_MESSAGE_HINT)
    contents = [message["content"] for message in prompt]
    if not any(content.strip() if isinstance(content, str) else content for content in contents):
        raise ConfigurationError("The prompt is empty.", hint="At least one message must have content.")
    return tuple(dict(message) for message in prompt)


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """The endpoint that calls go to, and the rules that they follow. No call changes it."""

    provider: Provider
    model: str | None
    codec: Codec
    transport: Transport | CustomTransport
    endpoint: Endpoint
    rate_limiter: RateLimiter
    max_retries: int
    must_have_logprobs: bool
    on_event: Callable[[Event], None] | None
    # Returns the US dollars of some usage, given the prompt tokens of one call; None if the price is unknown.
    cost_of: Callable[[Usage], float | None] | None = None
    token_ids: bool = False  # True to decode ``Completion.top_ids`` as well
    # The part of ``best_of`` that the calls belong to.
    phase: Literal["sampling", "verification", "consensus"] = "sampling"

    def emit_event(self, kind: Any, call: int, n: int, message: str, **facts: Any) -> None:
        """Log an event and pass it to the user's callback, whose errors are only logged.

        Args:
            kind: as of ``Event``, like the others.
            call: number of the call.
            n: number of completions.
            message: description.
            facts: further fields of the event.
        """
        error, usage = facts.get("error"), facts.get("usage")
        suffix = f" ({type(error).__name__})" if error else ""
        logger.debug("%s call %d %s: %s%s", self.provider.name, call, kind, message, suffix)
        if self.on_event is None:
            return
        if usage and self.cost_of and "cost" not in facts:
            facts["cost"] = self.cost_of(usage)
        if error:
            facts["status"] = error.status
        event = Event(
            kind=kind,
            call=call,
            n=n,
            message=message,
            provider=self.provider.name,
            model=self.model,
            phase=self.phase,
            **facts,
        )
        send_event(self.on_event, event)

    def fields(self, sample_request: SampleRequest) -> Mapping[str, Any]:
        """Return the fields of every HTTP request, besides prompt, n and logprobs."""
        return {**self.provider.extra_body, **sample_request.sampling}

    def logprobs_unavailable_error(self, reason: str) -> LogprobsUnavailableError:
        """Return the error to raise if ``require_logprobs=True`` and there are none."""
        model = f" of {self.model!r}" if self.model else ""
        return LogprobsUnavailableError(
            f"There are no logprobs{model}: {reason}",
            hint=f'{NO_LOGPROBS_HINT}, or require_logprobs="auto" to choose by the answers alone.',
            provider=self.provider.name,
        )


@dataclass(kw_only=True)
class DrawState:
    """State that the calls of one ``best_of`` share."""

    sample_request: SampleRequest
    deadline_at: float | None  # the deadline in the running loop's time
    n_requests: int = 0  # HTTP requests sent so far
    request_budget: RequestBudget | None = None  # keeps the calls within a budget, if there is one
    # Closes streams that lose confidence, if ``abort=`` is set.
    abort_monitor: AbortMonitor | None = None
    has_completions: bool = False
    # An error that every further call would meet as well.
    fatal_error: SwiftClientError | None = None
    # Sentences for the user, each once, in order.
    notes: dict[str, None] = field(default_factory=dict)

    def add_note(self, note: str) -> None:
        """Add a sentence for the user, unless it was added before."""
        self.notes.setdefault(note)

    def last_start(self) -> float | None:
        """Return the loop's time after which no request may start, by deadline or budget; None without a limit."""
        seconds = math.inf if self.request_budget is None else self.request_budget.tracker.seconds_left
        budget_end = None if seconds == math.inf else asyncio.get_running_loop().time() + seconds
        return min((end for end in (self.deadline_at, budget_end) if end is not None), default=None)

    def is_past_deadline(self) -> bool:
        """Return True if there is a deadline and it has passed."""
        return self.deadline_at is not None and asyncio.get_running_loop().time() >= self.deadline_at

    @asynccontextmanager
    async def within_deadline(self) -> AsyncIterator[None]:
        """Raise RequestTimeoutError at the deadline, or at once if it has passed."""
        is_late = self.is_past_deadline()
        if not is_late:
            try:
                async with asyncio.timeout_at(self.deadline_at):
                    yield
            except TimeoutError:
                is_late = True
        if is_late:
            raise RequestTimeoutError(
                f"The deadline of {self.sample_request.deadline:g} s passed before this call's reply arrived.",
                hint="Raise deadline=, or ask for fewer tokens.",
                retryable=True,
            )


def send_event(on_event: Callable[[Event], None], event: Event) -> None:
    """Pass an event to the user's callback, whose errors are only logged."""
    try:
        on_event(event)
    except BaseException:  # SystemExit would end the event loop, and with it every other call
        logger.exception("on_event failed; sampling goes on")
