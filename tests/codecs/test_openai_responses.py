"""Tests of the Responses API only: items, deltas more exact than the last event, a status instead of a reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from swift_client.adapters import PROVIDERS
from swift_client.adapters.codecs.openai_responses import parse, request
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.errors import ConfigurationError, ResponseDecodeError, ServerError
from tests.codecs.logical import Case, join_tokens, make_token
from tests.codecs.recorded import bodies, recorded
from tests.codecs.writers import WRITERS, chat_entry, encode_events, responses_body, responses_items

ROW = PROVIDERS["openai-responses"]
WRITER = next(writer for writer in WRITERS if writer.codec == "openai_responses")
EXACT = join_tokens(
    make_token("a", -5.2123456e-05, ("a", -5.2123456e-05), ("b", -9.8612345)),
    make_token(" b", -1.9361264946837764e-07, (" b", -1.9361264946837764e-07), (" c", -15.62512345)),
)


def make_body(*items: Any, **more: Any) -> dict[str, Any]:
    return responses_body(Case("x", (EXACT,)), list(items), **more)


def answer_of(*items: Any, **more: Any) -> str:
    return parse(json.dumps(make_body(*items, **more)).encode()).completions[0].text


def message_item(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text, "logprobs": []}], **more}


def test_a_request_asks_for_logprobs_in_both_places_and_stores_nothing():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "2+2?"}, {"type": "input_image", "image_url": "x"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
    ]
    wire_request = request(
        CompletionRequest(ROW, None, messages, top_logprobs=5, sampling={"max_tokens": 9, "temperature": 0.5})
    )
    assert (wire_request.path, wire_request.n) == ("/responses", 1)
    assert wire_request.body == {
        "model": "gpt-4.1-mini",
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "2+2?"}, messages[1]["content"][1]]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "4"}]},
        ],
        "store": False,
        "top_logprobs": 5,
        "include": ["message.output_text.logprobs"],
        "max_output_tokens": 9,
        "temperature": 0.5,
    }
    more = request(
        CompletionRequest(ROW, "m", [], top_logprobs=2, stream=True, sampling={"include": ["reasoning"], "store": True})
    )
    assert more.body["include"] == ["reasoning", "message.output_text.logprobs"]
    assert (more.body["store"], more.body["stream"]) == (True, True)
    assert "include" not in request(CompletionRequest(ROW, "m", [])).body


def test_a_seed_is_refused_before_anything_is_sent_and_not_dropped():
    with pytest.raises(ConfigurationError, match="no seed"):
        request(CompletionRequest(ROW, "m", [], sampling={"seed": 3}))


def test_a_streams_exact_numbers_are_taken_and_not_the_rounded_ones_of_its_end():
    case = Case("x", (EXACT,))
    body_completion, streamed = (
        parse(data).completions[0] for data in (WRITER.write_body(case), WRITER.write_stream(case, 1))
    )
    assert EXACT.tokens is not None
    exact = np.array([token.logprob for token in EXACT.tokens], np.float32)
    np.testing.assert_array_equal(streamed.logprobs, exact)
    np.testing.assert_array_equal(streamed.top_logprobs[:, 1], np.array([-9.8612345, -15.62512345], np.float32))
    np.testing.assert_allclose(body_completion.logprobs, exact, atol=5e-7)
    assert (body_completion.logprobs != exact).any()
    assert body_completion.tokens == streamed.tokens == ("a", " b")


def test_deltas_that_are_not_the_whole_part_are_not_taken_for_it():
    stream = WRITER.write_stream(Case("x", (EXACT,)), 1)
    first = stream.index(b"event: response.output_text.delta")
    damaged = stream[:first] + stream[stream.index(b"event:", first + 1) :]
    (completion,) = parse(damaged).completions
    np.testing.assert_allclose(completion.logprobs, [-5.2e-05, 0.0], atol=1e-9)


def test_reasoning_and_commentary_are_no_part_of_the_answer():
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "content": None}
    assert answer_of(reasoning, message_item("4")) == "4"
    assert answer_of(message_item("Let me see.", phase="commentary"), message_item("4", phase="final_answer")) == "4"
    assert answer_of(message_item("Let me see.", phase="commentary")) == "Let me see."
    assert answer_of(message_item("2"), message_item(" + 2")) == "2 + 2"


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [("completed", None, "stop"), ("incomplete", "max_output_tokens", "length"), ("incomplete", None, "length"),
     ("incomplete", "content_filter", "content_filter"), ("cancelled", None, "error"), ("failed", None, "error"),
     ("in_progress", None, "error"), ("something_new", None, "unknown")],
)  # fmt: skip
def test_a_status_and_its_reason_become_our_word_for_the_end(status, reason, expected):
    details = {"reason": reason} if reason else None
    data = json.dumps(make_body(message_item("4"), status=status, incomplete_details=details)).encode()
    assert parse(data).completions[0].finish_reason == expected


def test_logprobs_that_nobody_asked_for_are_placeholders():  # LM Studio writes 0 for every token
    item = message_item("4", content=[{"type": "output_text", "text": "42", "logprobs": [
        {"token": "4", "logprob": 0, "bytes": [52], "top_logprobs": []},
        {"token": "2", "logprob": 0, "bytes": [50], "top_logprobs": []}]}])  # fmt: skip
    reply = parse(json.dumps(make_body(item)).encode())
    assert reply.completions[0].tokens == ()
    assert "placeholders" in reply.notes[0]


def test_a_failed_response_is_the_error_that_it_names():
    failed = make_body(status="failed", error={"code": "server_error", "message": "The model broke."})
    for data in (json.dumps(failed).encode(), encode_events([{"type": "response.failed", "response": failed}])):
        with pytest.raises(ServerError, match="The model broke"):
            parse(data)
    with pytest.raises(ServerError, match="Too busy"):
        parse(encode_events([{"type": "error", "code": "server_error", "message": "Too busy", "param": None}]))


def test_items_of_a_stream_whose_last_event_is_empty_are_kept():  # the gateway behind Codex
    item = {"type": "response.output_item.done", "output_index": 0, "item": responses_items(EXACT)[0]}
    reply = parse(encode_events([item, {"type": "response.completed", "response": make_body()}]))
    assert (reply.completions[0].text, reply.completions[0].tokens) == ("a b", ("a", " b"))


def test_a_stream_that_breaks_off_keeps_the_numbers_of_its_deltas():
    tokens = EXACT.tokens or ()
    piece = {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "a"}
    (completion,) = parse(encode_events([{**piece, "logprobs": [chat_entry(tokens[0])]}])).completions
    assert (completion.text, completion.tokens, completion.finish_reason) == ("a", ("a",), "error")


def test_one_odd_item_costs_only_itself():
    reply = parse(json.dumps(make_body(message_item("4"), 7)).encode())
    assert reply.completions[0].text == "4"
    assert "1 item(s)" in reply.notes[0]


def test_a_chat_completion_is_not_a_response():
    with pytest.raises(ResponseDecodeError, match="no output"):
        parse(b'{"choices": []}')


def test_a_response_that_is_all_reasoning_has_not_answered_whatever_its_status():  # llama.cpp, Ollama
    reasoning = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    for items in ([reasoning], [reasoning, message_item("")]):
        (completion,) = parse(json.dumps(make_body(*items)).encode()).completions
        assert (completion.text, completion.finish_reason, completion.complete) == ("", "length", False)


@recorded
def test_openais_recorded_response_gives_the_tokens_it_lists():
    (data,) = bodies("openai-responses/logprobs.yaml")
    reply = parse(json.dumps(data).encode())
    (completion,) = reply.completions
    assert completion.text == "The capital of Minas Gerais is Belo Horizonte." == "".join(completion.tokens)
    entries = data["output"][0]["content"][0]["logprobs"]
    np.testing.assert_allclose(completion.logprobs, [entry["logprob"] for entry in entries], atol=1e-12)
    assert (completion.top_logprobs.shape, completion.finish_reason, reply.notes) == ((9, 0), "stop", ())
    usage = data["usage"]
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (usage["input_tokens"], usage["output_tokens"])
    assert reply.model == "gpt-4o-mini-2024-07-18"
