"""Tests of requests and complete replies in OpenAI's chat format, with every server's variations."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from swift_client.adapters.codecs import openai_chat
from swift_client.adapters.codecs.openai_chat import parse, parse_steps, request
from swift_client.adapters.codecs.openai_chat.schema import split_choices_fast
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.adapters.providers.provider import Capabilities, Provider
from swift_client.errors import BadRequestError, ProviderError, RateLimitError, ResponseDecodeError, ServerError
from tests.plain_decoder import RECORDINGS, body, choice, drawn_body, entry, plain_completions

recorded = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings stand beside the repository only here")


def make_provider(**more) -> Provider:
    facts = Capabilities(n_max=None, top_logprobs_max=20, checked="2026-11-01")
    fields = {"name": "x", "base_url": None, "key_variable": None, "default_model": None, **more}
    return Provider(codec="openai_chat", capabilities=facts, **fields)


def assert_same_reply(first, second) -> None:
    """Assert that two replies have the same completions, to the last bit."""
    assert len(first.completions) == len(second.completions)
    for a, b in zip(first.completions, second.completions, strict=True):
        assert (a.index, a.text, a.finish_reason, a.tokens) == (b.index, b.text, b.finish_reason, b.tokens)
        np.testing.assert_array_equal(a.logprobs, b.logprobs)
        np.testing.assert_array_equal(a.top_logprobs, b.top_logprobs)
        np.testing.assert_array_equal(a.censored, b.censored)


def assert_matches_plain_decoder(data: bytes, k: int | None = None) -> None:
    """Assert that the codec's arrays are those of the plain loops."""
    for completion, truth in zip(parse(data, top_logprobs=k).completions, plain_completions(data, k), strict=True):
        assert completion.text == truth.text
        assert list(completion.tokens) == truth.tokens
        assert completion.censored.tolist() == truth.censored
        np.testing.assert_allclose(completion.logprobs, np.float32(truth.logprobs), rtol=1e-5, atol=1e-6)
        assert completion.top_logprobs.tolist() == [[float(np.float32(value)) for value in row] for row in truth.top]


# --- requests ---------------------------------------------------------------------------------------------------


def test_a_request_asks_for_n_and_logprobs_as_the_row_says():
    messages = [{"role": "user", "content": "hi"}]
    wire_request = request(
        CompletionRequest(
            make_provider(), "m", messages, n=4, top_logprobs=20, sampling={"temperature": 0.7, "stop": ["\n"]}
        )
    )
    assert (wire_request.method, wire_request.path, wire_request.n, wire_request.stream) == (
        "POST",
        "/chat/completions",
        4,
        False,
    )
    assert wire_request.body == {
        "model": "m", "messages": messages, "n": 4, "logprobs": True, "top_logprobs": 20, "temperature": 0.7,
        "stop": ["\n"],
    }  # fmt: skip
    together = request(CompletionRequest(make_provider(logprobs_request="int"), "m", messages, top_logprobs=5)).body
    assert together["logprobs"] == 5
    assert "top_logprobs" not in together
    assert "n" not in together
    assert (
        "logprobs"
        not in request(CompletionRequest(make_provider(logprobs_request="none"), "m", messages, top_logprobs=5)).body
    )
    assert "logprobs" not in request(CompletionRequest(make_provider(), "m", messages)).body


def test_top_logprobs_is_never_zero_because_servers_then_send_no_logprobs():  # llama.cpp; vllm#47838
    assert request(CompletionRequest(make_provider(), "m", [], top_logprobs=0)).body["top_logprobs"] == 1


def test_a_request_takes_the_rows_model_and_extra_body_and_the_callers_fields_win():
    provider = make_provider(default_model="d", extra_body={"thinking": {"type": "disabled"}, "seed": 1})
    wire_request = request(CompletionRequest(provider, None, [], stream=True, sampling={"seed": 2}))
    assert wire_request.body["model"] == "d"
    assert wire_request.body["thinking"] == {"type": "disabled"}
    assert wire_request.body["seed"] == 2
    assert wire_request.stream
    assert wire_request.body["stream"] is True
    assert wire_request.body["stream_options"] == {"include_usage": True}


# --- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("k", [None, 0, 3, 7])
def test_a_reply_gives_the_arrays_that_plain_loops_give(seed, k):
    assert_matches_plain_decoder(drawn_body(seed, rounded=seed % 2 == 0), k)


