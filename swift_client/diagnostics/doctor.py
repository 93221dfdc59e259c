"""Probes of a provider's real behaviour: two calls of one token each, and a few more if samples are requested.

Both calls send the same prompt, at temperature 1 and at 0.25. If the gaps between the listed logprobs stay the same,
the logprobs were taken before temperature; if they grow fourfold, after it (log softmax(z / T) has gaps Δz / T).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from swift_client.adapters import Codec, CustomTransport, Transport, capabilities_of
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.providers.provider import Reply
from swift_client.adapters.transport.error_responses import is_logprobs_refusal
from swift_client.adapters.transport.parameter_limits import parse_parameter_limit
from swift_client.adapters.transport.redaction import redact_error
from swift_client.errors import BadRequestError, ProviderError, SwiftClientError
from swift_client.logprobs.goodness_of_fit import p_values, run_fit_test
from swift_client.types import F32, Completion, Message, Usage

LogprobSpace = Literal["raw", "after_temperature", "unknown"]

_PROMPT: list[Message] = [{"role": "user", "content": "Write one random digit and nothing else."}]
_LOW_TEMPERATURE = 0.25
_MIN_GAP = 0.1  # nats; smaller gaps depend more on rounding than on temperature


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Results of the probes.

    Attributes:
        provider: its name.
        model: as the reply names it.
        n_asked: completions requested in one call.
        n_given: choices that came back for ``n_asked``.
        n_max: the limit that a 400 stated; None if nothing was refused.
        top_logprobs_asked: alternatives requested per token.
        top_logprobs: longest list of alternatives received; 0 without any.
        real: whether the logprobs are a distribution; the codec drops placeholders, and a finding says so.
        space: whether temperature was applied before the logprobs were taken.
        fit: whether the lists fit the tokens received; None without requested samples, or if no sample has a list.
        seconds: duration of the last call, since the first one also loads the client.
        usage: tokens and calls of all probes.
        findings: one sentence each, for people.
    """

    provider: str
    model: str | None
    n_asked: int
    n_given: int
    n_max: int | None
    top_logprobs_asked: int
    top_logprobs: int
    real: bool
    space: LogprobSpace
    fit: SampleFit | None
    seconds: float
    usage: Usage
    findings: tuple[str, ...]


async def examine(
    transport: Transport | CustomTransport, codec: Codec, model: str | None, *, samples: int = 0
) -> Diagnosis:
    """Probe the provider behind ``transport``.

    Args:
        transport: to the provider.
        codec: the provider's wire format.
        model: the model to probe.
        samples: completions of one token, at temperature 1, to compare with their own lists.

    Raises:
        SwiftClientError: the provider cannot be reached or refuses even the simplest call.
    """
    probe = _Probe(transport, codec, model)
    # 1. Temperature 1: number of choices, logprobs, alternatives.
    reply = await probe.send(temperature=1.0)
    n_requested, n_returned = probe.n, len(reply.completions)
    logprob_lists = _first_token_logprobs(reply)
    k = max(map(len, logprob_lists), default=0)
    has_logprobs = any(completion.tokens for completion in reply.completions)
    # 2. Low temperature: were the logprobs taken before or after temperature?
    space: LogprobSpace = "unknown"
    if k > 1:
        probe.n = 1
        try:
            low_temperature_reply = await probe.send(temperature=_LOW_TEMPERATURE)
        except BadRequestError:
            probe.refusals.append("Temperature: the model accepts only its own.")
        else:
            low_lists = _first_token_logprobs(low_temperature_reply)
            space = infer_logprob_space(logprob_lists[0], low_lists[0] if low_lists else logprob_lists[0][:0])
    # 3. More samples: do the tokens fit the probabilities listed for them?
    fit = None
    if samples and k:
        more = await probe.sample_more(samples - n_returned, n_returned)
        fit = measure_sample_fit([*reply.completions, *more])
    return Diagnosis(
        provider=transport.provider.name,
        model=reply.model or model,
        n_asked=n_requested,
        n_given=n_returned,
        n_max=probe.n_max,
        top_logprobs_asked=probe.k or 0,
        top_logprobs=k,
        real=has_logprobs,
        space=space,
        fit=fit,
        seconds=probe.seconds,
        usage=probe.usage,
        findings=(
            _describe_n(n_requested, n_returned, probe.n_max),
            _describe_logprobs(probe.k, k, has_logprobs),
            *([_SPACE_FINDINGS[space]] if k > 1 else []),
            *([fit.finding] if fit else []),
            f"Latency: {probe.seconds:.2f} s for one token.",
            *probe.refusals,
            *reply.notes,
        ),
    )


