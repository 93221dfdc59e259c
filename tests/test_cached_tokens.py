"""Tests of the count of cached prompt tokens, in every format, and of their lower price."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Price
from swift_client.adapters import PROVIDERS, load_codec
from swift_client.types import Usage
from tests.servers import FaultServer, Received, Response, chat_body, json_response

REPLIES: dict[str, dict[str, Any]] = {
    "openai": {
        **chat_body(["4"], k=None),
        "usage": {"prompt_tokens": 2000, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1920}},
    },
    "deepseek": {
        **chat_body(["4"], k=None),
        "usage": {"prompt_tokens": 2000, "completion_tokens": 1, "prompt_cache_hit_tokens": 1920},
    },
    "openai-responses": {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "4"}]}],
        "usage": {"input_tokens": 2000, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 1920}},
    },
    "anthropic": {
        "type": "message",
        "content": [{"type": "text", "text": "4"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 80, "cache_read_input_tokens": 1920, "output_tokens": 1},
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": "4"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 2000, "cachedContentTokenCount": 1920, "candidatesTokenCount": 1},
    },
}


@pytest.mark.parametrize("provider", REPLIES)
def test_cached_tokens_are_read_in_every_format(provider: str) -> None:
    usage = load_codec(PROVIDERS[provider]).parse(json.dumps(REPLIES[provider]).encode()).usage

    assert (usage.prompt_tokens, usage.cached_prompt_tokens, usage.completion_tokens) == (2000, 1920, 1)


@pytest.mark.parametrize("hostile", [-5, "many", None, [], {"cached_tokens": []}, {"cached_tokens": -1}, 2**70])
def test_nonsense_is_not_a_cached_token_and_costs_no_other_count(hostile: object) -> None:
    body = {**chat_body(["4"], k=None), "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
    body["usage"] |= {"prompt_tokens_details": hostile, "prompt_cache_hit_tokens": hostile}

    usage = load_codec(PROVIDERS["openai"]).parse(json.dumps(body).encode()).usage

    assert usage == Usage(prompt_tokens=7, completion_tokens=1)


def test_no_more_is_cached_than_the_prompt_has() -> None:
    body = {**chat_body(["4"], k=None), "usage": {"prompt_tokens": 7, "completion_tokens": 1}}
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 10**9}

    assert load_codec(PROVIDERS["openai"]).parse(json.dumps(body).encode()).usage.cached_prompt_tokens == 7


def test_cached_tokens_are_added_up_over_calls() -> None:
    assert (Usage(cached_prompt_tokens=3) + Usage(cached_prompt_tokens=4)).cached_prompt_tokens == 7


async def test_the_cost_of_a_call_takes_the_cache_into_account(fault_server: FaultServer) -> None:
    def serve(_: Received) -> Response:
        first = len(fault_server.requests) == 1
        cached = 0 if first else 1920
        usage = {"prompt_tokens": 2000, "completion_tokens": 100, "prompt_cache_hit_tokens": cached}
        return json_response({**chat_body(["4"], k=None), "usage": usage})

    fault_server.serve(serve)
    price = Price(input=2.0, output=10.0, cached_input=0.5)
    async with AsyncSwiftReranker("deepseek", base_url=fault_server.url, api_key="k", prices=price) as reranker:
        selection = await reranker.best_of("Read this. " * 800, n=4, max_tokens=100)

    assert selection.usage.cached_prompt_tokens == 3 * 1920
    assert selection.cost == pytest.approx(((8000 - 5760) * 2 + 5760 * 0.5 + 400 * 10) / 1e6)
    assert selection.to_dict()["usage"]["cached_prompt_tokens"] == 5760
