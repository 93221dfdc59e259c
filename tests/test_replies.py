"""Tests of the conversion of replies: every form is recognised, or rejected with one clear sentence."""

from __future__ import annotations

import json
import types
from pathlib import Path

import numpy as np
import pytest

from swift_client import parse_response, rank
from swift_client.adapters.codecs.detect import parse
from swift_client.adapters.codecs.inputs import normalize_reply
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    RequestTimeoutError,
    ResponseDecodeError,
    SwiftClientError,
)
from swift_client.types import Completion
from tests.plain_decoder import body, choice, drawn_body, entry, streamed

DATA = drawn_body(8)


def parsed_texts(reply: object) -> list[str]:
    value = normalize_reply(reply)
    assert isinstance(value, bytes)
    return [completion.text for completion in parse(value).completions]


@pytest.mark.parametrize(
    "reply",
    [
        DATA, bytearray(DATA), memoryview(DATA), DATA.decode(), json.loads(DATA),
        types.MappingProxyType(json.loads(DATA)), [DATA], (json.loads(DATA),), streamed(DATA), streamed(DATA).decode(),
    ],
)  # fmt: skip
def test_bytes_text_and_mappings_are_replies(reply):
    assert parsed_texts(reply) == parsed_texts(DATA)


def test_objects_of_the_openai_client_are_replies():
    openai_types = pytest.importorskip("openai.types.chat")
    fields = json.loads(DATA)
    # The client builds its objects unchecked, so that odd fields are in there as they came.
    value = openai_types.ChatCompletion.construct(**fields)
    completions, expected = parse(normalize_reply(value)).completions, parse(DATA).completions
    for a, b in zip(completions, expected, strict=True):
        assert a.text == b.text
        np.testing.assert_array_equal(a.top_logprobs, b.top_logprobs)
    partly_objects = {**fields, "choices": value.choices}
    assert parsed_texts(partly_objects) == parsed_texts(DATA)
    lines = [line[6:] for line in streamed(DATA).splitlines() if line.startswith(b"data: {")]
    chunks = [openai_types.ChatCompletionChunk.construct(**json.loads(line)) for line in lines]
    assert parsed_texts(chunks) == parsed_texts(DATA)


def test_raw_responses_are_replies():
    assert parsed_texts(types.SimpleNamespace(content=DATA)) == parsed_texts(DATA)
    assert parsed_texts(types.SimpleNamespace(http_response=types.SimpleNamespace(content=DATA))) == parsed_texts(DATA)


def test_numpy_numbers_and_nan_in_a_mapping_are_read():
    value = json.loads(body(choice("a", [entry("a", -0.5, [entry("a", -0.5), entry("b", -1.5)])])))
    token = value["choices"][0]["logprobs"]["content"][0]
    token["logprob"], token["top_logprobs"][0]["logprob"] = float("nan"), np.float32(-0.5)
    completion = parse(normalize_reply(value)).completions[0]
    assert completion.censored.tolist() == [True]
    assert completion.top_logprobs.tolist() == [[-0.5, -1.5]]


def test_completions_pass_and_are_numbered_from_0():
    completions = [Completion(text="a", index=5), Completion(text="b", index=5)]
    assert [(completion.text, completion.index) for completion in normalize_reply(completions)] == [("a", 0), ("b", 1)]
    assert [completion.index for completion in normalize_reply(Completion(text="a", index=3))] == [0]


def test_a_list_of_replies_is_one_reply_with_the_sum_of_their_usage():
    parts = [body(choice(text, [entry(text, -0.5, [])])) for text in "abc"]
    reply = parse(normalize_reply([parts[0], json.loads(parts[1]), parts[2].decode()]))
    assert [(completion.index, completion.text) for completion in reply.completions] == [(0, "a"), (1, "b"), (2, "c")]
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.model) == (21, 3, "m")
    assert parse(normalize_reply([parts[0], body(choice("x"), usage=None)])).usage.estimated


@pytest.mark.parametrize(
    ("reply", "fragment"),
    [
        (None, "NoneType is not a reply"),
        (3, "int is not a reply"),
        (object(), "object is not a reply"),
        (Path("reply.json"), "is not a reply"),
        ([], "empty"),
        ([Completion(text="a"), DATA], "mixes"),
        ([DATA, None], "NoneType is not a reply"),
        ([DATA, b"{"], "Reply 1 of the list"),
        ({"choices": object()}, "cannot be read as a reply"),
        ({1j: 2}, "cannot be read as a reply"),
    ],
)
def test_anything_but_a_reply_is_refused_with_what_to_pass_instead(reply, fragment):
    with pytest.raises(ConfigurationError, match=fragment) as excinfo:
        normalize_reply(reply)
    assert excinfo.value.hint


FAILED = {"error": {"message": "no such model", "code": 400}}


def test_an_error_among_several_replies_is_left_out_with_its_own_sentence():
    reply = parse(normalize_reply([DATA, FAILED, DATA]))
    assert [completion.index for completion in reply.completions] == list(range(2 * len(parsed_texts(DATA))))
    assert any("Reply 1 is left out: no such model" in note for note in reply.notes)
    with pytest.raises(BadRequestError, match="no such model"):
        parse_response([DATA, FAILED])
    with pytest.raises(BadRequestError, match="no such model"):
        parse(normalize_reply([FAILED, FAILED]))