def test_choices_come_in_the_order_of_their_index():
    reply = parse(body(choice("c", index=2), choice("a", index=0), choice("b", index=1)))
    assert [(item.index, item.text) for item in reply.completions] == [(0, "a"), (1, "b"), (2, "c")]
    repeated = parse(body(choice("a"), choice("b"), choice("c")))
    assert [(item.index, item.text) for item in repeated.completions] == [(0, "a"), (1, "b"), (2, "c")]


@pytest.mark.parametrize("absent", [None, {"content": None}, {"content": []}, {}])
def test_a_reply_without_logprobs_is_a_reply_with_T_0(absent):  # ogx#3552, ollama#13638
    data = json.loads(body(choice("hello")))
    data["choices"][0]["logprobs"] = absent
    completion = parse(json.dumps(data).encode(), top_logprobs=5).completions[0]
    assert completion.text == "hello"
    assert completion.tokens == ()
    assert completion.logprobs.shape == (0,)


def test_fewer_ranks_than_asked_are_filled_with_minus_infinity():  # gpt-5.x cuts confident lists short
    data = body(choice("ab", [entry("a", -0.0, [entry("a", -0.0)]), entry("b", -1.0, [])]))
    assert parse(data, top_logprobs=2).completions[0].top_logprobs.tolist() == [[0, -math.inf], [-math.inf] * 2]


def test_a_chosen_token_listed_first_out_of_order_is_sorted_and_not_added_twice():  # vLLM, vllm#36660
    top = [entry("z", -3.0), entry("a", -0.5), entry("b", -1.5), entry("z", -3.0)]
    completion = parse(body(choice("z", [entry("z", -3.0, top)])), top_logprobs=3).completions[0]
    np.testing.assert_allclose(completion.top_logprobs, [[-0.5, -1.5, -3.0]])


def test_a_sampled_token_outside_the_list_gives_the_same_arrays_wherever_it_stands():  # artefactual#170
    ranks = [entry("a", -0.5), entry("b", -1.5)]
    parsed = [
        parse(body(choice("z", [entry("z", -6.0, top)])), top_logprobs=2)
        for top in (ranks, [*ranks, entry("z", -6.0)], [entry("z", -6.0), *ranks])
    ]
    assert_same_reply(parsed[0], parsed[1])
    assert_same_reply(parsed[0], parsed[2])


def test_equal_texts_with_different_bytes_are_different_tokens():  # llama.cpp cuts the text to valid UTF-8
    halves = [entry("", -1.5, bytes=[0xE7]), entry("", -1.5, bytes=[0xE8]), entry("", -1.5, bytes=[0xE7])]
    data = body(choice("a", [entry("a", -0.5, [entry("a", -0.6), *halves])]))
    assert parse(data).completions[0].top_logprobs.shape == (1, 3)


def test_alternatives_that_all_carry_one_placeholder_id_keep_their_numbers():  # vllm#42887
    top = [{"token": "token_id:7", "token_id": 7, "logprob": -number} for number in (0.5, 1.5, 2.5)]
    assert parse(body(choice("a", [entry("a", -0.5, top)]))).completions[0].top_logprobs.shape == (1, 3)


def test_python_servers_nan_and_infinity_are_censored_and_cost_nothing_else():
    data = body(choice("ab", [entry("a", math.nan, [entry("a", -math.inf), entry("b", -1.0)]), entry("b", -1.0)]))
    assert b"NaN" in data
    completion = parse(data).completions[0]
    assert completion.censored.tolist() == [True, False]
    assert completion.logprobs[0] == pytest.approx(-1.0)


def test_raw_logits_and_placeholders_are_no_logprobs_and_the_reply_says_which():
    logits = [entry("a", 12.5, [entry("a", 12.5), entry("b", 3.0)])]
    placeholders = [entry("a", 0, []), entry("b", 0, [])]  # LM Studio
    good = [entry("a", -0.1, [entry("a", -0.1)])]
    reply = parse(
        body(choice("a", logits), choice("ab", placeholders, 1), choice("a", good, 2), choice("a", logits, 3))
    )
    assert [len(item.tokens) for item in reply.completions] == [0, 0, 1, 0]
    assert reply.notes == (
        "Completion 0, 3 has no logprobs: its numbers lie above zero: raw logits, not logprobs.",
        "Completion 1 has no logprobs: its numbers are placeholders: all the same, and no alternatives are listed.",
    )


