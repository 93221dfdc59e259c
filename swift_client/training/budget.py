"""What may be spent: money before a question is asked, requests before each one is sent."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from swift_client.errors import BudgetExceededError, ConfigurationError
from swift_client.sampling import Limit
from swift_client.types import Usage


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a million tokens cost, in any one currency."""

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(price) and price >= 0 for price in (self.prompt, self.completion)):
            raise ConfigurationError(f"Prices are {self.prompt} and {self.completion}.", hint="Give numbers from 0 on.")

    def cost(self, usage: Usage) -> float:
        """Return what ``usage`` costs."""
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1e6


class Purse:
    """Holds back the most that each question under way may still cost, so that the limit is never passed.

    Args:
        limit: all that may be spent, or None.
        spent: what has been spent before.
        completion: the most that one completion may cost.
    """

    def __init__(self, limit: float | None, *, spent: float, completion: float) -> None:
        self._limit = math.inf if limit is None else limit
        self._completion = completion
        self.spent = spent
        self._held = 0.0
        self._under_way = 0
        self._changed = asyncio.Event()

    async def hold(self, wanted: int, *, prompt: float) -> int:
        """Hold back what ``wanted`` completions may cost, each with its ``prompt``; return how many are granted.

        Fewer than wanted are granted only where nothing is under way that might leave something over.
        """
        each = self._completion + prompt
        while True:
            left = self._limit - self.spent - self._held
            granted = wanted if each * wanted <= left else max(0, math.floor(left / each)) if each else 0
            if granted == wanted or not self._under_way:
                self._held += each * granted
                self._under_way += 1
                return granted
            self._changed.clear()
            await self._changed.wait()

    def release(self, granted: int, *, prompt: float) -> None:
        """Give back what :meth:`hold` held; what has become of it is in ``spent`` by now."""
        self._held -= (self._completion + prompt) * granted
        self._under_way -= 1
        self._changed.set()


class Allowance(Limit):
    """A limit on requests at once that also ends after ``most`` requests, retries counted."""

    def __init__(self, size: int, most: int | None) -> None:
        super().__init__(size)
        self._most = math.inf if most is None else most
        self.requests = 0
        self.refused = False
        """Whether a request was held back."""

    async def acquire(self, owner: object = None) -> None:
        """Wait for a slot and take it. Raises BudgetExceededError where no request is left."""
        await super().acquire(owner)
        if self.requests >= self._most:
            self.release()
            self.refused = True
            raise BudgetExceededError(f"All {self._most} requests are used up.", hint="Raise max_requests.")
        self.requests += 1
