"""Tests of the table of models: its facts, and corrections by what a model answers."""

from __future__ import annotations

import datetime
from dataclasses import fields, replace
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker
from swift_client.adapters import PROVIDERS, Capabilities, Provider, capabilities_of
from swift_client.errors import BadRequestError, LogprobsUnavailableError
from tests.servers import FaultServer, Received, Response, chat_body, error, json_response

QUESTION = "2 + 2?"


@pytest.mark.parametrize(
    ("provider", "model", "k", "thinking"),
    [
        ("openai", "gpt-4o-mini-2024-07-18", 20, "never"),
        ("openai", "gpt-4.1", 20, "never"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", 20, "never"),
        ("openai", "gpt-5", 0, "always"),
        ("openai", "gpt-5-mini-2025-08-07", 0, "always"),
        ("openai", "gpt-5-chat-latest", 0, "always"),
        ("openai", "gpt-5.1", 5, "on_request"),
        ("openai", "gpt-5.1-chat-latest", 0, "always"),
        ("openai", "gpt-5.1-codex-max", 0, "always"),
        ("openai", "gpt-5.4-mini", 5, "on_request"),
        ("openai", "gpt-5.4-pro", 0, "always"),
        ("openai", "gpt-5.5", 5, "by_default"),
        ("openai", "gpt-5.6-terra", 5, "by_default"),
        ("openai", "gpt-6-luna", 5, "by_default"),
        ("openai", "gpt-6-astra-2026-10-01", 0, "always"),
        ("openai", "o1", 0, "always"),
        ("openai", "o3-mini", 0, "always"),
        ("openai", "o4-mini-deep-research", 0, "always"),
        ("openai", "gpt-4-1106-preview", 0, "never"),
        ("openai-responses", "gpt-5.2", 5, "on_request"),
        ("azure", "gpt-5.2", 5, "on_request"),
        ("azure", "my-deployment", 20, "never"),
        ("openrouter", "openai/gpt-5.4-mini", 5, "on_request"),
        ("openrouter", "openai/gpt-4.1-mini", 20, "never"),
        ("openrouter", "anthropic/claude-sonnet-5", 0, "never"),
        ("bedrock", "openai.gpt-5.5", 5, "by_default"),
        ("xai", "grok-3-mini", 8, "never"),
        ("xai", "grok-4-0709", 8, "never"),
        ("xai", "grok-4.20", 0, "never"),
        ("vertex", "gemini-2.5-flash", 20, "never"),
        ("vertex", "gemini-3.5-flash", 0, "never"),
        ("deepseek", "deepseek-v4-flash", 20, "by_default"),
        ("vllm", "gpt-5", 20, "never"),
        ("openai-compatible", "o3", 20, "never"),
        ("openai", "GPT-5-Mini", 0, "always"),
        ("openai", "ft:o4-mini-2025-04-16:acme::abc", 0, "always"),
        ("openai", "codex-mini-latest", 0, "always"),
        ("xai", "grok-10", 0, "never"),
        ("bedrock", "us.openai.gpt-5.4", 5, "on_request"),
        ("vertex", "publishers/google/models/gemini-3.5-flash", 0, "never"),
    ],
)
def test_a_model_has_the_facts_of_its_family(provider: str, model: str, k: int, thinking: str) -> None:
    capabilities = capabilities_of(PROVIDERS[provider], model)
    assert (capabilities.top_logprobs_max, capabilities.thinking) == (k, thinking)


@pytest.mark.parametrize(
    ("model", "n"),
    [
        ("gemini-2.5-pro", 8),
        ("gemini-3-pro-preview", 1),
        ("gemini-3.1-pro-preview", 4),
        ("models/gemini-3-pro", 1),
        (None, 8),
    ],
)
def test_families_differ_in_n_too(model: str | None, n: int) -> None:
    assert capabilities_of(PROVIDERS["vertex"], model).n_max == n


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=lambda row: row.name)
def test_every_pattern_names_real_facts_with_their_date_and_evidence(row: Provider) -> None:
    fact_names = {field.name for field in fields(Capabilities)}
    for pattern, facts in row.models:
        assert pattern == pattern.lower() != ""
        assert set(facts) <= fact_names
        assert facts["evidence"]
        assert datetime.date.fromisoformat(facts["checked"]) >= datetime.date(2026, 8, 1)
        assert 0 <= facts.get("top_logprobs_max", 0) <= row.capabilities.top_logprobs_max
        with pytest.raises(TypeError):
            facts["n_max"] = 3  # type: ignore[index]


@pytest.mark.parametrize("row", PROVIDERS.values(), ids=lambda row: row.name)
def test_no_pattern_stands_behind_one_that_matches_all_it_does(row: Provider) -> None:
    patterns = [pattern for pattern, _ in row.models]
    for index, pattern in enumerate(patterns):
        example = pattern.replace("*", "").replace("[", "").split("-]")[0]
        assert not any(example.startswith(before.rstrip("*")) for before in patterns[:index] if before.endswith("*")), (
            pattern
        )


