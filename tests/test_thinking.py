"""Tests of separating thinking from the answer by token, in every codec that lists its tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client.adapters.codecs import gemini, openai_chat
from swift_client.adapters.codecs.reasoning import ReasoningFilter, find_thinking, split_thinking
from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.features import THINKING_TERMS, response_terms
from swift_client.logprobs.checks import drop_invalid_logprobs
from swift_client.logprobs.temperature import UNKNOWN_SAMPLING
from swift_client.models import HeadArtifact
from swift_client.scoring import scorers
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training.fit import fit
from swift_client.training.metrics import within_question_auroc
from swift_client.types import Completion
from tests.codecs.logical import LogicalToken, make_token
from tests.codecs.writers import chat_entry, encode_events
from tests.graded import graded_groups

Tokens = Sequence[LogicalToken]


def body(message: dict[str, Any], tokens: Tokens, **logprobs: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop",
              "logprobs": {"content": list(map(chat_entry, tokens)), **logprobs}}  # fmt: skip
    return json.dumps({"model": "m", "choices": [choice]}).encode()


def parse_one(data: bytes) -> Completion:
    (completion,) = openai_chat.parse(data).completions
    return completion


def split_bytes(text: bytes, places: Sequence[int]) -> list[bytes]:
    """Split bytes at any positions, even inside characters."""
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:stop] for start, stop in pairwise(edges)]


def assert_has_tokens(completion: Completion | None, tokens: Tokens) -> None:
    """Assert that the completion has these tokens and their logprobs."""
    assert completion is not None
    assert completion.tokens == tuple(token.text for token in tokens)
    np.testing.assert_allclose(completion.logprobs, [token.logprob for token in tokens], rtol=1e-6)
    for row, token in zip(completion.top_logprobs, tokens, strict=True):
        assert row[: len(token.top)].tolist() == pytest.approx([number for _, number in token.top])


words = st.text("ab 7é空🎈\n.", min_size=1, max_size=24).filter(str.strip)
places = st.lists(st.integers(0, 10**6), max_size=12)


@settings(deadline=None, max_examples=300)
@given(thinking=words, answer=words, cuts=places, more=places, inline=st.booleans(), seed=st.integers(0, 99))
def test_each_span_has_its_own_tokens_however_bytes_were_cut_into_tokens(
    thinking: str, answer: str, cuts: list[int], more: list[int], inline: bool, seed: int
) -> None:
    thinking, answer = thinking.strip(), answer.strip()
    draw = np.random.default_rng(seed)

    def tokens_of(pieces: list[bytes]) -> list[LogicalToken]:
        numbers = -np.sort(draw.exponential(2, (len(pieces), 2)), axis=1).round(3) - 0.001
        return [
            make_token(piece, float(row[1]), (piece, float(row[1]))) for piece, row in zip(pieces, numbers, strict=True)
        ]

    thinking_tokens, answer_tokens = (
        tokens_of(split_bytes(thinking.encode(), cuts)),
        tokens_of(split_bytes(answer.encode(), more)),
    )
    before, between = tokens_of([b"<think>", b"\n"]), tokens_of([b"\n", b"</think>", b"\n\n"])
    after = tokens_of([b"<|im_end|>"])
    content = f"<think>\n{thinking}\n</think>\n\n{answer}"
    message = {"content": content} if inline else {"content": answer, "reasoning_content": thinking}
    completion = parse_one(body(message, [*before, *thinking_tokens, *between, *answer_tokens, *after]))
    assert (completion.text, completion.thinking and completion.thinking.text) == (answer, thinking)
    assert_has_tokens(completion, answer_tokens)
    assert_has_tokens(completion.thinking, thinking_tokens)


def to_stream(pieces: Sequence[tuple[dict[str, str], Tokens]]) -> bytes:
    chunks: list[dict[str, Any]] = [
        {
            "model": "m",
            "choices": [{"index": 0, "delta": delta, "logprobs": {"content": list(map(chat_entry, tokens))}}],
        }
        for delta, tokens in pieces
    ]
    return encode_events(
        [*chunks, {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], done=True
    )


THINKING = tuple(
    make_token(text, -0.5 - index, (text, -0.5 - index)) for index, text in enumerate(("2", " +", " 2", " is"))
)
TAGS = (make_token("<think>", -0.1), make_token("</think>", -0.2), make_token("\n\n", -0.3))
ANSWER = tuple(make_token(text, -0.25, (text, -0.25)) for text in ("It", " is", " 4"))
SEPARATE_DELTAS = [
    ({"reasoning_content": ""}, TAGS[:1]),
    *[({"reasoning": token.text, "reasoning_content": token.text}, [token]) for token in THINKING],
    ({}, TAGS[1:2]),
    ({"content": ""}, TAGS[2:]),
    *[({"content": token.text}, [token]) for token in ANSWER],
]
INLINE_DELTAS = [({"content": token.text}, [token]) for token in (TAGS[0], *THINKING, *TAGS[1:], *ANSWER)]


@pytest.mark.parametrize("pieces", [SEPARATE_DELTAS, INLINE_DELTAS])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_streamed_reply_has_the_same_two_spans(pieces: list[Any], size: int) -> None:
    stream, assembler = to_stream(pieces), openai_chat.StreamAssembler()
    for index in range(0, len(stream), size):
        assembler.feed(stream[index : index + size])
    (completion,) = assembler.close().completions
    assert (completion.text, completion.thinking and completion.thinking.text) == ("It is 4", "2 + 2 is")
    assert_has_tokens(completion, ANSWER)
    assert_has_tokens(completion.thinking, THINKING)


@pytest.mark.parametrize("pieces", [SEPARATE_DELTAS, INLINE_DELTAS])
def test_a_stream_that_is_watched_tells_the_answers_tokens_alone(pieces: list[Any]) -> None:
    pieces_and_more = [*pieces, *[({"content": token.text}, [token]) for token in ANSWER * 4]]
    assembler, new_tokens = openai_chat.StreamAssembler(), []
    for line in to_stream(pieces_and_more).split(b"\n\n"):
        assembler.feed(line + b"\n\n")
        if piece := assembler.take_new_tokens():
            new_tokens += piece.tokens
    assert [token for token in new_tokens if token.strip()][:6] == ["It", " is", " 4", "It", " is", " 4"]
    assert len(new_tokens) >= 8


def test_deepseek_lists_its_thinking_apart() -> None:
    message = {"content": "It is 4", "reasoning_content": "2 + 2 is"}
    completion = parse_one(body(message, ANSWER, reasoning_content=list(map(chat_entry, THINKING))))
    assert_has_tokens(completion, ANSWER)
    assert_has_tokens(completion.thinking, THINKING)
    thinking_deltas = [
        ({"reasoning_content": token.text}, {"reasoning_content": [chat_entry(token)]}) for token in THINKING
    ]
    answer_deltas = [({"content": token.text}, {"content": [chat_entry(token)]}) for token in ANSWER]
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "logprobs": logprobs}]}
        for delta, logprobs in [*thinking_deltas, *answer_deltas]
    ]
    streamed = parse_one(
        encode_events([*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], done=True)
    )
    assert_has_tokens(streamed, ANSWER)
    assert_has_tokens(streamed.thinking, THINKING)


@pytest.mark.parametrize("malformed", [{"a": 1}, 5, [{"token": 5}], [[]], None])
def test_an_odd_list_of_thinking_tokens_costs_the_answer_nothing(malformed: Any) -> None:
    completion = parse_one(
        body({"content": "It is 4", "reasoning_content": "2 + 2 is"}, ANSWER, reasoning_content=malformed)
    )
    assert_has_tokens(completion, ANSWER)
    assert completion.thinking is not None
    assert (completion.thinking.text, completion.thinking.tokens) == ("2 + 2 is", ())


def test_thinking_that_used_up_the_budget_has_its_tokens_and_no_answer() -> None:
    data = body({"content": None, "reasoning": "2 + 2 is"}, THINKING).replace(b'"stop"', b'"length"')
    completion = parse_one(data)
    assert (completion.text, completion.tokens, completion.finish_reason) == ("", (), "length")
    assert completion.thinking is not None
    assert completion.thinking.finish_reason == "length"
    assert_has_tokens(completion.thinking, THINKING)


def test_thinking_whose_tokens_do_not_spell_it_is_text_alone() -> None:
    completion = parse_one(body({"content": "It is 4", "reasoning": "A summary."}, [*THINKING, *TAGS[1:], *ANSWER]))
    assert_has_tokens(completion, ANSWER)
    assert completion.thinking is not None
    assert (completion.thinking.text, completion.thinking.tokens) == ("A summary.", ())


def test_numbers_of_the_thinking_that_are_none_cost_the_thinking_alone() -> None:
    invalid = [replace(token, logprob=3.5) for token in THINKING]
    completion = parse_one(body({"content": "It is 4", "reasoning": "2 + 2 is"}, [*invalid, *TAGS[1:], *ANSWER]))
    assert_has_tokens(completion, ANSWER)
    assert completion.thinking is not None
    assert completion.thinking.tokens == ()


def test_googles_thoughts_are_kept_and_their_tokens_where_they_are_listed() -> None:
    tokens = [{"token": text, "logProbability": -0.5} for text in ("h", "m", "4")]
    result = {"chosenCandidates": tokens, "topCandidates": [{"candidates": [item]} for item in tokens]}
    parts = [{"text": "hm", "thought": True}, {"text": "4"}]
    candidate = {"content": {"parts": parts}, "finishReason": "STOP", "logprobsResult": result}
    (completion,) = gemini.parse(json.dumps({"candidates": [candidate], "modelVersion": "m"}).encode()).completions
    assert completion.thinking is not None
    assert (completion.tokens, completion.thinking.tokens, completion.thinking.top_logprobs.tolist()) == (
        ("4",),
        ("h", "m"),
        [[-0.5]] * 2,
    )


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("<think>hm</think>\n4", ("hm", "4")),
        ("\n<think>\nhm\n</think>4", ("hm", "4")),
        ("hm</think>4", ("hm", "4")),
        ("[THINK]hm[/THINK]4", ("hm", "4")),
        ("<think>hm", ("hm", "")),
        ("<think></think>4", ("", "4")),
        ("say <think> and </think>", ("", "say <think> and </think>")),
        ("a [/THINK] b", ("", "a [/THINK] b")),
        ("<thinking>hm</thinking>4", ("hm", "4")),
        ("<reasoning>\nhm\n</reasoning>\n\n4", ("hm", "4")),
        ("<reasoning>hm", ("hm", "")),
        ("◁think▷hm◁/think▷4", ("hm", "4")),
        ("say <reasoning>hm</reasoning>", ("", "say <reasoning>hm</reasoning>")),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>4", ("hm", "4")),
        ("<|channel|>analysis<|message|>hm<|channel|>final<|message|>4<|return|>", ("hm", "4")),
        ("<|start|>assistant<|channel|>analysis<|message|>hm", ("hm", "")),
        ("<|channel|>final<|message|>4", ("", "4")),
        ("a <|channel|>final<|message|>4", ("", "a <|channel|>final<|message|>4")),
        ("4", ("", "4")),
    ],
)
def test_what_a_server_leaves_in_the_content_is_split(content: str, parts: tuple[str, str]) -> None:
    assert split_thinking(content) == parts


@given(st.binary(max_size=40), st.booleans())
def test_a_place_is_always_a_place(stream: bytes, opened_in_prompt: bool) -> None:
    tagged = stream.replace(b"1", b"<think>").replace(b"2", b"</think>").replace(b"3", b"[THINK]")
    start, stop, answer = find_thinking(tagged, opened_in_prompt=opened_in_prompt)
    assert 0 <= start <= stop <= answer <= len(tagged) or (start, stop) == (start, len(tagged))


@pytest.mark.parametrize(
    "pieces",
    [
        ["<thi", "nk>", "a", "</th", "ink>", "\n"],
        ["<think>a</think>"],
        ["[THINK]", "a", "[/THINK]"],
        ["<reaso", "ning>", "a", "</reasoning>"],
        ["<|channel|>", "analysis", "<|message|>", "a", "<|end|>", "<|channel|>final", "<|message|>"],
    ],
)
def test_an_answer_has_not_begun_while_marks_are_open(pieces: list[str]) -> None:
    reasoning_filter = ReasoningFilter()
    before = [reasoning_filter("", piece) for piece in pieces]
    assert before[-1]
    assert [reasoning_filter("", "4"), reasoning_filter("late", "<think>")] == [False, False]


def test_an_answer_that_begins_like_a_mark_begins() -> None:
    reasoning_filter = ReasoningFilter()
    assert [reasoning_filter("", piece) for piece in ("<", "th>", " is a tag")] == [False] * 3


# --- use of the thinking


def with_thinking(groups: Sequence[Group], *, signal: float) -> list[Group]:
    """Add thinking to the completions that is less confident if the answer is wrong."""
    thinking_groups = graded_groups(len(groups), seed=9, signal=0.0)
    rng = np.random.default_rng(4)
    result = []
    for group, thinking_group in zip(groups, thinking_groups, strict=True):
        pairs = zip(group.completions, thinking_group.completions, group.labels, strict=True)
        completions = [
            replace(
                completion,
                thinking=replace(
                    thinking,
                    logprobs=(thinking.logprobs - signal * (1 - label) * rng.random(len(thinking.tokens))).astype("f4"),
                ),
            )
            for completion, thinking, label in pairs
        ]
        result.append(replace(group, completions=tuple(completions)))
    return result


def test_terms_of_the_thinking_are_the_terms_of_an_answer_and_0_without() -> None:
    group = with_thinking(graded_groups(1), signal=1.0)[0]
    terms = response_terms(group.completions, THINKING_TERMS)
    as_answers = [
        replace(completion.thinking or completion, index=index) for index, completion in enumerate(group.completions)
    ]
    expected = response_terms(as_answers, [name.removeprefix("thinking_") for name in THINKING_TERMS])
    np.testing.assert_array_equal(terms.values, expected.values)
    assert not response_terms(
        [replace(completion, thinking=None) for completion in group.completions], THINKING_TERMS
    ).values.any()


def test_a_head_learns_from_the_thinking_where_only_that_knows() -> None:
    groups = with_thinking(graded_groups(150, signal=0.0), signal=3.0)
    heads = {
        recipe: fit(groups, provider="p", model="m", recipe=recipe, answer="number").artifact
        for recipe in ("default", "thinking")
    }
    test_groups = with_thinking(graded_groups(80, signal=0.0, seed=5), signal=3.0)
    labels = np.concatenate([group.labels for group in test_groups])
    question = np.repeat(np.arange(len(test_groups)), [len(group.labels) for group in test_groups])
    auroc = {
        recipe: within_question_auroc(
            np.concatenate([scorers.score(group.completions, head).values for group in test_groups]), labels, question
        )
        for recipe, head in heads.items()
    }
    assert auroc["thinking"] > 0.75 > 0.6 > auroc["default"]

    head = heads["thinking"]
    assert isinstance(head, HeadArtifact)
    assert head.reads_thinking
    group = test_groups[0]
    assert select_best(group.completions, SelectionConfig(scorer=head)).scorer == head.name
    hidden = select_best(
        [replace(completion, thinking=None) for completion in group.completions], SelectionConfig(scorer=head)
    )
    assert hidden.scorer == "mean_logprob"
    assert any("thinking tokens" in note for note in hidden.notes)


def test_a_recipe_for_thinking_refuses_completions_without() -> None:
    with pytest.raises(ConfigurationError, match="No completion has thinking tokens"):
        fit(graded_groups(20), provider="p", model="m", recipe="thinking", answer="number")


def test_thinking_cannot_think() -> None:
    inner = Completion(text="hm")
    with pytest.raises(ValueError, match="thinking of its own"):
        Completion(text="4", thinking=Completion(text="hm", thinking=inner))


def test_false_claims_about_the_thinking_are_caught_and_its_text_stays() -> None:
    group = with_thinking(graded_groups(1), signal=0.0)[0]
    first = group.completions[0]
    assert first.thinking is not None
    zero = replace(first.thinking, logprobs=np.zeros_like(first.thinking.logprobs),
                   top_logprobs=np.zeros((len(first.thinking.tokens), 0), np.float32))  # fmt: skip
    checked, notes = drop_invalid_logprobs([replace(first, thinking=zero)], UNKNOWN_SAMPLING)
    assert checked[0].thinking is not None
    assert (checked[0].tokens, checked[0].thinking.tokens, checked[0].thinking.text) == ((), (), first.thinking.text)
    assert "all zero" in notes[0]
