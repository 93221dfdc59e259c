"""Token prices of models: the user's own, or those of genai-prices (extra "prices"). Unknown is None, never 0.

genai-prices contains its prices, so nothing is downloaded: https://github.com/pydantic/genai-prices. A price belongs to
an address, not to a provider's name: a local server has no price, whatever its model is called.
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
# genai-prices' names of our prices.
_GENAI_FIELDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


@dataclass(frozen=True, kw_only=True)
class Price:
    """Prices of a model in US dollars per million tokens: ``Price(input=0.40, output=1.60, cached_input=0.10)``.

    Raises:
        ConfigurationError: a price is negative or not a number.

    Attributes:
        input: Prompt tokens.
        output: Completion tokens, thinking included.
        cached_input: Prompt tokens read from the provider's prefix cache; None: as ``input``.
        cache_write: Prompt tokens written to that cache; None: as ``input``.
        longer: Price tiers (tokens, price), sorted: for prompts of more than ``tokens`` tokens, ``price``
            applies to all tokens.
        source: The source of the price.
        date: ISO date for which it was looked up.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    longer: tuple[tuple[int, Price], ...] = ()
    source: str = "given"
    date: str | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "cache_write"):
            value = getattr(self, name)
            if value is None and name not in ("input", "output"):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ConfigurationError(
                    f"Price({name}=) must be US dollars per million tokens, 0 or more, not {value!r}."
                )

    def at(self, prompt_tokens: int) -> Price:
        """Return the price tier for a prompt of this length."""
        return next((price for start, price in reversed(self.longer) if prompt_tokens > start), self)

    def cost(
        self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
    ) -> float:
        """Return the cost in US dollars.

        Args:
            prompt_tokens: tokens of the prompt, those read from and written to the cache included.
            completion_tokens: generated tokens.
            cached_tokens: prompt tokens read from the cache.
            written_tokens: prompt tokens written to the cache.
        """
        uncached = max(prompt_tokens - cached_tokens - written_tokens, 0)
        read_price = self.input if self.cached_input is None else self.cached_input
        write_price = self.input if self.cache_write is None else self.cache_write
        parts = (
            uncached * self.input,
            cached_tokens * read_price,
            written_tokens * write_price,
            completion_tokens * self.output,
        )
        return math.fsum(parts) / _MILLION

    def most(self, *, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Return the highest possible cost of one call in US dollars.

        The part of the prompt that is not read from the cache may be written to it.
        """
        price = self.at(prompt_tokens)
        written = prompt_tokens - cached_tokens if (price.cache_write or 0.0) > price.input else 0
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return price.cost(**counts, cached_tokens=cached_tokens, written_tokens=written)


# One price for all models, or prices by "model" or "provider/model".
Prices = Price | Mapping[str, Price] | None


def find_price(provider: str, model: str | None, base_url: str | None, prices: Prices = None) -> Price | None:
    """Return the price of a model: the user's own, else that of genai-prices; None if it is unknown.

    The first lookup imports genai-prices, which takes about half a second.

    Raises:
        MissingExtraError: the price has to be looked up, and the extra is not installed.
    """
    if isinstance(prices, Price):
        return prices
    if prices and (own_price := prices.get(f"{provider}/{model}") or prices.get(model or "")):
        return own_price
    if model is None or base_url is None:
        return None
    try:
        from genai_prices.data_snapshot import get_snapshot
    except ImportError as error:
        raise MissingExtraError.needs("prices", "Looking up a price") from error
    now = datetime.now(UTC)
    try:
        _, model_info = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return _convert_price(model_info.get_prices(now), now)


def add_costs(cost: float | None, other_cost: float | None) -> float | None:
    """Return the sum of two costs in US dollars; None, and not a part of it, if either is unknown."""
    return None if cost is None or other_cost is None else cost + other_cost


def check_prices(prices: object) -> Prices:
    """Return ``prices`` if it is a Price, a mapping from model to Price, or None.

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
    """Convert a price of genai-prices; None if it is not per token alone (a fee per request, for example)."""
    from importlib.metadata import version

    values = {
        name: value for name, field in _GENAI_FIELDS.items() if (value := getattr(model_price, field)) is not None
    }
    if "input" not in values or "output" not in values or model_price.requests_kcount is not None:
        return None
    tier_starts = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    source = f"genai-prices {version('genai-prices')}"

    def create_price(start: int, longer: tuple[tuple[int, Price], ...] = ()) -> Price:
        prices = {name: float(_tier_price(value, start)) for name, value in values.items()}
        return Price(**prices, source=source, date=now.date().isoformat(), longer=longer)

    return create_price(0, tuple((start, create_price(start)) for start in tier_starts))


def _tier_price(value: Any, start: int) -> Any:
    """Return the price for prompts of more than ``start`` tokens; without tiers it is the same for all."""
    prices = [tier.price for tier in getattr(value, "tiers", ()) if tier.start <= start]
    return prices[-1] if prices and start else getattr(value, "base", value)
