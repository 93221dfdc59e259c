"""Tests of the choice from scores and answers, against hand-made cases, plain loops and scorio."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scorio import agg

from swift_client import rank
from swift_client.answers import Answers, Spec, read
from swift_client.errors import ConfigurationError
from swift_client.selection.choose import Choice, choose
from swift_client.types import Completion, FinishReason

NAN = float("nan")


def completions(count: int, cut: tuple[int, ...] = (), reason: FinishReason = "length") -> list[Completion]:
    return [
        Completion(text="", index=index, finish_reason=reason if index in cut else "stop") for index in range(count)
    ]


def answered(*values: str | None) -> Answers:
    order: dict[str, int] = {}
    groups = tuple(None if value is None else order.setdefault(value, len(order)) for value in values)
    return Answers(values=values, groups=groups)


def pick(values, answers, *, cut=(), reason: FinishReason = "length", weights=None, method="auto") -> Choice:
    return choose(
        completions(len(values), cut, reason),
        np.array(values, np.float32),
        weights=None if weights is None else np.array(weights, np.float64),
        answers=answered(*answers),
        method=method,
    )


def test_best_takes_the_highest_score() -> None:
    choice = pick([-2, -1, -3], "aba", method="best")
    assert (choice.winner, choice.method, choice.weights, choice.notes) == (1, "best", (0, 0, 0), ())


def test_vote_beats_a_higher_score_and_shows_the_best_member_of_the_winning_answer() -> None:
    choice = pick([-3, -1, -2], "aba")
    assert (choice.winner, choice.method, choice.weights) == (2, "vote", (1, 1, 1))


def test_weights_are_summed_and_never_averaged() -> None:
    # "a": 0.9 alone; "b": 0.4 + 0.4 + 0.4 = 1.2, though its mean is lower
    choice = pick([4, 1, 2, 3], "abbb", weights=[0.9, 0.4, 0.4, 0.4])
    assert choice.winner == 3
    assert choice.weights == pytest.approx((0.9, 0.4, 0.4, 0.4))
    assert pick([4, 1, 2, 3], "abbb", weights=[0.9, 0.2, 0.2, 0.2]).winner == 0


def test_a_weight_of_zero_or_nan_still_counts_for_a_little() -> None:
    choice = pick([1, 2, 3], "abb", weights=[0.0, 0.0, NAN])
    assert len(set(choice.weights)) == 1
    assert 0 < choice.weights[0] < 1e-9
    assert choice.winner == 2


def test_answers_of_equal_weight_are_separated_by_their_best_member_then_by_index() -> None:
    assert pick([-1, -5, -3, -2], "abab").winner == 0
    assert pick([-2, -1, -1, -2], "abab").winner == 1
    assert pick([-1, -1, -1, -1], "abab").winner == 0
    assert pick([-3, -1], "ab").winner == 1


def test_best_breaks_ties_by_the_completions_index_and_not_by_position() -> None:
    three = [Completion(text="", index=index) for index in (2, 0, 1)]
    choice = choose(three, np.ones(3, np.float32), answers=answered(None, None, None))
    assert choice.winner == 1


@pytest.mark.parametrize("method", ["auto", "best", "vote"])
def test_a_nan_score_never_wins_against_a_number(method: str) -> None:
    assert pick([NAN, -math.inf, NAN], "abc", method=method).winner == 1
    assert pick([NAN, -9, NAN], [None] * 3, method=method).winner == 1


def test_no_scores_at_all_give_the_first_complete_answer_and_a_note() -> None:
    choice = pick([NAN, NAN, NAN], [None] * 3, cut=(0,))
    assert choice.winner == 1
    assert choice.notes == ("No complete answer has a score, so ties go to the first one.",)
    assert pick([NAN, NAN, NAN], "abb").winner == 1


@pytest.mark.parametrize("reason", ["length", "content_filter", "refusal", "error"])
def test_cut_filtered_and_refused_completions_neither_vote_nor_win(reason: FinishReason) -> None:
    choice = pick([3, 2, 1], "aab", cut=(0, 1), reason=reason)
    assert (choice.winner, choice.method, choice.weights, choice.notes) == (2, "vote", (0, 0, 1), ())
    assert pick([3, 2, 1], "aab", cut=(0, 1), reason=reason, method="best").winner == 2
    assert pick([3, 2, NAN], [None] * 3, cut=(0, 1), reason=reason).winner == 2


def test_when_every_completion_was_cut_the_best_score_wins_with_a_note() -> None:
    choice = pick([1, 3, 2], "aab", cut=(0, 1, 2))
    assert (choice.winner, choice.method, choice.weights) == (1, "best", (0, 0, 0))
    assert choice.notes == ("No completion ended by itself: the choice is among cut, filtered or refused ones.",)


def test_a_completion_that_ended_for_an_unknown_reason_does_not_vote_beside_complete_ones() -> None:
    choice = pick([1, 3, 2], "abb", cut=(1, 2), reason="unknown")
    assert (choice.winner, choice.method, choice.weights) == (0, "vote", (1, 0, 0))
    assert choice.notes == ("2 completion(s) ended with an unknown finish reason: they count as incomplete.",)


def test_when_every_end_is_unknown_the_vote_is_among_them_with_a_note() -> None:
    choice = pick([1, 3, 2], "abb", cut=(0, 1, 2), reason="unknown")
    assert (choice.winner, choice.method, choice.weights) == (1, "vote", (1, 1, 1))
    assert choice.notes == (
        "No completion ended with a known finish reason: the choice is among those with an unknown one.",
    )


def test_a_tool_call_is_complete() -> None:
    assert pick([1, 2], "ab", cut=(1,), reason="tool_calls").winner == 1


def test_auto_takes_the_best_score_where_no_answer_could_be_read() -> None:
    choice = pick([1, 3, 2], [None] * 3)
    assert (choice.winner, choice.method, choice.notes) == (1, "best", ())


def test_a_vote_that_was_asked_for_and_cannot_be_held_is_noted() -> None:
    choice = pick([1, 3, 2], [None] * 3, method="vote")
    assert (choice.winner, choice.method) == (1, "best")
    assert choice.notes == ("No complete answer could be read, so there was no vote: the best score wins.",)


def test_the_readers_note_comes_with_the_choice() -> None:
    prose = "It was a dark and stormy night, and the rain fell in torrents."
    answers = read([prose, prose, "The answer is 3."], "auto")
    choice = choose(completions(3), np.array([1, 3, 2], np.float32), answers=answers)
    assert (choice.winner, choice.method) == (1, "best")
    assert choice.notes == (answers.note,)


def test_unreadable_completions_do_not_vote() -> None:
    choice = pick([9, 1, 9], [None, "a", None])
    assert (choice.winner, choice.weights) == (1, (0, 1, 0))


@pytest.mark.parametrize("method", ["auto", "best", "vote"])
@pytest.mark.parametrize("value", [0.5, NAN])
@pytest.mark.parametrize("answer", ["a", None])
@pytest.mark.parametrize("cut", [(), (0,)])
def test_a_single_completion_always_wins(method: str, value: float, answer: str | None, cut: tuple[int, ...]) -> None:
    assert pick([value], [answer], cut=cut, method=method).winner == 0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no completions"):
        pick([], [])
    with pytest.raises(ConfigurationError, match='"vote" or "consensus"'):
        pick([1], "a", method="majority")
    with pytest.raises(ValueError, match="do not match"):
        choose(completions(2), np.ones(3, np.float32), answers=answered("a", "b"))
    with pytest.raises(ValueError, match="do not match"):
        pick([1, 2], "ab", weights=[1.0])


SCORES = st.sampled_from([-2.0, -1.0, -0.5, 0.0, NAN, -math.inf])
POOL = st.lists(
    st.tuples(
        SCORES, st.sampled_from(["a", "b", "c", None]), st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.7, NAN])
    ),
    min_size=1,
    max_size=12,
)


@given(POOL, st.randoms(), st.sampled_from(["auto", "best", "vote"]), st.booleans())
def test_the_order_of_the_completions_does_not_matter(pool, random, method: str, weighted: bool) -> None:
    def winner(order: list[int]) -> tuple[int, str, list[float]]:
        ordered_pool = [pool[index] for index in order]
        choice = choose(
            [Completion(text="", index=index, finish_reason="length" if pool[index][2] else "stop") for index in order],
            np.array([row[0] for row in ordered_pool], np.float32),
            weights=np.array([row[3] for row in ordered_pool]) if weighted else None,
            answers=answered(*(row[1] for row in ordered_pool)),
            method=method,
        )
        weights = dict(zip(order, choice.weights, strict=True))
        return order[choice.winner], choice.method, [weights[index] for index in range(len(pool))]

    order = list(range(len(pool)))
    expected = winner(order)
    random.shuffle(order)
    assert winner(order) == expected


@given(POOL)
def test_the_winner_is_never_beaten_by_its_own_rule(pool) -> None:
    scores, answers, cuts, _ = zip(*pool, strict=True)
    cut = tuple(index for index, is_cut in enumerate(cuts) if is_cut)
    choice = pick(scores, answers, cut=cut)
    votes = Counter(answers[index] for index in range(len(pool)) if index not in cut and answers[index] is not None)
    if votes:
        assert choice.method == "vote"
        assert votes[answers[choice.winner]] == max(votes.values())
        rivals = [index for index in range(len(pool)) if index not in cut and answers[index] == answers[choice.winner]]
    else:
        assert choice.method == "best"
        rivals = [index for index in range(len(pool)) if index not in cut] or list(range(len(pool)))
    finite = [scores[index] for index in rivals if not math.isnan(scores[index])]
    assert choice.winner in rivals
    assert not finite or scores[choice.winner] == max(finite)


def test_votes_agree_with_scorio() -> None:
    random = np.random.default_rng(0)
    compared = 0
    for _ in range(300):
        count = int(random.integers(1, 17))
        answers = random.choice(["a", "b", "c", "d"], count).tolist()
        weights = random.uniform(0.01, 1, count)
        scores = random.normal(size=count)
        assert answers[pick(scores, answers, weights=weights).winner] == agg.weighted_majority_vote(answers, weights)
        assert pick(scores, answers, method="best").winner == agg.best_of_n(answers, scores, return_index=True)[1]
        (first, top_count), *other_counts = Counter(answers).most_common()
        if not other_counts or other_counts[0][1] < top_count:  # scorio breaks ties by appearance, we by the best score
            assert answers[pick(scores, answers).winner] == agg.majority_vote(answers) == first
            compared += 1
    assert compared > 150


# --- Notes on answers that a reader could not find ----------------------------------------------------------------

RAMBLING = "It was a dark and stormy night, and the rain fell in torrents."


def notes_of(texts: list[str], answer: Spec, cut: tuple[int, ...] = ()) -> tuple[str, ...]:
    pool = [
        Completion(text=text, index=index, finish_reason="length" if index in cut else "stop")
        for index, text in enumerate(texts)
    ]
    return tuple(note for note in rank(pool, answer=answer).notes if "answer" in note and "score, so" not in note)


@pytest.mark.parametrize(
    ("answer", "name"),
    [("number", "'number'"), ("boxed", "'boxed'"), (r"= (\d+)", r"regex '= (\\d+)'"), ("json", "'json'")],
)
def test_a_reader_that_was_asked_for_and_finds_nothing_says_so(answer: str, name: str) -> None:
    assert notes_of([RAMBLING] * 3, answer) == (
        f"The answer reader {name} found no answer in any of 3 texts: the choice rests on the similarity of the texts.",
    )


def test_texts_in_which_the_reader_finds_nothing_are_counted_without_empty_and_cut_ones() -> None:
    texts = ["#### 18", RAMBLING, "#### 18", " ", RAMBLING, RAMBLING]
    assert notes_of(texts, "number", cut=(4,)) == (
        "The answer reader 'number' found no answer in 2 of 4 texts, which do not vote.",
    )


def test_an_exception_of_a_reader_is_not_counted_twice() -> None:
    def first_word(text: str) -> str | None:
        return text.split()[0] if text != "-" else None

    assert notes_of(["a b", " ", "-"], first_word) == (
        "The answer reader failed on 1 of 3 texts: IndexError: list index out of range. "
        "The answer reader 'first_word' found no answer in 1 of 2 texts, which do not vote.",
    )


@pytest.mark.parametrize("answer", ["number", "text", None])
def test_there_is_no_note_where_every_answer_was_read_or_none_was_asked_for(answer: Spec) -> None:
    assert notes_of(["#### 18", "#### 19"], answer) == ()


def test_auto_says_one_sentence_about_free_text_and_none_about_a_few_unread_answers() -> None:
    assert notes_of([RAMBLING] * 3, "auto") == (
        "Only 0 of 3 texts have a marked answer, so the choice rests on the similarity of the texts.",
    )
    assert notes_of(["#### 18", RAMBLING, "#### 18"], "auto") == ()
