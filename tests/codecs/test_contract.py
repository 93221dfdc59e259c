"""Tests of the contract of every codec: the same completions from every wire format."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.adapters import CODECS, Codec
from swift_client.adapters.codecs.reply import canonical_tool_calls
from swift_client.adapters.providers.provider import Reply
from swift_client.errors import ResponseDecodeError
from swift_client.types import Completion
from tests.codecs.hostile import mutants, survives
from tests.codecs.logical import CASES, Case, LogicalCompletion, random_case
from tests.codecs.writers import WRITERS, Writer, chat_choice, count_tokens
from tests.plain_decoder import plain_completion

WRITER_CASES = [(writer, case) for writer in WRITERS for case in CASES if case.needs <= writer.features]
every_writer = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.codec)
every_case = pytest.mark.parametrize(
    ("writer", "case"), WRITER_CASES, ids=[f"{writer.codec}-{case.name}" for writer, case in WRITER_CASES]
)


def load_module(writer: Writer) -> Codec:
    return importlib.import_module(CODECS[writer.codec])  # type: ignore[return-value]


def replies_of(writer: Writer, case: Case) -> list[Case]:
    return [case] if "several" in writer.features else case.split()


def assemble(writer: Writer, stream: bytes, cuts: list[int], **options: Any) -> Reply:
    assembler = load_module(writer).StreamAssembler(**options)
    for start, stop in pairwise([0, *sorted(cuts), len(stream)]):
        assembler.feed(stream[start:stop])
    reply: Reply = assembler.close()
    return reply


def assert_matches_case(reply: Reply, case: Case, writer: Writer) -> None:
    """Assert that the reply equals what plain loops over the logical completions give."""
    assert [item.index for item in reply.completions] == list(range(len(case.completions)))
    for completion, expected in zip(reply.completions, case.completions, strict=True):
        answer_only = replace(expected, thinking_tokens=())
        plain = plain_completion(chat_choice(answer_only, 0), case.k) if "logprobs" in writer.features else None
        if expected.thinking_tokens:
            thinking = replace(answer_only, text=expected.thinking_text, tokens=expected.thinking_tokens)
            assert completion.thinking is not None
            assert_same_logprobs(completion.thinking, plain_completion(chat_choice(thinking, 0), case.k))
        assert completion.text == (canonical_tool_calls(expected.calls) if expected.calls else expected.text)
        assert completion.finish_reason == expected.finish_reason
        assert (completion.thinking.text if completion.thinking else "") == expected.thinking_text
        if plain is None or not plain.tokens:
            assert (completion.tokens, completion.logprobs.shape, completion.top_logprobs.shape[0]) == ((), (0,), 0)
            continue
        assert_same_logprobs(completion, plain)


def assert_same_logprobs(completion: Completion, plain: Any) -> None:
    assert list(completion.tokens) == plain.tokens
    np.testing.assert_allclose(completion.logprobs, plain.logprobs, rtol=1e-6)
    np.testing.assert_allclose(completion.top_logprobs, np.array(plain.top).reshape(len(plain.tokens), -1), rtol=1e-6)
    assert completion.censored.tolist() == plain.censored


def assert_same_reply(first: Reply, second: Reply) -> None:
    assert len(first.completions) == len(second.completions)
    for a, b in zip(first.completions, second.completions, strict=True):
        assert (a.index, a.text, a.finish_reason, a.tokens) == (b.index, b.text, b.finish_reason, b.tokens)
        assert (a.thinking and (a.thinking.text, a.thinking.tokens)) == (
            b.thinking and (b.thinking.text, b.thinking.tokens)
        )
        for name in ("logprobs", "top_logprobs", "censored", "top_ids"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert first.usage == second.usage
    assert first.model == second.model


def test_every_codec_is_held_to_the_contract() -> None:
    assert {writer.codec for writer in WRITERS} == set(CODECS) - {"by_shape"}  # which stands for all of them
    for writer in WRITERS:
        for name in ("request", "parse", "parse_steps", "StreamAssembler"):
            assert callable(getattr(load_module(writer), name))


@every_case
def test_every_format_gives_the_same_completions(writer: Writer, case: Case) -> None:
    for part in replies_of(writer, case):
        reply = load_module(writer).parse(writer.write_body(part), top_logprobs=case.k)
        assert_matches_case(reply, part, writer)
        assert reply.notes == ()
        assert reply.model == "m"
        usage = reply.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (7, count_tokens(part), False)


@every_case
def test_a_streamed_reply_is_the_same_reply(writer: Writer, case: Case) -> None:
    for part in replies_of(writer, case):
        body_reply = load_module(writer).parse(writer.write_body(part), top_logprobs=case.k, token_ids=True)
        for size in (1, 3):
            assert_same_reply(
                assemble(writer, writer.write_stream(part, size), [], top_logprobs=case.k, token_ids=True), body_reply
            )


@every_writer
@settings(max_examples=60)
@given(seed=st.integers(0, 400), size=st.integers(1, 4), cuts=st.lists(st.floats(0, 1), max_size=8))
def test_random_replies_give_what_plain_loops_give_for_any_split(
    writer: Writer, seed: int, size: int, cuts: list[float]
) -> None:
    for part in replies_of(writer, random_case(seed)):
        body_reply = load_module(writer).parse(writer.write_body(part))
        assert_matches_case(body_reply, part, writer)
        stream = writer.write_stream(part, size)
        assert_same_reply(assemble(writer, stream, [int(fraction * len(stream)) for fraction in cuts]), body_reply)
        assert_same_reply(load_module(writer).parse(stream), body_reply)


@every_writer
def test_one_byte_at_a_time_is_enough(writer: Writer) -> None:  # cuts fall inside characters and inside CRLF
    for part in replies_of(writer, random_case(3, n=2)):
        stream = writer.write_stream(part, 2).replace(b"\n", b"\r\n")
        assert_same_reply(
            assemble(writer, stream, list(range(len(stream)))), load_module(writer).parse(writer.write_body(part))
        )


def add_unknown_fields(value: Any) -> Any:
    """Add unknown fields to every object."""
    if isinstance(value, dict):
        extended = {name: add_unknown_fields(item) for name, item in value.items()}
        is_data = all(isinstance(item, (float, int)) for item in value.values())  # text → number: data
        return extended if is_data else {"zz_new": {"a": [1, None]}, **extended, "zz_later": "x"}
    return [add_unknown_fields(item) for item in value] if isinstance(value, list) else value


@every_case
def test_unknown_fields_are_ignored(writer: Writer, case: Case) -> None:
    for part in replies_of(writer, case):
        data = writer.write_body(part)
        extended = json.dumps(add_unknown_fields(json.loads(data))).encode()
        if not any(logical.calls for logical in part.completions):  # there, unknown fields are arguments
            assert_same_reply(load_module(writer).parse(extended), load_module(writer).parse(data))


@every_writer
def test_white_space_and_escapes_change_nothing(writer: Writer) -> None:
    for part in replies_of(writer, random_case(11)):
        data = writer.write_body(part)
        assert_same_reply(
            load_module(writer).parse(json.dumps(json.loads(data), indent=2).encode()), load_module(writer).parse(data)
        )


@every_writer
def test_a_reply_is_decoded_in_steps_so_that_a_loop_can_breathe(writer: Writer) -> None:
    part = replies_of(writer, random_case(5, n=4))[0]
    steps = list(load_module(writer).parse_steps(writer.write_body(part)))
    assert len(steps) >= len(part.completions)


@every_writer
@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"3", b'"x"', b"{", b"\xff", b"<html></html>", b"data: [DONE]\n\n"]
)
def test_anything_but_a_reply_is_one_clear_error(writer: Writer, data: bytes) -> None:
    with pytest.raises(ResponseDecodeError):
        load_module(writer).parse(data)


@every_writer
def test_nan_and_infinity_of_python_servers_cost_nothing_but_their_own_number(writer: Writer) -> None:
    if "logprobs" not in writer.features:
        return
    part = replies_of(writer, random_case(2, n=1))[0]
    text = writer.write_body(part).decode()
    for constant in ("NaN", "-Infinity", "1e999"):
        changed_text = text.replace("-9999.0", constant).replace("-100.0", constant)
        for completion, expected in zip(
            load_module(writer).parse(changed_text.encode()).completions, part.completions, strict=True
        ):
            plain = plain_completion(chat_choice(expected, 0))
            np.testing.assert_allclose(completion.logprobs, plain.logprobs, rtol=1e-6)
            assert completion.censored.tolist() == plain.censored


@every_writer
def test_a_stream_that_breaks_off_keeps_what_came_and_says_so(writer: Writer) -> None:
    long = LogicalCompletion("abc" * 40)
    stream = writer.write_stream(Case("long", (long,)), 1)
    reply = assemble(writer, stream[: len(stream) // 2], [])
    (completion,) = reply.completions
    assert long.text.startswith(completion.text)
    assert 0 < len(completion.text) < len(long.text)
    assert completion.finish_reason == "error"
    assert not completion.complete
    assert any("broke off" in note for note in reply.notes)


@every_writer
def test_token_ids_are_those_of_the_tokens_bytes(writer: Writer) -> None:
    if "logprobs" not in writer.features:
        return
    part = replies_of(writer, CASES[0])[0]
    reply_ids = load_module(writer).parse(writer.write_body(part), token_ids=True).completions[0]
    chat = WRITERS[0]
    chat_ids = load_module(chat).parse(chat.write_body(part), token_ids=True).completions[0]
    np.testing.assert_array_equal(reply_ids.top_ids, chat_ids.top_ids)


@every_writer
def test_two_thousand_damaged_replies_raise_nothing_but_our_errors(writer: Writer) -> None:
    survivors = sum(survives(load_module(writer), data, number) for number, data in enumerate(mutants(writer, 2000)))
    assert survivors > 400, "most damage must cost less than the reply"
