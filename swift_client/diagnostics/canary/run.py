"""One run of the canary: its price before, its answers, and what they show against earlier runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swift_client.diagnostics.canary.compare import FIRST_LIST, Movement, compare_runs
from swift_client.diagnostics.canary.history import (
    CanaryRun,
    default_path,
    extend,
    read_canary,
    write_canary,
)
from swift_client.diagnostics.canary.questions import ANSWERS, MAX_TOKENS, QUESTIONS
from swift_client.errors import SwiftClientError
from swift_client.monitoring.statistics import STATISTICS, question_statistics
from swift_client.reranker import AsyncSwiftReranker
from swift_client.sampling import Sampler, SampleResult, create_sample_request
from swift_client.sampling.call_plan import estimate_prompt_tokens
from swift_client.types import Completion, Usage

_MAX_FAILED = 0.25  # share of the requests
_TEMPLATE_TOKENS = 12  # which chat templates add to a prompt, about


@dataclass(frozen=True, kw_only=True)
class CanaryPrice:
    """The most that a run costs.

    Attributes:
        requests: number of requests, one answer each.
        prompt_tokens: tokens of their prompts, estimated.
        completion_tokens: tokens of the answers, at most.
        usd: US dollars, at most; None if the price is unknown.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run against an earlier one.

    Attributes:
        time: Unix time of the earlier run, seconds.
        identities_before: names of model and system in its replies.
        movements: every statistic, those that moved and those that did not.
        is_renamed: whether the later run has names that the earlier one lacks; False if that has none.
    """

    time: float
    identities_before: tuple[str, ...]
    movements: tuple[Movement, ...]
    is_renamed: bool

    @property
    def moved(self) -> tuple[Movement, ...]:
        """The statistics that moved."""
        return tuple(movement for movement in self.movements if movement.moved)


@dataclass(frozen=True, kw_only=True)
class CanaryResult:
    """A run of the canary.

    Attributes:
        provider: name of the provider.
        model: name of the model that was requested.
        path: the file that keeps the first and the latest run.
        count: number of runs so far, this one included.
        time: Unix time in seconds.
        answers: number of answers that arrived.
        identities: names of model and system in the replies; empty if replies have none.
        usage: tokens and requests.
        cost: US dollars; None if the price is unknown.
        since_last: comparison with the run before; None for the first run.
        since_first: comparison with the first run; None for the first two runs.
        failures: one sentence per answer that did not arrive.
    """

    provider: str
    model: str
    path: str
    count: int
    time: float
    answers: int
    identities: tuple[str, ...]
    usage: Usage
    cost: float | None
    since_last: Comparison | None
    since_first: Comparison | None
    failures: tuple[str, ...]

    @property
    def moved(self) -> bool:
        """True if a statistic differs from the run before or the first one; new names alone are no change."""
        return any(comparison.moved for comparison in (self.since_last, self.since_first) if comparison)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return {**asdict(self), "moved": self.moved}


class Canary:
    """The canary of one model.

    Args:
        reranker: the model, without a head.
        base_url: the address, if it is not the provider's own.
        path: the file that keeps runs; default: one in the user's folder of states.
    """

    def __init__(self, reranker: AsyncSwiftReranker, *, base_url: str | None = None, path: Path | None = None) -> None:
        config = reranker.pipeline.config
        self._model_client = reranker.pipeline.model_client
        self.provider, self.model = config.provider.name, config.model or ""
        self.path = path or default_path(self.provider, self.model, base_url)
        # Read now: a file that cannot be used is an error before anything is paid for.
        self._earlier = read_canary(self.path, provider=self.provider, model=self.model)

    def price(self) -> CanaryPrice:
        """Return the most that a run costs."""
        estimates = (estimate_prompt_tokens(create_sample_request(text, 1)) for text in QUESTIONS)
        prompt_tokens = sum(tokens + _TEMPLATE_TOKENS for tokens in estimates) * ANSWERS
        requests = len(QUESTIONS) * ANSWERS
        usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=requests * MAX_TOKENS, calls=requests)
        return CanaryPrice(
            requests=requests,
            prompt_tokens=prompt_tokens,
            completion_tokens=usage.completion_tokens,
            usd=self._cost(usage),
        )

    def _cost(self, usage: Usage) -> float | None:
        """Return the cost of requests that are all about as long, in US dollars; None if the price is unknown."""
        return self._model_client.cost.cost(usage, usage.prompt_tokens // max(usage.calls, 1))

    async def run(self) -> CanaryResult:
        """Ask the questions, compare the answers with the earlier runs, and write the file.

        Raises:
            SwiftClientError: more than a quarter of the requests failed; the file is unchanged.
            ConfigurationError: the file cannot be written.
        """
        requests = [
            create_sample_request(text, 1, sampling={"max_tokens": MAX_TOKENS})
            for text in QUESTIONS
            for _ in range(ANSWERS)
        ]
        context = await self._model_client.call_context()
        outcomes = await asyncio.gather(
            *(Sampler(context, request).run() for request in requests), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for failure in failures:
            if not isinstance(failure, SwiftClientError) or len(failures) > _MAX_FAILED * len(outcomes):
                raise failure
        results = [outcome if isinstance(outcome, SampleResult) else None for outcome in outcomes]
        arrived = [result for result in results if result]
        answers = [
            [result.completions[0] for result in results[start : start + ANSWERS] if result]
            for start in range(0, len(results), ANSWERS)
        ]
        identities = {name for result in arrived for name in result.fingerprints}
        run = create_run(answers, identities=sorted(identities), seconds=time.time())
        usage = sum((result.usage for result in arrived), Usage())
        earlier = self._earlier
        content = extend(earlier, run, provider=self.provider, model=self.model)
        result = CanaryResult(
            provider=self.provider,
            model=self.model,
            path=str(self.path),
            count=content.count,
            time=run.time,
            answers=sum(map(len, answers)),
            identities=run.identities,
            usage=usage,
            cost=self._cost(usage),
            since_last=None if earlier is None else _compare(earlier.last, run),
            since_first=None if earlier is None or earlier.count < 2 else _compare(earlier.first, run),
            failures=tuple(map(str, failures)),
        )
        write_canary(self.path, content)
        return result


def create_run(answers: Sequence[Sequence[Completion]], *, identities: Sequence[str], seconds: float) -> CanaryRun:
    """Return the numbers of a run.

    Args:
        answers: Q lists of at most N completions.
        identities: names of model and system in the replies.
        seconds: Unix time.
    """
    # Statistics of one answer alone; those that need several answers are NaN and say nothing.
    rows = [[question_statistics([answer]) for answer in question] for question in answers]
    return CanaryRun(
        time=seconds,
        identities=tuple(sorted(set(identities))),
        names=tuple(STATISTICS),
        statistics=tuple(tuple(tuple(map(_finite, row)) for row in question) for question in rows),
        first_tokens=tuple(tuple(map(_first_token, question)) for question in answers),
    )


def _first_token(answer: Completion) -> tuple[float, ...]:
    """Return the falling probabilities of the first token's alternatives; which tokens they are is not kept."""
    if not answer.top_logprobs.size:
        return ()
    logprobs = answer.top_logprobs[0].astype(np.float64)
    return tuple(np.exp(logprobs[np.isfinite(logprobs)]).tolist())


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _compare(earlier: CanaryRun, run: CanaryRun) -> Comparison:
    return Comparison(
        time=earlier.time,
        identities_before=earlier.identities,
        movements=compare_runs(earlier, run),
        is_renamed=bool(earlier.identities and set(run.identities) - set(earlier.identities)),
    )


def label_of(name: str) -> str:
    """Return the name of a movement's statistic for people."""
    return "first token" if name == FIRST_LIST else STATISTICS[name].label if name in STATISTICS else name
