"""Thinking is kept apart from the answer, token by token: aligned by bytes, in every codec that lists its tokens."""

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
from tests.codecs.logical import Said, said
from tests.codecs.writers import chat_entry, events
from tests.graded import graded_groups

Tokens = Sequence[Said]


def body(message: dict[str, Any], tokens: Tokens, **logprobs: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": "stop",
              "logprobs": {"content": list(map(chat_entry, tokens)), **logprobs}}  # fmt: skip
    return json.dumps({"model": "m", "choices": [choice]}).encode()


def read(data: bytes) -> Completion:
    (completion,) = openai_chat.parse(data).completions
    return completion


def cut(text: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut bytes at any places, inside characters too."""
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:stop] for start, stop in pairwise(edges)]


def spelled_by(completion: Completion | None, tokens: Tokens) -> None:
    """The completion's tokens and numbers are those of ``tokens``, looked up one by one."""
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

    def tokens_of(spelled: list[bytes]) -> list[Said]:
        numbers = -np.sort(draw.exponential(2, (len(spelled), 2)), axis=1).round(3) - 0.001
        return [said(one, float(two[1]), (one, float(two[1]))) for one, two in zip(spelled, numbers, strict=True)]

    thought, spoken = tokens_of(cut(thinking.encode(), cuts)), tokens_of(cut(answer.encode(), more))
    before, between = tokens_of([b"<think>", b"\n"]), tokens_of([b"\n", b"</think>", b"\n\n"])
    after = tokens_of([b"<|im_end|>"])
    whole = f"<think>\n{thinking}\n</think>\n\n{answer}"
    message = {"content": whole} if inline else {"content": answer, "reasoning_content": thinking}
    got = read(body(message, [*before, *thought, *between, *spoken, *after]))
    assert (got.text, got.thinking and got.thinking.text) == (answer, thinking)
    spelled_by(got, spoken)
    spelled_by(got.thinking, thought)


def streamed(pieces: Sequence[tuple[dict[str, str], Tokens]]) -> bytes:
    chunks: list[dict[str, Any]] = [
        {
            "model": "m",
            "choices": [{"index": 0, "delta": delta, "logprobs": {"content": list(map(chat_entry, tokens))}}],
        }
        for delta, tokens in pieces
    ]
    return events([*chunks, {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], done=True)


THOUGHT = tuple(said(text, -0.5 - at, (text, -0.5 - at)) for at, text in enumerate(("2", " +", " 2", " is")))
MARKS = (said("<think>", -0.1), said("</think>", -0.2), said("\n\n", -0.3))
SPOKEN = tuple(said(text, -0.25, (text, -0.25)) for text in ("It", " is", " 4"))
ONE_BY_ONE = [
    ({"reasoning_content": ""}, MARKS[:1]),
    *[({"reasoning": token.text, "reasoning_content": token.text}, [token]) for token in THOUGHT],
    ({}, MARKS[1:2]),
    ({"content": ""}, MARKS[2:]),
    *[({"content": token.text}, [token]) for token in SPOKEN],
]
INLINE = [({"content": token.text}, [token]) for token in (MARKS[0], *THOUGHT, *MARKS[1:], *SPOKEN)]


@pytest.mark.parametrize("pieces", [ONE_BY_ONE, INLINE])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_streamed_reply_has_the_same_two_spans(pieces: list[Any], size: int) -> None:
    stream, assembler = streamed(pieces), openai_chat.StreamAssembler()
    for at in range(0, len(stream), size):
        assembler.feed(stream[at : at + size])
    (got,) = assembler.close().completions
    assert (got.text, got.thinking and got.thinking.text) == ("It is 4", "2 + 2 is")
    spelled_by(got, SPOKEN)
    spelled_by(got.thinking, THOUGHT)


@pytest.mark.parametrize("pieces", [ONE_BY_ONE, INLINE])
def test_a_stream_that_is_watched_tells_the_answers_tokens_alone(pieces: list[Any]) -> None:
    long = [*pieces, *[({"content": token.text}, [token]) for token in SPOKEN * 4]]
    assembler, told = openai_chat.StreamAssembler(), []
    for line in streamed(long).split(b"\n\n"):
        assembler.feed(line + b"\n\n")
        if piece := assembler.take_new_tokens():
            told += piece.tokens
    assert [token for token in told if token.strip()][:6] == ["It", " is", " 4", "It", " is", " 4"]
    assert len(told) >= 8


def test_deepseek_lists_its_thinking_apart() -> None:
    message = {"content": "It is 4", "reasoning_content": "2 + 2 is"}
    whole = read(body(message, SPOKEN, reasoning_content=list(map(chat_entry, THOUGHT))))
    spelled_by(whole, SPOKEN)
    spelled_by(whole.thinking, THOUGHT)
    apart = [({"reasoning_content": token.text}, {"reasoning_content": [chat_entry(token)]}) for token in THOUGHT]
    rest = [({"content": token.text}, {"content": [chat_entry(token)]}) for token in SPOKEN]
    chunks = [{"choices": [{"index": 0, "delta": delta, "logprobs": logprobs}]} for delta, logprobs in [*apart, *rest]]
    piecewise = read(events([*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], done=True))
    spelled_by(piecewise, SPOKEN)
    spelled_by(piecewise.thinking, THOUGHT)


@pytest.mark.parametrize("odd", [{"a": 1}, 5, [{"token": 5}], [[]], None])
def test_an_odd_list_of_thinking_tokens_costs_the_answer_nothing(odd: Any) -> None:
    got = read(body({"content": "It is 4", "reasoning_content": "2 + 2 is"}, SPOKEN, reasoning_content=odd))
    spelled_by(got, SPOKEN)
    assert got.thinking is not None
    assert (got.thinking.text, got.thinking.tokens) == ("2 + 2 is", ())


def test_thinking_that_used_up_the_budget_has_its_tokens_and_no_answer() -> None:
    data = body({"content": None, "reasoning": "2 + 2 is"}, THOUGHT).replace(b'"stop"', b'"length"')
    got = read(data)
    assert (got.text, got.tokens, got.finish_reason) == ("", (), "length")
    assert got.thinking is not None
    assert got.thinking.finish_reason == "length"
    spelled_by(got.thinking, THOUGHT)


def test_thinking_whose_tokens_do_not_spell_it_is_text_alone() -> None:
    got = read(body({"content": "It is 4", "reasoning": "A summary."}, [*THOUGHT, *MARKS[1:], *SPOKEN]))
    spelled_by(got, SPOKEN)
    assert got.thinking is not None
    assert (got.thinking.text, got.thinking.tokens) == ("A summary.", ())


def test_numbers_of_the_thinking_that_are_none_cost_the_thinking_alone() -> None:
    raw = [replace(token, logprob=3.5) for token in THOUGHT]
    got = read(body({"content": "It is 4", "reasoning": "2 + 2 is"}, [*raw, *MARKS[1:], *SPOKEN]))
    spelled_by(got, SPOKEN)
    assert got.thinking is not None
    assert got.thinking.tokens == ()


def test_googles_thoughts_are_kept_and_their_tokens_where_they_are_listed() -> None:
    chosen = [{"token": text, "logProbability": -0.5} for text in ("h", "m", "4")]
    result = {"chosenCandidates": chosen, "topCandidates": [{"candidates": [each]} for each in chosen]}
    parts = [{"text": "hm", "thought": True}, {"text": "4"}]
    candidate = {"content": {"parts": parts}, "finishReason": "STOP", "logprobsResult": result}
    (got,) = gemini.parse(json.dumps({"candidates": [candidate], "modelVersion": "m"}).encode()).completions
    assert got.thinking is not None
    assert (got.tokens, got.thinking.tokens, got.thinking.top_logprobs.tolist()) == (("4",), ("h", "m"), [[-0.5]] * 2)


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
        ("<thinking>asked for</thinking>4", ("", "<thinking>asked for</thinking>4")),
        ("4", ("", "4")),
    ],
)
def test_what_a_server_leaves_in_the_content_is_split(content: str, parts: tuple[str, str]) -> None:
    assert split_thinking(content) == parts


