"""What may be spent, by one ``best_of`` or by many, and what has been."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass

from swift_client.errors import BudgetExceededError, ConfigurationError

_SLACK = 1e-9
"""Share of a limit in dollars that rounding may take: three times 0.01 is not more than 0.03."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one or several calls cost, or may cost."""

    tokens: int = 0
    """Of prompts and completions together."""
    usd: float = 0.0
    calls: int = 0
    """HTTP requests."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens + other.tokens, usd=self.usd + other.usd, calls=self.calls + other.calls)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens - other.tokens, usd=self.usd - other.usd, calls=self.calls - other.calls)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits that hold together; give at least one: ``best_of(..., budget=Budget(tokens=4000))``.

    A request goes out only where the most that it may cost still fits: the tokens of its prompt and ``max_tokens``
    for each completion. A wave of calls is cut to what fits. Without ``max_tokens`` one completion is drawn first, and
    the longest reply so far, half as much again, stands for the most; only then can a limit be passed, by the last
    wave alone, and the notes say so.

    Raises:
        ConfigurationError: no limit, or one that is not above 0.
    """

    usd: float | None = None
    """US dollars; needs a known price (extra "prices", or ``prices=`` of the reranker)."""
    tokens: int | None = None
    """Prompt and completion tokens together."""
    seconds: float | None = None
    """No request starts later than this; those under way are awaited, since they are nearly paid. ``deadline=`` cuts
    them off."""
    calls: int | None = None
    """HTTP requests, retries included."""

    def __post_init__(self) -> None:
        limits = {
            name: value for name in ("usd", "tokens", "seconds", "calls") if (value := getattr(self, name)) is not None
        }
        if not limits:
            raise ConfigurationError("A Budget needs a limit.", hint="Such as Budget(usd=0.05) or Budget(tokens=4000).")
        for name, value in limits.items():
            kinds = (int,) if name in ("tokens", "calls") else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
                whole = "a whole number" if kinds == (int,) else "a number"
                raise ConfigurationError(f"Budget({name}=) must be {whole} above 0, not {value!r}.")

    def open(self) -> BudgetTracker:
        """Return an account that several calls, in any threads, spend together: ``best_of(..., budget=account)``."""
        return BudgetTracker(self)


class BudgetTracker:
    """A budget that is being spent: what is held for requests under way, and what they came to. Safe to share."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._spent_cost, self._reserved_cost = Cost(), Cost()
        self._started_at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def spent(self) -> Cost:
        """What was paid, or may have been where no reply came."""
        with self._lock:
            return self._spent_cost

    @property
    def seconds_left(self) -> float:
        """Seconds in which requests may still start; infinite without such a limit."""
        limit = self.budget.seconds
        return math.inf if limit is None else self._started_at + limit - time.monotonic()

    def shortfall(self, cost: Cost) -> str | None:
        """Say in one sentence which limit ``cost`` would pass; None where it fits."""
        with self._lock:
            return self._shortfall(cost)

    def reserve(self, cost: Cost) -> None:
        """Set aside what a request may cost; :meth:`settle` it afterwards.

        Raises:
            BudgetExceededError: it does not fit; nothing was set aside.
        """
        with self._lock:
            if reason := self._shortfall(cost):
                raise BudgetExceededError(reason, hint="Raise the budget, or lower n= or max_tokens=.")
            self._reserved_cost += cost

    def commit(self, reserved_cost: Cost, actual_cost: Cost) -> None:
        """Replace what was set aside by what it came to."""
        with self._lock:
            self._reserved_cost -= reserved_cost
            self._spent_cost += actual_cost

    def _shortfall(self, cost: Cost) -> str | None:
        if self.seconds_left <= 0:
            return f"The budget's {self.budget.seconds:g} s are over."
        taken = self._spent_cost + self._reserved_cost
        for name, unit, slack in (("usd", "US dollars", _SLACK), ("tokens", "tokens", 0.0), ("calls", "calls", 0.0)):
            limit = getattr(self.budget, name)
            if limit is not None and getattr(taken + cost, name) > limit * (1 + slack):
                show = "{:,.6g}" if name == "usd" else "{:,}"
                so_far, more, most = (
                    show.format(value) for value in (getattr(taken, name), getattr(cost, name), limit)
                )
                return f"The budget of {most} {unit} does not hold {more} more: {so_far} are spent or under way."
        return None

    def __repr__(self) -> str:
        return f"Account({self.budget}, spent={self.spent})"
