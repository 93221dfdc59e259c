"""Tests of short sentences and bare values: which of them vote together, and which never do.

Measured on three recorded sets (mintaka_gpt51 and hotpotqa_gemini25flash with seven answers per question, SmolLM2-135M
with sixteen) against their labels: no right and wrong answers were merged.
"""

from __future__ import annotations

import json
import string
import time
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swift_client import Completion, rank
from swift_client.answers import read
from swift_client.answers.short_answers import MAX_LENGTH, read_short_answers

TOGETHER = [
    (
        "santiago",
        ["The capital of Chile is Santiago.", "Santiago", "It's Santiago", "Santiago is the capital of Chile"],
    ),
    ("16", ["Final Answer: Each nephew gets 16 cookies.", "Final Answer: 16"]),
    (
        "jupiter",
        ["The largest planet is Jupiter.", "Jupiter", "It is Jupiter.", "Jupiter is the largest planet of all."],
    ),
    ("frank herbert", ["The author is Frank Herbert.", "Frank Herbert", "It was written by Frank Herbert."]),
    ("frank herbert", ["Frank Herbert wrote Dune.", "Frank Herbert", "Dune was written by Frank Herbert."]),
    ("12", ["Each box holds 12 pencils.", "12", "There are 12 pencils in each box."]),
    ("11", ["She has $11 left.", "$11", "11"]),
    ("3.5", ["The train takes 3.5 hours.", "3.5", "It takes 3.5 hours."]),
    ("1945", ["The war ended in 1945.", "1945", "It ended in 1945"]),
    ("-5", ["The temperature is -5 degrees.", "-5"]),
    ("paris", ["The Louvre is located in Paris.", "Paris", "It is in Paris."]),
    ("george washington", ["The first president was George Washington.", "George Washington"]),
    (
        "emmanuel macron",
        ["The President of France is Emmanuel Macron", "Emmanuel Macron", "That would be Emmanuel Macron."],
    ),
    ("la paz", ["La Paz is the capital of Bolivia", "La Paz", "I think it's La Paz."]),
    (
        "au",
        ["The chemical symbol for gold is Au.", "Au", "Gold's chemical symbol is Au.", "Au is the symbol for gold."],
    ),
    (
        "inception",
        ["The film is called Inception.", "Inception", "The film is titled Inception.", "It's Inception, of course."],
    ),
    ("argentina", ["The winner was Argentina.", "Argentina", "Argentina won.", "Argentina won the 2022 World Cup."]),
    ("canberra", ["The capital of Australia is **Canberra**.", "Canberra", "So it is Canberra."]),
    ("miami heat", ["My favourite is the Miami Heat.", "Miami Heat"]),
    ("42", ["The sum is 42.", "42", "The sum equals 42.", "The sum of the two numbers is 42."]),
    ("100", ["Water boils at 100 degrees Celsius.", "100"]),
    ("16", ["Cada sobrino recibe 16 galletas.", "16"]),
    ("25", ["Final Answer: Each of them will get 25%.", "Final Answer: 25%"]),
    ("1234", ["There were 1,234 visitors.", "1,234"]),
    ("neil armstrong", ["It was Neil Armstrong who walked there.", "Neil Armstrong", "It was Neil Armstrong."]),
    ("3000000", ["The city has 3 million inhabitants.", "3 million"]),
    (
        "paris",
        [
            "Die Hauptstadt von Frankreich ist Paris.",
            "Paris",
            "Es ist Paris",
            "Paris ist die Hauptstadt von Frankreich.",
        ],
    ),
    ("paris", ["La capitale de la France est Paris.", "Paris", "C'est Paris.", "Paris est la capitale de la France."]),
    ("parís", ["La capital de Francia es París.", "París", "Es París."]),
    ("parigi", ["La capitale della Francia è Parigi.", "Parigi", "È Parigi"]),
    ("parijs", ["De hoofdstad van Frankrijk is Parijs.", "Parijs", "Het is Parijs."]),
    ("париж", ["Столица Франции — Париж.", "Париж", "Это Париж."]),
    ("巴黎", ["法国的首都是巴黎。", "巴黎"]),
    ("パリ", ["フランスの首都はパリです。", "パリ"]),
    ("파리", ["프랑스의 수도는 파리입니다.", "파리"]),
]