def test_logprobs_of_an_unknown_shape_cost_the_logprobs_and_not_the_answer():
    for malformed in ([1, 2], "yes", {"content": [{"logprob": "high"}]}, {"content": {"a": 1}}):
        data = json.loads(body(choice("hello")))
        data["choices"][0]["logprobs"] = malformed
        reply = parse(json.dumps(data).encode())
        assert reply.completions[0].text == "hello"
        assert "unknown shape" in reply.notes[0]


# --- the other shape --------------------------------------------------------------------------------------------


def arrays(tokens, numbers, rows) -> dict:
    return {"tokens": tokens, "token_logprobs": numbers, "top_logprobs": rows, "token_ids": [1] * len(tokens)}


def test_the_array_shape_gives_the_same_completion_as_the_content_shape():  # Together, Fireworks, legacy
    rows = [{"New": -0.25, " new": -2.0}, {" York": -0.5, " Jersey": -0.5}]
    content = [
        entry("New", -0.25, [entry(token, number) for token, number in rows[0].items()]),
        entry(" York", -9999.0, [entry(token, number) for token, number in rows[1].items()]),
    ]
    for shape in (
        rows,
        [[{"token": token, "logprob": number} for token, number in row.items()] for row in rows],
    ):
        logprobs = arrays(["New", " York"], [-0.25, -9999.0], shape)
        assert_same_reply(parse(body(choice("New York", logprobs=logprobs))), parse(body(choice("New York", content))))


def test_the_array_shape_may_hold_nulls_no_lists_or_one_list():
    echo = arrays(["a", "b"], [None, -0.5], [None, {"b": -0.5}])  # legacy echo: no number for the first token
    completion = parse(body(choice("ab", logprobs=echo))).completions[0]
    assert completion.censored.tolist() == [True, False]
    assert completion.top_logprobs.tolist() == [[-math.inf], [-0.5]]
    bare = parse(body(choice("ab", logprobs=arrays(["a", "b"], [-1.0, -0.5], None)))).completions[0]
    assert bare.top_logprobs.shape == (2, 0)
    first = parse(body(choice("a", logprobs=arrays(["a"], [-1.0], {"a": -1.0, "b": -2.0})))).completions[0]
    assert first.top_logprobs.tolist() == [[-1.0, -2.0]]
    short = parse(body(choice("ab", logprobs=arrays(["a", "b"], [-1.0], [{"a": -1.0}])))).completions[0]
    assert short.censored.tolist() == [False, True]


def test_legacy_completions_have_a_text_instead_of_a_message():
    data = {"choices": [{"index": 0, "text": " Paris", "logprobs": arrays([" Paris"], [-0.5], [{" Paris": -0.5}])}]}
    completion = parse(json.dumps(data).encode()).completions[0]
    assert (completion.text, completion.tokens) == (" Paris", (" Paris",))


# --- which tokens are the answer's ------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "<|im_end|>", "</s>", "<|eot_id|>", "<end_of_turn>"])
def test_the_end_of_turn_entry_is_dropped_for_every_server_alike(end):
    entries = [entry("A", -0.5, [entry("A", -0.5)]), entry(end, -0.01, [entry(end, -0.01)])]
    assert_same_reply(parse(body(choice("A", entries))), parse(body(choice("A", entries[:1]))))


def test_thinking_tokens_are_not_the_answers_tokens():
    thinking = [entry(token, -0.5, [entry(token, -0.5)]) for token in ("Is", " it", " A", "?", "</think>", "\n\n")]
    answer = [entry("A", -0.25, [entry("A", -0.25)])]
    data = json.loads(body(choice("A", [*thinking, *answer, entry("<|im_end|>", -0.1)])))
    data["choices"][0]["message"]["reasoning_content"] = "Is it A?"
    completion = parse(json.dumps(data).encode()).completions[0]
    assert completion.tokens == ("A",)
    assert completion.logprobs.tolist() == [-0.25]
    data["choices"][0]["message"]["content"] = None  # cut while it was thinking
    assert parse(json.dumps(data).encode()).completions[0].tokens == ()
    data["choices"][0]["message"]["content"] = "something else"
    reply = parse(json.dumps(data).encode())
    assert reply.completions[0].tokens == ()
    assert "cannot be distinguished from its thinking" in reply.notes[0]


