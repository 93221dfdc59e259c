"""Tests of the questions for SmolLM2: splits by entity, no question twice, and only test questions in the demo."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from swift_client.pocket import everyday
from tools.smollm2.questions import FAMILIES, Question, generate, in_blocks
from tools.smollm2.tables import read_table, write_number


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return generate(seed=0)


def test_there_are_thousands_of_different_questions_and_four_hundred_foreign_ones(questions: list[Question]) -> None:
    asked = {str(question.messages) for question in questions}
    assert len(questions) == len(asked) == len({question.id for question in questions}) >= 4_000
    counts = Counter(question.split for question in questions)
    assert counts["test"] >= 1_000
    assert counts["foreign"] >= 400


def test_the_same_seed_gives_the_same_questions(questions: list[Question]) -> None:
    assert generate(seed=0) == questions
    assert {question.id for question in generate(seed=1)} == {question.id for question in questions}


def test_a_country_is_in_one_split_whatever_is_asked_about_it(questions: list[Question]) -> None:
    splits = defaultdict(set)
    countries = {row["country"] for row in read_table("countries")}
    for question in questions:
        if FAMILIES[question.family]["table"] == "countries" and question.split != "foreign":
            asked = question.messages[-1]["content"]
            named = {country for country in countries if f" {country}" in f" {asked}" or country == question.answer}
            if len(named) == 1:
                splits[named.pop()].add(question.split)
    assert len(splits) > 150
    assert {len(values) for values in splits.values()} == {1}


def test_any_of_several_right_answers_is_accepted(questions: list[Question]) -> None:
    answers = {question.messages[-1]["content"]: question.answer for question in questions}
    assert answers["What is a person from Denmark called?"] == ["Danish", "Dane"]
    assert answers["What is a person from Norway called?"] == "Norwegian"
    assert answers["Say in one sentence what people speak in Belgium."] == [
        *("People in Belgium speak Dutch.", "People in Belgium speak French.", "People in Belgium speak German.")
    ]


def test_families_are_foreign_as_a_whole(questions: list[Question]) -> None:
    by_split = defaultdict(set)
    for question in questions:
        by_split[question.split].add(question.family)
    assert not by_split["foreign"] & (by_split["train"] | by_split["validation"] | by_split["test"])
    assert by_split["train"] == by_split["validation"] == by_split["test"]


def test_a_solved_example_is_never_asked(questions: list[Question]) -> None:
    for question in questions:
        *shown, asked = [message["content"] for message in question.messages if message["role"] == "user"]
        assert asked not in shown


def test_a_prefix_of_the_blocks_holds_every_family_and_split(questions: list[Question]) -> None:
    half = in_blocks(questions, 8)[: len(questions) // 2]
    assert {question.family for question in half} == set(FAMILIES)
    assert Counter(question.split for question in half)["test"] >= 600


@pytest.mark.parametrize(
    ("number", "words"),
    [(7, "seven"), (40, "forty"), (91, "ninety-one"), (100, "one hundred"), (113, "one hundred thirteen")],
)
def test_numbers_are_written_in_words(number: int, words: str) -> None:
    assert write_number(number) == words


def test_the_demo_asks_test_questions_in_the_words_of_the_benchmark(questions: list[Question]) -> None:
    test_questions = {
        (str(question.messages), question.answer if isinstance(question.answer, str) else question.answer[0])
        for question in questions
        if question.split == "test"
    }
    shown = everyday.questions(1_000, seed=3)
    assert len(shown) == len({question.id for question in shown}) >= 90
    assert {(str(everyday.few_shot(question)), question.answer) for question in shown} <= test_questions


def test_the_demo_takes_families_in_turn_and_the_same_questions_for_a_seed() -> None:
    shown = everyday.questions(16, seed=0)
    assert everyday.questions(16, seed=0) == shown != everyday.questions(16, seed=1)
    assert Counter(question.family for question in shown).most_common(1)[0][1] == 2