# Without a bare value.
SENTENCES_TOGETHER = [
    ("santiago", ["The capital of Chile is Santiago.", "Santiago is the capital of Chile."]),
    ("santiago", ["Chile's capital is Santiago.", "The capital of Chile is Santiago.", "It's Santiago."]),
    ("3.5", ["The train takes 3.5 hours.", "It takes 3.5 hours."]),
    ("frank herbert", ["Dune was written by Frank Herbert.", "It was written by Frank Herbert."]),
    ("paris", ["Die Hauptstadt von Frankreich ist Paris.", "Paris ist die Hauptstadt von Frankreich."]),
]

APART = [
    # negations and doubts
    ("The capital of Chile is not Santiago.", "Santiago"),
    ("It isn't Santiago.", "It's Santiago."),
    ("The capital might be Santiago.", "Santiago"),
    ("Is the capital Santiago?", "Santiago"),
    ("The capital is Lima rather than Santiago.", "Santiago"),
    ("Either Lima or Santiago is the capital.", "Lima"),
    ("The capital of Chile is Lima or Santiago.", "Santiago"),
    ("Unlike Lima, Santiago is the capital.", "Lima"),
    ("Everyone but Tom is a winner.", "Tom"),
    ("No, the capital is Santiago.", "Yes, the capital is Santiago."),
    ("All of them are prime.", "None of them are prime."),
    ("The statement is true.", "The statement is false."),
    ("The patient is allergic to it.", "The patient is not allergic to it."),
    ("Die Hauptstadt ist nicht Paris.", "Paris"),
    ("Keine der Städte ist Paris.", "Paris"),
    ("La capitale n'est pas Paris.", "Paris"),
    ("Столица не Париж.", "Париж"),
    ("首都不是巴黎。", "巴黎"),
    ("首都はパリではない。", "パリ"),
    ("Nobody wrote Hamlet.", "Hamlet"),
    # other names
    ("The capital of Chile is Santiago.", "The capital of Chile is Lima."),
    ("The capital of Chile is Santiago.", "Chile"),
    ("The capital of Chile is Santiago.", "The capital of Peru is Santiago."),
    ("The president was George W. Bush.", "The president was George H. W. Bush."),
    ("The president was George W. Bush.", "George H. W. Bush"),
    ("The city is New York.", "York"),
    ("The city is New York.", "The city is New Jersey."),
    ("The capital is Paris, Texas.", "Paris"),
    ("Dune was written by Frank Herbert.", "Brian Herbert"),
    ("Hamlet was written by Shakespeare.", "Hamlet"),
    ("Shakespeare wrote Hamlet.", "Hamlet"),
    ("France beat Brazil.", "Brazil"),
    ("Brazil was beaten by France.", "France"),
    ("Jupiter is bigger than Saturn.", "Saturn"),
    ("Jupiter is bigger than Saturn.", "Jupiter"),
    ("Einstein is a physicist.", "Einstein is a mathematician."),
    ("The cat is black.", "The dog is black."),
    ("The old cat over there is black.", "The dog is black."),
    ("Saturn is the second largest planet.", "Jupiter is the largest planet."),
    ("Tom's brother is Jerry.", "Tom"),
    ("The first is Tom and the second is Ann.", "Ann"),
    ("It was built in Rome.", "It was built by Rome."),
    ("It's option A.", "It's option B."),
    ("Battle of Berlin", "Berlin"),
    # other numbers
    ("Each nephew gets 16 cookies.", "Each nephew gets 18 cookies."),
    ("There are at least 16 cookies.", "16"),
    ("More than 16 cookies are left.", "16"),
    ("Apollo 11 was the mission.", "11"),
    ("The mission was Apollo 11.", "11"),
    ("Section 12 is the relevant one.", "12"),
    ("The meeting is on May 5.", "5"),
    ("Tom has 3 red and 5 blue marbles.", "5"),
    ("He scored 3 goals in 2 games.", "2"),
    ("Two of the 16 cookies are left.", "16"),
    ("Half of 16 is the answer.", "16"),
    ("The answer is between 3 and 5.", "5"),
    ("It happened before 1945.", "1945"),
    ("It costs $5 per person.", "$5 million"),
    ("The temperature is -5 degrees.", "5"),
    ("The temperature is minus 5.", "5"),
    ("The temperature is 1.5 degrees.", "5"),
    ("The temperature is 1.5 degrees.", "15"),
    ("The number is 1,500.", "500"),
    ("The probability is 1/2.", "2"),
    ("The time is 2:30 pm.", "2"),
    ("It starts at 3 pm.", "3"),
    ("The battle was on 5 may.", "5"),
    ("Version 5 of the program", "5"),
    ("12 Monkeys", "12"),
    ("The film is 12 Monkeys.", "12"),
    ("5 out of 7 voters", "5"),
    ("The ratio is 2:1.", "1"),
]