def infer_logprob_space(baseline_logprobs: F32, low_temperature_logprobs: F32) -> LogprobSpace:
    """Compare the same position's list at temperature 1 and at 0.25.

    Args:
        baseline_logprobs: (K,) float32, nats, descending, at temperature 1.
        low_temperature_logprobs: (K',) float32, nats, descending, at temperature 0.25.

    Returns:
        "raw" if the gaps to the first entry agree, "after_temperature" if those at low temperature are four times as
        wide, else "unknown".
    """
    k = min(len(baseline_logprobs), len(low_temperature_logprobs))
    gaps = baseline_logprobs[:1] - baseline_logprobs[1:k]
    low_gaps = low_temperature_logprobs[:1] - low_temperature_logprobs[1:k]
    usable = np.isfinite(gaps) & np.isfinite(low_temperature_logprobs[1:k]) & (gaps > _MIN_GAP)
    if not usable.any():
        return "unknown"
    ratio = float(np.median(low_gaps[usable] / gaps[usable]))
    if 0.8 < ratio < 1.25:
        return "raw"
    return "after_temperature" if 0.8 < ratio * _LOW_TEMPERATURE < 1.25 else "unknown"


class _Probe:
    """Sends calls of one token, and reduces them when the provider refuses."""

    def __init__(self, transport: Transport | CustomTransport, codec: Codec, model: str | None) -> None:
        self.transport, self.codec, self.model = transport, codec, model
        self.n = 2
        self.n_max: int | None = None
        capabilities = capabilities_of(transport.provider, model)
        self.table_n_max = capabilities.n_max
        self.k: int | None = capabilities.top_logprobs_max or None
        self.reasoning_fields: dict[str, Any] = {}
        if capabilities.thinking != "always" and capabilities.thinks(transport.provider.extra_body):
            by_effort = transport.provider.codec != "openai_responses"
            self.reasoning_fields = {"reasoning_effort": "none"} if by_effort else {"reasoning": {"effort": "none"}}
        self.max_tokens_param = "max_tokens"
        self.usage = Usage()
        self.seconds = 0.0
        self.refusals: list[str] = []

    async def send(self, *, temperature: float) -> Reply:
        """Send one call. Each refusal that states its reason reduces one value, so this ends."""
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
        """Return ``count`` more completions at temperature 1; one per call if calls returned one (``n_per_call``)."""
        completions: list[Completion] = []
        while len(completions) < count:
            n_max = 1 if n_per_call < 2 else min(self.n_max or count, self.table_n_max or count)
            self.n = min(n_max, count - len(completions))
            reply = await self.send(temperature=1.0)
            if not reply.completions:
                break
            completions += reply.completions
        return completions[: max(count, 0)]

    async def _send_once(self, sampling: Mapping[str, Any]) -> Reply:
        provider = self.transport.provider
        request = CompletionRequest(provider, self.model, _PROMPT, self.n, self.k, sampling=sampling)
        data = await self.transport.send(self.codec.request(request))
        if isinstance(data, Reply):
            return data
        if isinstance(data, bytes):
            try:
                return self.codec.parse(data)
            except SwiftClientError as error:
                redact_error(error, self.transport.secrets)
                raise
        return Reply(completions=tuple(data), usage=Usage())

    def _reduce_request(self, error: ProviderError) -> bool:
        parameter_limit = None
        if isinstance(error, BadRequestError):
            values = {"n": self.n, "top_logprobs": self.k or 0}
            parameter_limit = parse_parameter_limit(error.message, param=error.param, request_values=values)
        if self.k is not None and is_logprobs_refusal(error):
            self.k = None
        elif parameter_limit and parameter_limit[0] == "n":
            self.n = self.n_max = parameter_limit[1]
        elif parameter_limit:
            self.k = parameter_limit[1] or None
        elif self.max_tokens_param == "max_tokens" and "max_completion_tokens" in error.message:
            self.max_tokens_param = "max_completion_tokens"  # the only name that OpenAI's reasoning models accept
        else:
            return False
        self.refusals.append(f"Refused: {error.message}")
        return True


def _first_token_logprobs(reply: Reply) -> list[F32]:
    """Return the finite part of the first token's list, for each completion that has one."""
    lists = [completion.top_logprobs[0] for completion in reply.completions if completion.top_logprobs.size]
    return [row[np.isfinite(row)] for row in lists]