@given(st.binary(max_size=40), st.booleans())
def test_a_place_is_always_a_place(stream: bytes, opened: bool) -> None:
    marked = stream.replace(b"1", b"<think>").replace(b"2", b"</think>").replace(b"3", b"[THINK]")
    start, stop, answer = find_thinking(marked, opened_in_prompt=opened)
    assert 0 <= start <= stop <= answer <= len(marked) or (start, stop) == (start, len(marked))


@pytest.mark.parametrize(
    "pieces", [["<thi", "nk>", "a", "</th", "ink>", "\n"], ["<think>a</think>"], ["[THINK]", "a", "[/THINK]"]]
)
def test_an_answer_has_not_begun_while_marks_are_open(pieces: list[str]) -> None:
    unspoken = ReasoningFilter()
    before = [unspoken("", piece) for piece in pieces]
    assert before[-1]
    assert [unspoken("", "4"), unspoken("late", "<think>")] == [False, False]


def test_an_answer_that_begins_like_a_mark_begins() -> None:
    unspoken = ReasoningFilter()
    assert [unspoken("", piece) for piece in ("<", "th>", " is a tag")] == [False] * 3


# What is made of it


def with_thinking(groups: Sequence[Group], *, signal: float) -> list[Group]:
    """Give completions whose answers say nothing a thinking that hesitates where the answer is wrong."""
    apart = graded_groups(len(groups), seed=9, signal=0.0)
    rng = np.random.default_rng(4)
    mixed = []
    for group, other in zip(groups, apart, strict=True):
        pairs = zip(group.completions, other.completions, group.labels, strict=True)
        thoughtful = [
            replace(
                each,
                thinking=replace(
                    thought,
                    logprobs=(thought.logprobs - signal * (1 - label) * rng.random(len(thought.tokens))).astype("f4"),
                ),
            )
            for each, thought, label in pairs
        ]
        mixed.append(replace(group, completions=tuple(thoughtful)))
    return mixed


