"""What one request may ask of an endpoint, and what the endpoint's answers teach about that."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from swift_client.adapters.providers.provider import Capabilities, Reply
from swift_client.adapters.transport.error_responses import is_logprobs_refusal
from swift_client.adapters.transport.parameter_limits import parse_parameter_limit
from swift_client.errors import AuthenticationError, BadRequestError
from swift_client.types import Completion

RequestField = Literal["n", "top_logprobs", "logprobs", "stream", "max_tokens", "temperature"]
_UNSUPPORTED_PATTERN = re.compile(r"\bnot[\w\s]{0,12}support|unsupported|deprecated", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class RequestParams:
    """What one request asks for."""

    n: int
    top_logprobs: int | None
    """None: no logprobs at all."""
    stream: bool


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """What an endpoint does less of than it was asked."""

    field: RequestField
    note: str


class Endpoint:
    """What is known of one (base URL, model): the row at first, then what its answers show.

    A reranker has one base URL and one model, so it holds one of these. Only a refused request (4xx other than 408,
    409 and 429) teaches a cap; a rate limit, a timeout or a server fault never does.

    Args:
        capabilities: what is known of the provider's model.
        top_logprobs: alternatives to ask for, or None to ask for no logprobs.
        insists: ask for them also where the model is known to hide them while it thinks: the row may be out of date.
    """

    def __init__(self, capabilities: Capabilities, *, top_logprobs: int | None, force_logprobs: bool = False) -> None:
        self._capabilities = capabilities
        self._force_logprobs = force_logprobs
        self.n_max = capabilities.n_max
        self.top_logprobs = top_logprobs
        self.logprobs_confirmed = capabilities.logprobs_known
        """Whether the row or a reply has shown that logprobs come."""
        self.can_stream = capabilities.streams_logprobs
        self.refusal: str | None = None
        """The endpoint's own sentence, once it has refused logprobs."""
        self._field_names = {"max_tokens": "max_tokens", "temperature": "temperature"}
        self._last_short_count = 0
        """How many completions the last reply brought, where it was short of what was asked; else 0."""

    def call_size(self, n_requested: int) -> int:
        """Return how many of ``wanted`` completions one call may ask for."""
        return min(n_requested, self.n_max or n_requested)

    def request_params(
        self, n_requested: int, *, stream: bool, fields: Mapping[str, Any] = MappingProxyType({})
    ) -> RequestParams:
        """Return what a request with these ``fields`` for ``wanted`` completions may ask for now."""
        k = None if self.no_logprobs_reason(fields) else self.top_logprobs
        return RequestParams(n=self.call_size(n_requested), top_logprobs=k, stream=stream and self.can_stream)

    def rename_params(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Return sampling fields under the names that the endpoint knows, without those that it refuses."""
        return {known: value for name, value in sampling.items() if (known := self._field_names.get(name, name))}

    def no_logprobs_reason(self, fields: Mapping[str, Any]) -> str | None:
        """Return why no logprobs would come with these fields, or None where they may."""
        if self.top_logprobs is None:
            return self.refusal or "it is known to give none."
        if not self._force_logprobs and self._capabilities.thinks(fields):
            return 'it gives none while it thinks, and with reasoning_effort="none" it would.'
        return None

    def relax(self, error: BadRequestError | AuthenticationError, request_params: RequestParams) -> Relaxation | None:
        """Learn from a refusal what to ask less of; None where it names nothing of that kind."""
        numbers = {"n": request_params.n} | (
            {} if request_params.top_logprobs is None else {"top_logprobs": request_params.top_logprobs}
        )
        param = getattr(error, "param", None)
        about_a_value = isinstance(error, BadRequestError) and error.status in (400, 422, None)
        match parse_parameter_limit(error.message, param=param, request_values=numbers) if about_a_value else None:
            case "n", most:
                self.n_max = min(most, self.n_max or most)
                return Relaxation(field="n", note=f"The provider gives at most {most} completions a call.")
            case "top_logprobs", most if request_params.top_logprobs is not None:
                self.top_logprobs = min(most, request_params.top_logprobs)
                return Relaxation(field="top_logprobs", note=f"The provider lists at most {most} alternatives a token.")
        if request_params.top_logprobs is not None and is_logprobs_refusal(error):
            self.top_logprobs, self.refusal = None, error.message
            return Relaxation(field="logprobs", note=f"The provider refuses logprobs: {error.message}")
        if about_a_value and "max_completion_tokens" in error.message and param in (None, "max_tokens"):
            self._field_names["max_tokens"] = "max_completion_tokens"  # OpenAI's reasoning models know only this name
            return Relaxation(field="max_tokens", note="The provider takes max_tokens as max_completion_tokens.")
        if about_a_value and "temperature" in (param or error.message) and _UNSUPPORTED_PATTERN.search(error.message):
            self._field_names["temperature"] = ""
            return Relaxation(field="temperature", note=f"The temperature is the model's own: {error.message}")
        if request_params.stream and "stream" in (param or error.message):
            self.can_stream = False
            return Relaxation(field="stream", note="The provider refuses to stream this request.")
        return None

    def observe(self, reply: Reply, request_params: RequestParams) -> Relaxation | None:
        """Learn from a reply that came whole: that logprobs come, or that ``n`` is capped in silence.

        One choice where several were asked means that ``n`` is ignored (Ollama, LM Studio, many gateways). Two or
        more, or one in a reply with notes (cut, say), may be an accident: it is a cap when it comes twice running.
        """
        if any(completion.tokens for completion in reply.completions):
            self.logprobs_confirmed = True
        came, before = len(reply.completions), self._last_short_count
        self._last_short_count = came if came < request_params.n else 0
        if self._last_short_count and (came == before or (came == 1 and not reply.notes)):
            self.n_max = came
            return Relaxation(field="n", note=f"The provider gives {came} completions a call, whatever is asked.")
        return None


def lacks_logprobs(completions: Sequence[Completion]) -> bool:
    """Whether there is text but not one logprob; empty texts prove nothing."""
    return not any(completion.tokens for completion in completions) and any(
        completion.text.strip() for completion in completions
    )
