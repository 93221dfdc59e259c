"""The limits of a run: rates, cost and requests, which all workers lease from one actor."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from swift_client.ray.folder import Folder
from swift_client.ray.limits_actor import RayLeases
from swift_client.sampling import Budget, BudgetTracker, RateLimit

_LEAST_COST = 1e-12  # no request costs less: a budget that is spent affords none
_RATES = "rates"  # name of the account of the two rates; those of budgets have the name of their run


@dataclass(frozen=True, kw_only=True)
class OpenLimits:
    """The limits of one worker."""

    rate_limit: RateLimit
    costs: BudgetTracker
    requests: BudgetTracker
    budget: BudgetTracker | None


@dataclass(frozen=True, kw_only=True)
class ClusterLimits:
    """The limits of all workers together.

    Attributes:
        run: Name of the run, whose cost and requests are limited.
        actor: Name of the actor that has the limits.
        requests_per_minute: Limit, or None.
        tokens_per_minute: Limit on prompt and completion tokens together, or None.
        cost: The most that the run may cost; None without a limit.
        requests: The most HTTP requests of the run; None without a limit.
        budget: Further budget, of ``best_of_dataset``.
        journal: Folder of the run, for the journal of the actor; None without one.
    """

    run: str
    actor: str
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    cost: float | None = None
    requests: int | None = None
    budget: Budget | None = None
    journal: Folder | None = None

    @property
    def is_own(self) -> bool:
        """True if no other run shares the actor."""
        return self.actor == self.run

    @property
    def leases(self) -> RayLeases:
        """The home of the limits."""
        return RayLeases(self.actor, self.journal)

    def after(self, spent: float, journal: Folder) -> ClusterLimits:
        """Return the limits of a run whose folder has cost ``spent`` already."""
        cost = None if self.cost is None else max(self.cost - spent, _LEAST_COST)
        return replace(self, cost=cost, journal=journal)

    def open(self, max_concurrency: int) -> OpenLimits:
        """Return the limits of this process, once their actor runs. Workers learn of each other's refusals too."""
        leases = self.leases
        leases.connect()

        def share(budget: Budget, name: str) -> BudgetTracker:
            return budget.open(shared=leases, name=f"{name} of {self.run}")

        return OpenLimits(
            rate_limit=RateLimit(
                max_concurrency,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                shared=leases,
                name=_RATES,
            ),
            costs=share(Budget(usd=self.cost), "cost") if self.cost else Budget(usd=sys.float_info.max).open(),
            requests=share(Budget(calls=self.requests), "requests")
            if self.requests
            else Budget(calls=sys.maxsize).open(),
            budget=share(self.budget, "budget") if self.budget else None,
        )
