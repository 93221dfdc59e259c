"""Money and budgets in ``best_of``: what the model's tokens cost, what may be spent, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from swift_client.adapters import Provider
from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES
from swift_client.errors import BudgetExceededError, ConfigurationError, MissingExtraError
from swift_client.pricing import Price, Prices, checked, price_of
from swift_client.sampling import Account, Budget, Draw, Meter, Order
from swift_client.sampling.call_plan import Planned, asks_for_caching, plan, rough_tokens
from swift_client.sampling.meter import max_tokens
from swift_client.types import Selection, Stopped

_ANSWER = 500
"""Tokens that a completion is reckoned with where no ``max_tokens`` is given."""


@dataclass(frozen=True, kw_only=True)
class Tariff:
    """Where a reranker's prices come from."""

    provider: str
    model: str | None
    base_url: str | None
    """Where requests really go: an own server costs nothing that a price list knows."""
    prices: Prices

    @classmethod
    def of(cls, row: Provider, model: str | None, client: object | None, prices: object) -> Tariff:
        """Check ``prices=`` of the reranker. Raises ConfigurationError where it is of another kind."""
        base_url = row.base_url if client is None else str(getattr(client, "base_url", ""))
        return cls(provider=row.name, model=model, base_url=base_url, prices=checked(prices))

    def price(self) -> Price | None:
        """Return the price, None where nobody knows it; slow at first.

        Raises:
            MissingExtraError: it would have to be looked up and the extra is not installed.
        """
        return price_of(self.provider, self.model, self.base_url, self.prices)

    def cost(self, drawn: Draw) -> float | None:
        """Return what a draw cost in US dollars, None where no price is known."""
        try:
            price = self.price()
        except MissingExtraError:
            return None
        if price is None:
            return None
        usage, cache = drawn.usage, PREFIX_CACHES.get(self.provider)
        # Counts of what was written are rare. Where caching is automatic and writing has a price, all else was written.
        automatic = cache is not None and not cache.marked and cache.holds(drawn.longest_prompt)
        written = usage.prompt_tokens - usage.cached_prompt_tokens if automatic else 0
        return price.at(drawn.longest_prompt).cost(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_prompt_tokens,
            written_tokens=written,
        )

    async def plan(
        self, order: Order, row: Provider, *, n_max: int | None, warm_cache: Literal["auto"] | bool
    ) -> Planned | None:
        """Return how the completions are best asked for, None where there is nothing to gain from waiting.

        Nothing is looked up for prompts that go in one call, are too short, or are in a hurry.
        """
        cache = PREFIX_CACHES.get(row.name)
        tokens = rough_tokens(order)
        if warm_cache != "auto" or cache is None or not cache.holds(tokens) or order.deadline is not None:
            return None
        if n_max is None or order.n <= n_max:
            return None
        try:
            price = await asyncio.to_thread(self.price)
        except MissingExtraError:
            return None
        found = plan(
            order.n,
            n_max=n_max,
            prompt_tokens=tokens,
            completion_tokens=max_tokens(order.sampling) or _ANSWER,
            price=price,
            cache=cache,
            marked=asks_for_caching(order.messages, order.sampling),
        )
        return found if found.chosen.first_alone else None

    async def meter(self, account: Account, order: Order, row: Provider) -> Meter:
        """Return what keeps a draw to the budget.

        Raises:
            ConfigurationError: the budget is in dollars and no price is known; nothing was sent.
        """
        if account.budget.usd is None:
            return Meter(account, order, row.extra_body, None)
        price = await asyncio.to_thread(self.price)
        if price is None:
            raise ConfigurationError(
                f"The price of {self.model!r} is unknown, so that a budget in US dollars cannot be kept.",
                hint="Pass prices=Price(input=..., output=...) to the reranker, or use Budget(tokens=...).",
                provider=self.provider,
            )
        return Meter(account, order, row.extra_body, price)


def account_of(budget: object) -> Account | None:
    """Return the account that ``best_of(budget=...)`` means: a Budget opens its own."""
    match budget:
        case None | Account():
            return budget
        case Budget():
            return budget.open()
    raise ConfigurationError(
        f"budget= takes a Budget, not {type(budget).__name__}.", hint="Such as Budget(usd=0.05) or Budget(tokens=4000)."
    )


def out_of_budget(drawn: Draw, order: Order, best: Selection | None) -> BudgetExceededError:
    """Return the error for a draw that the budget ended before enough completions came."""
    came = len(drawn.completions)
    needed = f" of the {order.min_completions} that are needed" if order.min_completions > 1 else ""
    failed = f" The last failure: {drawn.failures[-1].error.message}" if drawn.failures else ""
    error = BudgetExceededError(
        f"{drawn.over_budget} {came or 'No'} completion{'s' * (came != 1)}{needed} came.{failed}",
        best=best,
        hint="Raise the budget, or lower max_tokens= or n=.",
    )
    error.__cause__ = drawn.failures[-1].error if drawn.failures else None
    return error


def ended(drawn: Draw, order: Order) -> tuple[Stopped | None, Sequence[str]]:
    """Return what a Selection says of a budget that ended its draw: as a value, and in a note."""
    if drawn.over_budget is None:
        return None, ()
    came, paid = len(drawn.completions), len(drawn.completions) + drawn.cancelled
    stopped = Stopped(
        rule="budget",
        after=came,
        planned=order.n,
        posterior=None,
        reason=drawn.over_budget,
        saved_tokens=round(drawn.tokens_each * max(0, order.n - paid)),
    )
    return stopped, (f"The budget ended the draw after {came} of {order.n} completions. {drawn.over_budget}",)