@pytest.mark.parametrize(
    ("thinking", "options", "hides"),
    [
        ("never", {"reasoning_effort": "high"}, False),
        ("always", {"reasoning_effort": "none"}, True),
        ("on_request", {}, False),
        ("on_request", {"reasoning_effort": "none"}, False),
        ("on_request", {"reasoning_effort": "low"}, True),
        ("on_request", {"reasoning": {"effort": "medium"}}, True),
        ("by_default", {}, True),
        ("by_default", {"reasoning": {"effort": "none"}}, False),
        ("by_default", {"reasoning_effort": "none"}, False),
        ("by_default", {"thinking": {"type": "disabled"}}, False),
        ("by_default", {"thinking": {"type": "enabled"}}, True),
        ("by_default", {"reasoning": None, "thinking": 3, "reasoning_effort": 0}, True),
    ],
)
def test_thinking_hides_logprobs_as_the_request_asks(thinking: Any, options: dict[str, Any], hides: bool) -> None:
    able = replace(PROVIDERS["openai"].capabilities, thinking=thinking)
    assert able.thinks(options) is hides


async def asked_of(server: FaultServer, model: str, *, settings: dict[str, Any], **sampling: Any) -> list[Any]:
    async with AsyncSwiftReranker("openai", model, base_url=server.url, api_key="k", **settings) as reranker:
        await reranker.best_of(QUESTION, n=2, **sampling)
    return [request.json.get("top_logprobs") for request in server.requests]


async def test_gpt_5_is_asked_for_five_alternatives_unless_it_thinks(fault_server: FaultServer) -> None:
    assert await asked_of(fault_server, "gpt-5.4-mini", settings={}) == [5]
    assert await asked_of(fault_server, "gpt-5.4-mini", settings={}, reasoning_effort="high") == [5, None]
    assert await asked_of(fault_server, "gpt-5.5", settings={}) == [5, None, None]
    assert await asked_of(fault_server, "gpt-5.5", settings={}, reasoning_effort="none") == [5, None, None, 5]


async def test_a_number_of_your_own_asks_whatever_the_models_name_says(fault_server: FaultServer) -> None:
    assert await asked_of(fault_server, "o3", settings={"top_logprobs": 3}) == [3]
    assert await asked_of(fault_server, "gpt-5.5", settings={"top_logprobs": 7}) == [3, 7]


async def test_a_thinking_call_teaches_nothing_about_the_calls_that_do_not_think(fault_server: FaultServer) -> None:
    async with AsyncSwiftReranker("openai", "gpt-5.4", base_url=fault_server.url, api_key="k") as reranker:
        thought = await reranker.best_of(QUESTION, n=2, reasoning_effort="high")
        plain = await reranker.best_of(QUESTION, n=2)
    assert (thought.signal, plain.signal) == ("text", "logprobs:k=5")


async def test_logprobs_that_must_come_and_cannot_cost_nothing_and_the_error_names_the_remedy(
    fault_server: FaultServer,
) -> None:
    async with AsyncSwiftReranker(
        "openai", "gpt-5.5", base_url=fault_server.url, api_key="k", require_logprobs=True
    ) as reranker:
        with pytest.raises(LogprobsUnavailableError, match=r'reasoning_effort="none"'):
            await reranker.best_of(QUESTION, n=16)
        assert fault_server.requests == []
        selection = await reranker.best_of(QUESTION, n=2, reasoning_effort="none")
    assert selection.signal == "logprobs:k=5"


async def test_peers_15_what_a_reply_shows_overrides_what_the_name_suggested(fault_server: FaultServer) -> None:
    fault_server.script(error(400, "Invalid 'top_logprobs': integer must be between 0 and 2, but got 5."))
    async with AsyncSwiftReranker("openai", "gpt-5.4", base_url=fault_server.url, api_key="k") as reranker:
        first = await reranker.best_of(QUESTION, n=2)
        await reranker.best_of(QUESTION, n=2)
    assert first.signal == "logprobs:k=2"
    assert [request.json["top_logprobs"] for request in fault_server.requests] == [5, 2, 2]


# --- what a refusal teaches ------------------------------------------------------------------------------------------


def knows_only_the_new_name(request: Received) -> Response:
    if "max_tokens" in request.json:
        return error(400, "'max_tokens' is not supported. Use 'max_completion_tokens' instead.", param="max_tokens")
    return json_response(chat_body(["4"] * request.json.get("n", 1)))


async def test_max_tokens_is_sent_under_the_name_that_the_model_knows(fault_server: FaultServer) -> None:
    fault_server.serve(knows_only_the_new_name)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        first = await reranker.best_of(QUESTION, n=2, max_tokens=50)
        second = await reranker.best_of(QUESTION, n=2, max_tokens=50)
    assert [len(selection.candidates) for selection in (first, second)] == [2, 2]
    assert any("max_completion_tokens" in note for note in first.notes)
    names = "max_tokens", "max_completion_tokens"
    token_limits = [tuple(map(request.json.get, names)) for request in fault_server.requests]
    assert token_limits == [(50, None), (None, 50), (None, 50)]


async def test_a_model_that_knows_neither_name_is_one_error(fault_server: FaultServer) -> None:
    fault_server.serve(lambda _: error(400, "neither max_tokens nor max_completion_tokens", param="max_tokens"))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        with pytest.raises(BadRequestError, match="neither"):
            await reranker.best_of(QUESTION, n=2, max_tokens=50)
    assert len(fault_server.requests) == 2


async def test_an_error_inside_a_200_says_whose_it_is(fault_server: FaultServer) -> None:
    fault_server.serve(lambda _: json_response({"error": {"message": "no such prompt", "code": 400}}))
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        with pytest.raises(BadRequestError) as excinfo:
            await reranker.best_of(QUESTION, n=2)
    assert excinfo.value.provider == "openai-compatible"
