"""What the calls of one draw may cost at most, asked before each is sent; and what they came to."""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Callable, Iterator, Mapping
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
from swift_client.sampling.request import SampleRequest

_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_PROMPT_FIELDS = ("tools", "functions", "response_format", "system")
"""Fields of a request that the model reads as part of its prompt."""
_TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to a conversation, such as a date or a default system prompt."""
_TEMPLATE_TOKENS_PER_MESSAGE = 16
"""Tokens that it may add to each message."""
_MEDIA_TOKENS = 2048
"""Tokens that a picture or a sound is taken for, whose size says nothing: an estimate."""


class RequestBudget:
    """Holds from an account what each request may cost, and settles what it did.

    Prompt tokens are at most the bytes of the prompt, and from the first reply on what the provider counted.

    Args:
        account: what is spent from.
        order: what the calls ask.
        fields: fields that the provider row adds to every request.
        price: the model's; needed where the budget is in dollars.
    """

    def __init__(
        self, tracker: BudgetTracker, sample_request: SampleRequest, fields: Mapping[str, Any], price: Price | None
    ) -> None:
        self.tracker = tracker
        self.stop_reason: str | None = None
        """Why a request was not sent, where one was not."""
        self._price = price
        self._max_tokens = find_max_tokens({**fields, **sample_request.sampling})
        self._prompt_tokens = prompt_token_bound(sample_request)
        self._has_prompt_count = False
        self._longest_completion: int | None = None
        self._has_lost_reply = False

    @property
    def _needs_estimate(self) -> bool:
        budget = self.tracker.budget
        return self._max_tokens is None and (budget.usd is not None or budget.tokens is not None)

    def cost_bound(self, n: int) -> Cost:
        """Return the most that one request for ``n`` completions may cost."""
        each = self._max_tokens or math.ceil(1.5 * (self._longest_completion or 0))
        return self._cost(self._prompt_tokens, each * n)

    def affordable_completions(self, n_requested: int, call_size: Callable[[int], int]) -> int:
        """Return how many of ``wanted`` completions fit now, asked in calls of ``size(those left)`` each."""
        if self._needs_estimate and self._longest_completion is None:
            n_requested = min(n_requested, 1)
        fit, total = 0, Cost()
        while fit < n_requested:
            most, before = call_size(n_requested - fit), total
            n = bisect.bisect_left(
                range(1, most + 1), True, key=lambda n: self.tracker.shortfall(before + self.cost_bound(n)) is not None
            )
            if n:
                total, fit = total + self.cost_bound(n), fit + n
            if n < most:
                break
        self.stop_reason = None if fit else self.tracker.shortfall(self.cost_bound(1))
        return fit

    @contextmanager
    def reserve(self, n: int) -> Iterator[Callable[[Reply], None]]:
        """Hold what one request for ``n`` completions may cost; the value takes its reply.

        Raises:
            BudgetExceededError: it does not fit, and must not be sent.
        """
        held = paid = self.cost_bound(n)
        try:
            self.tracker.reserve(held)
        except BudgetExceededError as refusal:
            self.stop_reason = refusal.message
            raise

        def came(reply: Reply) -> None:
            nonlocal paid
            paid = self._observe_reply(reply, n)

        try:
            yield came
        except ConfigurationError:  # nothing was sent
            paid = Cost()
            raise
        except (AuthenticationError, BadRequestError, RateLimitError, ServerError):  # refused, and so not billed
            paid = Cost(calls=1)
            raise
        except BaseException:  # cut off, cancelled or unreadable: the provider may have done, and billed, all of it
            self._has_lost_reply = True
            raise
        finally:
            self.tracker.commit(held, paid)

    def notes(self) -> Iterator[str]:
        """Yield one sentence for each thing that was not as exact as a budget should be."""
        if self._needs_estimate and self._longest_completion is not None:
            yield (
                "max_tokens= is not given, so that the budget reckoned with half as many tokens again as the longest "
                "completion so far had; only with max_tokens= is it a limit that cannot be passed."
            )
        if self._has_lost_reply:
            yield "Requests whose reply did not come whole may be billed: the budget counts the most they may cost."

    def _observe_reply(self, reply: Reply, n: int) -> Cost:
        usage, came = reply.usage, reply.completions
        if usage.prompt_tokens:  # a prompt of no tokens is one that was not counted
            self._prompt_tokens = max(usage.prompt_tokens, self._prompt_tokens if self._has_prompt_count else 0)
            self._has_prompt_count = True
        listed = max((len(each.tokens) for each in came), default=0)
        tokens = max(usage.completion_tokens, sum(len(each.tokens) for each in came))
        if not listed and (usage.estimated or not tokens):
            unseen = self._max_tokens * n if self._max_tokens else sum(len(each.text.encode()) for each in came)
            tokens = max(tokens, unseen)
        self._longest_completion = max(self._longest_completion or 0, listed, math.ceil(tokens / max(len(came), 1)), 1)
        return self._cost(usage.prompt_tokens or self._prompt_tokens, tokens, cached_tokens=usage.cached_prompt_tokens)

    def _cost(self, prompt_tokens: int, completion_tokens: int, *, cached_tokens: int = 0) -> Cost:
        usd = 0.0
        if self._price:
            usd = self._price.most(
                prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=cached_tokens
            )
        return Cost(tokens=prompt_tokens + completion_tokens, usd=usd, calls=1)


def find_max_tokens(fields: Mapping[str, Any]) -> int | None:
    """Return the longest completion that a request's fields allow, by any provider's name for it; None without."""
    given = [value for name in _MAX_TOKENS_FIELDS if isinstance(value := fields.get(name), int) and value > 0]
    return max(given, default=None)


def prompt_token_bound(sample_request: SampleRequest) -> int:
    """Return how many tokens the prompt has at most: no token of a text is shorter than a byte."""
    said = sum(_token_bound(message) for message in sample_request.messages)
    shown = [sample_request.sampling[name] for name in _PROMPT_FIELDS if name in sample_request.sampling]
    return (
        _TEMPLATE_TOKENS
        + _TEMPLATE_TOKENS_PER_MESSAGE * len(sample_request.messages)
        + said
        + sum(len(json.dumps(x, default=str)) for x in shown)
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