@pytest.mark.parametrize(("answer", "texts"), TOGETHER)
def test_a_bare_value_and_sentences_that_say_it_vote_together(answer: str, texts: list[str]) -> None:
    answers = read(texts)
    assert answers.groups == (0,) * len(texts)
    assert set(answers.values) == {answer}
    assert answers.note is None
    bare = texts[1]
    for text in texts:
        assert read([text, bare]).groups == (0, 0)


@pytest.mark.parametrize(("answer", "texts"), SENTENCES_TOGETHER)
def test_sentences_with_agreeing_words_vote_together(answer: str, texts: list[str]) -> None:
    for ordered in permutations(texts):
        assert set(read(ordered).groups) == {0}
    assert read(texts).values[0] == answer


@pytest.mark.parametrize(("sentence", "other"), APART)
@pytest.mark.parametrize("n_others", [1, 3])
def test_what_is_not_the_same_answer_is_never_merged(sentence: str, other: str, n_others: int) -> None:
    for texts in ([sentence, *[other] * n_others], [*[other] * n_others, sentence]):
        sentence_group, other_group = read(texts).groups[texts.index(sentence)], read(texts).groups[texts.index(other)]
        assert sentence_group is None or sentence_group != other_group


def test_what_differs_is_the_answer() -> None:
    texts = ["Each of the 3 nephews gets 16 cookies.", "Each of the 3 nephews gets 18 cookies.", "18"]
    assert read(texts).values == ("16", "18", "18")
    texts = ["Mozart's teacher was Joseph Haydn.", "Mozart's teacher was Antonio Salieri.", "Michael Haydn"]
    assert read(texts).values == ("joseph haydn", "antonio salieri", "michael haydn")


def test_a_sentence_in_which_two_bare_values_stand_joins_neither() -> None:
    answers = read(["Einstein is a physicist.", "Einstein", "Physicist", "Einstein"])
    assert answers.groups[0] not in answers.groups[1:]


def test_a_different_answer_stays_apart_when_a_bare_value_joins_others() -> None:
    texts = ["The capital of Chile is Santiago.", "The capital of Peru is Santiago.", "Santiago", "It's Lima."]
    groups = read(texts).groups
    assert groups[0] == groups[2] != groups[3]
    assert groups[1] not in (groups[0], groups[3])


def test_equal_sentences_vote_together_though_nothing_can_be_taken_from_them() -> None:
    sentence = "Neither of the two ever became monarch of Great Britain."
    assert read([sentence, sentence.lower(), "Great Britain"]).groups == (0, 0, 1)


def test_free_text_is_still_left_unread_with_its_sentence() -> None:
    prose = "It was a dark and stormy night, and the rain fell in torrents."
    story = f"{prose} {prose}"
    for texts in ([prose, story, "The answer is 3."], [f"{story} {n}" for n in range(4)]):
        answers = read(texts)
        assert set(answers.groups) == {None}
        assert answers.note is not None
        assert "have a marked answer, so the choice rests on scores alone." in answers.note


def test_other_readers_do_not_compare_sentences() -> None:
    texts = ["The capital of Chile is Santiago.", "Santiago"]
    assert read(texts, "text").groups == (0, 1)
    assert read(texts, lambda text: text).groups == (0, 1)


def test_the_candidate_shows_what_was_compared() -> None:
    texts = ["The capital of Chile is Santiago.", "Lima", "It's Santiago"]
    completions = [Completion(text=text, index=index, finish_reason="stop") for index, text in enumerate(texts)]
    selection = rank(completions)
    assert [candidate.answer for candidate in selection.candidates] == ["santiago", "lima", "santiago"]
    assert selection.method == "vote"
    assert selection.winner in (0, 2)


# --- Properties

NAMES = st.sampled_from(
    [
        "Lima",
        "Santiago",
        "New York",
        "Rio de Janeiro",
        "Jean-Luc Picard",
        "J. K. Rowling",
        "The Beatles",
        "Bonn",
        "Ürümqi",
    ]
)
FRAMES = st.sampled_from(
    [
        "The capital of Chile is {}.",
        "{} is the capital of Chile.",
        "It's {}.",
        "It is {}",
        "That would be {}.",
        "I think it's {}.",
        "Chile's capital is {}.",
        "The film was directed by {}.",
        "It is located in {}.",
        "{}",
        "Answer: {}",
        "**{}**",
    ]
)
DENIALS = st.sampled_from(
    [
        "It is not {}.",
        "It isn't {}.",
        "The capital of Chile is not {}.",
        "{} is not the capital of Chile.",
        "Nobody says that it is {}.",
        "It could never be {}.",
        "The capital is anything but {}.",
        "I doubt that it's {}.",
        "It is false that it's {}.",
    ]
)
NUMBERS = st.one_of(st.integers(-50, 5000), st.decimals(-20, 20, places=2)).map(str)
COUNTS = st.sampled_from(
    [
        "Each nephew gets {} cookies.",
        "{}",
        "There are {} cookies.",
        "She has {} cookies left.",
        "The sum is {}.",
        "It is {}",
    ]
)