@pytest.mark.parametrize("content", ["<think>\nhm, A?\n</think>\n\nB", "hm, A?\n</think>\n\nB"])
def test_a_think_block_left_in_the_content_is_not_part_of_the_answer(content):
    entries = [entry(token, -0.5, []) for token in (content.removesuffix("B"), "B")]
    completion = parse(body(choice(content, entries))).completions[0]
    assert (completion.text, completion.tokens) == ("B", ("B",))
    assert parse(body(choice("<think>cut"))).completions[0].text == ""
    assert parse(body(choice("write <think> and </think>"))).completions[0].text == "write <think> and </think>"


def test_tokens_that_do_not_spell_the_text_are_kept_and_the_reply_says_so():
    entries = [entry("token_id:5", -0.5, []), entry("token_id:6", -0.5, []), entry("</s>", -0.5, [])]
    reply = parse(body(choice("hi there", entries)))
    assert reply.completions[0].tokens == ("token_id:5", "token_id:6")
    assert "do not spell its text" in reply.notes[0]


def test_a_token_that_is_part_of_a_character_holds_the_replacement_character():
    halves = [entry("\\xe7\\xa9", -0.5, [], bytes=[0xE7, 0xA9]), entry("\\xba", -0.5, [], bytes=[0xBA])]
    assert parse(body(choice("空", halves))).completions[0].tokens == ("\ufffd", "\ufffd")


# --- what stands in for text ------------------------------------------------------------------------------------


def test_a_refusal_is_a_refusal_with_its_own_tokens():
    data = json.loads(body(choice(None)))
    data["choices"][0]["message"]["refusal"] = "I can't."
    data["choices"][0]["logprobs"] = {"content": None, "refusal": [entry("I", -0.5, []), entry(" can't.", -0.1, [])]}
    completion = parse(json.dumps(data).encode()).completions[0]
    assert (completion.text, completion.finish_reason) == ("I can't.", "refusal")
    assert completion.tokens == ("I", " can't.")
    assert not completion.complete


def test_equal_tool_calls_have_equal_text_whatever_their_ids_and_spacing():
    texts = []
    for identity, arguments in (("call_1", '{"b": 1, "a": [2]}'), ("call_2", '{"a":[2],"b":1}')):
        call = {"id": identity, "type": "function", "function": {"name": "f", "arguments": arguments}}
        data = json.loads(body(choice(None, [], finish_reason="tool_calls")))
        data["choices"][0]["message"]["tool_calls"] = [call]
        completion = parse(json.dumps(data).encode()).completions[0]
        assert completion.finish_reason == "tool_calls"
        assert completion.tokens == ()
        texts.append(completion.text)
    assert texts == ['[{"arguments":{"a":[2],"b":1},"name":"f"}]'] * 2


def test_content_may_come_in_parts():
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Pa"}, {"type": "text", "text": "ris"}]
    assert parse(body(choice(parts))).completions[0].text == "Paris"
    refusal = parse(body(choice([{"type": "refusal", "refusal": "no"}]))).completions[0]
    assert (refusal.text, refusal.finish_reason) == ("no", "refusal")


