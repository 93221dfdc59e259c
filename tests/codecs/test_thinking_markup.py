"""Thinking that servers leave in the content, in every markup: whole, and streamed however it is cut."""

from __future__ import annotations

import json
import math

import pytest

from swift_client.adapters.codecs import openai_chat

GPT_OSS = ["<|channel|>", "analysis", "<|message|>", "2 and", " 2", "<|end|>", "<|start|>", "assistant", "<|channel|>",
           "final", "<|message|>", "It", " is 4", "<|return|>"]  # fmt: skip
MARKUPS = [
    GPT_OSS,
    ["<thinking>", "2 and", " 2", "</thinking>", "\n\n", "It", " is 4"],
    ["<reasoning>", "2 and", " 2", "</reasoning>", "It", " is 4"],
    ["[THINK]", "2 and", " 2", "[/THINK]", "It", " is 4"],
    ["<think>", "2 and", " 2", "</think>", "\n", "It", " is 4"],
]


def entry(token: str) -> dict[str, object]:
    return {"token": token, "logprob": math.log(0.5), "top_logprobs": [{"token": token, "logprob": math.log(0.5)}]}


@pytest.mark.parametrize("tokens", MARKUPS, ids=lambda tokens: tokens[0] + tokens[1])
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_the_answer_and_its_tokens_are_split_from_the_thinking(tokens: list[str], size: int) -> None:
    content = [entry(token) for token in tokens]
    if size:  # a stream with ``size`` characters per event, and all logprobs in the last one
        text = "".join(tokens)
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        events = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        end = {"index": 0, "delta": {}, "logprobs": {"content": content}, "finish_reason": "stop"}
        data = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in [*events, {"choices": [end]}])
    else:
        message = {"content": "".join(tokens)}
        choice = {"index": 0, "message": message, "logprobs": {"content": content}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice]}).encode()
    (completion,) = openai_chat.parse(data).completions
    assert (completion.text, completion.tokens) == ("It is 4", ("It", " is 4"))
    assert completion.thinking is not None
    assert (completion.thinking.text, completion.thinking.tokens) == ("2 and 2", ("2 and", " 2"))
