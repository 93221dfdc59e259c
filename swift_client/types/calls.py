"""Failures and events of the HTTP calls of one question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from swift_client.errors import SwiftClientError
from swift_client.types.completion import Usage


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One call that failed after its retries.

    Attributes:
        lost: Number of completions that this call should have returned.
        attempts: Number of times that it was sent.
    """

    error: SwiftClientError
    lost: int
    attempts: int = 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """A progress event, as ``on_event`` receives it. It never contains a prompt, an answer or a key.

    Attributes:
        kind: "clamp": the provider refused a parameter, and a smaller value is sent; "top_up": a
            reply had too few completions, and the others are requested; "limit": the number of concurrent requests
            changed; "drift": the model no longer answers as in its head's reference, or names itself differently.
        call: Number of the call within its question, from 0; a retry keeps the number.
        n: Number of completions requested; or for "reply" received.
        message: Description for people.
        provider: Name of the provider.
        model: Name of the model; None if the provider has no model names.
        phase: The part of ``best_of`` that it belongs to; "sampling" draws completions, "verification" asks a judge
            about them, "consensus" asks for their embeddings.
        duration: Seconds of the request, its wait for a turn not counted, for "reply", "retry" and "failure"; None for
            others, and if nothing was sent.
        status: HTTP status of the error, or 200 for the reply of a server; None if there was none.
        usage: Tokens that the reply costs, for "reply".
        cost: US dollars of ``usage``; None if the price is unknown.
        wait: Seconds until the next attempt, for "retry".
        error: The error, for "retry" and "failure".
        statistic: For "drift" the statistic that changed, a key of ``swift_client.monitoring.STATISTICS``; None if only
            the model's name or system fingerprint is new.
    """

    kind: Literal["request", "reply", "retry", "clamp", "top_up", "failure", "limit", "drift"]
    call: int
    n: int
    message: str
    provider: str | None = None
    model: str | None = None
    phase: Literal["sampling", "verification", "consensus"] = "sampling"
    duration: float | None = None
    status: int | None = None
    usage: Usage | None = None
    cost: float | None = None
    wait: float | None = None
    error: SwiftClientError | None = None
    statistic: str | None = None

    @property
    def tokens(self) -> int | None:
        """Tokens that were paid for, prompt and completions together; None for events without ``usage``."""
        return None if self.usage is None else self.usage.prompt_tokens + self.usage.completion_tokens