@pytest.mark.parametrize("not_a_reply", [{"foo": 1}, {}, [], "x", 3, None, {"choices": 3}])
def test_anything_but_a_reply_among_replies_is_an_error_and_never_dropped(not_a_reply):
    for value in (
        [DATA, json.dumps(not_a_reply).encode()],
        json.dumps([json.loads(DATA), not_a_reply]),
        json_lines(DATA, not_a_reply),
    ):
        with pytest.raises(SwiftClientError, match="Reply 1"):
            rank(value)


def json_lines(*replies: object) -> bytes:
    return b"".join((reply if isinstance(reply, bytes) else json.dumps(reply).encode()) + b"\n" for reply in replies)


PRETTY = json.dumps(json.loads(DATA), indent=2).encode()
FLAT = json.dumps(json.loads(DATA), indent=0).encode()
NAN = body(choice("a", [entry("a", float("nan"), [])]))


@pytest.mark.parametrize(
    ("value", "replies"),
    [
        (json_lines(DATA, DATA, DATA), 3),
        (b"\xef\xbb\xbf" + json_lines(DATA, DATA), 2),
        (b"\n\n" + DATA + b"\r\n\r\n" + DATA + b"\r\n\r\n", 2),
        (b" " * 100 + b"[" + DATA + b"," + DATA + b"]", 2),
        (PRETTY + b"\n" + PRETTY, 2),
        (PRETTY, 1),
        (FLAT, 1),
        (FLAT + b"\n" + DATA + b"\n" + PRETTY, 3),
        (b"\xef\xbb\xbf" + DATA, 1),
        (b"\xef\xbb\xbf\n" + streamed(DATA), 1),
    ],
)
def test_json_lines_are_as_many_replies_as_they_hold(value, replies):
    expected = parsed_texts(DATA)
    assert [completion.text for completion in parse_response(value)] == expected * replies
    assert len(rank(value).candidates) == len(expected) * replies


def test_a_line_with_nan_is_a_line():
    assert [completion.text[:1] for completion in parse_response(json_lines(NAN, NAN))] == ["a", "a"]
    assert len(parse_response(b"[" + NAN + b"," + NAN + b"]")) == 2


@pytest.mark.parametrize("partial_line", [b"not json\n", DATA[:-40] + b"\n", b"# note\n"])
def test_a_broken_line_is_named_and_costs_nothing_in_silence(partial_line):
    for value in (json_lines(DATA) + partial_line, partial_line + json_lines(DATA, DATA)):
        try:
            reply = rank(value)
        except SwiftClientError:
            continue
        assert any("cut or damaged" in note for note in reply.notes)


def chunk(text: str, **fields: object) -> dict[str, object]:
    return {"id": "c", "object": "", "choices": [{"index": 0, "delta": {"content": text}}], **fields}


def test_chunks_of_a_stream_are_one_reply_whatever_the_first_calls_itself():
    azure = [chunk("", choices=[], prompt_filter_results=[]), chunk("The answer"), chunk(" is 4")]
    for value in (azure, json.dumps(azure), json_lines(*azure)):
        assert [completion.text for completion in parse_response(value)] == ["The answer is 4"]
    legacy = [
        {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": reason}]}
        for text, reason in (("The answer", None), (" is", None), (" 4", "stop"))
    ]
    assert [completion.text for completion in parse_response(legacy)] == ["The answer is 4"]
    separate = [{**reply, "id": f"c{number}"} for number, reply in enumerate(legacy)]
    assert [completion.text for completion in parse_response(separate)] == ["The answer", " is", " 4"]


def test_lines_of_a_batchs_output_are_replies_in_every_form():
    def line(number: int, **response: object) -> dict[str, object]:
        return {"custom_id": f"q-{number}", "response": {"status_code": 200, **response}, "error": None}

    answered = [line(number, body=json.loads(DATA)) for number in range(2)]
    rejected = line(2, status_code=400, body=FAILED)
    expired = {
        "custom_id": "q-3",
        "response": None,
        "error": {"code": "batch_expired", "message": "This request could not be executed in time."},
    }
    output = [*answered, rejected, expired, json.loads(DATA)]
    for value in (output, json.dumps(output), json_lines(*output), [json_lines(reply).strip() for reply in output]):
        selection = rank(value)
        assert len(selection.candidates) == 3 * len(parsed_texts(DATA))
        assert [note.split(":")[0] for note in selection.notes if "left out" in note] == [
            "Reply 2 is left out",
            "Reply 3 is left out",
        ]
    with pytest.raises(RequestTimeoutError, match="could not be executed in time"):
        rank(expired)
    with pytest.raises(BadRequestError, match="no such model"):
        rank(rejected)


@pytest.mark.parametrize(
    "native",
    [
        {"model": "m", "message": {"role": "assistant", "content": "4"}, "done": True},
        {"id": "c", "message": {"role": "assistant", "content": [{"type": "text", "text": "4"}]}},
    ],
)
def test_an_answer_in_a_format_that_is_not_read_is_not_a_refusal_of_the_request(native):
    with pytest.raises(ResponseDecodeError, match="no choices"):
        rank(native)


def test_a_prompt_that_google_blocked_is_an_error_of_that_name_also_from_its_object():
    for name in ("promptFeedback", "prompt_feedback"):
        reason = "blockReason" if name == "promptFeedback" else "block_reason"
        with pytest.raises(BadRequestError, match="blocked the prompt: SAFETY"):
            rank({"candidates": None, name: {reason: "SAFETY"}})
