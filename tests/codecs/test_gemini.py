"""What only Google's generateContent does: proto3's missing zeros, thinking, blocked prompts, lists of pieces."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from swift_client.adapters import PROVIDERS
from swift_client.adapters.codecs.gemini import StreamAssembler, parse, request
from swift_client.errors import BadRequestError, ConfigurationError, RateLimitError, ResponseDecodeError
from tests.codecs.logical import said
from tests.codecs.recorded import bodies, recorded
from tests.codecs.writers import events, gemini_candidate, gemini_logprobs

ROW = PROVIDERS["gemini"]


def reply(*candidates: dict[str, Any], **more: Any) -> bytes:
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 2}
    return json.dumps({"candidates": list(candidates), "usageMetadata": usage, "modelVersion": "m", **more}).encode()


def one(text: str = "4", tokens: Any = None, end: str | None = "STOP", **more: Any) -> dict[str, Any]:
    ended = {} if end is None else {"finishReason": end}
    return gemini_candidate(0, [{"text": text}], **ended, **gemini_logprobs(tokens), **more)


def test_a_request_speaks_googles_names_and_takes_openais():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
        {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}]},
    ]
    sampling = {"max_tokens": 9, "temperature": 0.5, "stop": "\n", "seed": 3, "thinkingConfig": {"thinkingBudget": 0}}
    made = request(ROW, None, messages, n=4, top_logprobs=5, sampling={**sampling, "safetySettings": []})
    assert made.path == "/models/gemini-2.5-flash:generateContent"
    assert made.body == {
        "contents": [
            {"role": "user", "parts": [{"text": "2+2?"}]},
            {"role": "model", "parts": [{"text": "4"}]},
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}]},
        ],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "safetySettings": [],
        "generationConfig": {
            "candidateCount": 4, "responseLogprobs": True, "logprobs": 5, "maxOutputTokens": 9, "temperature": 0.5,
            "stopSequences": ["\n"], "seed": 3, "thinkingConfig": {"thinkingBudget": 0},
        },
    }  # fmt: skip
    plain = request(ROW, "tunedModels/m x", [{"role": "user", "content": "hi"}], n=1, top_logprobs=None, stream=True)
    assert plain.path == "/tunedModels/m%20x:streamGenerateContent?alt=sse"
    assert "generationConfig" not in plain.body
    mine = request(ROW, "m", [], n=2, top_logprobs=None, sampling={"generationConfig": {"topK": 3}, "temperature": 1})
    assert mine.body["generationConfig"] == {"candidateCount": 2, "topK": 3, "temperature": 1}


@pytest.mark.parametrize(
    "message",
    [{"role": "tool", "content": "x"}, {"role": "user", "content": [{"type": "image_url"}]}, {"role": "user"}],
)
def test_a_message_that_has_no_equal_is_refused_before_anything_is_sent(message):
    with pytest.raises(ConfigurationError, match="no equivalent"):
        request(ROW, "m", [message], n=1, top_logprobs=None)


def test_a_number_that_is_missing_or_null_is_zero_and_keeps_its_place():  # inspect_ai drops it and shifts the rest
    tokens = [{"token": "a", "tokenId": 1}, {"token": "b", "tokenId": 2, "logProbability": None},
              {"token": "c", "tokenId": 3, "logProbability": -0.5}]  # fmt: skip
    rows = [{"candidates": [token]} for token in tokens]
    candidate = one("abc", logprobsResult={"chosenCandidates": tokens, "topCandidates": rows})
    (got,) = parse(reply(candidate)).completions
    assert (got.tokens, got.logprobs.tolist()) == (("a", "b", "c"), [0.0, 0.0, -0.5])
    assert got.top_logprobs.tolist() == [[0.0], [0.0], [-0.5]]
    assert not got.censored.any()


def test_numbers_that_proto3_writes_as_text_are_censored():
    tokens = [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": "-Infinity"}]
    (got,) = parse(reply(one("ab", logprobsResult={"chosenCandidates": tokens}))).completions
    assert got.censored.tolist() == [False, True]
    odd = {"chosenCandidates": [{"token": "a", "logProbability": "high"}]}
    read = parse(reply(one("a", logprobsResult=odd)))
    assert read.completions[0].text == "a"
    assert "not numbers" in read.notes[0]


def test_avg_logprobs_is_never_read():
    (got,) = parse(reply(one("4", avgLogprobs=-11.5))).completions
    assert got.tokens == ()


def test_lists_shorter_than_the_answer_leave_the_rest_without_alternatives():
    tokens = (said("a", -0.5, ("a", -0.5)), said("b", -0.25))
    result = gemini_logprobs(tokens)["logprobsResult"]
    del result["topCandidates"][1:]
    (got,) = parse(reply(one("ab", logprobsResult=result))).completions
    assert got.top_logprobs.tolist() == [[-0.5], [-np.inf]]


def test_thinking_is_no_part_of_the_answer_and_is_paid_for():
    candidate = gemini_candidate(0, [{"text": "hm", "thought": True}, {"text": "4"}], finishReason="STOP")
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 1, "thoughtsTokenCount": 17}
    read = parse(reply(candidate, usageMetadata=usage))
    assert (read.completions[0].text, read.usage.completion_tokens, read.usage.estimated) == ("4", 18, False)


def test_tokens_that_hold_the_thinking_too_are_not_taken_for_the_answers():
    parts = [{"text": "hm", "thought": True}, {"text": "4"}]
    tokens = gemini_logprobs((said("h", -1.0), said("m", -1.0), said("4", -0.5)))
    (got,) = parse(reply(gemini_candidate(0, parts, **tokens))).completions
    assert (got.tokens, got.logprobs.tolist()) == (("4",), [-0.5])
    odd = gemini_logprobs((said("h", -1.0), said("m", -1.0)))
    read = parse(reply(gemini_candidate(0, parts, **odd)))
    assert read.completions[0].tokens == ()
    assert "thinking" in read.notes[0]


@pytest.mark.parametrize(
    ("wire", "ours"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
     ("BLOCKLIST", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"),
     ("LANGUAGE", "content_filter"), ("OTHER", "error"), ("MALFORMED_FUNCTION_CALL", "error"), (None, "unknown"),
     ("FINISH_REASON_UNSPECIFIED", "unknown")],
)  # fmt: skip
def test_googles_words_for_the_end_become_ours(wire, ours):
    assert parse(reply(one(end=wire))).completions[0].finish_reason == ours


def test_a_filtered_candidate_without_content_is_an_empty_one():
    (got,) = parse(reply({"finishReason": "SAFETY", "safetyRatings": []})).completions
    assert (got.text, got.finish_reason, got.complete) == ("", "content_filter", False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_prompt_is_an_error_that_names_the_reason(stream):
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
    with pytest.raises(BadRequestError, match="blocked the prompt: SAFETY") as caught:
        parse(events([blocked]) if stream else json.dumps(blocked).encode())
    assert not caught.value.retryable


def test_an_error_in_a_200_or_a_list_or_a_stream_is_the_error_that_it_describes():
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down",
             "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"}]}}  # fmt: skip
    for data in (json.dumps(error).encode(), json.dumps([error]).encode(), events([error])):
        with pytest.raises(RateLimitError, match="slow down") as caught:
            parse(data)
        assert caught.value.retry_after == 27


def test_an_empty_list_is_left_out_by_proto3_and_is_a_reply_with_no_candidate():
    assert parse(b'{"usageMetadata": {"promptTokenCount": 4}, "modelVersion": "m"}').completions == ()
    with pytest.raises(ResponseDecodeError, match="no candidates"):
        parse(b'{"choices": []}')


def test_a_stream_that_was_asked_for_without_sse_is_a_list_of_pieces():
    pieces = [{"candidates": [one("a", end=None)]}, {"candidates": [one("b")], "modelVersion": "m"}]
    (got,) = parse(json.dumps(pieces).encode()).completions
    assert (got.text, got.finish_reason) == ("ab", "stop")
    assembler = StreamAssembler()
    assembler.feed(json.dumps(pieces).encode())
    assert assembler.close().completions[0].text == "ab"


def test_candidates_without_indices_keep_their_order():
    read = parse(reply(one("a"), one("b"), one("c")))
    assert [(item.index, item.text) for item in read.completions] == [(0, "a"), (1, "b"), (2, "c")]


def test_whole_candidates_before_a_cut_are_kept():
    data = reply(one("a"), one("b"), one("c"))
    read = parse(data[: data.index(b'"c"')])
    assert [item.text for item in read.completions] == ["a", "b"]
    assert "only the 2 complete" in read.notes[0]


def test_one_odd_candidate_costs_only_itself():
    read = parse(reply(one("a"), {"content": 5}))
    assert [item.text for item in read.completions] == ["a"]
    assert "cannot be read" in read.notes[0]
    read = parse(reply(one("a", logprobsResult={"chosenCandidates": "many"})))
    assert read.completions[0].text == "a"
    assert "unknown shape" in read.notes[0]


def test_pieces_of_characters_are_told_by_their_number():
    top = [{"token": "�", "tokenId": number, "logProbability": -1.0} for number in (1, 2, 2)]
    chosen = {"token": "�", "tokenId": 1, "logProbability": -1.0}
    result = {"chosenCandidates": [chosen], "topCandidates": [{"candidates": top}]}
    (got,) = parse(reply(one("�", logprobsResult=result)), token_ids=True).completions
    assert got.top_logprobs.tolist() == [[-1.0, -1.0]]
    assert got.top_ids is not None
    assert got.top_ids[0, 0] != got.top_ids[0, 1]


@recorded
@pytest.mark.parametrize(("name", "k"), [("logprobs", 5), ("chosen-only", 0)])
def test_vertexs_recorded_replies_give_the_visible_answers_tokens(name: str, k: int):
    (body,) = bodies(f"vertex-gemini/{name}.yaml")
    read = parse(json.dumps(body).encode())
    (got,) = read.completions
    entries = body["candidates"][0]["logprobsResult"]["chosenCandidates"]
    assert (got.text, "".join(got.tokens), got.finish_reason) == ("2 + 2 = 4", "2 + 2 = 4", "stop")
    np.testing.assert_allclose(got.logprobs, [entry["logProbability"] for entry in entries], rtol=1e-6)
    assert got.top_logprobs.shape == (7, k)
    if k:
        np.testing.assert_allclose(got.top_logprobs[:, 0], got.logprobs)
    assert got.logprobs.sum() > -0.1  # avgLogprobs says -1.09 for each
    usage = body["usageMetadata"]
    paid = usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    assert (read.usage.prompt_tokens, read.usage.completion_tokens, read.usage.estimated) == (7, paid, False)
    assert (read.model, read.notes) == ("gemini-2.5-flash", ())