def stated(frames: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(frames, values).map(lambda pair: (pair[0].format(pair[1]), pair[1]))


@given(st.lists(stated(FRAMES, NAMES), min_size=2, max_size=8))
def test_different_names_are_never_merged(pairs: list[tuple[str, str]]) -> None:
    groups = read([text for text, _ in pairs]).groups
    for (group, (_, name)), (other_group, (_, other)) in combinations(zip(groups, pairs, strict=True), 2):
        assert group is None or group != other_group or name == other


@given(st.lists(stated(COUNTS, NUMBERS), min_size=2, max_size=8))
def test_different_numbers_are_never_merged(pairs: list[tuple[str, str]]) -> None:
    groups = read([text for text, _ in pairs]).groups
    for (group, (_, number)), (other_group, (_, other)) in combinations(zip(groups, pairs, strict=True), 2):
        assert group is None or group != other_group or float(number) == float(other)


@given(
    st.lists(stated(FRAMES, NAMES), min_size=1, max_size=6), st.lists(stated(DENIALS, NAMES), min_size=1, max_size=3)
)
def test_a_denial_never_votes_for_what_it_denies(pairs: list[tuple[str, str]], denials: list[tuple[str, str]]) -> None:
    groups = read([text for text, _ in [*pairs, *denials]]).groups
    said, denied = groups[: len(pairs)], groups[len(pairs) :]
    assert not (set(said) & set(denied)) - {None}


@given(st.lists(stated(FRAMES, NAMES), min_size=2, max_size=6), st.randoms())
def test_the_order_of_the_texts_does_not_matter(pairs: list[tuple[str, str]], random: Any) -> None:
    texts = [text for text, _ in pairs]
    shuffled = random.sample(texts, len(texts))
    by_text = {text: set() for text in texts}
    for ordered in (texts, shuffled):
        answers = read(ordered)
        for text, value in zip(ordered, answers.values, strict=True):
            by_text[text].add(value)
    assert all(len(values) == 1 for values in by_text.values())


@settings(max_examples=300)
@given(st.lists(st.text(alphabet=string.printable + "是は的—’“äß", max_size=60), min_size=1, max_size=5))
def test_any_texts_are_read_without_an_error(texts: list[str]) -> None:
    answers = read_short_answers(texts, [None] * len(texts))
    assert len(answers) == len(texts)
    assert all(answer is None or answer for answer in answers)


def test_long_texts_and_many_of_them_take_little_time() -> None:
    for text in ("a is b " * 30_000, "x" * 200_000, "是" * 200_000, "it's " * 40_000, " " * 200_000):
        start = time.process_time()
        read_short_answers([text, f"{text}!"], [None, None])
        assert time.process_time() - start < 0.1
    many = [f"The word{index} of thing{index % 13} is value{index % 50}."[:MAX_LENGTH] for index in range(2000)]
    start = time.process_time()
    read_short_answers(many, [None] * len(many))
    assert time.process_time() - start < 2


# --- Recorded answers

SHARED = Path(__file__).parents[1].parent / "shared" / "datasets" / "real"


@pytest.mark.skipif(not SHARED.exists(), reason="the data sets are not on this machine")
@pytest.mark.parametrize("name", ["mintaka_gpt51", "hotpotqa_gemini25flash"])
def test_right_and_wrong_recorded_answers_are_never_merged(name: str) -> None:
    import gzip

    with gzip.open(SHARED / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    merged = 0
    for row in rows:
        texts = [completion["text"] for completion in row["completions"]]
        labels = [completion.get("label") for completion in row["completions"]]
        pairs = list(zip(read(texts).groups, texts, labels, strict=True))
        for (group, text, label), (other_group, other_text, other_label) in combinations(pairs, 2):
            if group is not None and group == other_group and text != other_text:
                merged += 1
                assert {label, other_label} != {True, False}, (row["prompt"], text, other_text)
    assert merged > 400
