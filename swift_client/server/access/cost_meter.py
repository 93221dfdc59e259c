"""The cost of one request while it runs, and the cost that is expected of the next ones."""

from __future__ import annotations

from swift_client.server.access.limit_rules import Cost
from swift_client.server.config import BudgetConfig
from swift_client.types import Event, Selection, Usage

_WEIGHT = 0.1  # of the newest request in the running mean


class CostMeter:
    """Adds up what one request has paid for, call by call, so that it is known also if the request is cancelled."""

    def __init__(self) -> None:
        self.cost = Cost()

    def on_event(self, event: Event) -> None:
        """Add the cost of a reply."""
        if event.tokens is not None:
            self.cost = Cost(tokens=self.cost.tokens + event.tokens, usd=self.cost.usd + (event.cost or 0.0))

    def finish(self, selection: Selection | None) -> None:
        """Take the cost of an answer instead, if there is one: it includes estimates for calls that were cancelled."""
        if selection is not None:
            self.set(selection.usage, selection.cost)

    def set(self, usage: Usage, usd: float | None) -> None:
        """Take a cost instead, whose US dollars are None if the price is unknown."""
        self.cost = Cost(tokens=usage.prompt_tokens + usage.completion_tokens, usd=usd or 0.0)


class ExpectedCost:
    """The mean cost of a virtual model's requests; before the first one, the budget of a request.

    Args:
        budget: the budget, or None.
    """

    def __init__(self, budget: BudgetConfig | None) -> None:
        self.cost = Cost() if budget is None else Cost(tokens=budget.tokens or 0.0, usd=budget.usd or 0.0)
        self._n_paid = 0

    def observe(self, cost: Cost) -> None:
        """Take note of what a request cost; one that cost nothing says nothing about the next."""
        if not cost.tokens:
            return
        self._n_paid += 1
        weight = max(_WEIGHT, 1 / self._n_paid)
        self.cost = Cost(
            tokens=self.cost.tokens + weight * (cost.tokens - self.cost.tokens),
            usd=self.cost.usd + weight * (cost.usd - self.cost.usd),
        )
