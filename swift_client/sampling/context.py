"""What the calls of one draw share: the line to the provider, the draw's progress, and how it is told."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from swift_client.adapters import Codec, CustomTransport, Provider, Transport
from swift_client.errors import LogprobsUnavailableError, RequestTimeoutError, SwiftClientError
from swift_client.sampling.early_abort import AbortMonitor
from swift_client.sampling.endpoint import Endpoint
from swift_client.sampling.meter import RequestBudget
from swift_client.sampling.rate_limiter import RateLimiter
from swift_client.sampling.request import SampleRequest
from swift_client.types import Event

logger = logging.getLogger(__name__)

NO_LOGPROBS_HINT = 'Use another model or server (gpt-4.1-mini, vLLM, llama.cpp; reasoning_effort="none" on gpt-5.x)'
"""What to do where there are no logprobs: the begin of a sentence."""


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """Where the calls of a draw go and by which rules; none of them changes it."""

    provider: Provider
    model: str | None
    codec: Codec
    transport: Transport | CustomTransport
    endpoint: Endpoint
    rate_limiter: RateLimiter
    max_retries: int
    must_have_logprobs: bool
    on_event: Callable[[Event], None] | None
    token_ids: bool = False
    """Whether ``Completion.top_ids`` are wanted."""

    def emit_event(self, event: Event) -> None:
        """Log an event and hand it to the user's callback, whose own errors may not cost completions."""
        error = f" ({type(event.error).__name__})" if event.error else ""
        logger.debug("%s call %d %s: %s%s", self.provider.name, event.call, event.kind, event.message, error)
        if self.on_event:
            try:
                self.on_event(event)
            except Exception:
                logger.exception("on_event failed; the draw goes on")

    def fields(self, sample_request: SampleRequest) -> Mapping[str, Any]:
        """Return the fields that every request of ``order`` has besides prompt, n and logprobs."""
        return {**self.provider.extra_body, **sample_request.sampling}

    def logprobs_unavailable_error(self, reason: str) -> LogprobsUnavailableError:
        """Return the error for ``require_logprobs=True`` where none come."""
        model = f" of {self.model!r}" if self.model else ""
        return LogprobsUnavailableError(
            f"There are no logprobs{model}: {reason}",
            hint=f'{NO_LOGPROBS_HINT}, or require_logprobs="auto" to choose by the answers alone.',
            provider=self.provider.name,
        )


@dataclass(kw_only=True)
class DrawState:
    """What the calls of one draw tell each other."""

    sample_request: SampleRequest
    deadline_at: float | None
    """The deadline in the running loop's time."""
    n_requests: int = 0
    """HTTP requests sent so far."""
    request_budget: RequestBudget | None = None
    """What holds the calls to a budget, where there is one."""
    abort_monitor: AbortMonitor | None = None
    """What closes streams that lose confidence, where anything does."""
    has_completions: bool = False
    """Whether any completion has come."""
    fatal_error: SwiftClientError | None = None
    """A refusal that every further call of this draw would meet as well."""
    notes: dict[str, None] = field(default_factory=dict)
    """Sentences for the user, each once, in order."""

    def last_start(self) -> float | None:
        """Return the loop's time after which no request may start, by the deadline or the budget; None without."""
        left = math.inf if self.request_budget is None else self.request_budget.tracker.seconds_left
        spent = None if left == math.inf else asyncio.get_running_loop().time() + left
        return min((each for each in (self.deadline_at, spent) if each is not None), default=None)

    def is_past_deadline(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_at is not None and asyncio.get_running_loop().time() >= self.deadline_at

    @asynccontextmanager
    async def within_deadline(self) -> AsyncIterator[None]:
        """Raise RequestTimeoutError at the deadline, or at once where it has passed."""
        late = self.is_past_deadline()
        if not late:
            try:
                async with asyncio.timeout_at(self.deadline_at):
                    yield
            except TimeoutError:
                late = True
        if late:
            raise RequestTimeoutError(
                f"The deadline of {self.sample_request.deadline:g} s came before this call's reply.",
                hint="Raise deadline=, or ask for fewer tokens.",
                retryable=True,
            )
