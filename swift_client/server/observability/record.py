"""The facts of one request to the service, collected on its way from the first byte to the last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swift_client.pricing import add_costs
from swift_client.redaction.policy import StoragePolicy
from swift_client.types import Event, Selection

NOT_KNOWN = "-"  # stands for a name that is not one of the configuration's


@dataclass(frozen=True, kw_only=True)
class LoggedContent:
    """The prompt and the answer of a request without private data."""

    messages: Sequence[Mapping[str, Any]] = ()
    answer: str | None = None


@dataclass(eq=False, kw_only=True)
class RequestRecord:
    """One request. Facts that are not known yet have their defaults.

    Attributes:
        id: The request's id, which its reply has as ``x-request-id``.
        method: HTTP method; "-" for one that the service does not know.
        trace_headers: The headers ``traceparent`` and ``tracestate``, if the client sent them.
        started_at: Unix time in seconds.
        endpoint: Path of the route, such as "/v1/chat/completions"; "-" for a path that does not exist. Known at the
            end.
        status: HTTP status; 499 if the client hung up before it had one; 0 if none was sent. Known at the end.
        seconds: Seconds until the reply was sent. Known at the end.
        first_byte_seconds: Seconds until the first byte of the answer; what a stream sends before does not count.
        model: Name of the virtual model; "-" if the request names none of the configuration.
        key: Name of the client's key; None without keys.
        n: Completions to choose from; 0 for a request that asks for none.
        is_stream: True if the answer is sent as events.
        messages: The prompt. Listeners may show it only where the configuration allows it, and log it only as
            ``logged_messages()``.
        content: What may be logged of the prompt and the answer if its model has a policy of storage: nothing until it
            is known.
        selection_id: The id that the reply gives the choice.
        selection: The choice, also if it was rejected.
        error: The error that ended the request.
        tokens: Tokens of all replies from upstream, prompts and completions together.
        cost: US dollars of these; None if a price is unknown.
        trace_id: Id of its trace in hexadecimal digits; None if it is not traced.
    """

    id: str
    method: str = NOT_KNOWN
    trace_headers: Mapping[str, str] = field(default_factory=dict)
    started_at: float = field(default_factory=time.time)
    endpoint: str = NOT_KNOWN
    status: int = 0
    seconds: float = 0.0
    first_byte_seconds: float | None = None
    model: str = NOT_KNOWN
    key: str | None = None
    n: int = 0
    is_stream: bool = False
    messages: Sequence[Mapping[str, Any]] = ()
    content: LoggedContent | None = None
    selection_id: str | None = None
    selection: Selection | None = None
    error: Exception | None = None
    tokens: int = 0
    cost: float | None = 0.0
    trace_id: str | None = None
    _start: float = field(default_factory=time.monotonic, init=False, repr=False)

    @property
    def has_failed(self) -> bool:
        """True if the service or a provider failed; also after status 200, which a stream sends before its answer."""
        return self.status >= 500 or not self.status or (self.status < 400 and self.error is not None)

    @property
    def logged_messages(self) -> Sequence[Mapping[str, Any]]:
        """The prompt as it may be logged."""
        return self.messages if self.content is None else self.content.messages

    @property
    def logged_answer(self) -> str | None:
        """The text of the choice as it may be logged; None without one."""
        if self.content is not None:
            return self.content.answer
        return None if self.selection is None else self.selection.text

    def redact(self, policy: StoragePolicy) -> LoggedContent:
        """Return the prompt and the answer as a policy lets them be logged."""
        answer = None if self.selection is None else policy.text(self.selection.text) or None
        return LoggedContent(messages=policy.messages([dict(message) for message in self.messages]), answer=answer)

    def seconds_so_far(self) -> float:
        """Return the seconds since the request began."""
        return time.monotonic() - self._start

    def add_usage(self, event: Event) -> None:
        """Add the tokens and the cost of a reply from upstream."""
        if event.usage is not None:
            self.tokens += event.tokens or 0
            self.cost = add_costs(self.cost, event.cost)
