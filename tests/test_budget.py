"""Tests of budgets, against servers that report usage, misreport it, never report it, fail, and refuse."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Budget, Price
from swift_client.cli.app import run
from swift_client.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ConnectionFailedError,
    MissingExtraError,
    NoCompletionError,
)
from swift_client.sampling import BudgetTracker, Cost, RequestBudget, create_sample_request, find_max_tokens
from swift_client.sampling.request_budget import prompt_token_bound
from tests.servers import (
    FaultServer,
    Received,
    Response,
    after,
    chat_body,
    chat_stream,
    cut,
    error,
    json_response,
    reset,
)

Make = Callable[..., AsyncSwiftReranker]
PRICE = Price(input=1.0, output=10.0)
BOUND = prompt_token_bound(create_sample_request("q", 1).messages, {})
"""What the prompt "q" may cost before a reply has said what it does."""


@pytest.fixture
async def reranker(fault_server: FaultServer) -> AsyncIterator[Make]:
    instances = []

    def make(provider: str = "openai-compatible", **options: Any) -> AsyncSwiftReranker:
        settings = {"base_url": fault_server.url, "max_retries": 0, "head": None, **options}
        instances.append(AsyncSwiftReranker(provider, "m", **settings))
        return instances[-1]

    yield make
    for client in instances:
        await client.aclose()


def counted(prompt: object, completion: object) -> Callable[[Received], Response]:
    """Answer the request with ``completion`` tokens per choice."""

    def serve(request: Received) -> Response:
        n = request.json.get("n", 1)
        body = chat_body(["4"] * n, k=None)
        total = completion * n if isinstance(completion, int) else completion
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": total}
        return json_response(body)

    return serve


def requested_counts(server: FaultServer) -> list[int]:
    return [request.json.get("n", 1) for request in server.requests]


# --- the value ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [{}, {"tokens": 0}, {"tokens": -1}, {"tokens": 1.5}, {"calls": True}, {"usd": float("nan")}, {"seconds": "1"}],
)
def test_a_budget_without_a_limit_or_with_a_wrong_one_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Budget"):
        Budget(**limits)


def test_an_account_holds_what_is_under_way_and_pays_back_what_was_not_used() -> None:
    tracker = Budget(tokens=100).open()
    tracker.reserve(Cost(tokens=60, calls=1))

    with pytest.raises(BudgetExceededError, match="budget of 100 tokens cannot cover 50 more: 60 are spent"):
        tracker.reserve(Cost(tokens=50, calls=1))
    tracker.commit(Cost(tokens=60, calls=1), Cost(tokens=10, calls=1))
    tracker.reserve(Cost(tokens=90, calls=1))
    assert tracker.spent == Cost(tokens=10, calls=1)


def test_cents_that_add_up_to_the_limit_fit() -> None:
    tracker = Budget(usd=0.03).open()

    for _ in range(3):
        tracker.reserve(Cost(usd=0.01))
    with pytest.raises(BudgetExceededError):
        tracker.reserve(Cost(usd=0.0001))


@pytest.mark.parametrize(
    ("fields", "max_tokens"),
    [
        ({}, None),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 4096, "max_completion_tokens": 9}, 4096),
        ({"maxOutputTokens": 3}, 3),
        ({"max_completion_tokens": 0}, None),  # SGLang: unlimited
    ],
)
def test_the_longest_completion_is_read_by_any_providers_name(fields: dict[str, Any], max_tokens: int | None) -> None:
    assert find_max_tokens(fields) == max_tokens


def test_a_prompt_is_at_most_its_bytes_and_a_template_long() -> None:
    assert prompt_token_bound(create_sample_request("日本語" * 100, 1).messages, {}) >= 900
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert prompt_token_bound([{"role": "user", "content": [picture]}], {}) < 5_000
    tools = [{"type": "function", "function": {"name": "f", "description": "d" * 500}}]
    assert prompt_token_bound(create_sample_request("q", 1).messages, {"tools": tools}) > BOUND + 500


# --- waves ---------------------------------------------------------------------------------------------------------


async def test_a_wave_is_cut_to_what_fits_and_the_rest_follows_while_there_is_room(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(counted(7, 20))
    budget = Budget(tokens=BOUND + 500)

    selection = await reranker().best_of("q", n=64, budget=budget, max_tokens=100)

    # 5 x 100 fit; they come to 7 + 5 x 20, and so on, each wave with the prompt as it was counted.
    spent, expected, prompt = 0, [], BOUND
    while fits := (BOUND + 500 - spent - prompt) // 100:
        expected.append(fits)
        spent, prompt = spent + 7 + 20 * fits, 7
    assert requested_counts(fault_server) == expected
    assert selection.usage.prompt_tokens + selection.usage.completion_tokens == spent <= BOUND + 500
    assert selection.stopped is not None
    assert (selection.stopped.rule, selection.stopped.after, selection.stopped.planned) == ("budget", sum(expected), 64)
    assert f"after {sum(expected)} of 64 completions" in selection.notes[0]
    assert f"budget of {BOUND + 500} tokens cannot cover 107 more" in selection.notes[0]


async def test_a_budget_that_is_enough_changes_nothing(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker().best_of("q", n=16, budget=Budget(tokens=10_000), max_tokens=100)

    assert requested_counts(fault_server) == [16]
    assert selection.stopped is None
    assert selection.notes == ()


async def test_not_even_one_completion_fits_and_nothing_is_sent(fault_server: FaultServer, reranker: Make) -> None:
    with pytest.raises(BudgetExceededError, match="No completions arrived") as excinfo:
        await reranker().best_of("q", n=4, budget=Budget(tokens=1_000), max_tokens=1_000)

    assert fault_server.requests == []
    assert excinfo.value.best is None


async def test_too_few_for_min_completions_raises_with_the_best_so_far_inside(
    fault_server: FaultServer, reranker: Make
) -> None:
    with pytest.raises(BudgetExceededError, match="2 completions of the 5 that are needed") as excinfo:
        await reranker("ollama").best_of("q", n=8, min_completions=5, budget=Budget(calls=2))

    best = excinfo.value.best
    assert best is not None
    assert len(best.candidates) == best.usage.calls == 2
    assert best.text == "The answer is 4"


async def test_without_max_tokens_one_completion_is_drawn_first_and_a_note_says_that_it_is_an_estimate(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(counted(7, 20))

    selection = await reranker().best_of("q", n=16, budget=Budget(tokens=200))

    assert requested_counts(fault_server)[:2] == [1, (200 - 27 - 7) // 30]
    assert any("max_tokens= is not given" in note for note in selection.notes)


async def test_calls_and_seconds_need_no_max_tokens_and_no_probe(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker().best_of("q", n=16, budget=Budget(calls=1, seconds=60))

    assert requested_counts(fault_server) == [16]
    assert selection.notes == ()


async def test_seconds_start_no_further_call_and_cut_none_off(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda request: after(0.3, counted(7, 1)(request)))

    selection = await reranker("ollama", max_concurrency=2).best_of("q", n=8, budget=Budget(seconds=0.1))

    assert len(selection.candidates) == len(fault_server.requests) == 2
    assert selection.failures == ()
    assert selection.stopped is not None
    assert "0.1 s are over" in selection.stopped.reason


async def test_a_stopping_rule_and_a_budget_hold_together(fault_server: FaultServer, reranker: Make) -> None:
    agreed = await reranker().best_of("q", n=16, stopping="beta", budget=Budget(calls=10))
    cut_selection = await reranker().best_of("q", n=16, stopping="beta", budget=Budget(calls=1))

    assert agreed.stopped is not None
    assert agreed.stopped.rule.startswith("beta")
    assert agreed.stopped.after == 4
    assert cut_selection.stopped is not None
    assert cut_selection.stopped.rule == "budget"
    assert cut_selection.stopped.after == len(cut_selection.candidates) < 4


# --- retries and failures ------------------------------------------------------------------------------------------


async def test_retries_count_as_calls_and_are_not_made_where_none_is_left(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda _: error(503, "down", headers={"retry-after": "0"}))

    with pytest.raises(BudgetExceededError, match=r"budget of 3 calls .* The last failure: down"):
        await reranker(max_retries=9).best_of("q", n=4, budget=Budget(calls=3))

    assert len(fault_server.requests) == 3


async def test_a_retry_in_the_middle_of_a_wave_takes_from_the_others_and_what_came_is_kept(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(
        error(503, "down", headers={"retry-after": "0"}), error(429, "slow", headers={"retry-after": "0"})
    )

    selection = await reranker("ollama", max_retries=5, max_concurrency=1).best_of("q", n=6, budget=Budget(calls=5))

    assert len(fault_server.requests) == selection.usage.calls == 5
    assert len(selection.candidates) == 3
    assert selection.stopped is not None


async def test_a_refused_request_costs_no_tokens_and_a_broken_one_may_cost_all(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(error(429, "slow down", headers={"retry-after": "0"}))
    tracker = Budget(tokens=10_000).open()
    await reranker(max_retries=1).best_of("q", n=2, budget=tracker, max_tokens=50)
    assert tracker.spent.calls == 2
    assert tracker.spent.tokens < 50

    fault_server.script(reset())
    open_budget = Budget(tokens=10_000).open()
    selection = await reranker(max_retries=1).best_of("q", n=2, budget=open_budget, max_tokens=50)
    assert open_budget.spent.tokens == tracker.spent.tokens + BOUND + 100
    assert any("may be billed" in note for note in selection.notes)


async def test_a_stream_that_is_cut_before_its_first_word_names_the_cut_and_may_cost_all(
    fault_server: FaultServer, reranker: Make
) -> None:
    tracker = Budget(tokens=1_000).open()
    fault_server.script(cut(chat_stream(["four"]), fraction=0.2))  # after the chunk that only has the role
    with pytest.raises(NoCompletionError) as excinfo:
        await reranker().best_of("q", n=1, budget=tracker, max_tokens=50, deadline=30)
    assert isinstance(excinfo.value.causes[0], ConnectionFailedError)
    assert tracker.spent.tokens == BOUND + 50


async def test_a_cancelled_call_is_counted_in_full(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda request: after(5, counted(7, 1)(request)))
    tracker = Budget(tokens=10_000).open()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reranker().best_of("q", n=2, budget=tracker, max_tokens=50)

    assert tracker.spent == Cost(tokens=BOUND + 100, calls=1)


async def test_a_wrong_key_is_reported_before_any_budget(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda _: error(401, "bad key"))

    with pytest.raises(AuthenticationError):
        await reranker().best_of("q", n=2, budget=Budget(calls=9))


async def test_failures_that_the_budget_did_not_cause_are_their_own_error(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda _: error(503, "down"))

    with pytest.raises(NoCompletionError, match="down"):
        await reranker().best_of("q", n=2, budget=Budget(calls=9))


# --- usage that is wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "completion"), [(None, None), (-5, -5), (0, 0), ("many", []), (2**62, 2**70), ([1.5], {"a": 1})]
)
async def test_usage_that_is_missing_or_nonsense_is_counted_at_its_most(
    prompt: object, completion: object, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(counted(prompt, completion))
    limit = 4 * (BOUND + 100)

    tracker = Budget(tokens=limit).open()
    selection = await reranker("ollama", require_logprobs=False).best_of("q", n=16, budget=tracker, max_tokens=100)

    assert len(selection.candidates) == 4
    assert BOUND <= tracker.spent.tokens <= limit


@pytest.mark.parametrize("count", [10**9, 10**12])  # a larger one counts as nonsense
async def test_a_huge_count_is_believed_and_ends_the_draw(
    count: int, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(counted(7, count))

    selection = await reranker("ollama").best_of("q", n=9, budget=Budget(tokens=BOUND + 30), max_tokens=9)

    assert len(selection.candidates) == len(fault_server.requests) == 1
    assert f"{count + 7:,} are spent" in selection.notes[0]


async def test_listed_tokens_are_counted_where_usage_is_missing(fault_server: FaultServer, reranker: Make) -> None:
    body = chat_body(["one two three"], k=2)
    del body["usage"]
    fault_server.serve(lambda _: json_response(body))
    tracker = Budget(tokens=10_000).open()

    await reranker().best_of("q", n=1, budget=tracker, max_tokens=500)

    assert tracker.spent.tokens == BOUND + 3


@pytest.mark.parametrize("seed", range(8))
async def test_no_scripted_server_makes_it_spend_more_than_the_budget(
    seed: int, fault_server: FaultServer, reranker: Make
) -> None:
    chance = random.Random(seed)
    max_tokens, prompt, cap = chance.randint(5, 200), chance.randint(1, BOUND), chance.choice([1, 2, 5, None])
    truth = {"tokens": 0, "calls": 0}

    def serve(request: Received) -> Response:
        truth["calls"] += 1
        if chance.random() < 0.3:
            return error(chance.choice([429, 500, 503]), "no", headers={"retry-after": "0"})
        n = min(request.json.get("n", 1), cap or 64)
        body = chat_body(["4"] * n, k=None)
        billed = {"prompt_tokens": prompt, "completion_tokens": sum(chance.randint(1, max_tokens) for _ in range(n))}
        truth["tokens"] += sum(billed.values())
        if chance.random() < 0.8:
            body["usage"] = billed
        else:
            del body["usage"]
        return json_response(body) if chance.random() < 0.9 else reset()

    fault_server.serve(serve)
    tokens, calls = chance.randint(300, 4_000), chance.randint(2, 30)
    tracker = Budget(tokens=tokens, calls=calls, usd=PRICE.cost(prompt_tokens=0, completion_tokens=tokens)).open()
    options = {"max_retries": 3, "max_concurrency": chance.choice([1, 4, 16]), "prices": PRICE}
    try:
        selection = await reranker(chance.choice(["ollama", "openai-compatible"]), **options).best_of(
            "q", n=40, budget=tracker, max_tokens=max_tokens
        )
    except (BudgetExceededError, NoCompletionError):
        pass
    else:
        assert selection.candidates

    assert truth["tokens"] <= tracker.spent.tokens <= tokens
    assert truth["calls"] == tracker.spent.calls <= calls
    assert tracker.spent == tracker._spent_cost
    assert tracker._reserved_cost == Cost(usd=pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("seed", range(4))
async def test_without_max_tokens_it_spends_no_more_than_the_budget_and_the_last_wave(
    seed: int, fault_server: FaultServer, reranker: Make
) -> None:
    chance = random.Random(seed)
    waves: list[int] = []

    def serve(request: Received) -> Response:
        n = request.json.get("n", 1)
        body = chat_body(["4"] * n, k=None)
        body["usage"] = {"prompt_tokens": 7, "completion_tokens": sum(chance.randint(1, 300) for _ in range(n))}
        waves.append(7 + body["usage"]["completion_tokens"])
        return json_response(body)

    fault_server.serve(serve)
    limit = chance.randint(500, 3_000)

    selection = await reranker().best_of("q", n=40, budget=Budget(tokens=limit))

    assert sum(waves[:-1]) <= limit
    assert selection.usage.prompt_tokens + selection.usage.completion_tokens == sum(waves)


# --- many calls, one tracker ---------------------------------------------------------------------------------------


async def test_calls_at_once_spend_one_account_together(fault_server: FaultServer, reranker: Make) -> None:
    tracker = Budget(calls=5).open()
    rr = reranker("ollama")

    results = await asyncio.gather(*(rr.best_of("q", n=4, budget=tracker) for _ in range(4)), return_exceptions=True)

    assert len(fault_server.requests) == tracker.spent.calls == 5
    assert all(not isinstance(result, BaseException) or isinstance(result, BudgetExceededError) for result in results)
    with pytest.raises(BudgetExceededError):
        await rr.best_of("q", n=1, budget=tracker)


# --- dollars -------------------------------------------------------------------------------------------------------


async def test_dollars_are_held_at_the_price_that_was_given(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(counted(1_000, 10))
    # One call: at most (BOUND + 50 x 10) / 1e6 dollars, and then (1,000 + 50 x 10) / 1e6; it comes to 0.0011.
    tracker = Budget(usd=0.004).open()

    selection = await reranker("ollama", max_concurrency=1, prices=PRICE).best_of(
        "q", n=9, budget=tracker, max_tokens=50
    )

    assert len(selection.candidates) == 6 or tracker.spent.usd <= 0.004 + 0.0011
    assert selection.cost == pytest.approx(0.0011 * len(selection.candidates))
    assert selection.to_dict()["cost"] == selection.cost


async def test_what_came_from_the_cache_is_spent_at_its_own_price(fault_server: FaultServer, reranker: Make) -> None:
    body = chat_body(["4"], k=None)
    body["usage"] = {"prompt_tokens": 1_000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 900}}
    fault_server.serve(lambda _: json_response(body))
    tracker = Budget(usd=1).open()

    price = Price(input=1.0, output=10.0, cached_input=0.1)
    selection = await reranker(prices=price).best_of("q", n=1, budget=tracker, max_tokens=50)

    assert tracker.spent.usd == pytest.approx((100 * 1 + 900 * 0.1 + 10 * 10) / 1e6)
    assert selection.cost == pytest.approx(tracker.spent.usd)


async def test_an_unknown_price_is_refused_before_anything_is_sent(fault_server: FaultServer, reranker: Make) -> None:
    with pytest.raises(ConfigurationError, match=r"price of 'm' is unknown.*prices=\{'m': Price"):
        await reranker().best_of("q", n=2, budget=Budget(usd=1))
    assert fault_server.requests == []


async def test_without_the_extra_a_budget_in_dollars_names_it_and_other_calls_go_on(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    async with AsyncSwiftReranker("openai", api_key="k") as rr:
        with pytest.raises(MissingExtraError, match=r"swift-client\[prices\]"):
            await rr.best_of("q", n=2, budget=Budget(usd=1))


async def test_cost_is_none_where_no_price_is_known(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker().best_of("q", n=2)

    assert selection.cost is None
    assert selection.to_dict()["cost"] is None


@pytest.mark.parametrize("wrong", [1.0, 4000, "1 $", {"tokens": 4000}])
async def test_a_budget_of_another_kind_is_refused(wrong: Any, fault_server: FaultServer, reranker: Make) -> None:
    with pytest.raises(ConfigurationError, match="budget= takes a Budget"):
        await reranker().best_of("q", n=2, budget=wrong)
    assert fault_server.requests == []


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_keeps_a_budget_and_exits_with_5_where_nothing_came(
    fault_server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["best-of", "q", "--provider", "ollama", "--model", "m", "--base-url", fault_server.url, "--json"]

    assert run([*common, "-n", "8", "--budget-calls", "3", "--budget-seconds", "60"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["usage"]["calls"] == 3
    assert document["stopped"]["rule"] == "budget"

    assert run([*common, "--budget-tokens", "50", "--max-tokens", "50"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["best"] is None
    assert run([*common, "--budget-usd", "1"]) == 3
    assert "unknown" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_asking_a_meter_costs_nothing_beside_a_call() -> None:
    messages = create_sample_request("q " * 10_000, 1024).messages
    request_budget = RequestBudget(BudgetTracker(Budget(tokens=10**9)), messages, {"max_tokens": 100}, PRICE)

    start = time.perf_counter()
    assert request_budget.affordable_completions(1024, lambda n_left: min(n_left, 1)) == 1024
    assert time.perf_counter() - start < 0.5
