"""How n completions of one prompt are asked for, and what each way is expected to cost. Pure: nothing is sent.

A call that asks for several completions pays its prompt once (OpenAI, vLLM, Gemini and Mistral count it so). Where
one call cannot bring all, each further one pays the prompt again, unless the provider still has it in its cache: then
the first call goes alone, since calls at once all miss (and, where writing costs, all write).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swift_client.adapters.providers.prompt_caching import PrefixCache
from swift_client.pricing import Price
from swift_client.sampling.request import SampleRequest

_MIN_SAVING = 0.1
"""Share of the cost that waiting must save: it takes about twice the time."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to draw n completions."""

    name: str
    calls: tuple[int, ...]
    """Completions that each call asks for."""
    first_alone: bool
    """Whether the other calls wait for the first one's reply: twice the time."""
    prompt_tokens: int
    """Of all calls."""
    cached_tokens: int
    """How many of them are expected to be read from the provider's cache."""
    written_tokens: int
    """How many of them are written to it."""
    completion_tokens: int
    """Of all completions, at the length that was expected."""
    usd: float | None
    """US dollars; None where no price is known."""


@dataclass(frozen=True, kw_only=True)
class PlanChoice:
    """The plan that is followed, and what else there was."""

    chosen: Plan
    alternatives: tuple[Plan, ...]
    reason: str
    """Why, in one sentence."""


def plan(
    n: int,
    *,
    n_max: int | None,
    prompt_tokens: int,
    completion_tokens: int,
    price: Price | None = None,
    cache: PrefixCache | None = None,
    has_cache_control: bool = False,
) -> PlanChoice:
    """Choose how to ask for ``n`` completions.

    The first call goes alone only where that is known to be cheaper by a tenth or more: the price and its discount are
    known, and so is that the provider caches a prompt of this length.

    Args:
        n: completions.
        n_max: most of them that one call may ask for; None: no known limit.
        prompt_tokens: of one call.
        completion_tokens: of one completion, expected.
        price: the model's.
        cache: the provider's.
        marked: whether the request asks for caching itself (``cache_control``).
    """
    sizes = _call_sizes(n, n_max or n)
    held = (
        0
        if cache is None or (cache.needs_cache_control and not has_cache_control)
        else cache.cached_tokens(prompt_tokens)
    )
    price = price and price.at(prompt_tokens)

    def way(name: str, calls: tuple[int, ...], *, first_alone: bool = False) -> Plan:
        again = len(calls) - 1 if first_alone else 0
        cached, written = held * again, held * (len(calls) - again)
        tokens = {"prompt_tokens": prompt_tokens * len(calls), "completion_tokens": completion_tokens * n}
        usd = None if price is None else price.cost(**tokens, cached_tokens=cached, written_tokens=written)
        return Plan(
            name=name,
            calls=calls,
            first_alone=first_alone,
            cached_tokens=cached,
            written_tokens=written,
            usd=usd,
            **tokens,
        )

    most = f"{sizes[0]} at most each" if sizes[0] > 1 else "one completion each"
    together = way("one call" if len(sizes) == 1 else f"{len(sizes)} calls at once, {most}", sizes)
    singly = [way(f"{n} calls at once, one completion each", (1,) * n)] if sizes[0] > 1 else []
    if len(sizes) == 1:
        once = " and pays the prompt once" if n > 1 else ""
        return PlanChoice(
            chosen=together, alternatives=tuple(singly), reason=f"One call brings all {n} completions{once}."
        )
    waiting = way(f"one call first, then {len(sizes) - 1} at once, {most}", sizes, first_alone=True)
    limit = f"a call brings at most {sizes[0]} of {n} completions"
    saved = 0.0 if waiting.usd is None or not together.usd else 1 - waiting.usd / together.usd
    if saved >= _MIN_SAVING:
        return PlanChoice(
            chosen=waiting,
            alternatives=(together, *singly),
            reason=f"Since {limit}, and a prompt that was just seen is read from the provider's cache, waiting for the "
            f"first reply costs {saved:.0%} less, and takes about twice the time.",
        )
    why = (
        f"waiting for the first reply would save {saved:.1%}"
        if saved > 0
        else _no_saving_reason(cache, held, price, has_cache_control)
    )
    return PlanChoice(
        chosen=together, alternatives=(waiting, *singly), reason=f"Since {limit}, and {why}, they go at once."
    )


def estimate_prompt_tokens(sample_request: SampleRequest) -> int:
    """Return about how many tokens the prompt has: four bytes each, as English text has. A guess, not a bound."""
    return max(
        1, math.ceil(sum(len(text.encode("utf-8", "replace")) for text in _texts(list(sample_request.messages))) / 4)
    )


def asks_for_caching(messages: object, sampling: Mapping[str, Any]) -> bool:
    """Say whether a request marks its prompt with ``cache_control``, as Anthropic wants it."""
    match messages:
        case Mapping():
            return "cache_control" in messages or any(asks_for_caching(part, {}) for part in messages.values())
        case list() | tuple():
            return "cache_control" in sampling or any(asks_for_caching(part, {}) for part in messages)
    return False


def _call_sizes(n: int, max_per_call: int) -> tuple[int, ...]:
    full, rest = divmod(n, max_per_call)
    return (max_per_call,) * full + ((rest,) if rest else ())


def _no_saving_reason(
    cache: PrefixCache | None, cacheable_tokens: int, price: Price | None, has_cache_control: bool
) -> str:
    if cache is None:
        return "nothing is known of a cache that would make later calls cheaper"
    if cache.needs_cache_control and not has_cache_control:
        return "no message has the cache_control that caching needs"
    if not cacheable_tokens:
        return f"prompts under {cache.min_tokens:,} tokens are not cached"
    return "no price is known that would show what the cache saves" if price is None else "no discount is known"


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [] if value.startswith("data:") else [value]
        case Mapping():
            return [text for part in value.values() for text in _texts(part)]
        case list() | tuple():
            return [text for part in value for text in _texts(part)]
    return []