@pytest.mark.parametrize(
    ("wire_reason", "expected"),
    [
        ("stop", "stop"), ("eos", "stop"), ("end_turn", "stop"), ("STOP", "stop"), ("COMPLETE", "stop"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"), ("function_call", "tool_calls"), ("abort", "error"), ("error", "error"),
        ("", "stop"), (None, "stop"), ("new_word", "unknown"),
    ],
)  # fmt: skip
def test_every_servers_word_for_the_end_becomes_one_of_ours(wire_reason, expected):
    assert parse(body(choice("a", finish_reason=wire_reason))).completions[0].finish_reason == expected


# --- usage ------------------------------------------------------------------------------------------------------


def test_usage_is_counted_from_tokens_where_a_server_reports_one_choice_only():  # llama.cpp with n > 1
    entries = [entry("a", -0.5, [])] * 10
    choices = [choice("a" * 10, entries, index) for index in range(4)]
    usage = parse(body(*choices, usage={"prompt_tokens": 9, "completion_tokens": 10})).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (9, 40, True)
    right = parse(body(*choices, usage={"prompt_tokens": 9, "completion_tokens": 44})).usage
    assert (right.completion_tokens, right.estimated) == (44, False)


def test_where_llamacpp_lists_no_tokens_every_choice_counts_like_the_one_it_reports():
    choices = [choice("a", index=index) for index in range(4)]
    reported = {"usage": {"prompt_tokens": 9, "completion_tokens": 5}, "timings": {"predicted_n": 5}}
    usage = parse(body(*choices, **reported)).usage
    assert (usage.completion_tokens, usage.estimated) == (20, True)
    usage = parse(body(choices[0], **reported)).usage
    assert (usage.completion_tokens, usage.estimated) == (5, False)


@pytest.mark.parametrize("usage", [None, {}, "none", {"prompt_tokens": "x"}, {"prompt_tokens": -3}])
def test_missing_or_odd_usage_is_estimated(usage):
    result = parse(body(choice("aa", [entry("a", -0.5, [])] * 2), usage=usage)).usage
    assert (result.prompt_tokens, result.completion_tokens, result.estimated) == (0, 2, True)


# --- replies that are none --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind", "fragment"),
    [
        ({"error": {"message": "No endpoints found", "code": 404}}, BadRequestError, "No endpoints"),
        ({"error": {"message": "slow down", "code": 429}}, RateLimitError, "slow down"),
        ({"error": {"message": "upstream broke", "code": 502}, "choices": []}, ServerError, "upstream broke"),
        ({"error": "Unexpected endpoint or method. (POST /v1/v1/chat)"}, BadRequestError, "Unexpected endpoint"),
        ({"object": "error", "message": "model is loading"}, ProviderError, "model is loading"),
        ({"detail": "Not Found"}, ProviderError, "Not Found"),
    ],
)
def test_an_error_inside_a_200_is_the_error_that_it_describes(data, kind, fragment):
    with pytest.raises(kind, match=fragment.split("(", maxsplit=1)[0].strip()) as excinfo:
        parse(json.dumps(data).encode())
    assert not isinstance(excinfo.value, ResponseDecodeError)


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"null", b"[]", b"{}", b'"text"', b"3", b"{", b"<!DOCTYPE html><title>502 Bad Gateway</title>",
        b'{"choices":null}', b'{"choices":3}', b'{"choices":[1,"a"]}', b'{"choices":[null]}', b"\xff\xfe\x00",
        b'{"choices":[' + b"[" * 100_000, b'{"choices":[{"index":', b"data", b"data:", b"data: [DONE]\n\n", b": ping\n",
    ],
)  # fmt: skip
def test_anything_but_a_reply_is_one_clear_error(data):
    with pytest.raises(ResponseDecodeError) as excinfo:
        parse(data)
    assert len(str(excinfo.value)) < 400


def test_a_web_page_is_named_as_such():
    with pytest.raises(ResponseDecodeError, match="502 Bad Gateway"):
        parse(b"<html><head><title>502 Bad Gateway</title></head></html>")


def test_an_empty_list_of_choices_is_a_reply_with_no_completion():
    assert parse(body()).completions == ()


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9, 0.999])
def test_whole_choices_before_the_cut_are_kept(fraction):
    entries = [entry("a", -0.5, [entry("a", -0.5), entry("b", -1.5)])] * 9
    data = body(*(choice("a" * 9, entries, index) for index in range(6)))
    completions = parse(data).completions
    length = int(len(data) * fraction)
    reply = parse(data[:length])
    assert 0 < len(reply.completions) <= len(completions)
    assert "cut" in reply.notes[0]
    assert reply.usage.estimated
    for completion, original in zip(reply.completions, completions, strict=False):
        assert completion.text == original.text
        np.testing.assert_array_equal(completion.top_logprobs, original.top_logprobs)


def test_one_odd_choice_costs_only_itself():
    reply = parse(body(choice("a"), {"index": 1, "message": "odd"}, choice("c", index=2)))
    assert [item.text for item in reply.completions] == ["a", "c"]
    assert "1 choice(s)" in reply.notes[0]


def test_the_split_by_sight_is_not_deceived_by_what_looks_like_a_choice():
    calls = [{"index": position, "function": {"name": "f", "arguments": "{}"}} for position in range(3)]
    tricky = choice('},{"index":1,"message":{}},')
    tricky["message"]["tool_calls"] = calls
    for separators in ((",", ":"), (", ", ": ")):
        data = json.dumps({"choices": [tricky, choice("b", index=1)]}, separators=separators).encode()
        assert [item.text for item in parse(data).completions] == ['},{"index":1,"message":{}},', "b"]


