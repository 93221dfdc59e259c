"""Tests of the one rule by which any provider's raw numbers become clean arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client.logprobs import clean as cleaning
from swift_client.logprobs.clean import UnusableLogprobs, answer_span
from tests.plain_decoder import entry, plain_completion

INF = math.inf


def clean(chosen_logprobs: list[float | None], lists: list[list[tuple[str, float | None]]], k: int | None = None):
    flat = [pair for row in lists for pair in row]
    return cleaning.clean(
        np.array(chosen_logprobs, np.float64),
        np.array([number for _, number in flat], np.float64),
        np.array([len(row) for row in lists], np.intp),
        same_token=lambda one, two: np.array(
            [flat[a][0] == flat[b][0] for a, b in zip(one, two, strict=True)], np.bool_
        ),
        k=k,
    )


def test_clean_numbers_pass_as_float32_and_are_not_floored():
    result = clean([-0.5, -99.9], [[("a", -0.5), ("b", -30.0)], [("a", -0.1), ("b", -50.0)]])
    assert result.logprobs.dtype == result.top_logprobs.dtype == np.float32
    np.testing.assert_allclose(result.logprobs, [-0.5, -99.9])
    np.testing.assert_allclose(result.top_logprobs, [[-0.5, -30.0], [-0.1, -50.0]], rtol=1e-6)
    assert not result.censored.any()


@pytest.mark.parametrize("sentinel", [-9999.0, -100.0, -3.4028234663852886e38, None, math.nan, INF, -INF])
def test_a_sentinel_is_censored_to_the_upper_bound_and_never_averaged(sentinel):
    # PyRIT#991: the tail holds 1 - 0.6 - 0.3 = 0.1, less likely than the last listed 0.3.
    result = clean([sentinel], [[("a", math.log(0.6)), ("b", math.log(0.3))]])
    assert result.censored.tolist() == [True]
    assert result.logprobs[0] == pytest.approx(math.log(0.1), rel=1e-6)


def test_the_last_listed_logprob_bounds_a_censored_token_where_it_is_lower_than_the_tail():
    result = clean([-9999.0], [[("a", math.log(0.5)), ("b", math.log(0.01))]])
    assert result.logprobs[0] == pytest.approx(math.log(0.01), rel=1e-6)


def test_a_censored_token_after_a_full_list_gets_the_floor():
    assert clean([None], [[("a", 0.0)]]).logprobs[0] == -20.0
    assert clean([None], [[("a", -1e-12), ("b", -60.0)]]).logprobs[0] == -20.0


def test_a_sentinel_among_the_alternatives_counts_as_not_listed():
    result = clean([-1.0, -9999.0], [[("a", -1.0), ("b", -100.0)], [("a", -9999.0), ("b", math.log(0.25))]])
    np.testing.assert_allclose(result.top_logprobs, [[-1.0], [math.log(0.25)]], rtol=1e-6)
    assert result.logprobs[1] == pytest.approx(math.log(0.25))


def test_rounding_above_zero_becomes_zero_and_raw_logits_are_refused():
    assert clean([1e-3], [[("a", 1e-3)]]).logprobs[0] == 0.0
    assert clean([-0.1], [[("a", 5e-4)]]).top_logprobs[0, 0] == 0.0
    for chosen_logprob, listed_logprob in ((0.01, -1.0), (-1.0, 14.2)):
        with pytest.raises(UnusableLogprobs, match="raw logits"):
            clean([chosen_logprob], [[("a", listed_logprob)]])


def test_a_list_whose_probabilities_exceed_one_is_not_a_distribution():
    with pytest.raises(UnusableLogprobs, match="not a distribution"):
        clean([-0.1], [[("a", -0.1), ("b", -0.2)]])
    assert len(clean([-0.1], [[("a", -0.004), ("b", -4.7)]]).logprobs) == 1  # 1.005 is rounding


@pytest.mark.parametrize("placeholder", [[0.0, -0.0], [None, None], [-9999.0, -9999.0]])
def test_placeholders_with_nothing_listed_are_no_logprobs(placeholder):
    with pytest.raises(UnusableLogprobs, match="placeholders"):
        clean(placeholder, [[], []])


def test_a_certain_token_with_its_list_is_not_a_placeholder():
    assert clean([0.0], [[("a", 0.0)]]).logprobs.tolist() == [0.0]
    assert clean([0.0, -0.1], [[], []]).logprobs.tolist() == pytest.approx([0.0, -0.1])


def test_ranks_that_arrive_unsorted_give_the_same_arrays():  # artefactual#170
    rows = [("a", -1.0), ("b", -2.0), ("c", -3.0)]
    straight, shuffled = clean([-2.0], [rows]), clean([-2.0], [[rows[1], rows[2], rows[0]]])
    np.testing.assert_array_equal(straight.top_logprobs, shuffled.top_logprobs)
    assert shuffled.positions.tolist() == [[2, 0, 1]]


def test_a_duplicate_is_recognised_by_its_token_and_never_by_its_value():
    # vllm#36660 lists the chosen token twice; OpenAI's rounding gives different tokens equal values.
    result = clean([-1.0], [[("a", -1.0), ("b", -3.0), ("c", -3.0), ("b", -3.0), ("a", -1.0)]])
    np.testing.assert_allclose(result.top_logprobs, [[-1.0, -3.0, -3.0]])
    assert result.positions.tolist() == [[0, 1, 2]]


def test_duplicates_do_not_make_a_list_exceed_one():
    assert clean([-0.2], [[("a", -0.2), ("a", -0.2), ("b", -2.0)]]).top_logprobs.shape == (1, 2)


def test_one_spelling_at_two_values_is_two_entries():
    assert clean([-1.0], [[("a", -1.0), ("a", -2.0)]]).top_logprobs.tolist() == [[-1.0, -2.0]]


def test_a_given_k_cuts_and_fills_to_exactly_k_columns():
    # Legacy completions list up to k + 1: the chosen token beside the k best.
    result = clean([-9.0, -1.0], [[("x", -9.0), ("a", -1.0), ("b", -2.0)], [("a", -1.0)]], k=2)
    assert result.top_logprobs.tolist() == [[-1.0, -2.0], [-1.0, -INF]]
    assert result.positions.tolist() == [[1, 2], [3, -1]]
    assert clean([-1.0], [[("a", -1.0)]], k=0).top_logprobs.shape == (1, 0)
    assert clean([-1.0], [[]], k=3).top_logprobs.tolist() == [[-INF] * 3]


def test_no_token_gives_empty_arrays():
    result = clean([], [], k=4)
    assert result.logprobs.shape == (0,)
    assert result.top_logprobs.shape == (0, 4)


NUMBERS = st.one_of(
    st.floats(-60, -3), st.sampled_from([-3.0, -3.125, -9.0, -9999.0, -100.0, None, math.nan, INF, -0.0, -101.0])
)
ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), NUMBERS), max_size=8)


@given(st.lists(st.tuples(NUMBERS, ROWS), min_size=1, max_size=6), st.sampled_from([None, 0, 1, 3, 9]))
def test_every_input_gives_what_the_plain_loop_gives(tokens, k):
    entries = [
        entry("t", chosen_logprob, [entry(name, number) for name, number in row]) for chosen_logprob, row in tokens
    ]
    choice = {"message": {"content": "t" * len(tokens)}, "logprobs": {"content": entries}}
    truth, full_truth = plain_completion(choice, k), plain_completion(choice)
    too_much = any(sum(map(math.exp, row)) > 1.01 for row in full_truth.top)
    nothing = all(number == -INF for row in full_truth.top for number in row)
    placeholders = nothing and (all(truth.censored) or all(chosen_logprob == 0 for chosen_logprob, _ in tokens))
    chosen_logprobs, lists = [chosen_logprob for chosen_logprob, _ in tokens], [row for _, row in tokens]
    if too_much or placeholders:
        with pytest.raises(UnusableLogprobs):
            clean(chosen_logprobs, lists, k)
        return
    result = clean(chosen_logprobs, lists, k)
    np.testing.assert_allclose(result.logprobs, np.float32(truth.logprobs), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result.top_logprobs, np.reshape(np.float32(truth.top), (len(tokens), -1)))
    assert result.censored.tolist() == truth.censored
    assert np.isfinite(result.logprobs).all()
    assert (np.diff(np.maximum(result.top_logprobs, -1e9), axis=1) <= 0).all()


def pieces(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


@pytest.mark.parametrize(
    ("stream", "answer", "span"),
    [
        (pieces("A"), "A", (0, 1)),
        (pieces("A", "<|im_end|>"), "A", (0, 1)),
        (pieces("A", ""), "A", (0, 1)),
        (pieces("think", "</think>", "\n\n", "A", "<|im_end|>"), "A", (3, 4)),
        (pieces("A", " so", " A", "</think>", "\n\nA", "</s>"), "A", (4, 5)),
        (pieces("E", "<|EOT|>"), "E", (0, 1)),
        (pieces(">", "</s>"), ">", (0, 1)),
        (pieces(" Paris", ".", "\n"), "Paris.", (0, 2)),
        (pieces("\n", "Paris", "STOP"), "Paris", (1, 2)),
        (pieces("yes", " no"), "maybe", None),
        ([b"\xe7\xa9", b"\xba", b"</s>"], "空", (0, 2)),
    ],
)
def test_the_answers_tokens_are_found_at_the_end_of_the_stream(stream, answer, span):
    assert answer_span(stream, answer.encode()) == span


def test_characters_that_a_server_broke_still_align():  # vLLM writes EF BF BD for parts of a character
    stream = pieces("空", "</think>", "it", " is", " \ufffd", "\ufffd", "い", "!", "<|im_end|>")
    assert answer_span(stream, "it is 青い!".encode()) == (2, 8)
    assert answer_span(pieces("hm", "</think>", "\ufffd", "\ufffd"), "青".encode()) == (2, 4)


@given(st.lists(st.text("ab é空\n", min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_any_answer_after_thinking_is_found_whole(answer, data):
    before = data.draw(st.lists(st.text("ab é空", max_size=3), max_size=5))
    after = data.draw(st.sampled_from([[], ["<|im_end|>"], ["", ""], ["</s>", "<|eot_id|>"]]))
    stream = pieces(*before, "</think>", *answer, *after)
    assert answer_span(stream, "".join(answer).encode()) == (len(before) + 1, len(before) + 1 + len(answer))
