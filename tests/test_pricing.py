"""Tests of prices: genai-prices' own numbers, the user's, and None if the price is unknown."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.pricing import Price, check_prices, find_price

genai_prices = pytest.importorskip("genai_prices")

OPENAI = "https://api.openai.com/v1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta"
MODELS = [
    (OPENAI, "gpt-4.1-mini"),
    (OPENAI, "gpt-4o-mini"),
    (OPENAI, "gpt-5.6"),
    (GOOGLE, "gemini-2.5-flash"),
    (GOOGLE, "gemini-2.5-pro"),
    ("https://api.anthropic.com/v1", "claude-haiku-4-5"),
    ("https://api.deepseek.com", "deepseek-v4-flash"),
    ("https://openrouter.ai/api/v1", "openai/gpt-4.1-mini"),
    ("https://mine.openai.azure.com/openai/v1", "gpt-4.1-mini"),
]


@pytest.mark.parametrize(("address", "model"), MODELS)
@pytest.mark.parametrize("prompt", [1_000, 200_000, 200_001, 272_001])
def test_a_call_costs_what_genai_prices_says(address: str, model: str, prompt: int) -> None:
    price = find_price("any", model, address)
    assert price is not None
    assert price.source.startswith("genai-prices ")

    for cached, written in ((0, 0), (900, 0), (0, 800)):
        if written and price.cache_write is None:
            continue
        counts = {"input_tokens": prompt, "output_tokens": 5_000}
        cache = {"cache_read_tokens": cached, "cache_write_tokens": written}
        usage = genai_prices.Usage(**counts, **{name: value for name, value in cache.items() if value})
        expected = genai_prices.calc_price(usage, model, provider_api_url=address).total_price
        cost = price.at(prompt).cost(
            prompt_tokens=prompt, completion_tokens=5_000, cached_tokens=cached, written_tokens=written
        )
        assert cost == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("model", "address"),
    [
        ("gpt-4o", "http://localhost:8000/v1"),  # a name does not make a local server cost money
        ("gpt-4o", None),
        (None, OPENAI),
        ("no-such-model", OPENAI),
        ("gpt-4o", "https://no-such-provider.example/v1"),
        ("sonar", "https://api.perplexity.ai"),  # asks a fee for each request beside its tokens
        ("text-embedding-3-small", OPENAI),  # has no price for output
    ],
)
def test_an_unknown_price_is_none(model: str | None, address: str | None) -> None:
    assert find_price("any", model, address) is None


def test_the_users_own_prices_win_by_model_or_by_provider_and_model() -> None:
    model_price, other = Price(input=1, output=2), Price(input=3, output=4)

    assert find_price("openai", "gpt-4.1-mini", OPENAI, model_price) is model_price
    assert find_price("openai", "gpt-4.1-mini", OPENAI, {"gpt-4.1-mini": model_price}) is model_price
    assert find_price("openai", "m", OPENAI, {"m": model_price, "openai/m": other}) is other
    assert find_price("vllm", "m", "http://localhost:8000/v1", {"m": model_price}) is model_price
    looked_up = find_price("openai", "gpt-4.1-mini", OPENAI, {"another": model_price})
    assert looked_up is not None
    assert looked_up.source != "given"


def test_a_price_is_for_a_million_tokens_and_hand_computed() -> None:
    price = Price(input=2, output=10, cached_input=0.5, cache_write=2.5)

    assert price.cost(prompt_tokens=1_000, completion_tokens=100) == pytest.approx(0.003)
    assert price.cost(prompt_tokens=1_000, completion_tokens=0, cached_tokens=600) == pytest.approx(0.0011)
    assert price.cost(prompt_tokens=1_000, completion_tokens=0, written_tokens=1_000) == pytest.approx(0.0025)
    assert price.most(prompt_tokens=1_000, completion_tokens=100) == pytest.approx(0.0035)


def test_a_price_without_a_discount_takes_cached_tokens_as_others() -> None:
    assert Price(input=2, output=0).cost(prompt_tokens=10, completion_tokens=0, cached_tokens=10) == pytest.approx(2e-5)


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), True, "1", None])
def test_a_price_that_is_not_a_number_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="million tokens"):
        Price(input=wrong, output=1)


@pytest.mark.parametrize("wrong", [0.4, {"gpt-4.1-mini": 0.4}, [Price(input=1, output=1)]])
def test_prices_of_another_kind_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="prices="):
        check_prices(wrong)


def test_without_the_extra_the_error_names_it_and_own_prices_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)

    with pytest.raises(MissingExtraError, match=r"swift-client\[prices\]"):
        find_price("openai", "gpt-4.1-mini", OPENAI)
    assert find_price("openai", "gpt-4.1-mini", OPENAI, Price(input=1, output=1)) is not None
    assert find_price("pocket", "pocket", None) is None
