"""Money and budgets in ``best_of``: what the model's tokens cost, what may be spent, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from swift_client.adapters import Provider
from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES
from swift_client.errors import BudgetExceededError, ConfigurationError, MissingExtraError
from swift_client.pricing import Price, Prices, check_prices, find_price
from swift_client.sampling import BudgetTracker, RequestBudget, SampleRequest, SampleResult, find_max_tokens
from swift_client.sampling.call_plan import PlanChoice, asks_for_caching, estimate_prompt_tokens, plan
from swift_client.types import Selection, Stopped

_DEFAULT_COMPLETION_TOKENS = 500
"""Tokens that a completion is reckoned with where no ``max_tokens`` is given."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Where a reranker's prices come from."""

    provider_name: str
    model: str | None
    base_url: str | None
    """Where requests really go: an own server costs nothing that a price list knows."""
    prices: Prices

    @classmethod
    def create(cls, provider: Provider, model: str | None, client: object | None, prices: object) -> CostModel:
        """Check ``prices=`` of the reranker. Raises ConfigurationError where it is of another kind."""
        base_url = provider.base_url if client is None else str(getattr(client, "base_url", ""))
        return cls(provider_name=provider.name, model=model, base_url=base_url, prices=check_prices(prices))

    def price(self) -> Price | None:
        """Return the price, None where nobody knows it; slow at first.

        Raises:
            MissingExtraError: it would have to be looked up and the extra is not installed.
        """
        return find_price(self.provider_name, self.model, self.base_url, self.prices)

    def cost(self, result: SampleResult) -> float | None:
        """Return what a draw cost in US dollars, None where no price is known."""
        try:
            price = self.price()
        except MissingExtraError:
            return None
        if price is None:
            return None
        usage, cache = result.usage, PREFIX_CACHES.get(self.provider_name)
        # Counts of what was written are rare. Where caching is automatic and writing has a price, all else was written.
        automatic = (
            cache is not None and not cache.needs_cache_control and cache.cached_tokens(result.max_prompt_tokens)
        )
        written = usage.prompt_tokens - usage.cached_prompt_tokens if automatic else 0
        return price.at(result.max_prompt_tokens).cost(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_prompt_tokens,
            written_tokens=written,
        )

    async def plan(
        self,
        sample_request: SampleRequest,
        provider: Provider,
        *,
        n_max: int | None,
        warm_cache: Literal["auto"] | bool,
    ) -> PlanChoice | None:
        """Return how the completions are best asked for, None where there is nothing to gain from waiting.

        Nothing is looked up for prompts that go in one call, are too short, or are in a hurry.
        """
        cache = PREFIX_CACHES.get(provider.name)
        one_call = n_max is None or sample_request.n <= n_max
        if warm_cache != "auto" or cache is None or n_max is None or one_call or sample_request.deadline is not None:
            return None
        tokens = estimate_prompt_tokens(sample_request)
        if not cache.cached_tokens(tokens):
            return None
        try:
            price = await asyncio.to_thread(self.price)
        except MissingExtraError:
            return None
        found = plan(
            sample_request.n,
            n_max=n_max,
            prompt_tokens=tokens,
            completion_tokens=find_max_tokens(sample_request.sampling) or _DEFAULT_COMPLETION_TOKENS,
            price=price,
            cache=cache,
            has_cache_control=asks_for_caching(sample_request.messages, sample_request.sampling),
        )
        return found if found.chosen.first_alone else None

    async def create_request_budget(
        self, tracker: BudgetTracker, sample_request: SampleRequest, provider: Provider
    ) -> RequestBudget:
        """Return what keeps a draw to the budget.

        Raises:
            ConfigurationError: the budget is in dollars and no price is known; nothing was sent.
        """
        fields = {**provider.extra_body, **sample_request.sampling}
        if tracker.budget.usd is None:
            return RequestBudget(tracker, sample_request.messages, fields, None)
        price = await asyncio.to_thread(self.price)
        if price is None:
            raise ConfigurationError(
                f"The price of {self.model!r} is unknown, so that a budget in US dollars cannot be kept.",
                hint="Pass prices=Price(input=..., output=...) to the reranker, or use Budget(tokens=...).",
                provider=self.provider_name,
            )
        return RequestBudget(tracker, sample_request.messages, fields, price)


def budget_error(result: SampleResult, sample_request: SampleRequest, best: Selection | None) -> BudgetExceededError:
    """Return the error for a draw that the budget ended before enough completions came."""
    came = len(result.completions)
    needed = f" of the {sample_request.min_completions} that are needed" if sample_request.min_completions > 1 else ""
    failed = f" The last failure: {result.failures[-1].error.message}" if result.failures else ""
    error = BudgetExceededError(
        f"{result.budget_stop_reason} {came or 'No'} completion{'s' * (came != 1)}{needed} came.{failed}",
        best=best,
        hint="Raise the budget, or lower max_tokens= or n=.",
    )
    error.__cause__ = result.failures[-1].error if result.failures else None
    return error


def budget_stop(result: SampleResult, sample_request: SampleRequest) -> tuple[Stopped | None, Sequence[str]]:
    """Return what a Selection says of a budget that ended its draw: as a value, and in a note."""
    if result.budget_stop_reason is None:
        return None, ()
    came, paid = len(result.completions), len(result.completions) + result.n_cancelled
    stopped = Stopped(
        rule="budget",
        after=came,
        planned=sample_request.n,
        posterior=None,
        reason=result.budget_stop_reason,
        saved_tokens=round(result.mean_completion_tokens * max(0, sample_request.n - paid)),
    )
    return stopped, (
        f"The budget ended the draw after {came} of {sample_request.n} completions. {result.budget_stop_reason}",
    )
