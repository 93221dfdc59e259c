"""Tests of Google's generateContent only: proto3's missing zeros, thinking, blocked prompts, lists of pieces."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from swift_client.adapters import PROVIDERS
from swift_client.adapters.codecs.gemini import StreamAssembler, parse, request
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.errors import BadRequestError, ConfigurationError, RateLimitError, ResponseDecodeError
from tests.codecs.logical import make_token
from tests.codecs.recorded import bodies, recorded
from tests.codecs.writers import encode_events, gemini_candidate, gemini_logprobs

ROW = PROVIDERS["gemini"]


def make_reply(*candidates: dict[str, Any], **more: Any) -> bytes:
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 2}
    return json.dumps({"candidates": list(candidates), "usageMetadata": usage, "modelVersion": "m", **more}).encode()


def make_candidate(text: str = "4", tokens: Any = None, end: str | None = "STOP", **more: Any) -> dict[str, Any]:
    finish = {} if end is None else {"finishReason": end}
    return gemini_candidate(0, [{"text": text}], **finish, **gemini_logprobs(tokens), **more)


def test_a_request_speaks_googles_names_and_takes_openais():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": [{"type": "text", "text": "4"}]},
        {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aa"}}]},
    ]
    sampling = {"max_tokens": 9, "temperature": 0.5, "stop": "\n", "seed": 3, "thinkingConfig": {"thinkingBudget": 0}}
    wire_request = request(
        CompletionRequest(ROW, None, messages, n=4, top_logprobs=5, sampling={**sampling, "safetySettings": []})
    )
    assert wire_request.path == "/models/gemini-2.5-flash:generateContent"
    assert wire_request.body == {
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
    plain = request(CompletionRequest(ROW, "tunedModels/m x", [{"role": "user", "content": "hi"}], stream=True))
    assert plain.path == "/tunedModels/m%20x:streamGenerateContent?alt=sse"
    assert "generationConfig" not in plain.body
    merged = request(CompletionRequest(ROW, "m", [], n=2, sampling={"generationConfig": {"topK": 3}, "temperature": 1}))
    assert merged.body["generationConfig"] == {"candidateCount": 2, "topK": 3, "temperature": 1}


@pytest.mark.parametrize(
    "message",
    [{"role": "tool", "content": "x"}, {"role": "user", "content": [{"type": "image_url"}]}, {"role": "user"}],
)
def test_a_message_that_has_no_equal_is_refused_before_anything_is_sent(message):
    with pytest.raises(ConfigurationError, match="no equivalent"):
        request(CompletionRequest(ROW, "m", [message]))


def test_a_number_that_is_missing_or_null_is_zero_and_keeps_its_place():  # inspect_ai drops it and shifts the rest
    tokens = [{"token": "a", "tokenId": 1}, {"token": "b", "tokenId": 2, "logProbability": None},
              {"token": "c", "tokenId": 3, "logProbability": -0.5}]  # fmt: skip
    rows = [{"candidates": [token]} for token in tokens]
    candidate = make_candidate("abc", logprobsResult={"chosenCandidates": tokens, "topCandidates": rows})
    (completion,) = parse(make_reply(candidate)).completions
    assert (completion.tokens, completion.logprobs.tolist()) == (("a", "b", "c"), [0.0, 0.0, -0.5])
    assert completion.top_logprobs.tolist() == [[0.0], [0.0], [-0.5]]
    assert not completion.censored.any()


def test_numbers_that_proto3_writes_as_text_are_censored():
    tokens = [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": "-Infinity"}]
    (completion,) = parse(make_reply(make_candidate("ab", logprobsResult={"chosenCandidates": tokens}))).completions
    assert completion.censored.tolist() == [False, True]
    malformed = {"chosenCandidates": [{"token": "a", "logProbability": "high"}]}
    reply = parse(make_reply(make_candidate("a", logprobsResult=malformed)))
    assert reply.completions[0].text == "a"
    assert "not numbers" in reply.notes[0]


def test_avg_logprobs_is_never_read():
    (completion,) = parse(make_reply(make_candidate("4", avgLogprobs=-11.5))).completions
    assert completion.tokens == ()


def test_lists_shorter_than_the_answer_leave_the_rest_without_alternatives():
    tokens = (make_token("a", -0.5, ("a", -0.5)), make_token("b", -0.25))
    result = gemini_logprobs(tokens)["logprobsResult"]
    del result["topCandidates"][1:]
    (completion,) = parse(make_reply(make_candidate("ab", logprobsResult=result))).completions
    assert completion.top_logprobs.tolist() == [[-0.5], [-np.inf]]


def test_thinking_is_not_part_of_the_answer_and_is_paid_for():
    candidate = gemini_candidate(0, [{"text": "hm", "thought": True}, {"text": "4"}], finishReason="STOP")
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 1, "thoughtsTokenCount": 17}
    reply = parse(make_reply(candidate, usageMetadata=usage))
    assert (reply.completions[0].text, reply.usage.completion_tokens, reply.usage.estimated) == ("4", 18, False)


def test_tokens_that_hold_the_thinking_too_are_not_taken_for_the_answers():
    parts = [{"text": "hm", "thought": True}, {"text": "4"}]
    tokens = gemini_logprobs((make_token("h", -1.0), make_token("m", -1.0), make_token("4", -0.5)))
    (completion,) = parse(make_reply(gemini_candidate(0, parts, **tokens))).completions
    assert (completion.tokens, completion.logprobs.tolist()) == (("4",), [-0.5])
    malformed = gemini_logprobs((make_token("h", -1.0), make_token("m", -1.0)))
    reply = parse(make_reply(gemini_candidate(0, parts, **malformed)))
    assert reply.completions[0].tokens == ()
    assert "thinking" in reply.notes[0]


@pytest.mark.parametrize(
    ("wire_reason", "expected"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
     ("BLOCKLIST", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"),
     ("LANGUAGE", "content_filter"), ("OTHER", "error"), ("MALFORMED_FUNCTION_CALL", "error"), (None, "stop"),
     ("FINISH_REASON_UNSPECIFIED", "unknown")],
)  # fmt: skip
def test_googles_words_for_the_end_become_ours(wire_reason, expected):
    assert parse(make_reply(make_candidate(end=wire_reason))).completions[0].finish_reason == expected


def test_a_filtered_candidate_without_content_is_an_empty_one():
    (completion,) = parse(make_reply({"finishReason": "SAFETY", "safetyRatings": []})).completions
    assert (completion.text, completion.finish_reason, completion.complete) == ("", "content_filter", False)


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_prompt_is_an_error_that_names_the_reason(stream):
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
    with pytest.raises(BadRequestError, match="blocked the prompt: SAFETY") as excinfo:
        parse(encode_events([blocked]) if stream else json.dumps(blocked).encode())
    assert not excinfo.value.retryable


def test_an_error_in_a_200_or_a_list_or_a_stream_is_the_error_that_it_describes():
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down",
             "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "27s"}]}}  # fmt: skip
    for data in (json.dumps(error).encode(), json.dumps([error]).encode(), encode_events([error])):
        with pytest.raises(RateLimitError, match="slow down") as excinfo:
            parse(data)
        assert excinfo.value.retry_after == 27


def test_an_empty_list_is_left_out_by_proto3_and_is_a_reply_with_no_candidate():
    assert parse(b'{"usageMetadata": {"promptTokenCount": 4}, "modelVersion": "m"}').completions == ()
    with pytest.raises(ResponseDecodeError, match="no candidates"):
        parse(b'{"choices": []}')


def test_a_stream_that_was_asked_for_without_sse_is_a_list_of_pieces():
    pieces = [
        {"candidates": [make_candidate("a", end=None)]},
        {"candidates": [make_candidate("b")], "modelVersion": "m"},
    ]
    (completion,) = parse(json.dumps(pieces).encode()).completions
    assert (completion.text, completion.finish_reason) == ("ab", "stop")
    assembler = StreamAssembler()
    assembler.feed(json.dumps(pieces).encode())
    assert assembler.close().completions[0].text == "ab"


def test_candidates_without_indices_keep_their_order():
    reply = parse(make_reply(make_candidate("a"), make_candidate("b"), make_candidate("c")))
    assert [(completion.index, completion.text) for completion in reply.completions] == [(0, "a"), (1, "b"), (2, "c")]


def test_whole_candidates_before_a_cut_are_kept():
    data = make_reply(make_candidate("a"), make_candidate("b"), make_candidate("c"))
    reply = parse(data[: data.index(b'"c"')])
    assert [completion.text for completion in reply.completions] == ["a", "b"]
    assert "only the 2 complete" in reply.notes[0]


def test_one_odd_candidate_costs_only_itself():
    reply = parse(make_reply(make_candidate("a"), {"content": 5}))
    assert [completion.text for completion in reply.completions] == ["a"]
    assert "cannot be read" in reply.notes[0]
    reply = parse(make_reply(make_candidate("a", logprobsResult={"chosenCandidates": "many"})))
    assert reply.completions[0].text == "a"
    assert "unknown shape" in reply.notes[0]


def test_pieces_of_characters_are_identified_by_their_number():
    top = [{"token": "�", "tokenId": number, "logProbability": -1.0} for number in (1, 2, 2)]
    token = {"token": "�", "tokenId": 1, "logProbability": -1.0}
    result = {"chosenCandidates": [token], "topCandidates": [{"candidates": top}]}
    (completion,) = parse(make_reply(make_candidate("�", logprobsResult=result)), token_ids=True).completions
    assert completion.top_logprobs.tolist() == [[-1.0, -1.0]]
    assert completion.top_ids is not None
    assert completion.top_ids[0, 0] != completion.top_ids[0, 1]


@recorded
@pytest.mark.parametrize(("name", "k"), [("logprobs", 5), ("chosen-only", 0)])
def test_vertexs_recorded_replies_give_the_visible_answers_tokens(name: str, k: int):
    (body,) = bodies(f"vertex-gemini/{name}.yaml")
    reply = parse(json.dumps(body).encode())
    (completion,) = reply.completions
    entries = body["candidates"][0]["logprobsResult"]["chosenCandidates"]
    assert (completion.text, "".join(completion.tokens), completion.finish_reason) == ("2 + 2 = 4", "2 + 2 = 4", "stop")
    np.testing.assert_allclose(completion.logprobs, [entry["logProbability"] for entry in entries], rtol=1e-6)
    assert completion.top_logprobs.shape == (7, k)
    if k:
        np.testing.assert_allclose(completion.top_logprobs[:, 0], completion.logprobs)
    assert completion.logprobs.sum() > -0.1  # avgLogprobs says -1.09 for each
    usage = body["usageMetadata"]
    billed_tokens = usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.estimated) == (
        7,
        billed_tokens,
        False,
    )
    assert (reply.model, reply.notes) == ("gemini-2.5-flash", ())
