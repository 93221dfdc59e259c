"""Plans for n completions of one prompt: their calls and expected costs. Pure: nothing is sent.

A call for several completions pays its prompt once (OpenAI, vLLM, Gemini and Mistral count it so). If one call cannot
bring them all, each further call pays the prompt again, unless the provider still has it in its cache. Then the first
call goes alone, since simultaneous calls all miss the cache (and all write to it, which may cost extra).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swift_client.adapters.providers.prompt_caching import PrefixCache
from swift_client.pricing import Price
from swift_client.sampling.context import SampleRequest

# Share of the cost that waiting for the first call must save, since it takes about twice the time.
_MIN_SAVING = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One way to sample n completions."""

    name: str
    calls: tuple[int, ...]  # completions requested by each call
    # True if the other calls wait for the first reply, which takes twice the time.
    first_alone: bool
    prompt_tokens: int  # of all calls
    cached_tokens: int  # prompt tokens expected to be read from the provider's cache
    written_tokens: int  # prompt tokens written to the cache
    completion_tokens: int  # of all completions, at their expected length
    usd: float | None  # US dollars; None without a known price


@dataclass(frozen=True, kw_only=True)
class PlanChoice:
    """The chosen plan, and its alternatives."""

    chosen: Plan
    alternatives: tuple[Plan, ...]
    reason: str  # reason for the choice, in one sentence


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

    The first call goes alone only if that is known to save a tenth or more: the price and its cache discount are known,
    and the provider caches a prompt of this length.

    Args:
        n: completions.
        n_max: limit of completions per call; None if no limit is known.
        prompt_tokens: of one call.
        completion_tokens: of one completion, expected.
        price: the model's price.
        cache: the provider's prefix cache.
        has_cache_control: True if the request asks for caching itself (``cache_control``).
    """
    n_full, rest = divmod(n, n_max or n)
    sizes = (n_max or n,) * n_full + ((rest,) if rest else ())
    is_cached = cache is not None and (has_cache_control or not cache.needs_cache_control)
    cacheable_tokens = cache.cached_tokens(prompt_tokens) if cache and is_cached else 0
    price = price and price.at(prompt_tokens)

    def create_plan(name: str, calls: tuple[int, ...], *, first_alone: bool = False) -> Plan:
        n_hits = len(calls) - 1 if first_alone else 0
        counts = {
            "prompt_tokens": prompt_tokens * len(calls),
            "cached_tokens": cacheable_tokens * n_hits,
            "written_tokens": cacheable_tokens * (len(calls) - n_hits),
            "completion_tokens": completion_tokens * n,
        }
        usd = None if price is None else price.cost(**counts)
        return Plan(name=name, calls=calls, first_alone=first_alone, usd=usd, **counts)

    # One call for everything, or all calls at once.
    per_call = f"{sizes[0]} at most each" if sizes[0] > 1 else "one completion each"
    together = create_plan("one call" if len(sizes) == 1 else f"{len(sizes)} calls at once, {per_call}", sizes)
    singly = [create_plan(f"{n} calls at once, one completion each", (1,) * n)] if sizes[0] > 1 else []
    if len(sizes) == 1:
        reason = f"One call brings all {n} completions{' and pays the prompt once' if n > 1 else ''}."
        return PlanChoice(chosen=together, alternatives=tuple(singly), reason=reason)
    # Several calls: waiting for the first one pays off if the others then read the prompt from the cache.
    waiting = create_plan(f"one call first, then {len(sizes) - 1} at once, {per_call}", sizes, first_alone=True)
    limit = f"a call brings at most {sizes[0]} of {n} completions"
    saving = 0.0 if waiting.usd is None or not together.usd else 1 - waiting.usd / together.usd
    if saving >= _MIN_SAVING:
        return PlanChoice(
            chosen=waiting,
            alternatives=(together, *singly),
            reason=f"Since {limit}, and a prompt just seen is read from the provider's cache, waiting for the first "
            f"reply costs {saving:.0%} less; it takes about twice the time.",
        )
    why = f"waiting for the first reply would save {saving:.1%}"
    if saving <= 0:
        why = _no_saving_reason(cache, cacheable_tokens, price, has_cache_control)
    reason = f"Since {limit}, and {why}, they go at once."
    return PlanChoice(chosen=together, alternatives=(waiting, *singly), reason=reason)


def estimate_prompt_tokens(sample_request: SampleRequest) -> int:
    """Return a guess of the prompt's tokens: four bytes each, as in English text. Not a bound."""
    size = sum(len(text.encode("utf-8", "replace")) for text in _texts(list(sample_request.messages)))
    return max(1, math.ceil(size / 4))


def asks_for_caching(messages: object, sampling: Mapping[str, Any]) -> bool:
    """Return True if a request marks its prompt with ``cache_control``, as Anthropic requires."""
    match messages:
        case Mapping():
            return "cache_control" in messages or any(asks_for_caching(part, {}) for part in messages.values())
        case list() | tuple():
            return "cache_control" in sampling or any(asks_for_caching(part, {}) for part in messages)
    return False


def _no_saving_reason(
    cache: PrefixCache | None, cacheable_tokens: int, price: Price | None, has_cache_control: bool
) -> str:
    if cache is None:
        return "the provider has no known prompt cache"
    if cache.needs_cache_control and not has_cache_control:
        return "no message has the cache_control that caching needs"
    if not cacheable_tokens:
        return f"prompts under {cache.min_tokens:,} tokens are not cached"
    if price is None:
        return "no price is known that would show what the cache saves"
    return "no discount for cached tokens is known"


def _texts(value: object) -> list[str]:
    match value:
        case str():
            return [] if value.startswith("data:") else [value]
        case Mapping():
            return [text for part in value.values() for text in _texts(part)]
        case list() | tuple():
            return [text for part in value for text in _texts(part)]
    return []
