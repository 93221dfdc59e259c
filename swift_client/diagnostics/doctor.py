"""What a provider really does, found out with two calls of one token each, and a few more where samples are wanted.

Same prompt at temperature 1 and at 0.25: where the gaps between the listed logprobs stay the same, they were taken
before temperature; where they grow fourfold, after it (log softmax(z / T) has gaps Δz / T).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from swift_client.adapters import Codec, CustomTransport, Transport, capabilities_of
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport.error_responses import is_logprobs_refusal
from swift_client.adapters.transport.parameter_limits import parse_parameter_limit
from swift_client.diagnostics.sample_fit import SampleFit, measure_sample_fit
from swift_client.errors import BadRequestError, ProviderError
from swift_client.types import F32, Completion, Message, Usage

LogprobSpace = Literal["raw", "after_temperature", "unknown"]

_PROMPT: list[Message] = [{"role": "user", "content": "Write one random digit and nothing else."}]
_LOW_TEMPERATURE = 0.25
_MIN_GAP = 0.1
"""Nats; smaller gaps say more about rounding than about temperature."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the calls showed."""

    provider: str
    model: str | None
    n_asked: int
    n_given: int
    """Choices that came back for ``n_asked``."""
    n_max: int | None
    """The cap that a 400 named; None where nothing was refused."""
    top_logprobs_asked: int
    top_logprobs: int
    """Longest list of alternatives that came; 0 without any."""
    real: bool
    """Whether logprobs came that are a distribution; the codec throws placeholders out, and a finding says so."""
    space: LogprobSpace
    """Whether temperature was applied before the logprobs were taken."""
    fit: SampleFit | None
    """Whether the lists fit the tokens that come; None where no samples were asked for, or none has a list."""
    seconds: float
    """Time of the last call: the first one also loads the client."""
    usage: Usage
    findings: tuple[str, ...]
    """One sentence each, for people."""


async def examine(
    transport: Transport | CustomTransport, codec: Codec, model: str | None, *, samples: int = 0
) -> Diagnosis:
    """Probe the provider behind ``transport``.

    Args:
        transport: where the calls go.
        codec: the provider's wire format.
        model: the model to ask.
        samples: completions of one token, at temperature 1, to hold against their own lists.

    Raises:
        SwiftClientError: the provider cannot be reached or refuses even the plainest call.
    """
    probe = _Probe(transport, codec, model)
    warm = await probe.send(temperature=1.0)
    n_asked, listed, given = probe.n, _first_token_logprobs(warm), len(warm.completions)
    k = max((len(row) for row in listed), default=0)
    space: LogprobSpace = "unknown"
    if k > 1:
        probe.n = 1
        try:
            cold = await probe.send(temperature=_LOW_TEMPERATURE)
        except BadRequestError:  # a model that takes no temperature
            probe.refusals.append("Temperature: the model takes none but its own.")
        else:
            space = infer_logprob_space(listed[0], next(iter(_first_token_logprobs(cold)), listed[0][:0]))
    real = any(completion.tokens for completion in warm.completions)
    fitted = (
        measure_sample_fit([*warm.completions, *await probe.sample_more(samples - given, given)])
        if samples and k
        else None
    )
    return Diagnosis(
        provider=transport.provider.name,
        model=warm.model or model,
        n_asked=n_asked,
        n_given=given,
        n_max=probe.n_max,
        top_logprobs_asked=probe.k or 0,
        top_logprobs=k,
        real=real,
        space=space,
        fit=fitted,
        seconds=probe.seconds,
        usage=probe.usage,
        findings=(
            _describe_n(n_asked, given, probe.n_max),
            _describe_logprobs(probe.k, k, real),
            *([_SPACE_FINDINGS[space]] if k > 1 else []),
            *([fitted.finding] if fitted else []),
            f"Latency: {probe.seconds:.2f} s for one token.",
            *probe.refusals,
            *warm.notes,
        ),
    )


def infer_logprob_space(baseline_logprobs: F32, low_temperature_logprobs: F32) -> LogprobSpace:
    """Compare the same position's list at temperature 1 and at 0.25.

    Args:
        warm: (K,) float32, nats, falling, at temperature 1.
        cold: (K',) float32, nats, falling, at temperature 0.25.

    Returns:
        "raw" where the gaps to the first entry agree, "after_temperature" where the cold ones are four times as
        wide, else "unknown".
    """
    shared = min(len(baseline_logprobs), len(low_temperature_logprobs))
    wide = baseline_logprobs[:1] - baseline_logprobs[1:shared]
    usable = np.isfinite(wide) & np.isfinite(low_temperature_logprobs[1:shared]) & (wide > _MIN_GAP)
    if not usable.any():
        return "unknown"
    ratio = float(np.median((low_temperature_logprobs[:1] - low_temperature_logprobs[1:shared])[usable] / wide[usable]))
    if 0.8 < ratio < 1.25:
        return "raw"
    return "after_temperature" if 0.8 < ratio * _LOW_TEMPERATURE < 1.25 else "unknown"


