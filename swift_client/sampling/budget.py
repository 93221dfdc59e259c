"""Budgets: limits on spending, and the worst-case cost reserved for each request before it is sent."""

from __future__ import annotations

import bisect
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from swift_client.adapters import Reply
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    RateLimitError,
    ServerError,
)
from swift_client.pricing import Price
from swift_client.types import Message

# Share of a dollar limit that rounding may exceed it by: three times 0.01 is not more than 0.03.
_ROUNDING = 1e-9
_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
# Fields of a request that the model reads as part of its prompt.
_PROMPT_FIELDS = ("tools", "functions", "response_format", "system")
# Tokens that a chat template may add to a conversation, such as a date or a default system prompt.
_TEMPLATE_TOKENS = 64
_TEMPLATE_TOKENS_PER_MESSAGE = 16
# Tokens assumed for an image or a sound, since its size in bytes does not tell: an estimate.
_MEDIA_TOKENS = 2048


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

    def open(self) -> BudgetTracker:
        """Return a tracker that several calls, in any threads, can share: ``best_of(..., budget=tracker)``."""
        return BudgetTracker(self)


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

    def shortfall(self, cost: Cost) -> str | None:
        """Return a sentence naming the limit that ``cost`` would exceed; None if it fits."""
        if self.seconds_left <= 0:
            return f"The budget's {self.budget.seconds:g} s are over."
        with self._lock:
            used_cost = self._spent_cost + self._reserved_cost
        for name, unit, slack in (("usd", "US dollars", _ROUNDING), ("tokens", "tokens", 0.0), ("calls", "calls", 0.0)):
            limit = getattr(self.budget, name)
            if limit is not None and getattr(used_cost + cost, name) > limit * (1 + slack):
                show = "{:,.6g}" if name == "usd" else "{:,}"
                used, more, total = (show.format(x) for x in (getattr(used_cost, name), getattr(cost, name), limit))
                return f"The budget of {total} {unit} cannot cover {more} more: {used} are spent or reserved."
        return None

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
            if reason := self.shortfall(cost):
                raise BudgetExceededError(reason, hint="Raise the budget, or lower n= or max_tokens=.")
            self._reserved_cost += cost

    def commit(self, reserved_cost: Cost, actual_cost: Cost) -> None:
        """Replace a reserved cost by the actual one."""
        with self._lock:
            self._reserved_cost -= reserved_cost
            self._spent_cost += actual_cost

    def __repr__(self) -> str:
        return f"BudgetTracker({self.budget}, spent={self.spent})"


