"""Tests of select="consensus": which text wins, by what weight, and what happens if a similarity fails."""

from __future__ import annotations

import math
import re
import sys
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client import AsyncSwiftReranker, Completion, SwiftReranker, rank
from swift_client.errors import ConfigurationError
from swift_client.selection.consensus import distinct_texts, expected_similarities
from swift_client.selection.select import SelectionConfig, score_completions, select_best
from swift_client.types import FinishReason
from tests.servers import FaultServer, Received, Response, json_response


def completion(text: str, logprob: float | None = None, reason: FinishReason = "stop", index: int = 0) -> Completion:
    count = 0 if logprob is None else 2
    return Completion(
        text=text,
        index=index,
        finish_reason=reason,
        tokens=("t",) * count,
        logprobs=np.full(count, logprob or 0.0, np.float32),
        top_logprobs=np.zeros((count, 0), np.float32),
        censored=np.zeros(count, np.bool_),
    )


def completions(*texts: str, logprobs: list[float | None] | None = None) -> list[Completion]:
    values = logprobs or [None] * len(texts)
    return [completion(text, value, index=index) for index, (text, value) in enumerate(zip(texts, values, strict=True))]


CONSENSUS = SelectionConfig(select="consensus", similarity="token_f1")


def test_the_text_most_like_the_others_wins() -> None:
    selection = select_best(completions("a b c", "a b d", "a b e", "x y z"), CONSENSUS)
    assert (selection.text, selection.method, selection.signal) == ("a b c", "consensus", "text")
    # 1 to itself, 2/3 to two others, 0 to the last: (1 + 4/3) / 4; the last has only itself.
    assert [candidate.consensus for candidate in selection.candidates] == pytest.approx([7 / 12] * 3 + [1 / 4])
    assert [candidate.weight for candidate in selection.candidates] == [1, 1, 1, 1]


def test_each_text_counts_with_the_probability_of_its_tokens_itself_included() -> None:
    logprobs: list[float | None] = [-2.0, -2.0, -0.1]
    selection = select_best(completions("a b", "a c", "x y", logprobs=logprobs), CONSENSUS)
    unsure, sure = math.exp(-2.0), math.exp(-0.1)
    total = 2 * unsure + sure
    assert [candidate.consensus for candidate in selection.candidates] == pytest.approx(
        [1.5 * unsure / total] * 2 + [sure / total]
    )
    assert selection.text == "x y"
    # Without its own weight, the text that resembles a sure one would win against the sure one.
    assert select_best(completions("a b", "a c", logprobs=[-2.0, -0.1]), CONSENSUS).text == "a c"


def test_ties_go_to_the_score_then_to_the_lower_index() -> None:
    assert select_best(completions("a", "b", logprobs=[-1.0, -0.5]), CONSENSUS).winner == 1
    assert select_best(completions("a", "b"), CONSENSUS).winner == 0
    # Equal texts have equal similarities: their best-scored member wins.
    equal = completions("Paris.", "paris", "Rome", logprobs=[-1.0, -0.5, -3.0])
    assert select_best(equal, CONSENSUS).winner == 1


def test_texts_that_differ_in_case_space_and_marks_are_one_text() -> None:
    scored = score_completions(
        completions("It's Paris.", " it's  PARIS", '"It\'s Paris"', "3.5", "35", "a-b"), CONSENSUS
    )
    distinct = distinct_texts(scored)
    assert len(distinct.texts) == 4
    assert distinct.groups.tolist()[0:3] == [distinct.groups[0]] * 3
    assert len(set(distinct.groups.tolist())) == 4
    # A function of the user gets texts to the letter: they may be code.
    own = score_completions(completions("a", "A", "a"), replace(CONSENSUS, similarity=lambda texts: np.eye(len(texts))))
    assert distinct_texts(own).texts == ("A", "a")


def test_texts_that_were_cut_off_neither_win_nor_count() -> None:
    texts = [*completions("a b", "c d"), completion("a b c", reason="length", index=2)]
    selection = select_best(texts, CONSENSUS)
    assert selection.candidates[2].consensus is None
    assert selection.candidates[2].weight == 0
    assert [candidate.consensus for candidate in selection.candidates[:2]] == [0.5, 0.5]
    all_cut = [replace(text, finish_reason="length") for text in completions("x", "a b", "a b c")]
    assert select_best(all_cut, CONSENSUS).winner == 1