@pytest.mark.parametrize("indent", [None, 2])
def test_white_space_changes_nothing(indent):  # OpenAI indents its replies
    data = drawn_body(3)
    assert_same_reply(parse(data), parse(json.dumps(json.loads(data), indent=indent).encode()))
    assert_same_reply(parse(data), parse(b"\n  " + data + b"\r\n"))


def fields_in_order(choice_object, order):
    return {name: choice_object[name] for name in order.split()}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "order",
    [
        "index message logprobs finish_reason",  # OpenAI, vLLM
        "finish_reason index message logprobs",  # llama.cpp
        "index finish_reason message logprobs",
        "message index logprobs finish_reason",
        "index message logprobs",
    ],
)
def test_choices_are_found_wherever_their_finish_reason_stands(order, indent):
    reply = json.loads(drawn_body(4, n=6, length=60))
    texts = ['_"finish_reason":', "_" * 5000, "x", '{"index":1,"finish_reason":"stop"}', "_a_", ""]
    for item, text in zip(reply["choices"], texts, strict=True):
        item["message"]["content"] = text
        item["finish_reason"] = "stop"
    expected = parse(json.dumps(reply).encode())
    reply["choices"] = [fields_in_order(item, order) for item in reply["choices"]]
    data = json.dumps(reply, indent=indent).encode()
    envelope = split_choices_fast(data)
    assert [json.loads(bytes(piece)) for piece in envelope.choices] == reply["choices"]
    assert_same_reply(parse(data), expected)
    assert [item.text for item in expected.completions] == texts


def test_underscores_and_repeated_keys_do_not_slow_the_split():
    reply = json.loads(drawn_body(4, n=2))
    reply["choices"][0]["message"]["content"] = "_" * 1_000_000
    reply["choices"][1]["extra"] = [{"finish_reason": None}] * 100_000
    data = json.dumps(reply).encode()
    start = time.process_time()
    assert len(split_choices_fast(data).choices) == 2
    assert time.process_time() - start < 0.5


def test_broken_characters_and_half_surrogates_cost_a_character():
    invalid_utf8 = body(choice("caf\u00e9")).replace("\u00e9".encode(), b"\xe9")
    assert parse(invalid_utf8).completions[0].text == "caf\ufffd"
    huge = body(choice("a", [entry("a", -0.5, [])])).replace(b"-0.5", b"-1e999")
    assert "placeholders" in parse(huge).notes[0]
    half = json.dumps({"choices": [choice("x\ud83c")]}).encode()
    assert parse(half).completions[0].text == "x?"


# --- ids and steps ----------------------------------------------------------------------------------------------


def test_token_ids_are_the_same_in_every_process_and_for_every_server():
    script = (
        "import sys; from swift_client.adapters.codecs.openai_chat import parse;"
        "print([c.top_ids.tolist() for c in parse(sys.stdin.buffer.read(), token_ids=True).completions])"
    )
    data = drawn_body(1)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], input=data, capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    with_bytes = [entry("é", -0.5, [entry("é", -0.5), entry("b", -3.0)]), entry("b", -0.5, [])]
    without_bytes = [
        {"token": item["token"], "logprob": -0.5, "top_logprobs": item["top_logprobs"]} for item in with_bytes
    ]
    for item in without_bytes[0]["top_logprobs"]:
        item["bytes"] = None
    first, second = (
        parse(body(choice("éb", item)), token_ids=True).completions[0] for item in (with_bytes, without_bytes)
    )
    assert first.top_ids.dtype == np.uint32
    np.testing.assert_array_equal(first.top_ids, second.top_ids)
    assert first.top_ids[1].tolist() == [0, 0]
    assert (first.top_ids[0] > 0).all()
    assert parse(data).completions[0].top_ids is None


def test_token_ids_follow_their_numbers_through_sorting_and_cutting():
    top = [entry("c", -3.0), entry("a", -1.0), entry("b", -2.0)]
    ids = {item["token"]: parse(body(choice("a", [entry("a", -1.0, [item])])), token_ids=True) for item in top}
    expected = [ids[token].completions[0].top_ids[0, 0] for token in "ab"]
    result = parse(body(choice("a", [entry("a", -1.0, top)])), top_logprobs=2, token_ids=True).completions[0]
    assert result.top_ids[0].tolist() == expected


