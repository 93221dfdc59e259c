"""The two limits of a collect run as one budget: the cost of the whole file, and the requests of the run."""

from __future__ import annotations

from swift_client.errors import BudgetExceededError
from swift_client.sampling import Budget, BudgetTracker, Cost


class JointBudget(BudgetTracker):
    """A budget that spends from two others, in one thread.

    Args:
        costs: the tracker of the cost.
        requests: the tracker of the HTTP requests.
        has_cost_limit: whether the cost is limited, so that prices have to be known.
    """

    def __init__(self, costs: BudgetTracker, requests: BudgetTracker, *, has_cost_limit: bool) -> None:
        super().__init__(Budget(usd=costs.budget.usd if has_cost_limit else None, calls=requests.budget.calls))
        self._parts = (costs, requests)

    @property
    def spent(self) -> Cost:
        """The cost and the requests paid so far, of the whole run."""
        costs, requests = self._parts
        return Cost(usd=costs.spent.usd, calls=requests.spent.calls)

    def shortfall(self, cost: Cost) -> str | None:
        """Return a sentence naming the limit that ``cost`` would exceed; None if it fits."""
        return next(filter(None, (part.shortfall(cost) for part in self._parts)), None)

    def reserve(self, cost: Cost) -> None:
        """Set aside the worst-case cost of a request. Raises BudgetExceededError if it does not fit."""
        if reason := self.shortfall(cost):
            raise BudgetExceededError(reason, hint="Raise max_cost or max_requests.")
        for part in self._parts:
            part.reserve(cost)

    def commit(self, reserved_cost: Cost, actual_cost: Cost) -> None:
        """Replace a reserved cost by the actual one."""
        for part in self._parts:
            part.commit(reserved_cost, actual_cost)
