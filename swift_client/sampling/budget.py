"""Budgets: limits on spending, of one process or of all that share them."""

from __future__ import annotations

import bisect
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swift_client.errors import BudgetExceededError, ConfigurationError

if TYPE_CHECKING:
    from swift_client.shared_limits.homes import SharedHome

# Names and units of the limits that requests use up.
_UNITS = {"usd": "US dollars", "tokens": "tokens", "calls": "calls"}
# Share of a dollar limit that rounding may exceed it by: three times 0.01 is not more than 0.03.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one or several calls, actual or worst case."""

    tokens: int = 0  # prompt and completion tokens together
    usd: float = 0.0
    calls: int = 0  # HTTP requests

    def __add__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens + other.tokens, usd=self.usd + other.usd, calls=self.calls + other.calls)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(tokens=self.tokens - other.tokens, usd=self.usd - other.usd, calls=self.calls - other.calls)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits on what ``best_of`` may spend; give at least one: ``best_of(..., budget=Budget(tokens=4000))``.

    A request is sent only if its worst case still fits every limit: the tokens of its prompt, and ``max_tokens`` for
    each completion. Waves of calls are cut to what fits. Without ``max_tokens`` the first request asks for one
    completion, and the worst case becomes 1.5 times the longest reply so far. Only then can the last wave exceed a
    limit, and the notes say so.

    Raises:
        ConfigurationError: no limit is given, or a limit is not above 0.

    Attributes:
        usd: US dollars; needs a known price (extra "prices", or ``prices=`` of the reranker).
        tokens: Prompt and completion tokens together.
        seconds: No request starts later than this. Running requests are awaited, since they are nearly paid
            for; ``deadline=`` cuts them off.
        calls: HTTP requests, retries included.
    """

    usd: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        limits = {
            name: value for name in ("usd", "tokens", "seconds", "calls") if (value := getattr(self, name)) is not None
        }
        if not limits:
            raise ConfigurationError(
                "A Budget needs at least one limit.", hint="For example Budget(usd=0.05) or Budget(tokens=4000)."
            )
        for name, value in limits.items():
            types = (int,) if name in ("tokens", "calls") else (int, float)
            if isinstance(value, bool) or not isinstance(value, types) or not 0 < value < math.inf:
                kind = "a whole number" if types == (int,) else "a number"
                raise ConfigurationError(f"Budget({name}=) must be {kind} above 0, not {value!r}.")

    def open(self, *, shared: SharedHome | None = None, name: str = "default") -> BudgetTracker:
        """Return a tracker that several calls, in any threads, can share: ``best_of(..., budget=tracker)``.

        Args:
            shared: the place by which processes share the budget, as of ``RateLimit``. A process leases small parts of
                what is left; the part of one that is killed counts as spent. ``seconds`` stays this process's own.
                A request that needs a new lease waits up to a second for it, and its event loop with it.
            name: name of the budget in that place. What is spent of it is remembered there.

        Raises:
            ConfigurationError: ``shared`` cannot be such a place.
        """
        return BudgetTracker(self) if shared is None else SharedBudgetTracker(self, shared, name)


class BudgetTracker:
    """A budget in use: amounts spent, and amounts reserved for running requests. Thread-safe."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._spent_cost, self._reserved_cost = Cost(), Cost()
        self._started_at = time.monotonic()
        self._lock = threading.RLock()

    @property
    def spent(self) -> Cost:
        """The cost paid so far; for requests without a reply, the most they may have cost."""
        with self._lock:
            return self._spent_cost

    @property
    def seconds_left(self) -> float:
        """Seconds during which requests may still start; infinite without such a limit."""
        limit = self.budget.seconds
        return math.inf if limit is None else self._started_at + limit - time.monotonic()

    @property
    def problem(self) -> str | None:
        """The reason why the home of a shared budget cannot be reached; None if it can, and without ``shared=``."""
        return None

    def shortfall(self, cost: Cost) -> str | None:
        """Return a sentence naming the limit that ``cost`` would exceed; None if it fits."""
        return self._check(cost)

    def affordable(self, n: int, cost_bound: Callable[[int], Cost], *, planned: Cost | None = None) -> int:
        """Return the largest count up to ``n`` whose cost still fits beside ``planned``; 0 if not even one does."""

        def is_too_much(count: int) -> bool:
            return self.shortfall((planned or Cost()) + cost_bound(count)) is not None

        return bisect.bisect_left(range(1, n + 1), True, key=is_too_much)

    def reserve(self, cost: Cost) -> None:
        """Set aside the worst-case cost of a request; ``commit()`` its actual cost afterwards.

        Raises:
            BudgetExceededError: it does not fit; nothing was set aside.
        """
        with self._lock:
            if reason := self._check(cost):
                raise BudgetExceededError(reason, hint=self._hint())
            self._reserved_cost += cost

    def commit(self, reserved_cost: Cost, actual_cost: Cost) -> None:
        """Replace a reserved cost by the actual one."""
        with self._lock:
            self._reserved_cost -= reserved_cost
            self._spent_cost += actual_cost

    def close(self) -> None:
        """Give back the unspent part of a shared budget; without ``shared=`` there is none."""

    def _check(self, cost: Cost) -> str | None:
        """Return a sentence as ``shortfall()``, without leasing more of a shared budget."""
        if self.seconds_left <= 0:
            return f"The budget's {self.budget.seconds:g} s are over."
        with self._lock:
            used_cost = self._spent_cost + self._reserved_cost
            limits = self._current_limits()
        for name, limit in limits.items():
            if getattr(used_cost + cost, name) > limit * (1 + (_ROUNDING if name == "usd" else 0.0)):
                return self._describe(name, cost, used_cost)
        return None

    def _current_limits(self) -> Mapping[str, float]:
        """Return the limits on what this process may spend in all."""
        return _cost_limits(self.budget)

    def _describe(self, name: str, cost: Cost, used_cost: Cost) -> str:
        """Return the sentence for a limit that ``cost`` would exceed."""
        total, more, used = (_show(name, getattr(source, name)) for source in (self.budget, cost, used_cost))
        return f"The budget of {total} {_UNITS[name]} cannot cover {more} more: {used} are spent or reserved."

    def _hint(self) -> str:
        return "Raise the budget, or lower n= or max_tokens=."

    def __repr__(self) -> str:
        return f"BudgetTracker({self.budget}, spent={self.spent})"


