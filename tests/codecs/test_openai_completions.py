"""Tests of legacy completions only: prompts, echo, keys that are not text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from swift_client.adapters import PROVIDERS
from swift_client.adapters.codecs.openai_completions import StreamAssembler, parse, request
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.errors import ConfigurationError

ROW = PROVIDERS["openai-completions"]


def make_reply(text: str, tokens: list[str], numbers: list[float | None], rows: Any = None, **more: Any) -> bytes:
    arrays = {"tokens": tokens, "token_logprobs": numbers, "top_logprobs": rows}
    choice = {"index": 0, "text": text, "logprobs": arrays, "finish_reason": "stop", **more}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return json.dumps({"choices": [choice], "usage": usage, "model": "m"}).encode()


def to_stream(data: bytes) -> bytes:
    """Write one token per chunk, the usage at the end."""
    reply_json = json.loads(data)
    (choice,) = reply_json["choices"]
    arrays, text, events = choice["logprobs"], choice["text"], []
    for index, token in enumerate(arrays["tokens"]):
        piece, text = (text[: len(token)], text[len(token) :]) if text.startswith(token) else (text, "")
        entry_arrays = {name: column and column[index : index + 1] for name, column in arrays.items()}
        events.append({"choices": [{"index": 0, "text": piece, "logprobs": entry_arrays, "finish_reason": None}]})
    end = {key: choice.get(key) for key in ("finish_reason", "stop_reason")}
    events += [{"choices": [{"index": 0, "text": text, **end}]}, {"choices": [], "usage": reply_json["usage"]}]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_a_request_carries_the_prompt_as_text_and_asks_for_k_as_a_number():
    wire_request = request(
        CompletionRequest(
            ROW, None, [{"role": "user", "content": "2+2="}], n=3, top_logprobs=5, sampling={"max_tokens": 4}
        )
    )
    assert (wire_request.path, wire_request.n) == ("/completions", 3)
    assert wire_request.body == {
        "model": "gpt-3.5-turbo-instruct",
        "prompt": "2+2=",
        "n": 3,
        "logprobs": 5,
        "max_tokens": 4,
    }
    streamed_request = request(CompletionRequest(ROW, "m", [{"role": "user", "content": "x"}], stream=True))
    assert streamed_request.body == {
        "model": "m",
        "prompt": "x",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    "messages", [[], [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], [{"role": "user"}]]
)
def test_messages_that_are_no_single_text_are_refused_and_no_template_is_guessed(messages):
    with pytest.raises(ConfigurationError, match="one text"):
        request(CompletionRequest(ROW, "m", messages))


ECHO = make_reply(
    "The capital of France is Paris.",
    ["The capital", " of France", " is", " Paris", "."],
    [None, -3.0, -1.0, -0.5, -0.25],
    [None, {" of France": -3.0}, {" is": -1.0}, {" Paris": -0.5, " the": -2.0}, {".": -0.25}],
)


@pytest.mark.parametrize("data", [ECHO, to_stream(ECHO)], ids=["whole", "streamed"])
def test_an_echoed_prompt_is_not_part_of_the_answer(data):
    reply = parse(data, token_ids=True)
    (completion,) = reply.completions
    assert (completion.text, completion.tokens) == (" Paris.", (" Paris", "."))
    np.testing.assert_allclose(completion.logprobs, [-0.5, -0.25])
    np.testing.assert_allclose(completion.top_logprobs, [[-0.5, -2.0], [-0.25, -np.inf]])
    assert completion.top_ids is not None
    assert completion.top_ids[0, 0] != completion.top_ids[1, 0]
    assert (reply.usage.completion_tokens, reply.usage.estimated, reply.notes) == (2, False, ())


def test_a_prompt_that_is_scored_by_itself_stays_whole():  # echo with max_tokens=0
    data = json.loads(make_reply("a b c", ["a", " b", " c"], [None, -3.0, -1.0]))
    data["usage"] = {"prompt_tokens": 3, "completion_tokens": 0}
    (completion,) = parse(json.dumps(data).encode()).completions
    assert (completion.text, completion.tokens, completion.censored.tolist()) == (
        "a b c",
        ("a", " b", " c"),
        [True, False, False],
    )


def test_a_missing_number_in_the_middle_is_censored_and_no_echo():
    (completion,) = parse(
        make_reply("abcd", ["a", "b", "c", "d"], [-0.5, None, -0.5, -0.5], [{"a": -0.5}, {"x": -1.0}])
    ).completions
    assert (completion.text, completion.censored.tolist()) == ("abcd", [False, True, False, False])


@pytest.mark.parametrize("lossy", ["�", "bytes:\\xe7"])
def test_pieces_of_a_character_spell_it_whatever_stands_for_them(lossy):
    tokens = ["a", lossy, "bytes:\\xa9\\xba" if lossy != "�" else "�", "!"]
    (completion,) = parse(make_reply("a空!", tokens, [-0.5, -1.0, -0.25, -0.5])).completions
    assert [token.replace("��", "�") for token in completion.tokens] == ["a", "�", "�", "!"]
    np.testing.assert_allclose(completion.logprobs, [-0.5, -1.0, -0.25, -0.5])


NUMBERED = make_reply(
    "a b", ["token_id:11", "token_id:12", "token_id:2"], [-0.5, -0.25, -0.1],
    [{"token_id:11": -0.5, "token_id:7": -1.5}, {"token_id:12": -0.25}, {"token_id:2": -0.1}], stop_reason=None,
)  # fmt: skip


@pytest.mark.parametrize("data", [NUMBERED, to_stream(NUMBERED)], ids=["whole", "streamed"])
def test_tokens_named_by_number_keep_their_logprobs_without_the_end_of_turn(data):  # vLLM, vllm#42887
    reply = parse(data)
    (completion,) = reply.completions
    assert (completion.text, completion.tokens) == ("a b", ("token_id:11", "token_id:12"))
    np.testing.assert_allclose(completion.top_logprobs, [[-0.5, -1.5], [-0.25, -np.inf]])
    assert "do not spell" in reply.notes[0]


def test_a_stop_word_ends_an_answer_without_a_listed_token():
    data = make_reply("a b", ["token_id:11", "token_id:12"], [-0.5, -0.25], stop_reason="\n\n")
    assert len(parse(data).completions[0].tokens) == 2


def test_llamacpps_completions_have_chats_shape():
    entries = [{"id": 5, "token": "4", "logprob": -0.5, "top_logprobs": [{"token": "4", "logprob": -0.5}]},
               {"id": 2, "token": "", "bytes": [], "logprob": -0.1, "top_logprobs": []}]  # fmt: skip
    choice = {"index": 0, "text": "4", "logprobs": {"content": entries}, "finish_reason": "stop"}
    (completion,) = parse(json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1}}).encode()).completions
    assert (completion.tokens, completion.top_logprobs.tolist()) == (("4",), [[-0.5]])


def test_k_plus_one_alternatives_are_cut_to_k():  # legacy completions return up to k + 1
    data = make_reply("a", ["a"], [-3.0], [{"b": -0.5, "c": -1.5, "a": -3.0}])
    np.testing.assert_allclose(parse(data, top_logprobs=2).completions[0].top_logprobs, [[-0.5, -1.5]])


def test_the_assembler_takes_a_server_that_does_not_stream():
    assembler = StreamAssembler()
    assembler.feed(ECHO)
    assert assembler.close().completions[0].text == " Paris."
