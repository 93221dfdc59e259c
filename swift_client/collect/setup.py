"""Set-up shared by direct and batch collection: checked arguments, prices, seeds, and the calls' context."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.adapters import (
    CustomProvider,
    CustomTransport,
    Provider,
    Transport,
    Transports,
    capabilities_of,
    load_codec,
    resolve,
)
from swift_client.dataset.questions import load_questions
from swift_client.dataset.splits import hash_fraction
from swift_client.errors import ConfigurationError
from swift_client.pricing import Price
from swift_client.sampling import (
    CallContext,
    Endpoint,
    RateLimit,
    RateLimiter,
    SampleRequest,
    create_sample_request,
    find_max_tokens,
    resolve_sampling,
)
from swift_client.sampling.model_client import CostModel, ModelClient
from swift_client.store import Meta, StoredQuestion
from swift_client.types import Message, Usage
from swift_client.validation import require_int, require_positive

# Upper limit of the seed of a question's first completion, so those of the other completions fit in
# 31 bits as well.
SEED_RANGE = 2**31 - 2**16


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices per million tokens, in any one currency.

    Raises:
        ConfigurationError: a price is negative or not finite.
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(price) and price >= 0 for price in (self.prompt, self.completion)):
            raise ConfigurationError(
                f"Prices are {self.prompt} and {self.completion}.", hint="Give finite numbers of at least 0."
            )

    def cost(self, usage: Usage) -> float:
        """Return the cost of ``usage``."""
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6

    def max_prompt_cost(self, messages: Sequence[Message]) -> float:
        """Return an upper bound on the cost of a prompt: no tokenizer makes more tokens than there are bytes."""
        size = len(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))
        return self.cost(Usage(prompt_tokens=size))


class CollectSetup:
    """The checked arguments of one run, as ``collect`` documents them.

    Raises:
        ConfigurationError: an argument or a question is wrong.
    """

    def __init__(
        self,
        questions: str | os.PathLike[str] | Sequence[StoredQuestion],
        *,
        provider: str | Provider | CustomProvider,
        model: str | None,
        base_url: str | None,
        n: int,
        top_logprobs: int | None,
        prices: Prices | None,
        max_cost: float | None,
        max_requests: int | None,
        seed: int | None,
        timeout: float,
        max_retries: int,
        sampling: dict[str, Any],
    ) -> None:
        self.notes: tuple[str, ...] = ()
        if isinstance(questions, (str, os.PathLike)):
            loaded = load_questions(questions)
            self.questions, self.notes = loaded.questions, loaded.notes
        else:
            self.questions = list(questions)
        fields = dict(sampling)
        extra_body = fields.pop("extra_body", None)
        sampling = resolve_sampling(fields, extra_body)
        self.n, self.seed, self.sampling, self.prices = n, seed, sampling, prices
        self.max_cost, self.max_requests, self._max_retries = max_cost, max_requests, max_retries
        require_int("n", n, low=1, high=1024)
        require_int("max_retries", max_retries, low=0)
        require_positive("timeout", timeout)
        if max_requests is not None:
            require_int("max_requests", max_requests, low=1)
        if seed is not None:
            require_int("seed", seed, low=0, high=2**62)
        self._max_completion_cost = self._check_max_cost()
        for question in self.questions:
            create_sample_request(question.messages, n, seed=seed, sampling=sampling)
        # The provider, and the logprobs that it is asked for.
        self.provider, self.model = resolve(provider, model, base_url)
        capabilities = capabilities_of(self.provider, self.model)
        k = capabilities.top_logprobs_max if top_logprobs is None else top_logprobs
        require_int("top_logprobs", k, low=0)
        has_none = self.provider.logprobs_request == "none" or (capabilities.top_logprobs_max == 0 and not k)
        self.endpoint = Endpoint(
            capabilities, top_logprobs=None if has_none else k, force_logprobs=top_logprobs is not None
        )
        self.meta = Meta(provider=self.provider.name, model=self.model, top_logprobs=k, sampling=sampling)

    def _check_max_cost(self) -> float:
        """Return the most that one completion may cost; 0 without a limit on the cost."""
        if self.max_cost is None:
            return 0.0
        require_positive("max_cost", self.max_cost)
        if self.prices is None:
            raise ConfigurationError(
                "max_cost needs prices.", hint="Give the prices of a million prompt and completion tokens."
            )
        max_tokens = find_max_tokens(self.sampling)
        if max_tokens is None:
            raise ConfigurationError(
                "max_cost needs max_tokens: without it the cost of a call has no limit.",
                hint="Give max_tokens as well.",
            )
        return self.prices.cost(Usage(completion_tokens=max_tokens))

    def for_questions(self, questions: Sequence[StoredQuestion]) -> CollectSetup:
        """Return these settings for other questions, which were checked before; the endpoint is shared."""
        setup = copy.copy(self)
        setup.questions = list(questions)
        return setup

    def create_context(
        self,
        transport: Transport | CustomTransport,
        *,
        rate_limiter: RateLimiter,
        require_logprobs: bool,
        token_ids: bool,
    ) -> CallContext:
        """Return the context of the run's HTTP calls."""
        return CallContext(
            provider=self.provider,
            model=self.model,
            codec=load_codec(self.provider),
            transport=transport,
            endpoint=self.endpoint,
            rate_limiter=rate_limiter,
            max_retries=self._max_retries,
            must_have_logprobs=require_logprobs,
            on_event=None,
            token_ids=token_ids,
        )

    def create_model_client(
        self, transport: Transport | CustomTransport, *, rate_limit: RateLimit, client: object | None
    ) -> ModelClient:
        """Return the sampled model as a judge asks it, with the connections and the limit of the run's own calls."""
        price = Price(input=self.prices.prompt, output=self.prices.completion) if self.prices else None
        return ModelClient(
            provider=self.provider,
            model=self.model,
            codec=load_codec(self.provider),
            capabilities=capabilities_of(self.provider, self.model),
            transports=Transports(lambda: transport),
            endpoint=self.endpoint,
            rate_limit=rate_limit,
            max_retries=self._max_retries,
            on_event=None,
            cost=CostModel.create(self.provider, self.model, client, price),
        )

    def sample_request(self, question: StoredQuestion, count: int, first_index: int) -> SampleRequest:
        """Return the request for ``count`` completions of a question, numbered from ``first_index``."""
        seed = completion_seed(question.id, self.seed, first_index)
        return create_sample_request(question.messages, count, seed=seed, sampling=self.sampling)

    def max_sample_cost(self, question: StoredQuestion) -> float:
        """Return the most that one completion of a question may cost with its prompt; 0 without prices."""
        return self._max_completion_cost + (self.prices.max_prompt_cost(question.messages) if self.prices else 0.0)

    def cost_bound(self, question: StoredQuestion) -> float | None:
        """Return the most that one completion of a question may cost with its prompt; None if that is unknown."""
        max_tokens = find_max_tokens(self.sampling)
        if self.prices is None or max_tokens is None:
            return None
        completion_cost = self.prices.cost(Usage(completion_tokens=max_tokens))
        return completion_cost + self.prices.max_prompt_cost(question.messages)

    def missing_ranges(self, existing: set[int]) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) of each run of indices below n that ``existing`` lacks: 0 1 4 5 as (0, 2), (4, 6)."""
        missing = [index for index in range(self.n) if index not in existing]
        for _, run in itertools.groupby(enumerate(missing), key=lambda pair: pair[1] - pair[0]):
            indices = [index for _, index in run]
            yield indices[0], indices[-1] + 1


def question_seed(question_id: str, seed: int) -> int:
    """Return the seed of the question's first completion.

    Each question has its own seeds. If all shared the same seeds, a local server would draw the same random numbers for
    each, and their results would be correlated.
    """
    return (seed + int(hash_fraction(f"seed:{question_id}") * SEED_RANGE)) % SEED_RANGE


def completion_seed(question_id: str, seed: int | None, index: int) -> int | None:
    """Return the seed of a question's completion ``index``; None without a seed."""
    return None if seed is None else question_seed(question_id, seed) + index
