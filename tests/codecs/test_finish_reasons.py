"""Finish reasons as real servers spell them, and the choice among completions that end with unknown words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from swift_client import Completion, parse_response, rank
from swift_client.adapters.codecs import openai_chat


def chat_body(reasons: Sequence[Any], texts: Sequence[str] = ()) -> bytes:
    """Encode a chat completion with one choice per finish reason."""
    choices = [
        {
            "index": index,
            "message": {"content": texts[index] if texts else f"The answer is {index}."},
            "finish_reason": reason,
        }
        for index, reason in enumerate(reasons)
    ]
    return json.dumps({"choices": choices, "model": "m"}).encode()


def parse_all(reasons: Sequence[Any], texts: Sequence[str] = ()) -> tuple[Completion, ...]:
    return openai_chat.parse(chat_body(reasons, texts)).completions


@pytest.mark.parametrize(
    ("expected", "spellings"),
    [
        ("stop", ["stop", "STOP", "eos", "eos_token", "eosFound", "stop_sequence", "end_turn", "COMPLETE", "finished",
                  "FINISH", "FINISH_REASON_STOP", "endoftext", "null", None, ""]),
        ("length", ["length", "max_tokens", "MAX_TOKENS", "model_length", "maxPredictedTokensReached", "ERROR_LIMIT",
                    "max_output_tokens", "model_context_window_exceeded", "context-length"]),
        ("tool_calls", ["tool_calls", "tool-calls", "TOOL_CALL", "tool_use", "function_call"]),
        ("content_filter", ["content_filter", "content-filter", "CONTENT_FILTERED", "sensitive", "SAFETY",
                            "guardrail_intervened", "ERROR_TOXIC", "PROHIBITED_CONTENT"]),
        ("error", ["network_error", "NETWORK_ERROR", "error", "server_error", "abort", "USER_CANCEL", "timeout",
                   "insufficient_system_resource", "some_new_error"]),
        ("unknown", ["weird", "gave_up", "停止"]),
    ],
)  # fmt: skip
def test_every_known_spelling_is_one_of_our_reasons(expected: str, spellings: list[Any]) -> None:
    completions = parse_all(spellings)
    assert [completion.finish_reason for completion in completions] == [expected] * len(spellings)
    assert {completion.complete for completion in completions} == {expected in ("stop", "tool_calls")}


def test_wrong_answers_with_bad_ends_do_not_outvote_the_complete_one() -> None:
    reasons = ["stop", "network_error", "sensitive", "strange", "strange"]
    selection = rank(parse_all(reasons, ["The answer is 4."] + ["The answer is 5."] * 4))
    assert selection.winner == 0
    assert [candidate.answer for candidate in selection.candidates] == ["4", None, None, None, None]
    assert any("2 completion(s) ended with an unknown finish reason" in note for note in selection.notes)


def test_if_every_end_is_unknown_the_answers_vote_with_a_note() -> None:
    texts = ["The answer is 4.", "The answer is 5.", "The answer is 5."]
    selection = rank(parse_response(chat_body(["strange"] * 3, texts)))
    assert (selection.candidates[selection.winner].answer, selection.method) == ("5", "vote")
    assert any("No completion ended with a known finish reason" in note for note in selection.notes)