@given(
    st.lists(st.tuples(st.text(alphabet="ab cd", max_size=8), st.floats(-4, -0.01)), min_size=1, max_size=7),
    st.sampled_from(["content", "token_f1", "chrf"]),
    st.randoms(),
)
def test_the_order_of_completions_does_not_matter(samples: list[tuple[str, float]], name: str, random: Any) -> None:
    config = SelectionConfig(select="consensus", similarity=name)
    made = [completion(text, logprob, index=index) for index, (text, logprob) in enumerate(samples)]
    shuffled = random.sample(made, len(made))
    one, other = select_best(made, config), select_best(shuffled, config)
    assert one.winner == other.winner
    assert [candidate.consensus for candidate in one.candidates] == [
        candidate.consensus for candidate in other.candidates
    ]


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_expected_similarity_is_the_weighted_mean_over_all_completions(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, groups, weights = rng.random((m, m)), rng.integers(-1, m, n), rng.random(n) + 0.01
    groups[0] = 0
    counted = [j for j in range(n) if groups[j] >= 0]
    for i, value in enumerate(expected_similarities(matrix, groups, weights)):
        if groups[i] < 0:
            assert math.isnan(value)
            continue
        expected = sum(weights[j] * matrix[groups[i], groups[j]] for j in counted) / sum(weights[j] for j in counted)
        assert value == pytest.approx(expected)


def test_auto_seeks_a_consensus_where_neither_answers_nor_scores_can_be_read() -> None:
    texts = (
        "Dear all, many thanks for the flowers that you sent me, they are lovely!",
        "We meet on Monday to talk about the budget and about who writes the report.",
        "Let us meet on Monday, since the budget and the report need to be settled soon.",
    )
    selection = select_best(completions(*texts), SelectionConfig())
    assert (selection.method, selection.winner) == ("consensus", 1)
    assert any("the choice rests on the similarity of the texts" in note for note in selection.notes)
    # Two texts have no most similar one; with logprobs the best score decides; "best" is "best".
    assert select_best(completions(*texts[:2]), SelectionConfig()).method == "best"
    assert select_best(completions(*texts, logprobs=[-1.0, -2.0, -3.0]), SelectionConfig()).method == "best"
    assert select_best(completions(*texts), SelectionConfig(select="best")).winner == 0
    assert select_best(completions("The answer is 4.", "The answer is 4.", "no"), SelectionConfig()).method == "vote"


def test_auto_uses_the_similarity_that_was_given() -> None:
    def last(texts: list[str]) -> list[list[float]]:
        return [[float(text.startswith("Dear"))] * len(texts) for text in texts]

    texts = (
        "We meet on Monday to talk about the budget and about who writes the report.",
        "Let us meet on Monday, since the budget and the report need to be settled soon.",
        "Dear all, many thanks for the flowers that you sent me, they are lovely!",
    )
    assert select_best(completions(*texts), SelectionConfig(similarity=last)).winner == 2


def test_whole_objects_are_compared_with_a_response_model() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    texts = ["no object", '{"a": "red green"}', '{ "a":"red green" }', '{"a": "red blue"}', "no object", "no object"]
    selection = rank(completions(*texts), select="consensus", similarity="token_f1", response_model=schema)
    assert selection.method == "consensus"
    assert selection.parsed == {"a": "red green"}
    assert [candidate.consensus is None for candidate in selection.candidates] == [
        True,
        False,
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda texts: [[1.0]], r"failed \(ValueError: 2 texts need a matrix of shape \(2, 2\)"),
        (lambda texts: [[1.0, math.nan], [0.0, 1.0]], "must be numbers from 0 to 1"),
        (lambda texts: [[1.0, 2.0], [0.0, 1.0]], "must be numbers from 0 to 1"),
        (lambda texts: 1 / 0, "failed \\(ZeroDivisionError"),
        (lambda texts: sys.exit(3), "failed \\(SystemExit"),
        (lambda texts: "what", "failed \\(ValueError"),
    ],
)
def test_a_function_that_fails_is_replaced_and_a_note_says_so(function: Any, reason: str) -> None:
    selection = rank(completions("a", "b", "b"), select="consensus", similarity=function)
    assert selection.text == "b"
    (note,) = [note for note in selection.notes if note.startswith("similarity=")]
    assert note.endswith('so texts are compared by "token_f1" instead.')
    assert re.search(reason, note)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"select": "consensus", "similarity": "bleu"}, "Unknown similarity 'bleu'"),
        ({"select": "consensus", "similarity": "chrf:order=2"}, "Unknown similarity"),
        ({"select": "consensus", "similarity": 3}, "not int"),
        ({"select": "vote", "similarity": "chrf"}, 'no use with select="vote"'),
        ({"select": "mbr"}, '"vote" or "consensus"'),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_sent(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        rank(completions("a"), **settings)
    with pytest.raises(ConfigurationError, match=message):
        SwiftReranker("openai", api_key="k", **settings)


def serve_texts(*texts: str) -> Any:
    def serve(request: Received) -> Response:
        choices = [
            {"index": index, "message": {"content": text}, "finish_reason": "stop"} for index, text in enumerate(texts)
        ]
        return json_response({"choices": choices})

    return serve


async def test_a_client_seeks_a_consensus_with_the_users_function_in_a_thread(fault_server: FaultServer) -> None:
    fault_server.serve(serve_texts("one", "two", "three"))
    seen: list[tuple[str, list[str]]] = []

    def second(texts: list[str]) -> Any:
        seen.append((threading.current_thread().name, texts))
        return [[float(text == "two")] * len(texts) for text in texts]

    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=fault_server.url, select="consensus", similarity=second
    ) as reranker:
        selection = await reranker.best_of("Which?", n=3)
        assert (selection.text, selection.method) == ("two", "consensus")
        assert seen == [("swift-client-user", ["one", "three", "two"])]
        assert reranker.rank(completions("x", "two")).text == "two"


async def test_a_function_that_hangs_ends_with_the_timeout(fault_server: FaultServer) -> None:
    fault_server.serve(serve_texts("b", "a", "a"))
    release = threading.Event()
    async with AsyncSwiftReranker(
        "openai-compatible",
        "m",
        base_url=fault_server.url,
        select="consensus",
        similarity=lambda texts: release.wait(20),
        timeout=0.3,
    ) as reranker:
        try:
            selection = await reranker.best_of("Which?", n=3)
        finally:
            release.set()
    assert (selection.text, selection.method) == ("a", "consensus")
    assert any("similarity= took longer than 0.3 s" in note for note in selection.notes)
