"""Capabilities of one endpoint: they start from the provider table and are updated from its responses."""

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
    """The parameters of one HTTP request that depend on the endpoint."""

    n: int
    top_logprobs: int | None  # None: no logprobs at all
    stream: bool


@dataclass(frozen=True, kw_only=True)
class Relaxation:
    """A request field that the endpoint refuses or ignores, with a sentence for the user."""

    field: RequestField
    note: str


class Endpoint:
    """Capabilities of one (base URL, model), updated from its responses.

    Only a refused request (4xx other than 408, 409 and 429) teaches a limit; rate limits, timeouts and server errors
    never do.

    Args:
        capabilities: the provider table's entry for the model.
        top_logprobs: alternatives per token to ask for; None asks for no logprobs.
        force_logprobs: ask for logprobs even if the model is known to hide them while it thinks, since the table may
            be out of date.
    """

    def __init__(self, capabilities: Capabilities, *, top_logprobs: int | None, force_logprobs: bool = False) -> None:
        self._capabilities = capabilities
        self._force_logprobs = force_logprobs
        self.n_max = capabilities.n_max
        self.top_logprobs = top_logprobs
        # True if the table or a reply has shown that logprobs come.
        self.logprobs_confirmed = capabilities.logprobs_known
        self.can_stream = capabilities.streams_logprobs
        # The endpoint's own sentence, once it has refused logprobs.
        self.refusal: str | None = None
        # The endpoint's own sentence per refused response schema; the keys are its request fields.
        self.schema_refusals: dict[str, str] = {}
        self._field_names = {"max_tokens": "max_tokens", "temperature": "temperature"}
        self._last_short_count = 0  # completions in the last reply if fewer than requested, else 0

    def call_size(self, n_requested: int) -> int:
        """Return how many of ``n_requested`` completions one call may ask for."""
        return min(n_requested, self.n_max or n_requested)

    def request_params(
        self, n_requested: int, *, stream: bool, fields: Mapping[str, Any] = MappingProxyType({})
    ) -> RequestParams:
        """Return the parameters of a request with these ``fields`` for up to ``n_requested`` completions."""
        k = None if self.no_logprobs_reason(fields) else self.top_logprobs
        return RequestParams(n=self.call_size(n_requested), top_logprobs=k, stream=stream and self.can_stream)

    def rename_params(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        """Return sampling fields under the endpoint's names for them, without those that it refuses."""
        renamed = ((self._field_names.get(name, name), value) for name, value in sampling.items())
        return {name: value for name, value in renamed if name}

    def no_logprobs_reason(self, fields: Mapping[str, Any]) -> str | None:
        """Return why a request with these fields would bring no logprobs; None if it may."""
        if self.top_logprobs is None:
            return self.refusal or "it is known to return none."
        if not self._force_logprobs and self._capabilities.thinks(fields):
            return 'it returns none while it thinks; reasoning_effort="none" turns thinking off.'
        return None

    def relax(self, error: BadRequestError | AuthenticationError, request_params: RequestParams) -> Relaxation | None:
        """Learn from a refusal which field to drop or lower; return None if it names none."""
        numbers = {"n": request_params.n}
        if request_params.top_logprobs is not None:
            numbers["top_logprobs"] = request_params.top_logprobs
        param = getattr(error, "param", None)
        concerns_value = isinstance(error, BadRequestError) and error.status in (400, 422, None)
        # A limit on a number, such as "n must be at most 4".
        match parse_parameter_limit(error.message, param=param, request_values=numbers) if concerns_value else None:
            case "n", limit:
                self.n_max = min(limit, self.n_max or limit)
                return Relaxation(field="n", note=f"The provider gives at most {limit} completions per call.")
            case "top_logprobs", limit if request_params.top_logprobs is not None:
                self.top_logprobs = min(limit, request_params.top_logprobs)
                note = f"The provider lists at most {limit} alternatives per token."
                return Relaxation(field="top_logprobs", note=note)
        # A field that is refused as such.
        if request_params.top_logprobs is not None and is_logprobs_refusal(error):
            self.top_logprobs, self.refusal = None, error.message
            return Relaxation(field="logprobs", note=f"The provider refuses logprobs: {error.message}")
        if concerns_value and "max_completion_tokens" in error.message and param in (None, "max_tokens"):
            self._field_names["max_tokens"] = "max_completion_tokens"  # OpenAI's reasoning models accept only this name
            return Relaxation(field="max_tokens", note="max_tokens was sent as max_completion_tokens.")
        if concerns_value and "temperature" in (param or error.message) and _UNSUPPORTED_PATTERN.search(error.message):
            self._field_names["temperature"] = ""
            return Relaxation(field="temperature", note=f"The model's default temperature was used: {error.message}")
        if request_params.stream and "stream" in (param or error.message):
            self.can_stream = False
            return Relaxation(field="stream", note="The provider refuses to stream this request.")
        return None

    def observe(self, reply: Reply, request_params: RequestParams) -> Relaxation | None:
        """Learn from a complete reply that logprobs come, or that ``n`` is silently capped.

        One completion instead of several means that ``n`` is ignored (Ollama, LM Studio, many gateways). Two or more,
        or one in a reply with notes (it was cut, say), may be an accident: the same count twice in a row is a cap.
        """
        if any(completion.tokens for completion in reply.completions):
            self.logprobs_confirmed = True
        count, previous_count = len(reply.completions), self._last_short_count
        self._last_short_count = count if count < request_params.n else 0
        if self._last_short_count and (count == previous_count or (count == 1 and not reply.notes)):
            self.n_max = count
            return Relaxation(field="n", note=f"The provider gives {count} completions per call, whatever n is.")
        return None


def lacks_logprobs(completions: Sequence[Completion]) -> bool:
    """Return True if there is text but not a single logprob; empty texts prove nothing."""
    return not any(completion.tokens for completion in completions) and any(
        completion.text.strip() for completion in completions
    )
