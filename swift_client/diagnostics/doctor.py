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
from swift_client.adapters.transport.error_responses import logprobs_refused
from swift_client.adapters.transport.parameter_limits import cap_from_message
from swift_client.diagnostics.sample_fit import SampleFit, sample_fit
from swift_client.errors import BadRequestError, ProviderError
from swift_client.types import F32, Completion, Message, Usage

Space = Literal["raw", "after_temperature", "unknown"]

_PROMPT: list[Message] = [{"role": "user", "content": "Write one random digit and nothing else."}]
_COLD = 0.25
_SMALLEST_GAP = 0.1
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
    space: Space
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
    warm = await probe.ask(temperature=1.0)
    n_asked, listed, given = probe.n, _first_list(warm), len(warm.completions)
    k = max((len(row) for row in listed), default=0)
    space: Space = "unknown"
    if k > 1:
        probe.n = 1
        try:
            cold = await probe.ask(temperature=_COLD)
        except BadRequestError:  # a model that takes no temperature
            probe.refusals.append("Temperature: the model takes none but its own.")
        else:
            space = logprob_space(listed[0], next(iter(_first_list(cold)), listed[0][:0]))
    real = any(completion.tokens for completion in warm.completions)
    fitted = sample_fit([*warm.completions, *await probe.more(samples - given, given)]) if samples and k else None
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
            _on_n(n_asked, given, probe.n_max),
            _on_logprobs(probe.k, k, real),
            *([_ON_SPACE[space]] if k > 1 else []),
            *([fitted.finding] if fitted else []),
            f"Latency: {probe.seconds:.2f} s for one token.",
            *probe.refusals,
            *warm.notes,
        ),
    )


def logprob_space(warm: F32, cold: F32) -> Space:
    """Compare the same position's list at temperature 1 and at 0.25.

    Args:
        warm: (K,) float32, nats, falling, at temperature 1.
        cold: (K',) float32, nats, falling, at temperature 0.25.

    Returns:
        "raw" where the gaps to the first entry agree, "after_temperature" where the cold ones are four times as
        wide, else "unknown".
    """
    shared = min(len(warm), len(cold))
    wide = warm[:1] - warm[1:shared]
    usable = np.isfinite(wide) & np.isfinite(cold[1:shared]) & (wide > _SMALLEST_GAP)
    if not usable.any():
        return "unknown"
    ratio = float(np.median((cold[:1] - cold[1:shared])[usable] / wide[usable]))
    if 0.8 < ratio < 1.25:
        return "raw"
    return "after_temperature" if 0.8 < ratio * _COLD < 1.25 else "unknown"


class _Probe:
    """Asks, and asks for less where it is refused."""

    def __init__(self, transport: Transport | CustomTransport, codec: Codec, model: str | None) -> None:
        self.transport, self.codec, self.model = transport, codec, model
        self.n = 2
        self.n_max: int | None = None
        known = capabilities_of(transport.provider, model)
        self.known_n_max = known.n_max
        self.k: int | None = known.top_logprobs_max or None
        self.fields: dict[str, Any] = {}
        if known.thinking != "always" and known.thinks(transport.provider.extra_body):
            by_effort = transport.provider.codec != "openai_responses"
            self.fields = {"reasoning_effort": "none"} if by_effort else {"reasoning": {"effort": "none"}}
        self.length = "max_tokens"
        self.usage = Usage()
        self.seconds = 0.0
        self.refusals: list[str] = []

    async def ask(self, *, temperature: float) -> Reply:
        """Send one call; each refusal that names its reason lowers one thing, so that this ends."""
        while True:
            sampling = {**self.fields, self.length: 1, "temperature": temperature}
            started = time.monotonic()
            try:
                reply = await self._send(sampling)
            except ProviderError as error:
                self.usage += Usage(calls=1)
                if not self._asks_for_less(error):
                    raise
            else:
                self.seconds = time.monotonic() - started
                self.usage += replace(reply.usage, calls=1)
                return reply

    async def more(self, wanted: int, at_once: int) -> list[Completion]:
        """Ask for ``wanted`` more completions at temperature 1, as many a call as have come before."""
        came: list[Completion] = []
        while len(came) < wanted:
            most = 1 if at_once < 2 else min(self.n_max or wanted, self.known_n_max or wanted)
            self.n = min(most, wanted - len(came))
            reply = await self.ask(temperature=1.0)
            if not reply.completions:
                break
            came += reply.completions
        return came[: max(wanted, 0)]

    async def _send(self, sampling: Mapping[str, Any]) -> Reply:
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

    def _asks_for_less(self, error: ProviderError) -> bool:
        if self.k is not None and logprobs_refused(error):
            self.k = None
        elif isinstance(error, BadRequestError) and (cap := self._cap(error)):
            field, most = cap
            if field == "n":
                self.n = self.n_max = most
            else:
                self.k = most or None
        elif self.length == "max_tokens" and "max_completion_tokens" in error.message:
            self.length = "max_completion_tokens"  # OpenAI's reasoning models know only this name
        else:
            return False
        self.refusals.append(f"Refused: {error.message}")
        return True

    def _cap(self, error: BadRequestError) -> tuple[str, int] | None:
        return cap_from_message(error.message, param=error.param, asked={"n": self.n, "top_logprobs": self.k or 0})


def _first_list(reply: Reply) -> list[F32]:
    """Return the finite part of the first token's list, one for each completion that has any."""
    lists = [completion.top_logprobs[0] for completion in reply.completions if completion.top_logprobs.size]
    return [row[np.isfinite(row)] for row in lists]


def _on_n(asked: int, given: int, n_max: int | None) -> str:
    if n_max is not None:
        return f"n: refused above {n_max}; further completions take further calls."
    if given < asked:
        return f"n: asked {asked}, got {given} without a word; further completions take further calls."
    return f"n: asked {asked}, got {given}: one call brings several completions."


def _on_logprobs(asked: int | None, given: int, real: bool) -> str:
    if not real:
        return "Logprobs: none that can be used; the choice will rest on the texts alone."
    if given == 0:
        return "Logprobs: of the chosen tokens only, without alternatives."
    return f"Logprobs: real, with {given} alternatives for a token where {asked} were asked."


_ON_SPACE: Mapping[Space, str] = {
    "raw": "Temperature: applied after the logprobs were taken; they mean the same at every temperature.",
    "after_temperature": "Temperature: applied before the logprobs were taken; compare only one temperature's scores.",
    "unknown": "Temperature: the two lists do not tell whether it was applied before the logprobs were taken.",
}
