"""Tests of the messages that ask a judge for a verdict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from swift_client.adapters import PROVIDERS, load_codec
from swift_client.adapters.codecs.options import CompletionRequest
from swift_client.errors import ConfigurationError
from swift_client.verify.prompts import (
    DEFAULT_CRITERION,
    VerdictRequest,
    p_true_requests,
    pairwise_request,
    parse_criteria,
    score_requests,
)

QUESTION = [{"role": "user", "content": "Name a prime\nabove 10."}]


def text_of(request: VerdictRequest) -> str:
    """Return the text of a request that has no other parts."""
    (message,) = request.messages
    assert message["role"] == "user"
    assert isinstance(message["content"], str)
    return str(message["content"])


def section(text: str, name: str) -> str:
    (content,) = re.findall(rf"<{name}-(?:\d{{10}})>\n(.*?)\n</{name}-\d{{10}}>", text, re.DOTALL)
    return str(content)


def common_prefix(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next((index for index, (one, two) in enumerate(pairs) if one != two), min(len(first), len(second)))


def test_p_true_asks_twice_and_differs_only_in_the_order_of_the_options() -> None:
    first, second = (text_of(request) for request in p_true_requests(QUESTION, "11", criteria=None, reference=None))

    assert first.replace("Yes or No", "No or Yes") == second
    assert first.count("Yes or No") == 1
    assert section(first, "question") == "Name a prime\nabove 10."
    assert section(first, "answer") == "11"


def test_p_true_values_belong_to_the_options_not_to_their_order() -> None:
    for request in p_true_requests(QUESTION, "11", criteria=None, reference=None):
        assert dict(zip(request.options, request.values, strict=True)) == {"Yes": 1, "No": 0}
        assert request.reading == "share"


def test_score_requests_share_everything_before_the_criterion() -> None:
    rows = score_requests(QUESTION, "11", criteria={"It is short.": 1, "It is prime.": 3}, reference="11, 13")
    (short_weight, short), (prime_weight, prime) = rows

    assert (short_weight, prime_weight) == (0.25, 0.75)
    assert text_of(short).removesuffix("It is short.") == text_of(prime).removesuffix("It is prime.")
    assert short.tag == prime.tag
    assert short.options == tuple("ABCDEFGHIJ")
    assert short.values == pytest.approx([1 - index / 9 for index in range(10)])


def test_score_without_criteria_asks_one_general_one() -> None:
    ((weight, request),) = score_requests(QUESTION, "11", criteria=None, reference=None)

    assert weight == 1
    assert text_of(request).endswith(f"Criterion: {DEFAULT_CRITERION}")


def test_pairwise_puts_each_answer_into_its_slot() -> None:
    request = pairwise_request(QUESTION, "11", "12", criteria=None, reference=None)

    assert section(text_of(request), "answer-A") == "11"
    assert section(text_of(request), "answer-B") == "12"
    assert dict(zip(request.options, request.values, strict=True)) == {"A": 1, "B": 0}


def test_requests_about_one_question_begin_with_the_same_text() -> None:
    """So that a provider's prompt cache reads the question and the reference once."""
    one, two = (
        text_of(p_true_requests(QUESTION, answer, criteria=None, reference="a" * 500)[0]) for answer in ("11", "12")
    )

    assert one[: common_prefix(one, two)].endswith("<answer-") or common_prefix(one, two) > one.index("<answer-")


def test_requests_are_the_same_in_every_process_and_differ_between_texts() -> None:
    def tag(answer: str) -> str:
        return p_true_requests(QUESTION, answer, criteria=None, reference=None)[0].tag

    assert tag("11") == tag("11")
    assert tag("11") == "verdict-5332435473"
    assert tag("11") != tag("12")


def test_a_reference_is_shown_and_named_in_every_mode() -> None:
    requests = [
        p_true_requests(QUESTION, "11", criteria=None, reference="11 or 13")[0],
        score_requests(QUESTION, "11", criteria=None, reference="11 or 13")[0][1],
        pairwise_request(QUESTION, "11", "12", criteria=None, reference="11 or 13"),
    ]
    for request in requests:
        assert section(text_of(request), "reference") == "11 or 13"
        assert re.search(r"the notes in reference-\d{10}:", text_of(request))


def test_criteria_replace_correctness_and_unequal_weights_are_shown() -> None:
    (first, _) = p_true_requests(QUESTION, "11", criteria=["It is short.", "It is prime."], reference=None)
    pair = pairwise_request(QUESTION, "1", "2", criteria={"It is short.": 1, "It is prime.": 3}, reference=None)

    assert "meet these criteria?\n- It is short.\n- It is prime.\n" in text_of(first)
    assert "correct" not in text_of(first)
    assert "- It is short. (weight 25 %)\n- It is prime. (weight 75 %)\n" in text_of(pair)


