"""Damaged choices cost only themselves: control characters, escapes, commas, impossible indices, byte order marks."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from swift_client import parse_response
from swift_client.adapters.codecs import openai_chat
from swift_client.adapters.codecs.reply import canonical_tool_calls
from tests.servers import chat_body

TEXTS = [f"word{index} The answer is {index}" for index in range(8)]
BODY = json.dumps(chat_body(TEXTS, k=3)).encode()


@pytest.mark.parametrize("number", [0, 3, 7])
@pytest.mark.parametrize("damage", [b"\n", b"\t", b"\x01", b"\\d", b"\\x41"])
def test_control_characters_and_invalid_escapes_cost_nothing(number: int, damage: bytes) -> None:
    at = BODY.index(b"word%d The" % number)
    reply = openai_chat.parse(BODY[:at] + damage + BODY[at:])
    assert len(reply.completions) == 8
    assert reply.completions[number].text == damage.decode() + TEXTS[number]
    assert reply.usage.prompt_tokens == 7


def test_a_trailing_comma_costs_nothing() -> None:
    for data in (BODY.replace(b'"stop"', b'"stop",', 1), BODY.replace(b'}], "usage"', b'},], "usage"')):
        assert [completion.text for completion in parse_response(data)] == TEXTS
    assert '"a,]"' in json.dumps(openai_chat.parse(BODY.replace(b"word0", b"a,]").replace(b'"stop"', b'"stop",', 1))
                                 .completions[0].text[:3])  # fmt: skip


@pytest.mark.parametrize("number", [0, 3, 7])
@pytest.mark.parametrize("damage", [b'"', b'"{', b'"}]', b'"x": ', b'\\", "y": ['])
def test_a_choice_that_cannot_be_read_costs_only_itself(number: int, damage: bytes) -> None:
    at = BODY.index(b"word%d The" % number)
    reply = openai_chat.parse(BODY[:at] + damage + BODY[at:])
    texts = [completion.text for completion in reply.completions]
    assert [text for text in TEXTS if text in texts] == [text for text in TEXTS if text != TEXTS[number]]
    assert len(texts) == 7
    assert reply.notes


@pytest.mark.parametrize("index", [-1, 10**11, 2**70, "1", 1.5, None, True])
def test_an_impossible_index_costs_nothing(index: Any) -> None:
    body = chat_body(TEXTS[:3], k=3)
    body["choices"][1]["index"] = index
    reply = openai_chat.parse(json.dumps(body).encode())
    assert [(completion.index, completion.text) for completion in reply.completions] == list(enumerate(TEXTS[:3]))
    assert all(completion.tokens for completion in reply.completions)


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 10])
def test_a_byte_order_mark_before_a_body_or_stream_is_skipped(cut: int) -> None:
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": "stop"}]}\n\n'
    one = json.dumps(chat_body(["4"], k=3)).encode()
    for data in (one, event):
        marked = b"\xef\xbb\xbf" + data
        assert openai_chat.parse(marked).completions[0].text == "4"
        assembler = openai_chat.StreamAssembler()
        for chunk in (marked[:cut], marked[cut:]):
            assembler.feed(chunk)
        assert assembler.close().completions[0].text == "4"


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": [' + b'{"a":' * 200_000,
        b'{"choices": [{"a": "' + b'\\"' * 200_000,
        b'{"choices": [' + b'{"a": "x' * 100_000,
        b'{"choices": [{"a": 1' + b"," * 200_000,
    ],
)
def test_hostile_damage_takes_linear_time(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(Exception, match="reply"):
        openai_chat.parse(data)
    assert time.process_time() - started < 1.0


def test_tool_arguments_that_were_encoded_twice_are_decoded_once_more() -> None:
    plain = canonical_tool_calls([{"name": "f", "arguments": '{"b": 1, "a": "x"}'}])
    assert canonical_tool_calls([{"name": "f", "arguments": json.dumps('{"a": "x", "b": 1}')}]) == plain
    assert json.loads(canonical_tool_calls([{"name": "f", "arguments": '"text"'}]))[0]["arguments"] == '"text"'
