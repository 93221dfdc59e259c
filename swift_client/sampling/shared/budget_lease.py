"""The part of a shared budget that this process may spend without asking again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from swift_client.shared_limits.homes import SharedHome, require_name, resolve_home
from swift_client.shared_limits.member import AccountMember, Report
from swift_client.shared_limits.messages import Demand, Lease

# Longest time in seconds that a request waits for a lease, and its event loop with it.
ANSWER_SECONDS = 1.0
_ROUNDING = 1e-9
_EMPTY_SECONDS = 0.2  # seconds for which a budget that had no more is not asked again

Amounts = Mapping[str, float]  # units by resource: "usd", "tokens", "calls"


class BudgetLease:
    """The membership of one process in the account of a budget; a ``member.LeaseClient``.

    Args:
        shared: the budget's home.
        name: the budget's name there.
        limits: the complete budget.
        lock: protects the use; not held by a thread that calls ``cover()``.
        get_use: returns what this process has spent and reserved so far; called with the lock.

    Raises:
        ConfigurationError: ``shared`` cannot be a home, or the name is not printable.
    """

    def __init__(
        self,
        shared: SharedHome,
        name: str,
        limits: Amounts,
        *,
        lock: AbstractContextManager[bool],
        get_use: Callable[[], tuple[Amounts, Amounts]],
    ) -> None:
        require_name(name)
        self._name, self._limits, self._lock, self._get_use = name, limits, lock, get_use
        self._member = AccountMember(f"budget/{name}", resolve_home(shared), self)
        self._total_granted, self._total_returned = dict.fromkeys(limits, 0.0), dict.fromkeys(limits, 0.0)
        self._targets, self._low_levels = dict.fromkeys(limits, 0.0), dict.fromkeys(limits, 0.0)
        self.in_use: Amounts = {}  # units that all processes have spent or leased, as of the last lease
        self.problem: str | None = None  # why the account cannot be reached; None if it can
        self._empty_until = 0.0  # in seconds of ``time.monotonic()``

    def limits(self) -> dict[str, float]:
        """Return the units that this process has leased in all, spent ones included."""
        with self._lock:
            return {name: self._total_granted[name] - self._total_returned[name] for name in self._limits}

    def cover(self, amounts: Amounts, is_enough: Callable[[], bool]) -> bool:
        """Lease more until there is enough, for a second at most; return True if there is.

        Args:
            amounts: the units that are needed beside what is spent and reserved.
            is_enough: returns True once the leases suffice.
        """
        end = time.monotonic() + ANSWER_SECONDS
        while not is_enough():
            now = time.monotonic()
            if now >= end or now < self._empty_until:
                return False
            self._raise_targets(amounts)
            if not self._member.ask_and_wait(end - now):
                with self._lock:
                    self.problem = self.problem or "no answer in time"
                return False
        return True

    def prefetch(self) -> None:
        """Ask for the next lease if half of the last one is used, without waiting."""
        with self._lock:
            is_low = any(free < self._low_levels[name] for name, free in self._free().items())
        if is_low and time.monotonic() >= self._empty_until:
            self._raise_targets({name: 2 * level for name, level in self._low_levels.items()})
            self._member.ask()

    def close(self) -> None:
        """Give back what is not spent."""
        self._member.close()

    def _free(self) -> dict[str, float]:
        """Return the leased units that are neither spent nor reserved."""
        spent, reserved = self._get_use()
        return {name: limit - spent[name] - reserved[name] for name, limit in self.limits().items()}

    def _raise_targets(self, amounts: Amounts) -> None:
        with self._lock:
            self._targets = {name: max(target, amounts[name]) for name, target in self._targets.items()}

    # --- in the thread of the member

    def report(self, *, gives_back: bool, leaves: bool) -> Report:
        """Return the demand for what was wanted since the last report."""
        with self._lock:
            spent, reserved = self._get_use()
            if gives_back:
                for name, free in self._free().items():
                    self._total_returned[name] += max(0.0, free)
            demands = {
                name: Demand(
                    capacity=limit,
                    # At the end of the process its running requests may still be paid for.
                    total_used=spent[name] + (reserved[name] if leaves else 0.0),
                    total_returned=self._total_returned[name],
                    target=0.0 if gives_back else reserved[name] + self._targets[name],
                )
                for name, limit in self._limits.items()
            }
            self._targets = dict.fromkeys(self._limits, 0.0)
            return Report(demands, is_busy=any(reserved.values()))

    def accept(self, lease: Lease) -> None:
        """Use the lease."""
        with self._lock:
            self._total_granted = {
                name: lease.total_granted.get(name, total) for name, total in self._total_granted.items()
            }
            free_amounts = self._free()
            self._low_levels = {name: max(0.0, free) / 2 for name, free in free_amounts.items()}
            # The account grants what is wanted as long as there is enough.
            if any(lease.in_use.get(name, 0.0) >= limit * (1 - _ROUNDING) for name, limit in self._limits.items()):
                self._empty_until = time.monotonic() + _EMPTY_SECONDS
            self.in_use, self.problem = lease.in_use, None

    def lose(self, reason: str) -> None:
        """Spend what is leased, and no more."""
        with self._lock:
            self.problem = reason.rstrip(".")

    def wake(self) -> None:
        """Do nothing: whatever waits for a lease waits for its message."""
