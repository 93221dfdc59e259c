"""One contract for every codec: what a model said comes out the same, whichever wire format carried it."""

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
from tests.codecs.logical import CASES, Case, Logical, drawn
from tests.codecs.writers import WRITERS, Writer, chat_choice, counted
from tests.plain_decoder import plain_completion

BOTH = [(writer, case) for writer in WRITERS for case in CASES if case.needs <= writer.carries]
every_writer = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.codec)
every_case = pytest.mark.parametrize(
    ("writer", "case"), BOTH, ids=[f"{writer.codec}-{case.name}" for writer, case in BOTH]
)


def module(writer: Writer) -> Codec:
    return importlib.import_module(CODECS[writer.codec])  # type: ignore[return-value]


def parts(writer: Writer, case: Case) -> list[Case]:
    return [case] if "several" in writer.carries else case.alone()


def assembled(writer: Writer, stream: bytes, cuts: list[int], **options: Any) -> Reply:
    assembler = module(writer).StreamAssembler(**options)
    for start, stop in pairwise([0, *sorted(cuts), len(stream)]):
        assembler.feed(stream[start:stop])
    reply: Reply = assembler.close()
    return reply


def as_said(reply: Reply, case: Case, writer: Writer) -> None:
    """The reply holds what plain loops over the logical completions give."""
    assert [item.index for item in reply.completions] == list(range(len(case.completions)))
    for got, wanted in zip(reply.completions, case.completions, strict=True):
        alone = replace(wanted, thinking=())
        plain = plain_completion(chat_choice(alone, 0), case.k) if "logprobs" in writer.carries else None
        if wanted.thinking:
            thought = replace(alone, text=wanted.thought, tokens=wanted.thinking)
            assert got.thinking is not None
            numbers(got.thinking, plain_completion(chat_choice(thought, 0), case.k))
        assert got.text == (canonical_tool_calls(wanted.calls) if wanted.calls else wanted.text)
        assert got.finish_reason == wanted.finish
        assert (got.thinking.text if got.thinking else "") == wanted.thought
        if plain is None or not plain.tokens:
            assert (got.tokens, got.logprobs.shape, got.top_logprobs.shape[0]) == ((), (0,), 0)
            continue
        numbers(got, plain)


def numbers(got: Completion, plain: Any) -> None:
    assert list(got.tokens) == plain.tokens
    np.testing.assert_allclose(got.logprobs, plain.logprobs, rtol=1e-6)
    np.testing.assert_allclose(got.top_logprobs, np.array(plain.top).reshape(len(plain.tokens), -1), rtol=1e-6)
    assert got.censored.tolist() == plain.censored


