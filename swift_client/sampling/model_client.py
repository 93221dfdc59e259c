"""One model of one provider: its connections, its limits, and its prices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from swift_client.adapters import Codec, Provider, Transports
from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES
from swift_client.adapters.providers.provider import Capabilities
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.pricing import Price, Prices, check_prices, find_price
from swift_client.sampling.budget import BudgetTracker
from swift_client.sampling.call_plan import PlanChoice, asks_for_caching, estimate_prompt_tokens, plan
from swift_client.sampling.context import CallContext, SampleRequest
from swift_client.sampling.endpoint import Endpoint
from swift_client.sampling.rate_limiter import RateLimit
from swift_client.sampling.request_budget import RequestBudget, find_max_tokens
from swift_client.types import Event, Usage

_DEFAULT_COMPLETION_TOKENS = 500  # assumed tokens of a completion without ``max_tokens``


@dataclass
class _Lookup:
    """The last lookup of a price, and the minute in which it was made."""

    minute: int | None = None
    price: Price | None = None


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """The prices of a reranker's model."""

    provider: Provider
    model: str | None
    # The address that requests go to; a price list does not know the caller's own server.
    base_url: str | None
    prices: Prices
    # A lookup takes half a millisecond, and the first one imports a price list. Prices may depend on the time of day.
    _lookup: _Lookup = field(default_factory=_Lookup, init=False, repr=False, compare=False)

    @property
    def is_looked_up(self) -> bool:
        """True if the price was looked up before, so that doing it again is fast."""
        return self._lookup.minute is not None

    @classmethod
    def create(cls, provider: Provider, model: str | None, client: object | None, prices: object) -> CostModel:
        """Check ``prices=`` of the reranker. Raises ConfigurationError if it has the wrong type."""
        base_url = provider.base_url if client is None else str(getattr(client, "base_url", ""))
        return cls(provider=provider, model=model, base_url=base_url, prices=check_prices(prices))

    def price(self) -> Price | None:
        """Return the price, or None if it is unknown. The first call may read a price list and is slow.

        Raises:
            MissingExtraError: the price would have to be looked up, and the extra "prices" is not installed.
        """
        minute = int(time.time() // 60)
        lookup = self._lookup
        if lookup.minute != minute:
            # The price first: another thread that sees the minute must see the price of it.
            lookup.price = find_price(self.provider.name, self.model, self.base_url, self.prices)
            lookup.minute = minute
        return lookup.price

    def cost(self, usage: Usage, prompt_tokens: int | None = None) -> float | None:
        """Return the cost of some usage in US dollars, or None if the price is unknown.

        Args:
            usage: the tokens of one call, or of several with the same prompt.
            prompt_tokens: prompt tokens of one call; None: ``usage`` is of one.
        """
        try:
            price = self.price()
        except MissingExtraError:
            return None
        if price is None:
            return None
        prompt_tokens = usage.prompt_tokens if prompt_tokens is None else prompt_tokens
        cache = PREFIX_CACHES.get(self.provider.name)
        # Providers rarely count what they write to their cache. If caching is automatic and writing has a price, all
        # tokens that were not read from the cache were written to it.
        is_automatic = cache and not cache.needs_cache_control and cache.cached_tokens(prompt_tokens)
        return price.at(prompt_tokens).cost(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_prompt_tokens,
            written_tokens=usage.prompt_tokens - usage.cached_prompt_tokens if is_automatic else 0,
        )

    async def plan(
        self, request: SampleRequest, *, n_max: int | None, warm_cache: Literal["auto"] | bool
    ) -> PlanChoice | None:
        """Return a plan in which the first call goes alone to fill the prompt cache; None if that saves nothing."""
        cache = PREFIX_CACHES.get(self.provider.name)
        is_one_call = n_max is None or request.n <= n_max
        if warm_cache != "auto" or cache is None or n_max is None or is_one_call or request.deadline is not None:
            return None
        prompt_tokens = estimate_prompt_tokens(request)
        if not cache.cached_tokens(prompt_tokens):
            return None
        try:
            price = await asyncio.to_thread(self.price)
        except MissingExtraError:
            return None
        choice = plan(
            request.n,
            n_max=n_max,
            prompt_tokens=prompt_tokens,
            completion_tokens=find_max_tokens(request.sampling) or _DEFAULT_COMPLETION_TOKENS,
            price=price,
            cache=cache,
            has_cache_control=asks_for_caching(request.messages, request.sampling),
        )
        return choice if choice.chosen.first_alone else None

    async def create_request_budget(self, tracker: BudgetTracker, request: SampleRequest) -> RequestBudget:
        """Return the budget of one request, which spends from ``tracker``.

        Raises:
            ConfigurationError: the budget is in dollars and the price is unknown; nothing was sent.
        """
        fields = {**self.provider.extra_body, **request.sampling}
        price = None
        if tracker.budget.usd is not None:
            price = await asyncio.to_thread(self.price)
            if price is None:
                own_price = "Price(input=..., output=...)"
                own_price = own_price if self.model is None else f"{{{self.model!r}: {own_price}}}"
                raise ConfigurationError(
                    f"The price of {self.model!r} is unknown, so a budget in US dollars cannot be kept.",
                    hint=f"Pass prices={own_price} to the reranker, or use Budget(tokens=...).",
                    provider=self.provider.name,
                )
        return RequestBudget(tracker, request.messages, fields, price)


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelClient:
    """A model that calls can go to. Safe to share between tasks, threads and event loops.

    What ``endpoint`` learns about the model (limits, refused fields) applies to all later calls.
    """

    provider: Provider
    model: str | None
    codec: Codec
    capabilities: Capabilities  # the model's entry in the provider's table
    transports: Transports
    endpoint: Endpoint
    rate_limit: RateLimit
    max_retries: int
    on_event: Callable[[Event], None] | None
    cost: CostModel

    @property
    def name(self) -> str:
        """The provider and the model, such as "openai/gpt-4.1-mini"."""
        return "/".join(filter(None, (self.provider.name, self.model)))

    async def call_context(
        self,
        *,
        must_have_logprobs: bool = False,
        token_ids: bool = False,
        phase: Literal["sampling", "verification", "consensus"] = "sampling",
    ) -> CallContext:
        """Return what calls on the running event loop need.

        Args:
            must_have_logprobs: whether a reply without logprobs is an error.
            token_ids: whether to decode ``Completion.top_ids`` as well.
            phase: as of ``Event``.
        """
        # The first lookup of a price may import a price list, which takes half a second.
        if self.on_event and not self.cost.is_looked_up:
            await asyncio.to_thread(self.cost.cost, Usage())
        return CallContext(
            provider=self.provider,
            model=self.model,
            codec=self.codec,
            transport=await self.transports.get(),
            endpoint=self.endpoint,
            rate_limiter=self.rate_limit.for_this_process(),
            max_retries=self.max_retries,
            must_have_logprobs=must_have_logprobs,
            on_event=self.on_event,
            cost_of=self.cost.cost,
            token_ids=token_ids,
            phase=phase,
        )
