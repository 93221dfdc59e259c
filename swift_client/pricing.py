"""What a model's tokens cost: the user's own prices, or genai-prices' (extra "prices"). Unknown is None, never 0.

genai-prices brings its prices with it, so that nothing is downloaded: https://github.com/pydantic/genai-prices. A price
belongs to an address, not to a provider's name: a local server has none, whatever its model is called.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a model costs, in US dollars for a million tokens: ``Price(input=0.40, output=1.60, cached_input=0.10)``.

    Raises:
        ConfigurationError: a price is negative or no number.
    """

    input: float
    """Prompt tokens."""
    output: float
    """Completion tokens, thinking included."""
    cached_input: float | None = None
    """Prompt tokens that were read from the provider's prefix cache; None: no discount is known."""
    cache_write: float | None = None
    """Prompt tokens that were written to the cache; None: as ``input``."""
    longer: tuple[tuple[int, Price], ...] = ()
    """(tokens, price), rising: what every token costs where the prompt is longer than so many tokens."""
    source: str = "given"
    """Where the price comes from."""
    date: str | None = None
    """ISO date of the day that it was looked up for."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "cache_write"):
            value = getattr(self, name)
            if value is None and name not in ("input", "output"):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ConfigurationError(
                    f"Price({name}=) must be US dollars for a million tokens, 0 or more, not {value!r}."
                )

    def at(self, prompt_tokens: int) -> Price:
        """Return the price that holds for a prompt of this length."""
        longer = [price for start, price in self.longer if prompt_tokens > start]
        return longer[-1] if longer else self

    def cost(
        self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
    ) -> float:
        """Return US dollars.

        Args:
            prompt_tokens: all of the prompt, the cached and the written part included.
            completion_tokens: all that was generated.
            cached_tokens: how many of the prompt were read from the cache.
            written_tokens: how many of the prompt were written to it.
        """
        fresh = max(prompt_tokens - cached_tokens - written_tokens, 0)
        cached = self.input if self.cached_input is None else self.cached_input
        written = self.input if self.cache_write is None else self.cache_write
        parts = (
            fresh * self.input,
            cached_tokens * cached,
            written_tokens * written,
            completion_tokens * self.output,
        )
        return math.fsum(parts) / _MILLION

    def most(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Return the most US dollars that one call can cost: all of its prompt that is not read from the cache may be
        written to it.
        """
        price = self.at(prompt_tokens)
        written = prompt_tokens - cached_tokens if (price.cache_write or 0.0) > price.input else 0
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return price.cost(**counts, cached_tokens=cached_tokens, written_tokens=written)


Prices = Price | Mapping[str, Price] | None
"""A price for every model, or one by "model" or "provider/model"."""


def find_price(provider: str, model: str | None, base_url: str | None, prices: Prices = None) -> Price | None:
    """Return the price of a model: the user's own, else genai-prices'. None where it is unknown.

    The first look-up imports genai-prices, which takes about half a second.

    Raises:
        MissingExtraError: it would have to be looked up and the extra is not installed.
    """
    if isinstance(prices, Price):
        return prices
    if prices and (given := prices.get(f"{provider}/{model}") or prices.get(model or "")):
        return given
    if model is None or base_url is None:
        return None
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError as error:
        raise MissingExtraError.needs("prices", "Looking a price up") from error
    now = datetime.now(UTC)
    try:
        _, found = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return _convert_price(found.get_prices(now), now)


def check_prices(prices: object) -> Prices:
    """Return ``prices`` where it is a Price, a mapping of them, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if prices is None or isinstance(prices, Price):
        return prices
    if isinstance(prices, Mapping) and all(isinstance(price, Price) for price in prices.values()):
        return prices
    raise ConfigurationError(
        "prices= takes a Price, or a mapping from model to Price.",
        hint='Write it as prices={"gpt-4.1-mini": Price(input=0.40, output=1.60)}.',
    )


def _convert_price(model_price: ModelPrice, now: datetime) -> Price | None:
    """Return their price as ours, or None where it is not one of tokens alone (a fee for each request, say)."""
    from importlib.metadata import version

    values: Mapping[str, Any] = {
        ours: value
        for ours, name in (
            ("input", "input_mtok"),
            ("output", "output_mtok"),
            ("cached_input", "cache_read_mtok"),
            ("cache_write", "cache_write_mtok"),
        )
        if (value := getattr(model_price, name)) is not None
    }
    if "input" not in values or "output" not in values or model_price.requests_kcount is not None:
        return None
    steps = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    known: dict[str, Any] = {"source": f"genai-prices {version('genai-prices')}", "date": now.date().isoformat()}

    def above(start: int) -> dict[str, Any]:
        return {name: float(_tier_price(value, start)) for name, value in values.items()}

    longer = tuple((start, Price(**above(start), **known)) for start in steps)
    return Price(**above(0), **known, longer=longer)


def _tier_price(value: Any, start: int) -> Any:
    """Return a price for prompts longer than ``start`` tokens; a price without tiers is the same for all."""
    reached = [tier.price for tier in getattr(value, "tiers", ()) if tier.start <= start]
    return reached[-1] if reached and start else getattr(value, "base", value)
