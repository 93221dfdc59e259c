"""Tests of reading a judge's verdict: from probabilities over the options, and from text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from swift_client import Completion, parse_response
from swift_client.verify.prompts import VerdictRequest, p_true_requests, pairwise_request, score_requests
from swift_client.verify.reading import Verdict, read_verdict

QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]
P_TRUE, P_TRUE_SWAPPED = p_true_requests(QUESTION, "4", criteria=None, reference=None)
SCORE = score_requests(QUESTION, "4", criteria=None, reference=None)[0][1]
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


def value_of(verdict: Verdict | str) -> float:
    assert isinstance(verdict, Verdict), verdict
    return verdict.value


def read(completion: Completion, request: VerdictRequest = P_TRUE) -> Verdict:
    verdict = read_verdict(completion, request)
    assert isinstance(verdict, Verdict), verdict
    return verdict


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
