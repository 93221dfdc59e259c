"""Tests of Anthropic's messages only: separate system prompt, blocks, caches, no seed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker
from swift_client.adapters import PROVIDERS
from swift_client.adapters.codecs.anthropic import parse, request
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    LogprobsUnavailableError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
)
from tests.codecs.writers import encode_events

ROW = PROVIDERS["anthropic"]


def make_message(*blocks: dict[str, Any], end: str | None = "end_turn", **more: Any) -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 3}
    reply = {"type": "message", "role": "assistant", "model": "m", "content": list(blocks), "stop_reason": end}
    return json.dumps({**reply, "usage": usage, **more}).encode()


def text_block(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def test_a_request_has_its_system_prompt_apart_and_a_length_of_its_own():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "developer", "content": "In words."},
    ]
    wire_request = request(
        CompletionRequest(ROW, None, messages, top_logprobs=5, sampling={"stop": "\n", "temperature": 0.5})
    )
    assert (wire_request.path, wire_request.n) == ("/messages", 1)
    assert wire_request.body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "2+2?"}],
        "system": "Be brief.\n\nIn words.",
        "stop_sequences": ["\n"],
        "temperature": 0.5,
    }
    shorter = request(CompletionRequest(ROW, "m", [], stream=True, sampling={"max_completion_tokens": 9}))
    assert shorter.body == {"model": "m", "messages": [], "max_tokens": 9, "stream": True}


def test_a_system_prompt_in_blocks_stays_in_blocks():
    block = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": [block]}, {"role": "system", "content": "short"}]
    assert request(CompletionRequest(ROW, "m", messages)).body["system"] == [block, text_block("short")]


def test_a_seed_is_refused_before_anything_is_sent_and_not_dropped():
    with pytest.raises(ConfigurationError, match="no seed"):
        request(CompletionRequest(ROW, "m", [], sampling={"seed": 3}))


@pytest.mark.parametrize(
    ("wire_reason", "expected"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls"),
     ("refusal", "refusal"), ("pause_turn", "length"), ("model_context_window_exceeded", "length"), (None, "stop"),
     ("something_new", "unknown")],
)  # fmt: skip
def test_anthropics_words_for_the_end_become_ours(wire_reason, expected):
    assert parse(make_message(text_block("4"), end=wire_reason)).completions[0].finish_reason == expected


def test_what_comes_from_the_cache_or_goes_there_is_prompt_too():
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": None,
        "output_tokens": 3,
    }
    assert parse(make_message(text_block("4"), usage=usage)).usage.prompt_tokens == 110
    assert parse(make_message(text_block("4"), usage=None)).usage.estimated


def test_blocks_of_text_are_joined_and_all_others_are_not_the_answer():
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "redacted_thinking", "data": "x"},
              text_block("2 + 2"), {"type": "server_tool_use", "name": "search"}, text_block(" = 4")]  # fmt: skip
    assert parse(make_message(*blocks)).completions[0].text == "2 + 2 = 4"


def test_one_odd_block_costs_only_itself():
    reply = parse(make_message(text_block("4"), {"type": 5}))
    assert reply.completions[0].text == "4"
    assert "1 block(s)" in reply.notes[0]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("rate_limit_error", RateLimitError), ("overloaded_error", ServerError), ("api_error", ServerError),
     ("invalid_request_error", BadRequestError)],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_in_a_200_is_the_error_that_it_describes(kind, error, stream):
    body = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"}
    with pytest.raises(error, match="no"):
        parse(encode_events([body], named=True) if stream else json.dumps(body).encode())


def test_an_error_in_the_middle_keeps_what_came_and_says_so():
    start = {"type": "message_start", "message": json.loads(make_message(end=None))}
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is"}}
    error_body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    reply = parse(encode_events([start, piece, error_body], named=True))
    assert (reply.completions[0].text, reply.completions[0].finish_reason) == ("It is", "error")
    assert any("Overloaded" in note for note in reply.notes)


def test_a_deeply_nested_message_is_not_a_message():
    depth = 3000
    with pytest.raises(ResponseDecodeError):
        parse(b'{"message":' * depth + b"1" + b"}" * depth)


async def test_logprobs_as_a_must_fail_before_anything_is_sent():
    async with AsyncSwiftReranker("anthropic", require_logprobs=True, api_key="x") as reranker:
        with pytest.raises(LogprobsUnavailableError):
            await reranker.best_of("2+2?", n=16)
