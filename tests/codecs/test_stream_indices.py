"""Streams whose ``index`` is wrong: counted up per chunk, shared by two choices, or no index at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swift_client.adapters.codecs import openai_chat
from swift_client.adapters.providers.provider import Reply


def piece(index: Any, text: str = "", end: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text} if text else {}, "finish_reason": end}


def parse(*chunks: list[dict[str, Any]]) -> Reply:
    return openai_chat.parse(b"".join(b"data: %b\n\n" % json.dumps({"choices": chunk}).encode() for chunk in chunks))


def texts(reply: Reply) -> list[tuple[str, str]]:
    return [(completion.text, completion.finish_reason) for completion in reply.completions]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("end_index", [0, 3, 4])
def test_an_index_that_counts_the_chunks_is_one_choice(first: int, end_index: int) -> None:
    chunks = [[piece(first + number, text)] for number, text in enumerate(["The answer", " is", " 4"])]
    assert texts(parse([piece(first)], *chunks, [piece(end_index, end="stop")])) == [("The answer is 4", "stop")]


def test_two_counted_chunks_need_a_done_to_be_one_choice() -> None:
    chunks = [piece(0, "4"), piece(1, "2"), piece(1, end="stop")]
    stream = b"".join(b"data: %b\n\n" % json.dumps({"choices": [chunk]}).encode() for chunk in chunks)
    assert texts(openai_chat.parse(stream + b"data: [DONE]\n\n")) == [("42", "stop")]
    assert texts(openai_chat.parse(stream)) == [("4", "error"), ("2", "stop")]


def test_choices_of_one_token_each_stay_apart() -> None:
    chunks = [[piece(index, str(index))] for index in range(3)] + [[piece(index, end="stop")] for index in range(3)]
    assert texts(parse(*chunks)) == [("0", "stop"), ("1", "stop"), ("2", "stop")]


def test_two_choices_under_one_index_are_two() -> None:
    one_after_the_other = [[piece(0, "a")], [piece(0, "b")], [piece(0, end="stop")],
                           [piece(0, "c")], [piece(0, "d", end="length")]]  # fmt: skip
    assert texts(parse(*one_after_the_other)) == [("ab", "stop"), ("cd", "length")]
    together = [[piece(0, "a"), piece(0, "c")], [piece(0, "b"), piece(0, "d")],
                [piece(0, end="stop"), piece(0, end="length")]]  # fmt: skip
    assert texts(parse(*together)) == [("ab", "stop"), ("cd", "length")]


def test_a_finish_reason_in_every_chunk_does_not_split_a_choice() -> None:
    assert texts(parse(*[[piece(0, text, end="stop")] for text in "abcd"])) == [("abcd", "stop")]


@pytest.mark.parametrize("index", [-1, 10**11, 2**70, "0", None, 1.5, [], {"a": 1}])
def test_an_impossible_index_is_one_choice(index: Any) -> None:
    assert texts(parse([piece(index, "a")], [piece(index, "b")], [piece(index, end="stop")])) == [("ab", "stop")]


CALL = [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize("indices", [(0, 0), (0, 1), (None, None)])
def test_words_and_calls_that_a_proxy_splits_are_one_completion(indices: tuple[Any, Any]) -> None:
    words = {"index": indices[0], "message": {"content": "I look it up."}, "finish_reason": "tool_calls"}
    calls = {"index": indices[1], "message": {"content": None, "tool_calls": CALL}, "finish_reason": "tool_calls"}
    body = json.dumps({"choices": [words, calls], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}).encode()
    reply = openai_chat.parse(body)
    assert texts(reply) == [("I look it up.", "tool_calls")]
    assert (reply.completions[0].index, reply.usage.completion_tokens, reply.usage.estimated) == (0, 9, False)


def test_streamed_words_and_calls_in_two_entries_are_one_completion() -> None:
    call = {"index": 0, "delta": {"tool_calls": CALL}, "finish_reason": "tool_calls"}
    assert texts(parse([piece(0, "I look")], [piece(0, " it up.", end="tool_calls"), call])) == [
        ("I look it up.", "tool_calls")
    ]


def test_choices_that_differ_in_calling_stay_apart() -> None:
    words = {"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}
    calls = {"index": 1, "message": {"tool_calls": CALL}, "finish_reason": "tool_calls"}
    for choices in ([words, calls], [calls, {**words, "index": 0}], [calls, calls]):
        assert len(openai_chat.parse(json.dumps({"choices": choices}).encode()).completions) == 2
