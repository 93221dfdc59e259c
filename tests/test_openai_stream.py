"""Tests of streamed replies: the same completions as from the whole reply, for any split of its bytes."""

from __future__ import annotations

import json
import random
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.adapters.codecs.openai_chat import StreamAssembler, parse
from swift_client.errors import BadRequestError, ProviderError, RateLimitError, ResponseDecodeError
from tests.plain_decoder import RECORDINGS, body, choice, drawn_body, entry, streamed

recorded = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings stand beside the repository only here")


def assemble(stream: bytes, cuts: list[int] | None = None, **options):
    assembler = StreamAssembler(**options)
    edges = [0, *sorted(cuts or []), len(stream)]
    for start, stop in pairwise(edges):
        assembler.feed(stream[start:stop])
    return assembler.close()


def assert_same_reply(first, second) -> None:
    assert len(first.completions) == len(second.completions)
    for a, b in zip(first.completions, second.completions, strict=True):
        assert (a.index, a.text, a.finish_reason, a.tokens) == (b.index, b.text, b.finish_reason, b.tokens)
        np.testing.assert_array_equal(a.logprobs, b.logprobs)
        np.testing.assert_array_equal(a.top_logprobs, b.top_logprobs)
        np.testing.assert_array_equal(a.censored, b.censored)
        assert (a.top_ids is None) == (b.top_ids is None)
        assert a.top_ids is None or a.top_ids.tolist() == b.top_ids.tolist()


def events(*chunks: dict | str) -> bytes:
    texts = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def delta(content: str | None = None, index: int = 0, end: str | None = None, **fields) -> dict:
    piece = {} if content is None else {"content": content}
    return {"choices": [{"index": index, "delta": piece, "finish_reason": end, **fields}]}


@given(
    st.integers(0, 300), st.integers(1, 4), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"]), st.booleans(),
    st.lists(st.floats(0, 1), max_size=8),
)  # fmt: skip
def test_streaming_equals_not_streaming_however_the_bytes_are_cut(seed, group, end, token_ids, cuts):
    data = drawn_body(seed)
    stream = streamed(data, group=group, end=end)
    reply = assemble(stream, [int(fraction * len(stream)) for fraction in cuts], token_ids=token_ids)
    assert_same_reply(reply, parse(data, token_ids=token_ids))
    assert reply.usage == parse(data).usage
    assert reply.model == "m"


def test_one_byte_at_a_time_is_enough():  # cuts fall inside characters and inside CRLF
    data = body(choice("空é!", [entry(token, -0.5, [entry(token, -0.5)]) for token in "空é!"]))
    stream = streamed(data, end=b"\r\n\r\n")
    assert_same_reply(assemble(stream, list(range(len(stream)))), parse(data))


def test_lines_that_wait_for_the_first_event_do_not_hide_it():
    event = events(delta("a", end="stop")).strip()
    assert assemble(b"\n\n" + event, [1, 2]).completions[0].text == "a"


def test_an_event_of_a_megabyte_is_not_scanned_again_with_every_chunk():  # Responses end with the whole reply
    data = body(choice("a" * 4_000_000))
    stream = b"data: " + json.dumps(delta("a" * 4_000_000, end="stop")).encode() + b"\n\n"
    assembler = StreamAssembler()
    start = time.thread_time()
    for offset in range(0, len(stream), 1024):
        assembler.feed(stream[offset : offset + 1024])
    assert assembler.close().completions[0].text == parse(data).completions[0].text
    assert time.thread_time() - start < 1


def test_a_recorded_stream_is_parsed_like_a_reply():
    data = drawn_body(4)
    assert_same_reply(parse(streamed(data)), parse(data))
    assert_same_reply(parse(b": comment\n\n" + streamed(data)), parse(data))


def test_everything_that_servers_put_between_the_tokens_is_tolerated():
    stream = b"".join(
        [
            b": OPENROUTER PROCESSING\n\n",  # comment
            b"\n\n",
            b"event: message\nid: 3\nretry: 10\n",
            events({"choices": [], "prompt_filter_results": []}),  # Azure
            events({"choices": None}),
            events(delta("", role=1, logprobs={"content": [], "refusal": None})),
            b'data:{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}\r\n\r\n',  # no space; TGI's ""
            b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"b"}}]}\n\n',  # one event on two lines
            events({"choices": [{"index": 0, "delta": None}]}, {"choices": [{"delta": {"content": "c"}}]}),
            events(delta(end="stop"), delta(end="stop")),  # twice
            events({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}, "obfuscation": "xx"}),
            b"data: [DONE]",
        ]
    )
    reply = assemble(stream)
    assert [(item.text, item.finish_reason) for item in reply.completions] == [("abc", "stop")]
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.estimated) == (5, 3, False)
    assert reply.notes == ()


