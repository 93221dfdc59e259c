"""One budget for many questions at once: each spends as if those before it had ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from swift_client.errors import BudgetExceededError
from swift_client.sampling.budget import BudgetTracker, Cost


class BudgetShare(BudgetTracker):
    """The part of a budget that is set aside for one question; beyond it, the question spends what others leave.

    Args:
        whole: the budget.
        cost: the part that is set aside.

    Raises:
        BudgetExceededError: the budget does not have this part; nothing was set aside.
    """

    def __init__(self, whole: BudgetTracker, cost: Cost) -> None:
        super().__init__(whole.budget)
        self._whole, self._held_cost = whole, cost
        if cost != Cost():
            whole.reserve(cost)

    @property
    def spent(self) -> Cost:
        """The cost paid so far by all questions."""
        return self._whole.spent

    @property
    def seconds_left(self) -> float:
        """Seconds during which requests may still start; infinite without such a limit."""
        return self._whole.seconds_left

    def shortfall(self, cost: Cost) -> str | None:
        """Return a sentence naming the limit that ``cost`` would exceed; None if it fits."""
        with self._lock:
            return self._whole.shortfall(cost - _common_part(cost, self._held_cost))

    def reserve(self, cost: Cost) -> None:
        """Set aside the worst-case cost of a request. Raises BudgetExceededError if it does not fit."""
        with self._lock:
            covered_cost = _common_part(cost, self._held_cost)
            self._whole.reserve(cost - covered_cost)
            self._held_cost -= covered_cost

    def commit(self, reserved_cost: Cost, actual_cost: Cost) -> None:
        """Replace a reserved cost by the actual one; the question keeps the rest for its next requests."""
        with self._lock:
            rest = reserved_cost - _common_part(reserved_cost, actual_cost)
            self._whole.commit(reserved_cost - rest, actual_cost)
            self._held_cost += rest

    def close(self) -> None:
        """Give back the part that was not spent."""
        with self._lock:
            self._whole.commit(self._held_cost, Cost())
            self._held_cost = Cost()


class SharedBudget:
    """A budget that questions of one event loop share, in the order in which they ask.

    A question starts when its worst case fits beside those of the running ones. The last one that starts takes what
    is left, alone. So a question gets as much as if those before it had been asked one by one.
    """

    def __init__(self, whole: BudgetTracker) -> None:
        self._whole = whole
        self._n_running = 0
        self._turn, self._has_ended = asyncio.Lock(), asyncio.Event()

    @asynccontextmanager
    async def share(self, cost_bound: Callable[[], Awaitable[Cost]]) -> AsyncIterator[BudgetShare]:
        """Wait for this question's turn, and yield its part, which is given back at the end.

        Raises:
            BudgetExceededError: the time of the budget is over.
        """
        async with self._turn:
            share = await self._open_share(await cost_bound())
            self._n_running += 1
        try:
            yield share
        finally:
            share.close()
            self._n_running -= 1
            self._has_ended.set()

    async def _open_share(self, cost: Cost) -> BudgetShare:
        while self._n_running:
            self._has_ended.clear()
            try:
                return BudgetShare(self._whole, cost)
            except BudgetExceededError:
                await self._has_ended.wait()
        try:
            return BudgetShare(self._whole, cost)
        except BudgetExceededError:  # the question is cut to what is left, or fails with the reason
            return BudgetShare(self._whole, Cost())


def _common_part(first: Cost, second: Cost) -> Cost:
    """Return what both costs contain."""
    return Cost(
        tokens=min(first.tokens, second.tokens),
        usd=min(first.usd, second.usd),
        calls=min(first.calls, second.calls),
    )