def _describe_n(n_requested: int, n_returned: int, n_max: int | None) -> str:
    if n_max is not None:
        return f"n: refused above {n_max}; more completions need more calls."
    if n_returned < n_requested:
        return f"n: requested {n_requested}, got {n_returned} without an error; more completions need more calls."
    return f"n: requested {n_requested}, got {n_returned}: one call returns several completions."


def _describe_logprobs(k_requested: int | None, k_returned: int, has_logprobs: bool) -> str:
    if not has_logprobs:
        return "Logprobs: none that can be used; selection will use only the texts."
    if k_returned == 0:
        return "Logprobs: only for the chosen tokens, without alternatives."
    return f"Logprobs: real, with {k_returned} alternatives per token ({k_requested} requested)."


_SPACE_FINDINGS: Mapping[LogprobSpace, str] = {
    "raw": "Temperature: applied after the logprobs were taken; they mean the same at every temperature.",
    "after_temperature": "Temperature: applied before the logprobs were taken; compare scores at one temperature only.",
    "unknown": "Temperature: the two lists do not show whether it was applied before the logprobs were taken.",
}


_MIN_P_VALUE = 0.001  # p-value below which the lists are rejected


@dataclass(frozen=True, kw_only=True)
class SampleFit:
    """First tokens sampled at temperature 1, compared with the lists that came with them.

    Attributes:
        samples: number of samples.
        token: the most frequent token.
        frequency: its share of the samples.
        low: lower end of Wilson's 95 % interval of that share.
        high: its upper end.
        stated: mean probability in the lists of the samples that have this token.
        log_score: nats, mean log probability of the sampled tokens.
        expected: nats, the log score expected if the lists are true.
        chance_of_less: probability, if the lists are true, of a log score this low or lower.
        chance_of_more: the same for this high or higher.
    """

    samples: int
    token: str
    frequency: float
    low: float
    high: float
    stated: float
    log_score: float
    expected: float
    chance_of_less: float
    chance_of_more: float

    @property
    def finding(self) -> str:
        """One sentence for people."""
        facts = (
            f"{self.token!r} is in {self.frequency:.0%} of {self.samples} samples ({self.low:.0%} to {self.high:.0%}) "
            f"and listed with {self.stated:.0%}; log score {self.log_score:.2f}, expected {self.expected:.2f}"
        )
        if self.chance_of_less < _MIN_P_VALUE:
            return f"Fit: NO. {facts}: the tokens are not drawn from the lists; do not trust them."
        if self.chance_of_more < _MIN_P_VALUE:
            return f"Fit: colder than stated. {facts}: tokens are likelier than the lists say (top_p, or no sampling)."
        return f"Fit: yes. {facts}."


def measure_sample_fit(completions: Sequence[Completion]) -> SampleFit | None:
    """Compare each completion's first token with its list. Returns None if fewer than two have a list."""
    samples = [completion for completion in completions if completion.tokens and completion.top_logprobs.shape[1] > 0]
    if len(samples) < 2:
        return None
    # Lists of different lengths are padded with -inf: (N, K).
    width = max(sample.top_logprobs.shape[1] for sample in samples)
    top_logprobs = np.full((len(samples), width), -np.inf, np.float32)
    for row, sample in zip(top_logprobs, samples, strict=True):
        row[: sample.top_logprobs.shape[1]] = sample.top_logprobs[0]
    logprobs = np.array([sample.logprobs[0] for sample in samples], np.float32)
    censored = np.array([sample.censored[0] for sample in samples], np.bool_)
    token, count = Counter(sample.tokens[0] for sample in samples).most_common(1)[0]
    low, high = wilson_interval(count, len(samples))
    fit_test = run_fit_test(logprobs, top_logprobs, censored)
    less, more = p_values(logprobs, top_logprobs, censored)
    return SampleFit(
        samples=len(samples),
        token=token,
        frequency=count / len(samples),
        low=low,
        high=high,
        stated=float(np.exp([sample.logprobs[0] for sample in samples if sample.tokens[0] == token]).mean()),
        log_score=fit_test.score,
        expected=fit_test.expected,
        chance_of_less=less,
        chance_of_more=more,
    )


def wilson_interval(successes: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share, 0..1 (Wilson 1927), which holds for few samples and at 0 and 1."""
    share, correction = successes / total, z * z / total
    center = (share + correction / 2) / (1 + correction)
    half_width = z / (1 + correction) * math.sqrt(share * (1 - share) / total + correction / (4 * total))
    return max(0.0, center - half_width), min(1.0, center + half_width)
