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
from swift_client.sampling.budget import Account, Cost
from swift_client.sampling.request import Order

_MAX_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens")
_SHOWN = ("tools", "functions", "response_format", "system")
"""Fields of a request that the model reads as part of its prompt."""
_TEMPLATE = 64
"""Tokens that a chat template may add to a conversation, such as a date or a default system prompt."""
_TEMPLATE_MESSAGE = 16
"""Tokens that it may add to each message."""
_PICTURE = 2048
"""Tokens that a picture or a sound is taken for, whose size says nothing: an estimate."""


class Meter:
    """Holds from an account what each request may cost, and settles what it did.

    Prompt tokens are at most the bytes of the prompt, and from the first reply on what the provider counted.

    Args:
        account: what is spent from.
        order: what the calls ask.
        fields: fields that the provider row adds to every request.
        price: the model's; needed where the budget is in dollars.
    """

    def __init__(self, account: Account, order: Order, fields: Mapping[str, Any], price: Price | None) -> None:
        self.account = account
        self.ended: str | None = None
        """Why a request was not sent, where one was not."""
        self._price = price
        self._max_tokens = max_tokens({**fields, **order.sampling})
        self._prompt = most_prompt_tokens(order)
        self._counted = False
        self._longest: int | None = None
        self._unheard = False

    @property
    def _guesses(self) -> bool:
        budget = self.account.budget
        return self._max_tokens is None and (budget.usd is not None or budget.tokens is not None)

    def bound(self, n: int) -> Cost:
        """Return the most that one request for ``n`` completions may cost."""
        each = self._max_tokens or math.ceil(1.5 * (self._longest or 0))
        return self._cost(self._prompt, each * n)

    def room(self, wanted: int, size: Callable[[int], int]) -> int:
        """Return how many of ``wanted`` completions fit now, asked in calls of ``size(those left)`` each."""
        if self._guesses and self._longest is None:
            wanted = min(wanted, 1)
        fit, total = 0, Cost()
        while fit < wanted:
            most, before = size(wanted - fit), total
            n = bisect.bisect_left(
                range(1, most + 1), True, key=lambda n: self.account.lacks(before + self.bound(n)) is not None
            )
            if n:
                total, fit = total + self.bound(n), fit + n
            if n < most:
                break
        self.ended = None if fit else self.account.lacks(self.bound(1))
        return fit

    @contextmanager
    def request(self, n: int) -> Iterator[Callable[[Reply], None]]:
        """Hold what one request for ``n`` completions may cost; the value takes its reply.

        Raises:
            BudgetExceededError: it does not fit, and must not be sent.
        """
        held = paid = self.bound(n)
        try:
            self.account.hold(held)
        except BudgetExceededError as refusal:
            self.ended = refusal.message
            raise

        def came(reply: Reply) -> None:
            nonlocal paid
            paid = self._observed(reply, n)

        try:
            yield came
        except ConfigurationError:  # nothing was sent
            paid = Cost()
            raise
        except (AuthenticationError, BadRequestError, RateLimitError, ServerError):  # refused, and so not billed
            paid = Cost(calls=1)
            raise
        except BaseException:  # cut off, cancelled or unreadable: the provider may have done, and billed, all of it
            self._unheard = True
            raise
        finally:
            self.account.settle(held, paid)

    def notes(self) -> Iterator[str]:
        """Yield one sentence for each thing that was not as exact as a budget should be."""
        if self._guesses and self._longest is not None:
            yield (
                "max_tokens= is not given, so that the budget reckoned with half as many tokens again as the longest "
                "completion so far had; only with max_tokens= is it a limit that cannot be passed."
            )
        if self._unheard:
            yield "Requests whose reply did not come whole may be billed: the budget counts the most they may cost."

    def _observed(self, reply: Reply, n: int) -> Cost:
        usage, came = reply.usage, reply.completions
        if usage.prompt_tokens:  # a prompt of no tokens is one that was not counted
            self._prompt = max(usage.prompt_tokens, self._prompt if self._counted else 0)
            self._counted = True
        listed = max((len(each.tokens) for each in came), default=0)
        tokens = max(usage.completion_tokens, sum(len(each.tokens) for each in came))
        if not listed and (usage.estimated or not tokens):
            unseen = self._max_tokens * n if self._max_tokens else sum(len(each.text.encode()) for each in came)
            tokens = max(tokens, unseen)
        self._longest = max(self._longest or 0, listed, math.ceil(tokens / max(len(came), 1)), 1)
        return self._cost(usage.prompt_tokens or self._prompt, tokens, cached_tokens=usage.cached_prompt_tokens)

    def _cost(self, prompt_tokens: int, completion_tokens: int, *, cached_tokens: int = 0) -> Cost:
        usd = 0.0
        if self._price:
            usd = self._price.most(
                prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=cached_tokens
            )
        return Cost(tokens=prompt_tokens + completion_tokens, usd=usd, calls=1)


def max_tokens(fields: Mapping[str, Any]) -> int | None:
    """Return the longest completion that a request's fields allow, by any provider's name for it; None without."""
    given = [value for name in _MAX_TOKENS if isinstance(value := fields.get(name), int) and value > 0]
    return max(given, default=None)


def most_prompt_tokens(order: Order) -> int:
    """Return how many tokens the prompt has at most: no token of a text is shorter than a byte."""
    said = sum(_most_tokens(message) for message in order.messages)
    shown = [order.sampling[name] for name in _SHOWN if name in order.sampling]
    return (
        _TEMPLATE + _TEMPLATE_MESSAGE * len(order.messages) + said + sum(len(json.dumps(x, default=str)) for x in shown)
    )


def _most_tokens(value: object) -> int:
    match value:
        case str() if value.startswith("data:"):
            return _PICTURE
        case str():
            return len(value.encode("utf-8", "surrogatepass"))
        case {"type": "image_url" | "image" | "input_image" | "input_audio"} | {"inlineData": _} | {"inline_data": _}:
            return _PICTURE
        case Mapping():
            return sum(_most_tokens(part) for part in value.values())
        case list() | tuple():
            return sum(map(_most_tokens, value))
    return 0
