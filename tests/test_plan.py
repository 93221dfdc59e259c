"""Tests of plans: hand-computed costs, and the requests that follow them. Real HTTP over loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Price
from swift_client.adapters import PROVIDERS
from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES, PrefixCache
from swift_client.cli.app import run
from swift_client.sampling import create_sample_request
from swift_client.sampling.call_plan import asks_for_caching, estimate_prompt_tokens, plan

CACHE = PrefixCache(min_tokens=1024, step=128, checked="2026-11-23", evidence="test")
MARKED = PrefixCache(min_tokens=1024, needs_cache_control=True, checked="2026-11-23", evidence="test")
PRICE = Price(input=2.0, output=10.0, cached_input=0.5)


def test_every_cache_is_of_a_row_that_there_is() -> None:
    assert set(PREFIX_CACHES) <= set(PROVIDERS)


def test_one_call_that_brings_all_pays_the_prompt_once() -> None:
    result = plan(16, n_max=128, prompt_tokens=3_000, completion_tokens=500, price=PRICE, cache=CACHE)

    assert result.chosen.calls == (16,)
    assert result.chosen.usd == pytest.approx((3_000 * 2 + 8_000 * 10) / 1e6)
    assert [alternative.calls for alternative in result.alternatives] == [(1,) * 16]
    assert result.alternatives[0].usd == pytest.approx((48_000 * 2 + 8_000 * 10) / 1e6)


def test_the_first_call_goes_alone_where_the_others_then_read_the_cache() -> None:
    result = plan(4, n_max=1, prompt_tokens=3_000, completion_tokens=100, price=PRICE, cache=CACHE)

    # 3,000 tokens hold 23 whole steps of 128: 2,944.
    assert result.chosen.first_alone
    assert result.chosen.cached_tokens == 3 * 2_944
    assert result.chosen.usd == pytest.approx(((12_000 - 3 * 2_944) * 2 + 3 * 2_944 * 0.5 + 400 * 10) / 1e6)
    (together,) = result.alternatives
    assert together.usd == pytest.approx((12_000 * 2 + 400 * 10) / 1e6)
    saved = 1 - (3_168 * 2 + 8_832 * 0.5 + 4_000) / (24_000 + 4_000)
    assert f"{saved:.0%} less" in result.reason
    assert "twice the time" in result.reason


def test_calls_at_once_all_pay_for_writing_the_cache() -> None:
    price = Price(input=4.0, output=20.0, cached_input=0.4, cache_write=5.0)

    result = plan(3, n_max=1, prompt_tokens=2_048, completion_tokens=10, price=price, cache=CACHE)

    assert result.chosen.usd == pytest.approx((2_048 * 5 + 2 * 2_048 * 0.4 + 30 * 20) / 1e6)
    assert result.alternatives[0].usd == pytest.approx((3 * 2_048 * 5 + 30 * 20) / 1e6)


def test_several_calls_of_the_most_that_one_may_ask_for() -> None:
    result = plan(20, n_max=8, prompt_tokens=50_000, completion_tokens=10, price=PRICE, cache=CACHE)

    assert result.chosen.calls == (8, 8, 4)
    assert result.chosen.first_alone
    assert [alternative.first_alone for alternative in result.alternatives] == [False, False]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cache": None}, "the provider has no known prompt cache"),
        ({"prompt_tokens": 1_023}, "under 1,024 tokens are not cached"),
        ({"price": None}, "no price is known"),
        ({"price": Price(input=2.0, output=10.0)}, "no discount for cached tokens is known"),
        ({"cache": MARKED}, "cache_control"),
        ({"completion_tokens": 100_000}, "would save 0."),
    ],
)
def test_calls_go_at_once_where_waiting_is_not_known_to_pay(changes: dict[str, Any], why: str) -> None:
    arguments = {"prompt_tokens": 3_000, "completion_tokens": 100, "price": PRICE, "cache": CACHE, **changes}

    result = plan(4, n_max=1, **arguments)

    assert not result.chosen.first_alone
    assert why in result.reason
    assert result.alternatives[0].first_alone


def test_a_long_prompt_is_reckoned_at_its_own_price() -> None:
    price = Price(input=1.0, output=1.0, longer=((100, Price(input=3.0, output=5.0)),))

    assert plan(1, n_max=1, prompt_tokens=100, completion_tokens=0, price=price).chosen.usd == pytest.approx(1e-4)
    assert plan(1, n_max=1, prompt_tokens=101, completion_tokens=0, price=price).chosen.usd == pytest.approx(3.03e-4)


def test_a_mark_for_caching_is_found_wherever_it_may_stand() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}

    assert asks_for_caching([{"role": "user", "content": [{"type": "text", "text": "q", **mark}]}], {})
    assert asks_for_caching([{"role": "user", "content": "q"}], mark)
    assert not asks_for_caching([{"role": "user", "content": "cache_control"}], {})


# --- the draw follows the plan -------------------------------------------------------------------------------------


class Watched:
    """Records the number of concurrent requests when each one starts."""

    def __init__(self) -> None:
        self.under_way: list[int] = []
        self._now, self._lock = 0, threading.Lock()

    def __call__(self, event: Any) -> None:
        with self._lock:
            self._now += {"request": 1, "reply": -1, "retry": -1, "failure": -1}.get(event.kind, 0)
            if event.kind == "request":
                self.under_way.append(self._now)


@pytest.fixture
async def reranker(fault_server: Any) -> AsyncIterator[Callable[..., AsyncSwiftReranker]]:
    instances = []

    def make(provider: str, watched: Watched, **options: Any) -> AsyncSwiftReranker:
        settings = {"base_url": fault_server.url, "api_key": "k", "max_retries": 0, "head": None, **options}
        instances.append(AsyncSwiftReranker(provider, "m", on_event=watched, **settings))
        return instances[-1]

    yield make
    for client in instances:
        await client.aclose()


LONG = "Read this. " * 2_000


async def test_the_first_call_is_alone_and_a_note_says_what_it_saves(fault_server: Any, reranker: Any) -> None:
    watched = Watched()

    selection = await reranker("deepseek", watched, prices=PRICE).best_of(LONG, n=6, max_tokens=50)

    assert watched.under_way[:2] == [1, 1]
    assert max(watched.under_way) == 5
    assert len(selection.candidates) == len(fault_server.requests) == 6
    assert any("waiting for the first reply costs" in note for note in selection.notes)


@pytest.mark.parametrize(
    ("provider", "constructor", "call"),
    [
        ("deepseek", {}, {}),  # no price is known
        ("ollama", {"prices": PRICE}, {}),  # no cache that is paid for
        ("deepseek", {"prices": PRICE, "warm_cache": False}, {}),
        ("deepseek", {"prices": PRICE}, {"deadline": 30}),  # time matters
    ],
)
async def test_all_calls_go_at_once_where_waiting_would_not_pay(
    provider: str, constructor: dict[str, Any], call: dict[str, Any], fault_server: Any, reranker: Any
) -> None:
    watched = Watched()

    selection = await reranker(provider, watched, **constructor).best_of(LONG, n=4, max_tokens=50, **call)

    assert max(watched.under_way) == 4
    assert selection.notes == ()


async def test_one_may_insist_on_a_warm_cache(fault_server: Any, reranker: Any) -> None:
    watched = Watched()

    await reranker("ollama", watched, warm_cache=True).best_of("q", n=4)

    assert watched.under_way[:2] == [1, 1]


async def test_a_first_call_that_fails_does_not_hold_up_the_others(fault_server: Any, reranker: Any) -> None:
    from tests.servers import error

    fault_server.script(error(503, "down"))

    selection = await reranker("deepseek", Watched(), prices=PRICE).best_of(LONG, n=4, max_tokens=50)

    assert len(selection.candidates) == 3


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_shows_the_plan_and_the_alternatives(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("genai_prices")
    arguments = [
        "plan",
        "--provider",
        "openai",
        "--model",
        "gpt-4.1-mini",
        "--prompt-tokens",
        "3000",
        "--max-tokens",
        "500",
    ]

    assert run([*arguments, "-n", "16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["chosen"]["calls"] == [16]
    # 3,000 x $0.40 + 8,000 x $1.60 a million, as of 2026-11
    assert document["chosen"]["usd"] == pytest.approx(0.014)
    assert document["alternatives"][0]["usd"] == pytest.approx(0.032)

    assert run([*arguments, "-n", "16"]) == 0
    output = capsys.readouterr().out
    assert "0.0140" in output
    assert "pays the prompt once" in output


def test_the_command_takes_a_prompt_and_an_unknown_price_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "x" * 400, "--provider", "pocket", "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["prompt_tokens"] == estimate_prompt_tokens(create_sample_request("x" * 400, 1)) == 101
    assert document["chosen"]["usd"] is document["price"] is None
    assert "No price is known" in document["notes"][0]


@pytest.mark.parametrize("arguments", [[], ["q", "--prompt-tokens", "3"]])
def test_the_command_wants_a_prompt_or_its_length(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", *arguments, "--json"]) == 3
    assert "--prompt-tokens" in json.loads(capsys.readouterr().out)["error"]["message"]
