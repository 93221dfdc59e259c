"""Tests of format detection: a reply is decoded by its shape, whichever provider is named."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from swift_client import SwiftReranker, parse_response, rank
from swift_client.adapters.codecs import detect
from swift_client.adapters.codecs.containers import split_values
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
)
from tests.codecs.hostile import mutants, survives
from tests.codecs.logical import CASES, Case, LogicalCompletion, random_case
from tests.codecs.test_contract import assert_same_reply, load_module, replies_of
from tests.codecs.writers import WRITERS, Writer

every_writer = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.codec)
THREE = Case("x", tuple(LogicalCompletion(f"The answer is {number}") for number in (4, 5, 4)))


def snake(value: Any) -> Any:
    """Convert to google-genai's own dump: Python field names, and null for absent fields."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    null_fields = {"log_probability": None, "token": None} if "tokenId" in value else {"finish_message": None}
    return null_fields | {
        re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name): item if name == "args" else snake(item)
        for name, item in value.items()
    }


@every_writer
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_formats_replies_and_streams_are_recognised(writer: Writer, case: Case) -> None:
    if not case.needs <= writer.features:
        return
    for part in replies_of(writer, case):
        for data in (writer.write_body(part), writer.write_stream(part, 2)):
            whole_or_chat = (writer.codec, "openai_chat") if data.startswith(b"data:") else (writer.codec,)
            assert detect.detect_codec(data) in whole_or_chat
            assert_same_reply(detect.parse(data, token_ids=True), load_module(writer).parse(data, token_ids=True))


@every_writer
def test_the_public_functions_read_them_whatever_provider_is_named(writer: Writer) -> None:
    data = writer.write_body(replies_of(writer, THREE)[0])
    for reply in (data, data.decode(), json.loads(data), [json.loads(data)]):
        for provider in ("openai", "anthropic", "gemini"):
            assert parse_response(reply, provider)[0].text == "The answer is 4"


@every_writer
def test_a_list_of_replies_is_one_choice_with_the_sum_of_their_usage(writer: Writer) -> None:
    replies = [writer.write_body(part) for part in THREE.split()]
    selection = rank([json.loads(reply) for reply in replies])
    assert (selection.answer, [candidate.text[-1] for candidate in selection.candidates]) == ("4", ["4", "5", "4"])
    assert (selection.usage.prompt_tokens, selection.usage.completion_tokens) == (21, 3)


@every_writer
def test_the_objects_of_a_stream_are_one_reply(writer: Writer) -> None:
    part = replies_of(writer, random_case(4))[0]
    lines = writer.write_stream(part, 1).splitlines()
    chunks = [json.loads(line[5:]) for line in lines if line.startswith(b"data: {")]
    if writer.codec in ("openai_chat", "openai_completions"):
        chunks = [{"object": "chat.completion.chunk", **chunk} for chunk in chunks]
    completions, expected = parse_response(chunks), load_module(writer).parse(writer.write_body(part)).completions
    assert [item.text for item in completions] == [item.text for item in expected]
    for first, second in zip(completions, expected, strict=True):
        np.testing.assert_array_equal(first.top_logprobs, second.top_logprobs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_google_genais_own_spelling_is_the_same_reply(case: Case) -> None:
    writer = next(writer for writer in WRITERS if writer.codec == "gemini")
    if case.needs <= writer.features:
        data = writer.write_body(case)
        snake_data = json.dumps(snake(json.loads(data))).encode()
        assert snake_data != data
        assert_same_reply(detect.parse(snake_data, token_ids=True), load_module(writer).parse(data, token_ids=True))


def test_objects_of_the_openai_client_are_read_as_responses_too() -> None:
    types = pytest.importorskip("openai.types.responses")
    writer = next(writer for writer in WRITERS if writer.codec == "openai_responses")
    data = writer.write_body(random_case(3, n=1))
    reply = types.Response.construct(**json.loads(data))
    np.testing.assert_array_equal(
        parse_response(reply)[0].top_logprobs, load_module(writer).parse(data).completions[0].top_logprobs
    )


def test_objects_of_anthropics_and_googles_clients_are_read() -> None:
    from anthropic import types as anthropic
    from google.genai import types as genai

    validators = {"anthropic": anthropic.Message.model_validate, "gemini": genai.GenerateContentResponse.model_validate}
    for writer in WRITERS:
        if writer.codec in validators:
            part = replies_of(writer, CASES[0])[0]
            data = writer.write_body(part)
            (completion,), (expected,) = (
                parse_response(validators[writer.codec](json.loads(data))),
                parse_response(data),
            )
            assert (completion.text, completion.tokens, completion.finish_reason) == (
                expected.text,
                expected.tokens,
                expected.finish_reason,
            )
            np.testing.assert_array_equal(completion.top_logprobs, expected.top_logprobs)


def test_objects_of_anthropics_batches_are_their_replies_and_errors() -> None:
    from anthropic.types.messages import MessageBatchIndividualResponse as Line

    body = json.loads(next(writer for writer in WRITERS if writer.codec == "anthropic").write_body(THREE.split()[0]))
    result = {"type": "succeeded", "message": {**body, "id": "m", "role": "assistant", "stop_sequence": None}}
    assert parse_response(Line.model_validate({"custom_id": "q", "result": result}))[0].text == "The answer is 4"
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "r"}
    with pytest.raises(ServerError, match="Overloaded"):
        parse_response(Line.model_validate({"custom_id": "q", "result": {"type": "errored", "error": body}}))