def same(one: Reply, two: Reply) -> None:
    assert len(one.completions) == len(two.completions)
    for a, b in zip(one.completions, two.completions, strict=True):
        assert (a.index, a.text, a.finish_reason, a.tokens) == (b.index, b.text, b.finish_reason, b.tokens)
        assert (a.thinking and (a.thinking.text, a.thinking.tokens)) == (
            b.thinking and (b.thinking.text, b.thinking.tokens)
        )
        for name in ("logprobs", "top_logprobs", "censored", "top_ids"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert one.usage == two.usage
    assert one.model == two.model


def test_every_codec_is_held_to_the_contract() -> None:
    assert {writer.codec for writer in WRITERS} == set(CODECS) - {"by_shape"}  # which stands for all of them
    for writer in WRITERS:
        for face in ("request", "parse", "parse_steps", "StreamAssembler"):
            assert callable(getattr(module(writer), face))


@every_case
def test_what_was_said_comes_out_whichever_format_carried_it(writer: Writer, case: Case) -> None:
    for part in parts(writer, case):
        reply = module(writer).parse(writer.whole(part), top_logprobs=case.k)
        as_said(reply, part, writer)
        assert reply.notes == ()
        assert reply.model == "m"
        usage = reply.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (7, counted(part), False)


@every_case
def test_a_streamed_reply_is_the_same_reply(writer: Writer, case: Case) -> None:
    for part in parts(writer, case):
        whole = module(writer).parse(writer.whole(part), top_logprobs=case.k, token_ids=True)
        for size in (1, 3):
            same(assembled(writer, writer.streamed(part, size), [], top_logprobs=case.k, token_ids=True), whole)


@every_writer
@settings(max_examples=60)
@given(seed=st.integers(0, 400), size=st.integers(1, 4), cuts=st.lists(st.floats(0, 1), max_size=8))
def test_drawn_replies_give_what_plain_loops_give_however_they_arrive(
    writer: Writer, seed: int, size: int, cuts: list[float]
) -> None:
    for part in parts(writer, drawn(seed)):
        whole = module(writer).parse(writer.whole(part))
        as_said(whole, part, writer)
        stream = writer.streamed(part, size)
        same(assembled(writer, stream, [int(cut * len(stream)) for cut in cuts]), whole)
        same(module(writer).parse(stream), whole)


@every_writer
def test_one_byte_at_a_time_is_enough(writer: Writer) -> None:  # cuts fall inside characters and inside CRLF
    for part in parts(writer, drawn(3, n=2)):
        stream = writer.streamed(part, 2).replace(b"\n", b"\r\n")
        same(assembled(writer, stream, list(range(len(stream)))), module(writer).parse(writer.whole(part)))


def sprinkled(value: Any) -> Any:
    """Add unknown fields to every object."""
    if isinstance(value, dict):
        mixed = {name: sprinkled(item) for name, item in value.items()}
        closed = all(isinstance(item, (float, int)) for item in value.values())  # text → number: data
        return mixed if closed else {"zz_new": {"a": [1, None]}, **mixed, "zz_later": "x"}
    return [sprinkled(item) for item in value] if isinstance(value, list) else value


@every_case
def test_unknown_fields_are_ignored(writer: Writer, case: Case) -> None:
    for part in parts(writer, case):
        data = writer.whole(part)
        odd = json.dumps(sprinkled(json.loads(data))).encode()
        if not any(each.calls for each in part.completions):  # there, unknown fields are arguments
            same(module(writer).parse(odd), module(writer).parse(data))


@every_writer
def test_white_space_and_escapes_change_nothing(writer: Writer) -> None:
    for part in parts(writer, drawn(11)):
        data = writer.whole(part)
        same(module(writer).parse(json.dumps(json.loads(data), indent=2).encode()), module(writer).parse(data))


@every_writer
def test_a_reply_is_decoded_in_steps_so_that_a_loop_can_breathe(writer: Writer) -> None:
    part = parts(writer, drawn(5, n=4))[0]
    steps = list(module(writer).parse_steps(writer.whole(part)))
    assert len(steps) >= len(part.completions)


@every_writer
@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"null", b"3", b'"x"', b"{", b"\xff", b"<html></html>", b"data: [DONE]\n\n"]
)
def test_what_is_no_reply_is_one_clear_error(writer: Writer, data: bytes) -> None:
    with pytest.raises(ResponseDecodeError):
        module(writer).parse(data)


@every_writer
def test_nan_and_infinity_of_python_servers_cost_nothing_but_their_own_number(writer: Writer) -> None:
    if "logprobs" not in writer.carries:
        return
    part = parts(writer, drawn(2, n=1))[0]
    text = writer.whole(part).decode()
    for constant in ("NaN", "-Infinity", "1e999"):
        broken = text.replace("-9999.0", constant).replace("-100.0", constant)
        for got, wanted in zip(module(writer).parse(broken.encode()).completions, part.completions, strict=True):
            plain = plain_completion(chat_choice(wanted, 0))
            np.testing.assert_allclose(got.logprobs, plain.logprobs, rtol=1e-6)
            assert got.censored.tolist() == plain.censored


@every_writer
def test_a_stream_that_breaks_off_keeps_what_came_and_says_so(writer: Writer) -> None:
    said = Logical("abc" * 40)
    stream = writer.streamed(Case("long", (said,)), 1)
    reply = assembled(writer, stream[: len(stream) // 2], [])
    (got,) = reply.completions
    assert said.text.startswith(got.text)
    assert 0 < len(got.text) < len(said.text)
    assert got.finish_reason == "error"
    assert not got.complete
    assert any("broke off" in note for note in reply.notes)


@every_writer
def test_token_ids_are_those_of_the_tokens_bytes(writer: Writer) -> None:
    if "logprobs" not in writer.carries:
        return
    part = parts(writer, CASES[0])[0]
    mine = module(writer).parse(writer.whole(part), token_ids=True).completions[0]
    chat = WRITERS[0]
    theirs = module(chat).parse(chat.whole(part), token_ids=True).completions[0]
    np.testing.assert_array_equal(mine.top_ids, theirs.top_ids)


@every_writer
def test_two_thousand_damaged_replies_raise_nothing_but_our_errors(writer: Writer) -> None:
    survivors = sum(survives(module(writer), data, number) for number, data in enumerate(mutants(writer, 2000)))
    assert survivors > 400, "most damage must cost less than the reply"