def test_a_stream_without_its_end_is_whole_where_its_choices_ended():
    reply = assemble(events(delta("a"), delta("b", 1), delta(end="stop"), delta(index=1, end="length")))
    assert [item.finish_reason for item in reply.completions] == ["stop", "length"]
    assert reply.notes == ()


def test_usage_is_summed_where_each_choice_has_its_own_and_not_where_it_grows():
    def usage(count: int, *choices: dict) -> dict:
        return {"choices": list(choices), "usage": {"prompt_tokens": 9, "completion_tokens": count}}

    ends = [delta("a"), delta(end="stop"), delta("b", 1), delta(index=1, end="stop")]
    llamacpp = assemble(events(*ends, usage(4), usage(5))).usage
    assert (llamacpp.prompt_tokens, llamacpp.completion_tokens, llamacpp.estimated) == (9, 9, False)
    growing = [usage(count, *piece["choices"]) for count, piece in enumerate(ends, 1)]  # vLLM's continuous usage
    assert assemble(events(*growing, usage(4))).usage == assemble(events(*growing)).usage
    assert assemble(events(*growing)).usage.completion_tokens == 4


def test_choices_that_did_not_end_are_errors_and_the_others_are_kept():
    reply = assemble(events(delta("a"), delta("b", 1), delta(end="stop")) + b'data: {"choices":[{"ind')
    assert [(item.text, item.finish_reason) for item in reply.completions] == [("a", "stop"), ("b", "error")]
    assert not reply.completions[1].complete
    assert "Completion 1 did not end" in reply.notes[0]


def test_an_error_in_the_middle_ends_the_stream_and_keeps_what_came():
    error_event = {"error": {"message": "upstream timed out", "code": 502}}
    reply = assemble(events(delta("a"), delta(end="stop"), delta("b", 1), error_event))
    assert [item.finish_reason for item in reply.completions] == ["stop", "error"]
    assert "upstream timed out" in reply.notes[0]


def test_an_error_after_the_end_of_a_choice_leaves_it_complete():
    late = {"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502}}
    parts = (delta("4", 0), delta(".", 0), delta(None, 0, "stop"), delta("5", 1), {"choices": [late]})

    reply = assemble(events(*parts, "[DONE]"))

    assert [(one.text, one.finish_reason) for one in reply.completions] == [("4.", "stop"), ("5", "error")]


def test_an_error_instead_of_tokens_is_raised():
    with pytest.raises(RateLimitError, match="slow down"):
        assemble(events({"error": {"message": "slow down", "code": 429}}))
    with pytest.raises(RateLimitError, match="slow down"):  # a bare JSON line, and no event
        assemble(b': hi\n{"error": {"message": "slow down", "code": 429}}\n')


def test_a_server_that_does_not_stream_is_read_all_the_same():
    data = drawn_body(6)
    assert_same_reply(assemble(b"\n" + data, [3, 100, 101]), parse(data))
    with pytest.raises(BadRequestError, match="no such model"):
        assemble(b'{"error": {"message": "no such model", "code": 400}}')


@pytest.mark.parametrize("stream", [b"", b"\n", b": ping\n\n", b"data: [DONE]\n\n", b"data: {bro", b"<html>", b"data"])
def test_a_stream_without_a_token_is_one_clear_error(stream):
    with pytest.raises(ResponseDecodeError):
        assemble(stream)


def test_an_unreadable_event_costs_itself_and_the_reply_says_so():
    reply = assemble(events(delta("a"), "{broken", delta("b"), delta(end="stop")))
    assert reply.completions[0].text == "ab"
    assert reply.notes == ("1 event(s) of the stream cannot be read.",)


def test_nan_and_half_surrogates_in_an_event_cost_nothing_else():
    tokens = [entry("a", float("nan"), [entry("a", -0.5), entry("b", -1.5)])]
    reply = assemble(events(delta("a", logprobs={"content": tokens}), delta("\ud83c"), delta(end="stop")))
    assert reply.completions[0].text == "a?"
    assert reply.completions[0].censored.tolist() == [True]


def test_tool_calls_arrive_in_fragments_and_interleaved():
    def call(index: int, **function: str) -> dict:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index, "function": function}]}}]}

    stream = events(
        call(0, name="f", arguments=""), call(0, arguments='{"b":'), call(1, name="g", arguments="{}"),
        call(0, arguments=' 1}'), delta(end="tool_calls"),
    )  # fmt: skip
    completion = assemble(stream).completions[0]
    assert completion.text == '[{"arguments":{"b":1},"name":"f"},{"arguments":{},"name":"g"}]'
    assert completion.finish_reason == "tool_calls"


