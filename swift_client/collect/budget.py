"""What may be spent: money before a question is asked, requests before each one is sent."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swift_client.errors import BudgetExceededError, ConfigurationError
from swift_client.sampling import RateLimiter
from swift_client.types import Message, Usage
from swift_client.validation import require_positive


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

    def max_prompt_cost(self, messages: Sequence[Message]) -> float:
        """Return the most that a prompt may cost: no tokenizer makes more tokens than there are bytes."""
        size = len(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))
        return self.cost(Usage(prompt_tokens=size))


def max_completion_cost(prices: Prices | None, max_cost: float | None, sampling: Mapping[str, Any]) -> float:
    """Return the most that one completion may cost; 0 where nothing limits the cost.

    Raises:
        ConfigurationError: ``max_cost`` is no cost, or nobody can know what a call may cost.
    """
    if max_cost is None:
        return 0.0
    require_positive("max_cost", max_cost)
    if prices is None:
        raise ConfigurationError("max_cost needs prices.", hint="Say what a million prompt and completion tokens cost.")
    most = sampling.get("max_completion_tokens", sampling.get("max_tokens"))
    if not isinstance(most, int):
        raise ConfigurationError(
            "max_cost needs max_tokens: without it nobody knows what a call may cost.", hint="Give max_tokens as well."
        )
    return prices.cost(Usage(completion_tokens=most))


class CollectBudget:
    """Holds back the most that each question under way may still cost, so that the limit is never passed.

    Args:
        limit: all that may be spent, or None.
        spent: what has been spent before.
        completion: the most that one completion may cost.
    """

    def __init__(self, limit: float | None, *, prior_cost: float, max_completion_cost: float) -> None:
        self._limit = math.inf if limit is None else limit
        self._max_completion_cost = max_completion_cost
        self.total_cost = prior_cost
        self._reserved_cost = 0.0
        self._n_running = 0
        self._change_event = asyncio.Event()

    async def reserve(self, count: int, *, max_prompt_cost: float) -> int:
        """Hold back what ``wanted`` completions may cost, each with its ``prompt``; return how many are granted.

        Fewer than wanted are granted only where nothing is under way that might leave something over.
        """
        each = self._max_completion_cost + max_prompt_cost
        while True:
            left = self._limit - self.total_cost - self._reserved_cost
            granted = count if each * count <= left else max(0, math.floor(left / each)) if each else 0
            if granted == count or not self._n_running:
                self._reserved_cost += each * granted
                self._n_running += 1
                return granted
            self._change_event.clear()
            await self._change_event.wait()

    def release(self, count: int, *, max_prompt_cost: float) -> None:
        """Give back what :meth:`hold` held; what has become of it is in ``spent`` by now."""
        self._reserved_cost -= (self._max_completion_cost + max_prompt_cost) * count
        self._n_running -= 1
        self._change_event.set()


class CappedRateLimiter(RateLimiter):
    """A limit on requests at once that also ends after ``most`` requests, retries counted."""

    def __init__(self, size: int, max_requests: int | None) -> None:
        super().__init__(size)
        self._max_requests = math.inf if max_requests is None else max_requests
        self.requests = 0
        self.exhausted = False
        """Whether a request was held back."""

    async def acquire(self, owner: object = None) -> None:
        """Wait for a slot and take it. Raises BudgetExceededError where no request is left."""
        await super().acquire(owner)
        if self.requests >= self._max_requests:
            self.release()
            self.exhausted = True
            raise BudgetExceededError(f"All {self._max_requests} requests are used up.", hint="Raise max_requests.")
        self.requests += 1