class SharedBudgetTracker(BudgetTracker):
    """This process's part of a budget that several share: it spends what it has leased, and leases more in time.

    Args:
        budget: the budget of all processes together.
        shared: its home.
        name: its name there.

    Raises:
        ConfigurationError: ``shared`` cannot be a home, or the name is not printable.
    """

    def __init__(self, budget: Budget, shared: SharedHome, name: str) -> None:
        super().__init__(budget)
        self._shared, self._name = shared, name
        self._guards: dict[int, threading.Lock] = {}  # by process: no thread of another one can hold its lock
        self._process = 0
        self._begin_once()

    @property
    def spent(self) -> Cost:
        """The cost that this process has paid so far; for requests without a reply, the most they may have cost."""
        self._begin_once()
        return super().spent

    @property
    def problem(self) -> str | None:
        """The reason why the home cannot be reached, as of the last message; None if it can."""
        return self._lease.problem

    def shortfall(self, cost: Cost) -> str | None:
        """Return a sentence naming the limit that ``cost`` would exceed; None if it fits. May wait for a lease."""
        self._cover(cost)
        return self._check(cost)

    def affordable(self, n: int, cost_bound: Callable[[int], Cost], *, planned: Cost | None = None) -> int:
        """Return the largest count up to ``n`` whose cost still fits beside ``planned``; 0 if not even one does."""
        self._cover((planned or Cost()) + cost_bound(n))  # one lease for all of it
        return super().affordable(n, cost_bound, planned=planned)

    def reserve(self, cost: Cost) -> None:
        """Set aside the worst-case cost of a request, as ``BudgetTracker.reserve()``. May wait for a lease."""
        while True:
            is_covered = self._cover(cost)
            try:
                super().reserve(cost)
            except BudgetExceededError:
                if not is_covered:  # else another thread was faster
                    raise
            else:
                self._lease.prefetch()
                return

    def commit(self, reserved_cost: Cost, actual_cost: Cost) -> None:
        """Replace a reserved cost by the actual one; its process does so for a cost that was reserved before a fork."""
        if self._process == os.getpid():
            super().commit(reserved_cost, actual_cost)

    def close(self) -> None:
        """Give back what this process has leased and not spent; the end of the process does so too."""
        if self._process == os.getpid():
            self._lease.close()

    def _cover(self, cost: Cost) -> bool:
        """Lease more if ``cost`` does not fit, for a second at most; return True if it fits."""
        self._begin_once()
        return self.seconds_left > 0 and self._lease.cover(_amounts(cost), lambda: self._check(cost) is None)

    def _begin_once(self) -> None:
        """Become a member of the account that has neither spent nor reserved anything, once per process.

        A fork copied the amounts of its parent, which still owns them, and locks that threads of the parent may hold.
        """
        process = os.getpid()
        if self._process == process:
            return
        with self._guards.setdefault(process, threading.Lock()):
            if self._process != process:
                self._begin()
                self._process = process  # last: another thread goes on without the guard then

    def _begin(self) -> None:
        from swift_client.sampling.shared.budget_lease import BudgetLease

        lock = threading.RLock()
        lease = BudgetLease(
            self._shared,
            self._name,
            _cost_limits(self.budget),
            lock=lock,
            get_use=lambda: (_amounts(self._spent_cost), _amounts(self._reserved_cost)),
        )
        self._lock, self._lease = lock, lease
        self._spent_cost, self._reserved_cost = Cost(), Cost()

    def _current_limits(self) -> Mapping[str, float]:
        return self._lease.limits()

    def _hint(self) -> str:
        return super()._hint() if self._lease.problem is None else "Check the file or server that shares the budget."

    def _describe(self, name: str, cost: Cost, used_cost: Cost) -> str:
        total, more = (_show(name, getattr(source, name)) for source in (self.budget, cost))
        start = f"The budget {self._name!r} of {total} {_UNITS[name]} cannot cover {more} more: "
        if problem := self._lease.problem:
            return f"{start}its account cannot be reached ({problem}), and what this process had leased is used."
        return f"{start}{_show(name, self._lease.in_use.get(name, 0.0))} are spent or leased by all processes."


def _show(name: str, amount: float) -> str:
    """Return an amount of "usd", "tokens" or "calls" as text, without its unit."""
    return f"{amount:,.6g}" if name == "usd" else f"{round(amount):,}"


def _cost_limits(budget: Budget) -> dict[str, float]:
    return {name: limit for name in _UNITS if (limit := getattr(budget, name)) is not None}


def _amounts(cost: Cost) -> dict[str, float]:
    return {name: getattr(cost, name) for name in _UNITS}
