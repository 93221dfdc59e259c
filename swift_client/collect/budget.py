"""What may be spent: money before a question is asked, requests before each one is sent."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.errors import BudgetExceededError, ConfigurationError
from swift_client.sampling import Limit, positive
from swift_client.types import Message, Usage


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

    def dearest_prompt(self, messages: Sequence[Message]) -> float:
        """Return the most that a prompt may cost: no tokenizer makes more tokens than there are bytes."""
        size = len(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))
        return self.cost(Usage(prompt_tokens=size))


def dearest_completion(prices: Prices | None, max_cost: float | None, sampling: Mapping[str, Any]) -> float:
    """Return the most that one completion may cost; 0 where nothing limits the cost.

    Raises:
        ConfigurationError: ``max_cost`` is no cost, or nobody can know what a call may cost.
    """
    if max_cost is None:
        return 0.0
    positive("max_cost", max_cost)
    if prices is None:
        raise ConfigurationError("max_cost needs prices.", hint="Say what a million prompt and completion tokens cost.")
    most = sampling.get("max_completion_tokens", sampling.get("max_tokens"))
    if not isinstance(most, int):
        raise ConfigurationError(
            "max_cost needs max_tokens: without it nobody knows what a call may cost.", hint="Give max_tokens as well."
        )
    return prices.cost(Usage(completion_tokens=most))


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
