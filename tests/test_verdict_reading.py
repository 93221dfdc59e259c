"""Tests of reading a judge's verdict: from probabilities over the options, and from text."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client import Completion, parse_response
from swift_client.verify.prompts import VerdictRequest, p_true_requests, pairwise_request, score_requests
from swift_client.verify.reading import Verdict, read_verdict
from tests.codecs.recorded import RECORDINGS, recorded

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]
P_TRUE, P_TRUE_SWAPPED = p_true_requests(QUESTION, "4", criteria=None, reference=None)
SCORE = score_requests(QUESTION, "4", criteria=None, reference=None)[0][1]
REASONS = p_true_requests(QUESTION, "4", criteria=None, reference=None, reasons=True)[0]
PAIRWISE = pairwise_request(QUESTION, "4", "5", criteria=None, reference=None)

Token = tuple[str, float, Sequence[tuple[str, float]]]  # text, probability, listed alternatives with probabilities


def reply(*tokens: Token, finish_reason: str = "stop", **message: Any) -> Completion:
    """Decode a chat completion with these tokens, as OpenAI writes it."""

    def entry(text: str, probability: float) -> dict[str, Any]:
        return {"token": text, "logprob": math.log(probability), "bytes": list(text.encode())}

    content = [
        entry(text, probability) | {"top_logprobs": [entry(*row) for row in listed]}
        for text, probability, listed in tokens
    ]
    message = {"role": "assistant", "content": "".join(text for text, _, _ in tokens), **message}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": {"content": content}}
    (completion,) = parse_response(json.dumps({"model": "m", "choices": [choice]}), token_ids=True)
    return completion


def read(completion: Completion, request: VerdictRequest = P_TRUE) -> Verdict:
    verdict = read_verdict(completion, request)
    assert isinstance(verdict, Verdict), verdict
    return verdict


def assert_reads(verdict: Verdict, value: float, *, confidence: float) -> None:
    assert dataclasses.astuple(verdict) == pytest.approx((value, confidence, False), abs=1e-6)


def test_p_true_is_the_share_of_yes_over_all_spellings_of_both_options() -> None:
    listed = [(" Yes", 0.5), ("No", 0.2), ("yes", 0.1), ("NO", 0.05), ("Maybe", 0.1), ('"Yes', 0.02)]
    verdict = read(reply((" Yes", 0.5, listed)))

    assert verdict.value == pytest.approx(0.62 / 0.87)
    assert verdict.confidence == pytest.approx(0.87)
    assert not verdict.from_text


def test_a_score_is_the_expectation_with_the_remaining_mass_at_one_half() -> None:
    verdict = read(reply(("C", 0.6, [("C", 0.6), (" C", 0.2), ("D", 0.1), ("K", 0.05)])), SCORE)

    assert verdict.value == pytest.approx(0.8 * 7 / 9 + 0.1 * 6 / 9 + 0.1 * 0.5)
    assert verdict.confidence == pytest.approx(0.9)


def test_the_order_of_the_options_in_the_question_does_not_change_their_values() -> None:
    completion = reply(("No", 0.7, [("No", 0.7), ("Yes", 0.3)]))

    assert read(completion, P_TRUE).value == pytest.approx(0.3)
    assert read(completion, P_TRUE_SWAPPED).value == pytest.approx(0.3)


def test_pairwise_value_is_the_probability_of_the_first_answer() -> None:
    assert read(reply(("B", 0.8, [("B", 0.8), ("A", 0.2)])), PAIRWISE).value == pytest.approx(0.2)


# Spellings and positions


@pytest.mark.parametrize(
    "word", ["Yes", " Yes", "yes", "YES", "**Yes", '"Yes', "Yes.", "(Yes)", ">Yes<", "\n\nYes", "▁Yes", "`yes`"]
)
def test_each_spelling_of_the_chosen_token_counts_for_its_option(word: str) -> None:
    verdict = read(reply((word, 0.75, [(word, 0.75), ("No", 0.25)])))

    assert_reads(verdict, 0.75, confidence=1.0)


@pytest.mark.parametrize(
    "lead", [["**"], ["\n"], ["\n", "**"], ['"'], ["Answer", ":"], ["**", "Verdict", ":**"], ["The", " answer", " is"]]
)
def test_decoration_and_labels_before_the_option_are_passed_over(lead: list[str]) -> None:
    before = [(text, 0.9, [(text, 0.9), ("No", 0.01)]) for text in lead]
    verdict = read(reply(*before, (" Yes", 0.6, [(" Yes", 0.6), (" No", 0.4)]), (".", 1.0, [(".", 1.0)])))

    assert verdict.value == pytest.approx(0.6)
    assert verdict.confidence == pytest.approx(1.0)


def test_an_option_that_is_split_into_tokens_is_read_at_its_first_token() -> None:
    verdict = read(reply(("Y", 0.6, [("Y", 0.6), ("N", 0.3), ("yes", 0.05)]), ("es", 1.0, [("es", 1.0)])))

    assert verdict.value == pytest.approx(0.65 / 0.95)
    assert verdict.confidence == pytest.approx(0.95)


def test_a_beginning_counts_only_if_the_judges_tokens_split_the_option() -> None:
    assert read(reply(("Yes", 0.6, [("Yes", 0.6), ("No", 0.2), ("N", 0.2)]))).value == pytest.approx(0.75)


def test_lower_case_letters_count_only_if_the_judge_writes_so() -> None:
    upper = read(reply(("B", 0.6, [("B", 0.6), ("a", 0.4)])), PAIRWISE)
    lower = read(reply(("b", 0.6, [("b", 0.6), ("a", 0.4)])), PAIRWISE)

    assert_reads(upper, 0.0, confidence=0.6)
    assert_reads(lower, 0.4, confidence=1.0)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([("Yes", 0.9), ("It", 0.02), ("The", 0.01)], 0.9 / 0.91),  # at most the last listed one
        ([("Yes", 0.9), ("It", 0.08), ("The", 0.019)], 0.9 / 0.901),  # at most the mass outside the list
        ([("Yes", 0.9)], 0.9),  # nothing but the chosen one
        ([], 0.9),
    ],
)
def test_an_option_that_is_not_listed_has_at_most_what_the_list_leaves(
    listed: list[tuple[str, float]], expected: float
) -> None:
    assert read(reply(("Yes", 0.9, listed))).value == pytest.approx(expected, abs=1e-6)


def test_a_chosen_token_outside_the_list_is_one_more() -> None:
    verdict = read(reply(("No", 0.05, [("Yes", 0.8), ("It", 0.1)])))

    assert verdict.value == pytest.approx(0.8 / 0.85)


def test_the_options_are_read_from_the_list_where_the_text_begins_otherwise() -> None:
    verdict = read(reply(("The", 0.5, [("The", 0.5), ("Yes", 0.3), ("No", 0.1)]), finish_reason="length"))

    assert_reads(verdict, 0.75, confidence=0.4)


def test_little_mass_and_no_stated_option_is_no_verdict() -> None:
    verdict = read_verdict(reply(("The", 0.9, [("The", 0.9), ("Yes", 0.03), ("No", 0.01)])), P_TRUE)

    assert verdict == "The judge's reply states none of the options Yes and No."


def test_a_stated_option_of_little_mass_is_read_with_its_low_confidence() -> None:
    verdict = read(reply(("C", 0.02, [("Well", 0.9), ("C", 0.02)])), SCORE)

    assert_reads(verdict, 0.02 * 7 / 9 + 0.98 * 0.5, confidence=0.02)


@given(
    options=st.lists(st.floats(1e-6, 1), min_size=10, max_size=10),
    outside=st.floats(0, 1),
    spellings=st.lists(st.sampled_from(["{}", " {}", "**{}", "{}.", "({})"]), min_size=10, max_size=10),
)
def test_reading_agrees_with_a_plain_sum(options: list[float], outside: float, spellings: list[str]) -> None:
    """Any distribution over letters: the expectation, and for its first two letters the share."""
    total = math.fsum(options) + outside
    shares = [number / total for number in options]
    listed = [(form.format(letter), p) for form, letter, p in zip(spellings, "ABCDEFGHIJ", shares, strict=True)]
    text, probability = max(listed, key=lambda row: row[1])
    expected = sum(p * (1 - index / 9) for index, p in enumerate(shares)) + 0.5 * (1 - sum(shares))

    assert read(reply((text, probability, listed)), SCORE).value == pytest.approx(expected, abs=1e-5)
    if text in [row[0] for row in listed[:2]]:
        share = shares[0] / (shares[0] + shares[1])
        assert read(reply((text, probability, listed)), PAIRWISE).value == pytest.approx(share, abs=1e-5)


# Text


def text_reply(text: str, **fields: Any) -> Completion:
    return Completion(text=text, **fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Yes", 1.0),
        ("no.", 0.0),
        ("**No**", 0.0),
        ("Yes, the answer is right. No errors were found.", 1.0),
        ("The answer is correct, so: Yes", 1.0),
        ("There is no error here: Yes.", 1.0),
        ('{"verdict": "No"}', 0.0),
        ('The text "Yes, this is right" is wrong: No', 0.0),
        ("Final answer: **No**", 0.0),
    ],
)
def test_without_logprobs_the_stated_option_counts(text: str, value: float) -> None:
    assert read(text_reply(text)) == Verdict(value=value, confidence=1.0, from_text=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("C", 7 / 9),
        ("I would rate it B.", 8 / 9),
        ("A good answer: B", 8 / 9),
        ("(J)", 0.0),
        ("b", 8 / 9),
        ("Grade: D, because", 6 / 9),
    ],
)
def test_without_logprobs_the_letter_counts_and_english_words_do_not(text: str, value: float) -> None:
    assert read(text_reply(text), SCORE).value == pytest.approx(value)


@pytest.mark.parametrize("text", ["Yes or No", "Yes/No", "Either Yes, or else No", "**Yes** | **No**"])
def test_a_reply_that_names_both_options_is_no_verdict(text: str) -> None:
    assert read_verdict(text_reply(text), P_TRUE) == "The judge's reply names several options."


@pytest.mark.parametrize("text", ["Maybe", "Yesterday", "Nobody knows", "It depends", "a good one"])
def test_a_reply_without_an_option_is_no_verdict(text: str) -> None:
    assert read_verdict(text_reply(text), P_TRUE) == "The judge's reply states none of the options Yes and No."


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (text_reply(""), "it is empty"),
        (text_reply(" \n", finish_reason="stop"), "it is empty"),
        (text_reply("", finish_reason="length"), "its length limit"),
        (text_reply("", thinking=text_reply("Yes")), "empty after the thinking"),
        (text_reply("I cannot. Yes", finish_reason="refusal"), "'refusal'"),
        (text_reply("Yes", finish_reason="content_filter"), "'content_filter'"),
    ],
)
def test_a_reply_that_ended_otherwise_says_why_there_is_no_verdict(completion: Completion, reason: str) -> None:
    verdict = read_verdict(completion, P_TRUE)

    assert isinstance(verdict, str)
    assert reason in verdict
    assert (verdict[-1], verdict.count(".")) == (".", 1)


def test_hostile_replies_are_read_in_linear_time() -> None:
    for text in ("„" * 10**5, '"' * 10**5, ". " * 10**5, "```" * 10**5, f"<{REASONS.tag}>" * 10**4, "the " * 10**5):
        start = time.perf_counter()
        for request in (P_TRUE, SCORE, REASONS):
            assert isinstance(read_verdict(text_reply(text), request), str)
        assert time.perf_counter() - start < 1


# Numbers that are not logprobs


def test_a_censored_chosen_token_is_not_counted_but_its_list_is() -> None:
    data = {
        "token": "No",
        "logprob": -9999.0,
        "top_logprobs": [{"token": "Yes", "logprob": math.log(0.9)}, {"token": "It", "logprob": math.log(0.06)}],
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "No"},
        "finish_reason": "stop",
        "logprobs": {"content": [data]},
    }
    (completion,) = parse_response(json.dumps({"model": "m", "choices": [choice]}), token_ids=True)
    assert completion.censored.all()

    assert read(completion).value == pytest.approx(0.9 / 0.94)


@pytest.mark.parametrize(("logprob", "censored"), [(float("nan"), False), (-3.0, True)])
def test_an_unknown_logprob_without_a_list_leaves_the_text(logprob: float, censored: bool) -> None:
    completion = Completion(
        text="No",
        tokens=("No",),
        logprobs=np.array([logprob], np.float32),
        top_logprobs=np.full((1, 2), np.nan, np.float32),
        censored=np.array([censored]),
        top_ids=np.zeros((1, 2), np.uint32),
    )

    assert read(completion) == Verdict(value=0.0, confidence=1.0, from_text=True)


def test_alternatives_without_names_leave_the_chosen_tokens_probability() -> None:
    logprobs = np.log(np.array([[0.7, 0.3]], np.float32))
    completion = Completion(
        text="No", tokens=("No",), logprobs=logprobs[:, 0], top_logprobs=logprobs, censored=np.array([False])
    )

    assert read(completion).value == pytest.approx(0.3)


def test_tokens_that_do_not_spell_the_text_leave_the_text() -> None:
    completion = dataclasses.replace(reply(("Yes", 0.9, [("Yes", 0.9), ("No", 0.1)])), text="No")

    assert read(completion) == Verdict(value=0.0, confidence=1.0, from_text=True)


# Reasons first


def reasoned(*parts: str, verdict: Token, after: str = "") -> Completion:
    tokens = [(part, 0.99, [(part, 0.99), ("Yes", 0.01)]) for part in parts]
    rest = [(after, 1.0, [(after, 1.0)])] if after else []
    return reply(*tokens, verdict, *rest)


@pytest.mark.parametrize(
    ("piece", "after"), [("{}", "</{tag}>"), (">{}<", "/{tag}>"), (" {}", ""), ("\n{}", "\n</{tag}>\n")]
)
def test_the_last_verdict_tag_counts_after_reasons(piece: str, after: str) -> None:
    tag = REASONS.tag
    opening = f"<{tag}" if piece.startswith(">") else f"<{tag}>"
    yes, no = piece.format("Yes"), piece.format("No")
    completion = reasoned(
        f"I will write <{tag}>verdict</{tag}>. At first <{tag}>Yes</{tag}>, but ", "No: ", opening,
        verdict=(no, 0.8, [(no, 0.8), (yes, 0.15)]), after=after.format(tag=tag),
    )  # fmt: skip

    verdict = read(completion, REASONS)
    assert_reads(verdict, 0.15 / 0.95, confidence=0.95)


def test_a_closing_tag_without_its_slash_does_not_hide_the_verdict() -> None:
    tag = REASONS.tag
    assert read(text_reply(f"Wrong. <{tag}>No<{tag}>"), REASONS).value == 0


@pytest.mark.parametrize(
    "text",
    [
        "It is right. Yes",
        "<verdict-1>Yes</verdict-1>",
        "<{tag}></{tag}>",
        "<{tag}>Yes</{tag}> or <{tag}>perhaps</{tag}>",
        "Yes </{tag}>",
    ],
)
def test_reasons_without_a_verdict_in_its_tag_are_no_verdict(text: str) -> None:
    verdict = read_verdict(text_reply(text.format(tag=REASONS.tag)), REASONS)

    assert verdict == "The judge's reply has no verdict between its tags."


def test_thinking_is_not_read_even_if_it_contains_the_tag() -> None:
    tag = REASONS.tag
    inline = reply(
        (f"<think>Perhaps <{tag}>", 1.0, []), ("Yes", 1.0, []), (f"</{tag}></think>Wrong. <{tag}>", 1.0, []),
        ("No", 0.9, [("No", 0.9), ("Yes", 0.1)]), (f"</{tag}>", 1.0, []),
    )  # fmt: skip
    assert inline.thinking is not None
    assert read(inline, REASONS).value == pytest.approx(0.1)

    only_thinking = reply((f"<think>Perhaps <{tag}>", 1.0, []), ("Yes", 1.0, [("Yes", 1.0)]), finish_reason="length")
    assert read_verdict(only_thinking, REASONS) == (
        "The judge's reply has no verdict: its length limit ended it while it was thinking."
    )


def test_a_thinking_judge_without_reasons_is_read_after_its_thinking() -> None:
    completion = reply(
        ("<think>Yes, ", 1.0, []), ("Yes", 1.0, []), ("</think>\n\n", 1.0, []), ("No", 0.9, [("No", 0.9), ("Yes", 0.1)])
    )

    assert read(completion).value == pytest.approx(0.1)


# Recorded replies


@recorded
@pytest.mark.parametrize(
    ("server", "name"), [("llamacpp", "chat-thinking-off-logprobs"), ("vllm", "chat-thinking-off-logprobs")]
)
def test_a_recorded_judges_letter_is_the_expectation_over_its_recorded_list(server: str, name: str) -> None:
    cases = json.loads((RECORDINGS / server / "cases.json").read_text())["cases"]
    (body,) = [case["body"] for case in cases if case["name"] == name and case["status"] == 200]
    (entry,) = [entry for entry in body["choices"][0]["logprobs"]["content"] if entry.get("top_logprobs")]
    rows = [(row["token"].strip(), math.exp(row["logprob"])) for row in entry["top_logprobs"]]
    scale = {letter: 1 - index / 9 for index, letter in enumerate("ABCDEFGHIJ")}
    mass = sum(p for token, p in rows if token in scale)
    expected = sum(p * scale[token] for token, p in rows if token in scale) + 0.5 * (1 - mass)
    (completion,) = parse_response(json.dumps(body), token_ids=True)
    verdict = read(completion, SCORE)

    assert_reads(verdict, expected, confidence=mass)
    pair = read(completion, PAIRWISE)
    assert pair.value == pytest.approx(dict(rows)["A"] / (dict(rows)["A"] + dict(rows)["B"]), abs=1e-6)


@recorded
def test_recorded_replies_that_only_thought_are_no_verdict() -> None:
    cases = json.loads((RECORDINGS / "llamacpp" / "cases.json").read_text())["cases"]
    (body,) = [case["body"] for case in cases if case["name"] == "chat-logprobs"]
    (completion,) = parse_response(json.dumps(body), token_ids=True)

    assert "while it was thinking" in str(read_verdict(completion, SCORE))


@recorded
def test_a_word_of_a_recorded_reply_is_read_at_its_place() -> None:
    """The first word of OpenAI's reply as an option, against the probabilities in its body."""
    body = json.loads((RECORDINGS / "openai-chat" / "gpt-4o-mini_temperature-0.0.json").read_text())
    first = body["choices"][0]["logprobs"]["content"][0]
    listed = {row["token"]: math.exp(row["logprob"]) for row in first["top_logprobs"]}
    other = next(token for token in listed if token != first["token"] and token.isalpha())
    request = dataclasses.replace(P_TRUE, options=(first["token"], other))
    (completion,) = parse_response(json.dumps(body), token_ids=True)

    forms = [{word, word.lower(), word.upper(), f" {word}"} for word in request.options]
    one, two = (sum(p for token, p in listed.items() if token in form) for form in forms)
    assert read(completion, request).value == pytest.approx(one / (one + two), abs=1e-6)
