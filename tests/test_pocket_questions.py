"""Tests of the packaged model's questions: independently computed answers, disjoint splits, one set per seed."""

from __future__ import annotations

import operator
import re
import subprocess
import sys

import pytest

from swift_client.pocket.questions import (
    DEFAULT_LEVELS,
    FAMILIES,
    TRAINED_LEVELS,
    Question,
    questions,
    split_of,
    worked_examples,
)

TIMES = re.compile(r"becomes (\d+) times as large|makes it (\d+) times as many|grows to (\d+) times its size")
LESS = ("away", "takes", "lost", "sells", "broken")


def recomputed(question: Question) -> str:
    """Answer ``question`` from the words of its prompt alone."""
    if question.family == "coin_flip":
        turned = re.findall(r"(\w+) flips the coin", question.prompt)
        return "no" if len(turned) % 2 else "yes"
    if question.family == "last_letters":
        quoted = question.prompt.split('"')[1]
        return "".join(word[len(word) - 1] for word in quoted.split(" "))
    start, *steps, _ = re.findall(r"[^.?]+[.?]", question.prompt)
    total = int(re.findall(r"\d+", start)[0])
    for step in steps:
        (number,) = map(int, re.findall(r"\d+", step))
        act = operator.mul if TIMES.search(step) else operator.sub if any(w in step for w in LESS) else operator.add
        total = act(total, number)
    return str(total)


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_agree_with_a_second_reading_of_the_prompt(family: str) -> None:
    for question, _ in worked_examples(1_500, seed=5, split="validation", families=[family]):
        assert question.answer == recomputed(question), question


def test_every_solution_ends_in_the_marked_answer_and_its_written_sums_hold() -> None:
    for question, solution in worked_examples(3_000, seed=6):
        assert solution.endswith(f"The answer is {question.answer}."), solution
        assert solution.count("The answer is") == 1
        for a, sign, b, c in re.findall(r"(\d+)([-+*])(\d+)=(\d+)", solution):
            assert {"+": operator.add, "-": operator.sub, "*": operator.mul}[sign](int(a), int(b)) == int(c)


def test_written_coin_states_hold_at_every_stop() -> None:
    hasty = re.compile(r"(?:After|Up to|By|Until) (\w+)(?: it is|:) (heads|tails)")
    careful = re.compile(r"(\w+) (?:flips|does not)[,:](?: so| now)? (heads|tails)")
    for question, solution in worked_examples(600, seed=7, families=["coin_flip"]):
        people = re.findall(r"(\w+) (flips|does not flip) the coin", question.prompt)
        names = [name for name, _ in people]
        stops = hasty.findall(solution) or careful.findall(solution)
        assert stops
        assert hasty.search(solution) or [carrier for carrier, _ in stops] == names
        for person, side in stops:
            stop = names.index(person) + 1
            turned = sum(act == "flips" for _, act in people[:stop])
            assert side == ("tails" if turned % 2 else "heads"), (question.prompt, solution)


def test_no_test_question_is_ever_a_training_question() -> None:
    prompts_by_split = {
        split: {q.prompt for q, _ in worked_examples(4_000, seed=8, split=split)} for split in ("train", "test")
    }
    assert not prompts_by_split["train"] & prompts_by_split["test"]
    # By construction, not by luck: the split is a function of the prompt, under every seed and level.
    assert all(split_of(prompt) == split for split, prompts in prompts_by_split.items() for prompt in prompts)
    assert all(split_of(question.prompt) == "validation" for question in questions(200, seed=9, split="validation"))


def test_one_seed_gives_one_set_in_every_process() -> None:
    program = "from swift_client.pocket.questions import *; print([(q.id, q.answer) for q in questions(60, seed=3)])"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert printed == {str([(question.id, question.answer) for question in questions(60, seed=3)])}
    assert [q.id for q in questions(60, seed=4)] != [q.id for q in questions(60, seed=3)]


def test_questions_differ_carry_unique_ids_and_take_turns_by_family() -> None:
    sample = questions(300, seed=0)
    assert len({question.id for question in sample}) == len({question.prompt for question in sample}) == 300
    assert [question.family for question in sample[:6]] == [*FAMILIES, *FAMILIES]
    assert sample[:50] == questions(50, seed=0)


def test_asked_levels_lie_inside_the_trained_ones() -> None:
    for family in FAMILIES:
        assert set(DEFAULT_LEVELS[family]) <= set(range(1, TRAINED_LEVELS[family] + 1))
        assert {q.level for q in questions(120, seed=0, families=[family])} == set(DEFAULT_LEVELS[family])


def test_coin_answers_are_balanced() -> None:
    answers = [question.answer for question in questions(1_000, seed=1, families=["coin_flip"])]
    assert 0.44 < answers.count("yes") / 1_000 < 0.56


@pytest.mark.parametrize(("n", "families"), [(-1, FAMILIES), (3, ()), (3, ("algebra",))])
def test_impossible_wishes_are_refused(n: int, families: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"n is|families must"):
        questions(n, seed=0, families=families)