def test_reasoning_deltas_are_kept_out_of_text_and_tokens():
    def thinking_delta(text: str) -> dict:
        tokens = {"content": [entry(text, -0.5, [])]}
        return {"choices": [{"index": 0, "delta": {"reasoning_content": text}, "logprobs": tokens}]}

    answer = delta("A", logprobs={"content": [entry("A", -0.1, [])]})
    completion = assemble(
        events(thinking_delta("Is it"), thinking_delta(" A?"), answer, delta(end="stop"))
    ).completions[0]
    assert (completion.text, completion.tokens) == ("A", ("A",))


def test_the_array_shape_streams_too():
    rows = [{"a": -0.5, "b": -1.5}, {"b": -0.25}, None]
    shapes = [
        {"tokens": ["a", "b"], "token_logprobs": [-0.5, -0.25], "top_logprobs": rows[:2]},
        {"tokens": ["c"], "token_logprobs": [-0.75], "top_logprobs": None},
    ]
    stream = events(delta("ab", logprobs=shapes[0]), delta("c", logprobs=shapes[1]), delta(end="stop"))
    arrays = {"tokens": ["a", "b", "c"], "token_logprobs": [-0.5, -0.25, -0.75], "top_logprobs": rows}
    assert_same_reply(assemble(stream), parse(body(choice("abc", logprobs=arrays))))


def test_one_number_for_each_delta_is_that_tokens_logprob():  # Together
    stream = events(delta("New", logprobs=-0.5), delta(" York", logprobs=-0.25), delta(end="stop"))
    completion = assemble(stream).completions[0]
    assert completion.tokens == ("New", " York")
    assert completion.logprobs.tolist() == [-0.5, -0.25]


def test_steps_pause_after_each_choice():
    assembler = StreamAssembler()
    assembler.feed(streamed(drawn_body(2, n=5)))
    assert len(list(assembler.close_steps())) == 5


def test_mutated_streams_raise_nothing_but_our_errors_and_give_finite_numbers():
    draw = random.Random(11)
    seeds = [streamed(drawn_body(seed, n=2, length=3), group=2) for seed in range(6)]
    parts = [b'"', b"{", b"}", b"[", b",", b"\n", b"\r", b"data: ", b"null", b"NaN", b"\xff", b"1e999", b'{"error":1}']
    for case in range(1000):
        data = bytearray(seeds[case % len(seeds)])
        for _ in range(draw.randrange(1, 5)):
            position, length = draw.randrange(len(data)), draw.choice([0, 1, 3, 40])
            data[position : position + length] = draw.choice(parts)
        try:
            reply = assemble(bytes(data), [draw.randrange(len(data))])
        except ProviderError:
            continue
        for completion in reply.completions:
            assert np.isfinite(completion.logprobs).all()
            assert not np.isnan(completion.top_logprobs).any()


# --- real bytes -------------------------------------------------------------------------------------------------


def recording(name: str) -> bytes:
    return (RECORDINGS / "openai-stream" / name).read_bytes().split(b"`", 1)[-1].split(b"`", 1)[0]


@recorded
def test_openais_recorded_streams_are_read():
    three = parse(recording("n3-interleaved.sse"))
    assert [item.index for item in three.completions] == [0, 1, 2]
    assert all(json.loads(item.text) and item.finish_reason == "stop" for item in three.completions)
    assert (three.usage.prompt_tokens, three.usage.completion_tokens) == (79, 42)

    foo = parse(recording("logprobs.sse")).completions[0]
    assert (foo.text, foo.tokens) == ("Foo!", ("Foo", "!"))
    np.testing.assert_allclose(foo.logprobs, [-0.0025094282, -0.26638845], rtol=1e-6)

    refusal = parse(recording("refusal-logprobs.sse")).completions[0]
    assert refusal.finish_reason == "refusal"
    assert "".join(refusal.tokens) == refusal.text
    assert len(refusal.tokens) == 11


@recorded
def test_tool_calls_after_text_leave_the_texts_logprobs_alone():
    completion = parse(recording("logprobs-then-tool-calls.sse")).completions[0]
    assert "".join(completion.tokens) == completion.text
    assert completion.finish_reason == "tool_calls"
    assert re.match("Let's", completion.text)