@every_writer
def test_lines_of_a_batchs_output_are_unwrapped(writer: Writer) -> None:
    body = json.loads(writer.write_body(replies_of(writer, THREE)[0]))
    line = {"id": "b", "custom_id": "q1", "response": {"status_code": 200, "body": body}, "error": None}
    assert parse_response(line)[0].text == "The answer is 4"
    if writer.codec == "anthropic":
        line = {"custom_id": "q1", "result": {"type": "succeeded", "message": body}}
        assert parse_response(line)[0].text == "The answer is 4"


def test_errors_in_a_batchs_output_are_the_errors_that_they_describe() -> None:
    error = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
    with pytest.raises(RateLimitError, match="slow down"):
        parse_response({"custom_id": "q", "response": {"status_code": 429, "body": error}, "error": None})
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy"}, "request_id": "r"}
    for result in ({"type": "errored", "error": body}, {"type": "errored", "error": body["error"]}):
        with pytest.raises(ServerError, match=r"^Too busy"):
            parse_response({"custom_id": "q", "result": result})
    for kind in ("canceled", "expired"):
        with pytest.raises(RequestTimeoutError, match="ended before this request's turn"):
            parse_response({"custom_id": "q", "result": {"type": kind}})
    with pytest.raises(BadRequestError, match="wrong field"):
        parse_response({"key": "q", "error": {"code": 400, "message": "wrong field"}})


def test_a_line_of_googles_batches_is_its_reply() -> None:
    writer = next(writer for writer in WRITERS if writer.codec == "gemini")
    body = json.loads(writer.write_body(THREE))
    for line in ({"key": "q", "response": body}, {"request": {"contents": []}, "response": body}):
        assert parse_response(line)[0].text == "The answer is 4"
        assert len(parse_response([line, line])) == 6


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"[[1]]", b"null", b"data:" * 900, b'{"custom_id": "q"}'])
def test_anything_but_a_reply_of_any_format_is_one_clear_error(data: bytes) -> None:
    for default_codec in ("openai_chat", "gemini", "anthropic", "openai_responses"):
        with pytest.raises(ResponseDecodeError):
            detect.parse(data, default_codec=default_codec)


def test_an_object_of_your_own_may_answer_in_any_format() -> None:
    writer = next(writer for writer in WRITERS if writer.codec == "anthropic")

    class CustomProvider:
        def complete(self, messages: list[dict[str, Any]], n: int, **options: Any) -> Any:
            return [json.loads(writer.write_body(part)) for part in THREE.split()][:n]

    with SwiftReranker(CustomProvider()) as reranker:
        selection = reranker.best_of("2+2?", n=3)
    assert (selection.answer, len(selection.candidates), selection.usage.prompt_tokens) == ("4", 3, 21)


def test_anything_but_a_reply_is_refused_with_what_to_pass() -> None:
    with pytest.raises(ConfigurationError, match="not a reply"):
        rank(3)


def test_damaged_replies_of_all_formats_raise_nothing_but_our_errors() -> None:
    for writer in WRITERS:
        for number, data in enumerate(mutants(writer, 400, seed=11)):
            survives(detect, data, number)  # type: ignore[arg-type]
            survives(detect, b"[" + data + b"," + data + b"]", number)  # type: ignore[arg-type]


@pytest.mark.parametrize("position", [262_142, 262_143, 262_144, 262_145, 300_000])
def test_a_second_indented_value_is_found_wherever_it_begins(position: int) -> None:
    values = [{"pad": "x" * (position - 15)}, {"pad": "y"}]
    data = b"\n".join(json.dumps(value, indent=2).encode() for value in values)
    assert data.index(b"\n{") == position
    assert [json.loads(part) for part in split_values(data) or []] == values
    assert split_values(json.dumps(values[0], indent=2).encode() + b"\n") is None
