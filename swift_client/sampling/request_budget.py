"""The budget check of one question: the worst-case cost reserved for each request before it is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from swift_client.sampling.budget import BudgetTracker, Cost
from swift_client.types import Message

_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
# Fields of a request that the model reads as part of its prompt.
_PROMPT_FIELDS = ("tools", "functions", "response_format", "system")
# Tokens that a chat template may add to a conversation, such as a date or a default system prompt.
_TEMPLATE_TOKENS = 64
_TEMPLATE_TOKENS_PER_MESSAGE = 16
# Tokens assumed for an image or a sound, since its size in bytes does not tell: an estimate.
_MEDIA_TOKENS = 2048


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