def test_a_reply_is_decoded_in_steps_of_one_choice():
    assert len(list(parse_steps(drawn_body(2, n=5)))) == 5


def test_no_step_of_a_large_reply_holds_the_loop():  # prime-rl#1189, openai-python#3777
    tokens = [f" word{number}" for number in range(200)]
    top = [entry(token, -0.5 - number / 2) for number, token in enumerate(tokens[:20])]
    entries = [entry(token, -0.5, top) for token in tokens]
    data = body(*(choice("".join(tokens), entries, index) for index in range(16)))
    slowest = []
    for _ in range(3):  # a busy machine may stall any single step
        longest, steps = 0.0, parse_steps(data)
        while True:
            start = time.thread_time()
            if next(steps, "end") == "end":
                break
            longest = max(longest, time.thread_time() - start)
        slowest.append(longest)
    assert min(slowest) < 0.05


# --- hostile bytes ----------------------------------------------------------------------------------------------


def test_mutated_bytes_raise_nothing_but_our_errors_and_give_finite_numbers():
    draw = random.Random(7)
    seeds = [drawn_body(seed, n=2, length=4) for seed in range(6)]
    seeds += [body(choice("New", logprobs=arrays(["New"], [-0.4], [{"New": -0.4}]))), body(choice(None))]
    parts = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"null", b"NaN", b"1e999", b"-1e999", b"\xff", b"\x00", b"[]",
             b"{}", b"-9999", b"true", b"3.4e38", b'\\ud800', b"data: "]  # fmt: skip
    for case in range(2000):
        data = bytearray(seeds[case % len(seeds)])
        for _ in range(draw.randrange(1, 4)):
            position, length = draw.randrange(len(data)), draw.choice([0, 1, 1, 2, 5, 40])
            data[position : position + length] = draw.choice(
                [*parts, bytes(data[position // 2 : position // 2 + length])]
            )
        k = draw.choice([None, 2])
        try:
            reply = parse(bytes(data), top_logprobs=k, token_ids=bool(case % 2))
        except ProviderError:
            continue
        for completion in reply.completions:
            assert np.isfinite(completion.logprobs).all()
            assert (completion.logprobs <= 0).all()
            assert not np.isnan(completion.top_logprobs).any()
            assert (completion.top_logprobs <= 0).all()
            assert k is None or completion.top_logprobs.shape[1] == (k if len(completion.tokens) else 0)


# --- real bytes -------------------------------------------------------------------------------------------------


@recorded
@pytest.mark.parametrize("k", [None, 5, 20])
def test_openais_recorded_replies_give_what_plain_loops_give(k):
    files = sorted((RECORDINGS / "openai-chat").glob("*.json"))
    assert files
    for file in files:
        data = file.read_bytes()
        assert_matches_plain_decoder(data, k)
        reply = parse(data)
        assert reply.usage.completion_tokens == len(reply.completions[0].tokens)
        assert reply.notes == ()
    censored = parse((RECORDINGS / "openai-chat" / "gpt-4o-mini_censored-token.json").read_bytes()).completions[0]
    assert censored.censored.sum() == 1
    assert -20 < censored.logprobs.min() < -3


@recorded
@pytest.mark.parametrize("server", ["vllm", "llamacpp", "ollama"])
def test_local_servers_recorded_replies_give_the_answers_tokens_only(server):
    cases = json.loads((RECORDINGS / server / "cases.json").read_text())["cases"]
    outputs = 0
    for case in cases:
        if case["status"] != 200 or "completions" not in case["path"] or "body" not in case:
            continue
        outputs += 1
        reply = parse(json.dumps(case["body"]).encode())
        for completion in reply.completions:
            assert "".join(completion.tokens) in ("", completion.text)
            assert np.isfinite(completion.logprobs).all()
        if case["name"] in ("chat-thinking-off-logprobs", "chat-logprobs-long") and reply.completions[0].text == "A":
            assert reply.completions[0].tokens == ("A",)
    assert outputs > 5


def test_the_codec_has_the_face_that_the_sampler_uses():
    for name in ("request", "parse", "parse_steps", "StreamAssembler"):
        assert callable(getattr(openai_chat, name))