class RequestBudget:
    """The budget check of one ``best_of``: reserves each request's worst case and records its actual cost.

    The prompt is bounded by its bytes until the first reply brings the provider's own count.

    Args:
        tracker: the budget that is spent.
        messages: the prompt.
        fields: all other fields of every request, the provider's defaults included.
        price: the model's price; needed if the budget is in dollars.
    """

    def __init__(
        self, tracker: BudgetTracker, messages: Sequence[Message], fields: Mapping[str, Any], price: Price | None
    ) -> None:
        self.tracker = tracker
        self.stop_reason: str | None = None  # why a request was not sent; None if all were
        self._price = price
        self._max_tokens = find_max_tokens(fields)
        self._prompt_tokens = prompt_token_bound(messages, fields)
        self._has_prompt_count = False
        self._longest_completion: int | None = None
        self._has_lost_reply = False
        self._limits_tokens = tracker.budget.usd is not None or tracker.budget.tokens is not None

    @property
    def _needs_estimate(self) -> bool:
        return self._max_tokens is None and self._limits_tokens

    def cost_bound(self, n: int) -> Cost:
        """Return the worst-case cost of one request for ``n`` completions."""
        completion_tokens = self._max_tokens or math.ceil(1.5 * (self._longest_completion or 0))
        return self._cost(self._prompt_tokens, completion_tokens * n)

    def question_bound(self, n: int, *, n_max: int | None) -> Cost:
        """Return the worst-case cost of ``n`` completions in calls for at most ``n_max`` each; None: in one call."""
        n_full, rest = divmod(n, n_max or n)
        calls = [self.cost_bound(n_max or n)] * n_full + ([self.cost_bound(rest)] if rest else [])
        return sum(calls, Cost())

    def affordable_completions(self, n_requested: int, call_size: Callable[[int], int]) -> int:
        """Return how many of ``n_requested`` completions fit now.

        Args:
            n_requested: completions still missing.
            call_size: (completions still missing) to the completions that the next call asks for.
        """
        if self._needs_estimate and self._longest_completion is None:
            n_requested = min(n_requested, 1)
        n_affordable, planned_cost = 0, Cost()
        while n_affordable < n_requested:
            size = call_size(n_requested - n_affordable)
            n = self.tracker.affordable(size, self.cost_bound, planned=planned_cost)
            if n:
                planned_cost, n_affordable = planned_cost + self.cost_bound(n), n_affordable + n
            if n < size:
                break
        self.stop_reason = None if n_affordable else self.tracker.shortfall(self.cost_bound(1))
        return n_affordable

    @contextmanager
    def reserve(self, n: int) -> Iterator[Callable[[Reply], None]]:
        """Reserve the worst case of one request for ``n`` completions; the value takes its reply.

        Raises:
            BudgetExceededError: it does not fit, and must not be sent.
        """
        reserved_cost = actual_cost = self.cost_bound(n)
        try:
            self.tracker.reserve(reserved_cost)
        except BudgetExceededError as error:
            self.stop_reason = error.message
            raise

        def on_reply(reply: Reply) -> None:
            nonlocal actual_cost
            actual_cost = self._observe_reply(reply, n)

        try:
            yield on_reply
        except ConfigurationError:  # nothing was sent
            actual_cost = Cost()
            raise
        except (AuthenticationError, BadRequestError, RateLimitError, ServerError):  # refused, so not billed
            actual_cost = Cost(calls=1)
            raise
        except BaseException:  # cut off, cancelled or unreadable: the provider may have billed all of it
            self._has_lost_reply = True
            raise
        finally:
            self.tracker.commit(reserved_cost, actual_cost)

    def notes(self) -> Iterator[str]:
        """Yield one sentence for each way in which the budget was not exact."""
        if self._needs_estimate and self._longest_completion is not None:
            yield (
                "max_tokens= is not given, so the budget assumed that a completion has at most 1.5 times the tokens "
                "of the longest one so far. Give max_tokens= for a limit that cannot be exceeded."
            )
        if self._has_lost_reply and self._limits_tokens:
            yield "Some requests got no complete reply and may be billed; the budget counts the most they may cost."

    def _observe_reply(self, reply: Reply, n: int) -> Cost:
        """Learn the sizes of prompt and completions from a reply; return what it cost."""
        usage, completions = reply.usage, reply.completions
        if usage.prompt_tokens:  # 0 means not counted
            self._prompt_tokens = max(usage.prompt_tokens, self._prompt_tokens if self._has_prompt_count else 0)
            self._has_prompt_count = True
        # Servers misreport usage: the tokens listed in the reply are a lower bound.
        lengths = [len(completion.tokens) for completion in completions]
        tokens = max(usage.completion_tokens, sum(lengths))
        longest = max(lengths, default=0)
        if not longest and (usage.estimated or not tokens):
            size = sum(len(completion.text.encode()) for completion in completions)
            tokens = max(tokens, self._max_tokens * n if self._max_tokens else size)
        self._longest_completion = max(
            self._longest_completion or 0, longest, math.ceil(tokens / max(len(completions), 1)), 1
        )
        return self._cost(usage.prompt_tokens or self._prompt_tokens, tokens, cached_tokens=usage.cached_prompt_tokens)

    def _cost(self, prompt_tokens: int, completion_tokens: int, *, cached_tokens: int = 0) -> Cost:
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        usd = self._price.most(**counts, cached_tokens=cached_tokens) if self._price else 0.0
        return Cost(tokens=prompt_tokens + completion_tokens, usd=usd, calls=1)


def find_max_tokens(fields: Mapping[str, Any]) -> int | None:
    """Return the longest completion that a request's fields allow, under any provider's name; None if unlimited."""
    limits = [value for name in _MAX_TOKENS_FIELDS if isinstance(value := fields.get(name), int) and value > 0]
    return max(limits, default=None)


def prompt_token_bound(messages: Sequence[Message], fields: Mapping[str, Any]) -> int:
    """Return an upper bound on the prompt's tokens: no token of a text is shorter than a byte."""
    return (
        _TEMPLATE_TOKENS
        + _TEMPLATE_TOKENS_PER_MESSAGE * len(messages)
        + sum(map(_token_bound, messages))
        + sum(len(json.dumps(fields[name], default=str)) for name in _PROMPT_FIELDS if name in fields)
    )


def _token_bound(value: object) -> int:
    match value:
        case str() if value.startswith("data:"):
            return _MEDIA_TOKENS
        case str():
            return len(value.encode("utf-8", "surrogatepass"))
        case {"type": "image_url" | "image" | "input_image" | "input_audio"} | {"inlineData": _} | {"inline_data": _}:
            return _MEDIA_TOKENS
        case Mapping():
            return sum(_token_bound(part) for part in value.values())
        case list() | tuple():
            return sum(map(_token_bound, value))
    return 0