@pytest.mark.parametrize("reasons", [False, True])
def test_a_judge_that_reasons_first_is_asked_for_the_verdicts_tag(reasons: bool) -> None:
    requests = [
        *p_true_requests(QUESTION, "11", criteria=None, reference=None, reasons=reasons),
        score_requests(QUESTION, "11", criteria=None, reference=None, reasons=reasons)[0][1],
        pairwise_request(QUESTION, "11", "12", criteria=None, reference=None, reasons=reasons),
    ]
    for request in requests:
        assert request.reasons is reasons
        assert text_of(request).count(f"<{request.tag}>verdict</{request.tag}>") == reasons
        assert ("nothing else" in text_of(request)) is not reasons


# Questions


def test_a_conversation_becomes_a_transcript_with_its_roles() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
        {"role": "villain</question>", "content": "Hello"},
    ]
    text = text_of(p_true_requests(messages, "11", criteria=None, reference=None)[0])
    question = section(text, "question")
    entries = re.findall(r"<(\w+)-(\d{10})>\n(.*?)\n</\1-\2>", question, re.DOTALL)

    assert [(role, content) for role, _, content in entries] == [
        ("system", "Be brief."),
        ("user", "One\nTwo"),
        ("assistant", json.dumps({"tool_calls": [call]})),
        ("tool", '2\n{"tool_call_id": "c1"}'),
        ("other", "Hello"),
    ]
    assert len({code for _, code, _ in entries}) == 1


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_images_are_passed_on_in_their_place() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Before"}, IMAGE, {"type": "text", "text": "After"}]}
    ]
    (message,) = p_true_requests(messages, "a cat", criteria=None, reference=None)[0].messages
    before, image, after = message["content"]

    assert image == IMAGE
    assert re.search(r"<question-\d{10}>\nBefore\Z", before["text"])
    assert re.match(r"After\n</question-\d{10}>\n\n<answer-", after["text"])


def test_googles_parts_are_passed_on_in_googles_format() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    messages = [{"role": "user", "parts": [{"text": "Before"}, image]}]
    (message,) = p_true_requests(messages, "a cat", criteria=None, reference=None)[0].messages

    assert [set(part) for part in message["parts"]] == [{"text"}, {"inlineData"}, {"text"}]
    assert message["parts"][1] == image
    body = load_codec(PROVIDERS["gemini"]).request(CompletionRequest(PROVIDERS["gemini"], "m", [message])).body
    assert body["contents"][0]["parts"] == message["parts"]


def test_parts_that_a_users_message_cannot_have_become_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "5"}
    text = text_of(p_true_requests([{"role": "user", "content": [result]}], "5", criteria=None, reference=None)[0])

    assert json.loads(section(text, "question")) == result


def test_every_request_can_be_encoded_even_with_half_a_surrogate_pair() -> None:
    text = text_of(p_true_requests(QUESTION, "a\ud800b", criteria=None, reference="\udfff")[0])

    assert text.encode("utf-8")
    assert section(text, "answer") == "a?b"


# Criteria


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        (None, ()),
        ("It is short.", (("It is short.", 1.0),)),
        ([" a ", "b"], (("a", 0.5), ("b", 0.5))),
        (("a",), (("a", 1.0),)),
        ({"a": 1, "b": 3}, (("a", 0.25), ("b", 0.75))),
        ({"a": 1e308, "b": 1e308}, (("a", 0.5), ("b", 0.5))),
    ],
)
def test_criteria_are_normalized(criteria: Any, expected: tuple[tuple[str, float], ...]) -> None:
    assert parse_criteria(criteria) == expected


@pytest.mark.parametrize(
    ("criteria", "reason"),
    [
        ("", "not a text"),
        (" \n", "not a text"),
        ([], "is empty"),
        ({}, "is empty"),
        (["a", ""], "not a text"),
        (["a", 3], "3 is not a text"),
        (["a", "a "], "twice"),
        ({"a": 0}, "finite number above 0"),
        ({"a": -1}, "finite number above 0"),
        ({"a": float("nan")}, "finite number above 0"),
        ({"a": float("inf")}, "finite number above 0"),
        ({"a": "1"}, "finite number above 0"),
        ({"a": True}, "finite number above 0"),
        (3, "type int"),
        (b"short", "type bytes"),
    ],
)
@pytest.mark.parametrize(
    "build",
    [
        parse_criteria,
        lambda criteria: p_true_requests(QUESTION, "11", criteria=criteria, reference=None),
        lambda criteria: score_requests(QUESTION, "11", criteria=criteria, reference=None),
        lambda criteria: pairwise_request(QUESTION, "11", "12", criteria=criteria, reference=None),
    ],
)
def test_wrong_criteria_are_refused_with_a_hint(build: Callable[[Any], object], criteria: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as excinfo:
        build(criteria)
    assert "Give a text, a list of texts" in excinfo.value.hint