class _Probe:
    """Asks, and asks for less where it is refused."""

    def __init__(self, transport: Transport | CustomTransport, codec: Codec, model: str | None) -> None:
        self.transport, self.codec, self.model = transport, codec, model
        self.n = 2
        self.n_max: int | None = None
        known = capabilities_of(transport.provider, model)
        self.table_n_max = known.n_max
        self.k: int | None = known.top_logprobs_max or None
        self.reasoning_fields: dict[str, Any] = {}
        if known.thinking != "always" and known.thinks(transport.provider.extra_body):
            by_effort = transport.provider.codec != "openai_responses"
            self.reasoning_fields = {"reasoning_effort": "none"} if by_effort else {"reasoning": {"effort": "none"}}
        self.max_tokens_param = "max_tokens"
        self.usage = Usage()
        self.seconds = 0.0
        self.refusals: list[str] = []

    async def send(self, *, temperature: float) -> Reply:
        """Send one call; each refusal that names its reason lowers one thing, so that this ends."""
        while True:
            sampling = {**self.reasoning_fields, self.max_tokens_param: 1, "temperature": temperature}
            started = time.monotonic()
            try:
                reply = await self._send_once(sampling)
            except ProviderError as error:
                self.usage += Usage(calls=1)
                if not self._reduce_request(error):
                    raise
            else:
                self.seconds = time.monotonic() - started
                self.usage += replace(reply.usage, calls=1)
                return reply

    async def sample_more(self, count: int, n_per_call: int) -> list[Completion]:
        """Ask for ``wanted`` more completions at temperature 1, as many a call as have come before."""
        came: list[Completion] = []
        while len(came) < count:
            most = 1 if n_per_call < 2 else min(self.n_max or count, self.table_n_max or count)
            self.n = min(most, count - len(came))
            reply = await self.send(temperature=1.0)
            if not reply.completions:
                break
            came += reply.completions
        return came[: max(count, 0)]

    async def _send_once(self, sampling: Mapping[str, Any]) -> Reply:
        provider = self.transport.provider
        request = self.codec.request(
            provider, self.model, _PROMPT, n=self.n, top_logprobs=self.k, stream=False, sampling=sampling
        )
        data = await self.transport.send(request)
        if isinstance(data, Reply):
            return data
        if isinstance(data, bytes):
            return self.codec.parse(data)
        return Reply(completions=tuple(data), usage=Usage())

    def _reduce_request(self, error: ProviderError) -> bool:
        if self.k is not None and is_logprobs_refusal(error):
            self.k = None
        elif isinstance(error, BadRequestError) and (cap := self._parse_limit(error)):
            field, most = cap
            if field == "n":
                self.n = self.n_max = most
            else:
                self.k = most or None
        elif self.max_tokens_param == "max_tokens" and "max_completion_tokens" in error.message:
            self.max_tokens_param = "max_completion_tokens"  # OpenAI's reasoning models know only this name
        else:
            return False
        self.refusals.append(f"Refused: {error.message}")
        return True

    def _parse_limit(self, error: BadRequestError) -> tuple[str, int] | None:
        return parse_parameter_limit(
            error.message, param=error.param, request_values={"n": self.n, "top_logprobs": self.k or 0}
        )


def _first_token_logprobs(reply: Reply) -> list[F32]:
    """Return the finite part of the first token's list, one for each completion that has any."""
    lists = [completion.top_logprobs[0] for completion in reply.completions if completion.top_logprobs.size]
    return [row[np.isfinite(row)] for row in lists]


def _describe_n(n_requested: int, n_returned: int, n_max: int | None) -> str:
    if n_max is not None:
        return f"n: refused above {n_max}; further completions take further calls."
    if n_returned < n_requested:
        return f"n: asked {n_requested}, got {n_returned} without a word; further completions take further calls."
    return f"n: asked {n_requested}, got {n_returned}: one call brings several completions."


def _describe_logprobs(k_requested: int | None, k_returned: int, has_logprobs: bool) -> str:
    if not has_logprobs:
        return "Logprobs: none that can be used; the choice will rest on the texts alone."
    if k_returned == 0:
        return "Logprobs: of the chosen tokens only, without alternatives."
    return f"Logprobs: real, with {k_returned} alternatives for a token where {k_requested} were asked."


_SPACE_FINDINGS: Mapping[LogprobSpace, str] = {
    "raw": "Temperature: applied after the logprobs were taken; they mean the same at every temperature.",
    "after_temperature": "Temperature: applied before the logprobs were taken; compare only one temperature's scores.",
    "unknown": "Temperature: the two lists do not tell whether it was applied before the logprobs were taken.",
}