def test_terms_of_the_thinking_are_the_terms_of_an_answer_and_0_without() -> None:
    group = with_thinking(graded_groups(1), signal=1.0)[0]
    own = response_terms(group.completions, THINKING_TERMS)
    as_answers = [replace(each.thinking or each, index=at) for at, each in enumerate(group.completions)]
    plain = response_terms(as_answers, [name.removeprefix("thinking_") for name in THINKING_TERMS])
    np.testing.assert_array_equal(own.values, plain.values)
    assert not response_terms([replace(each, thinking=None) for each in group.completions], THINKING_TERMS).values.any()


def test_a_head_learns_from_the_thinking_where_only_that_knows() -> None:
    groups = with_thinking(graded_groups(150, signal=0.0), signal=3.0)
    heads = {
        recipe: fit(groups, provider="p", model="m", recipe=recipe, answer="number").artifact
        for recipe in ("default", "thinking")
    }
    fresh = with_thinking(graded_groups(80, signal=0.0, seed=5), signal=3.0)
    labels = np.concatenate([group.labels for group in fresh])
    question = np.repeat(np.arange(len(fresh)), [len(group.labels) for group in fresh])
    found = {
        recipe: within_question_auroc(
            np.concatenate([scorers.score(group.completions, head).values for group in fresh]), labels, question
        )
        for recipe, head in heads.items()
    }
    assert found["thinking"] > 0.75 > 0.6 > found["default"]

    head = heads["thinking"]
    assert isinstance(head, HeadArtifact)
    assert head.reads_thinking
    group = fresh[0]
    assert select_best(group.completions, SelectionConfig(scorer=head)).scorer == head.name
    hidden = select_best([replace(each, thinking=None) for each in group.completions], SelectionConfig(scorer=head))
    assert hidden.scorer == "mean_logprob"
    assert any("thinking tokens" in note for note in hidden.notes)


def test_a_recipe_for_thinking_refuses_completions_without() -> None:
    with pytest.raises(ConfigurationError, match="No completion has thinking tokens"):
        fit(graded_groups(20), provider="p", model="m", recipe="thinking", answer="number")


def test_thinking_cannot_think() -> None:
    thought = Completion(text="hm")
    with pytest.raises(ValueError, match="thinking of its own"):
        Completion(text="4", thinking=Completion(text="hm", thinking=thought))


def test_lies_about_the_thinking_are_caught_and_its_text_stays() -> None:
    group = with_thinking(graded_groups(1), signal=0.0)[0]
    first = group.completions[0]
    assert first.thinking is not None
    zero = replace(first.thinking, logprobs=np.zeros_like(first.thinking.logprobs),
                   top_logprobs=np.zeros((len(first.thinking.tokens), 0), np.float32))  # fmt: skip
    kept, notes = drop_invalid_logprobs([replace(first, thinking=zero)], UNKNOWN_SAMPLING)
    assert kept[0].thinking is not None
    assert (kept[0].tokens, kept[0].thinking.tokens, kept[0].thinking.text) == ((), (), first.thinking.text)
    assert "all zero" in notes[0]
