"""Tests of questions with several accepted answers: read, stored, graded, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.answers import math_equality
from swift_client.dataset.add_answers import add_answers
from swift_client.dataset.export_parquet import export_parquet
from swift_client.dataset.graders import grade, grade_all
from swift_client.dataset.questions import read_questions
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.types import Completion, Usage
from tests.children import command

CITY = ("Delhi", "New Delhi")
NAN = float("nan")


def completions_of(*texts: str) -> list[Completion]:
    return [Completion(text=text, index=index, finish_reason="stop") for index, text in enumerate(texts)]


def question_file(folder: Path, **fields: object) -> Path:
    path = folder / "q.jsonl"
    path.write_text(json.dumps({"id": "q1", "prompt": "Which city?", **fields}))
    return path


@pytest.mark.parametrize(
    ("text", "reference", "spec", "right"),
    [
        ("Answer: New Delhi", ["Delhi", "New Delhi"], "auto", True),
        ("Answer: Delhi", ("Delhi", "New Delhi"), "auto", True),
        ("Answer: Mumbai", {"Delhi", "New Delhi"}, "auto", False),
        ("Answer: Mumbai", frozenset(CITY), "text", False),
        ("new delhi", np.array(["Delhi", "New Delhi"]), "text", True),
        ("the answer is 41", [40, 41], "number", True),
        ("the answer is 0.50", [0.5, 1e3], "number", True),
        ("the answer is 1000", [0.5, 1e3], "number", True),
        ("the answer is 42", [40, 41.0], "number", False),
        ("the answer is 42", 42, "auto", True),
        ("the answer is 4.25", 4.25, "auto", True),
        ("the answer is 42", np.int64(42), "number", True),
        ("the answer is 42", np.float32(42), "number", True),
        # what the grader cannot read is left out, unless nothing is left
        ("#### 18", ["18 apples and 3 pears", "18"], "number", True),
        ("#### 19", ["18 apples and 3 pears", "18"], "number", False),
        ("#### 19", ["18 apples and 3 pears", None, NAN, ""], "number", None),
        ("#### 19", [], "number", None),
        ("The answer is (B).", ["A", "B"], "choice", True),
        ("The answer is (C).", ["A", "B"], "choice", False),
        ("No.", [True, "no"], "yes_no", True),
        ("Hello", ["hello", "Hello"], "exact", True),
        ("HELLO", ["hello", "Hello"], "exact", False),
        (r"\boxed{4}", ["3", "4"], "boxed", True),
        ("Score: 7", ["6", "7"], r"Score: (\d+)", True),
        # a list is one value for these two; a tuple is several accepted answers
        ("[1, 2]", [1, 2], "json", True),
        ("1", [1, 2], "json", False),
        ("[1, 2]", ([1, 2], [2, 1]), "json", True),
        ("[2, 1]", ([1, 2], [2, 1]), "json", True),
        ("[3, 1]", ([1, 2], [2, 1]), "json", False),
        ('{"a": 1.0}', ('{"a": 1}', {"a": 2}), "json", True),
        (r"\boxed{[1, 2]}", [1, 2], "literal", True),
        (r"\boxed{1}", [1, 2], "literal", False),
        (r"\boxed{1}", (1, 2), "literal", True),
    ],
)
def test_a_text_is_right_if_it_equals_any_accepted_answer(
    text: str, reference: Any, spec: str, right: bool | None
) -> None:
    assert grade(text, reference, spec) is right


def test_a_function_gets_the_list_as_it_is() -> None:
    assert grade("b", ["a", "b"], lambda text, reference: text == reference[1]) is True


def test_many_completions_are_graded_against_all_accepted_answers() -> None:
    grades = grade_all(completions_of("Answer: Delhi", "Answer: Mumbai", "Answer: New Delhi", "hmm…"), CITY)
    assert grades.labels.tolist() == [1, 0, 1, 0]
    assert grades.notes == ()


@pytest.mark.skipif(not math_equality.is_available(), reason="math-verify is not installed")
def test_a_comparison_that_timed_out_leaves_the_label_open_unless_another_answer_is_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(math_equality, "SECONDS_PER_PAIR", 0.0)
    assert grade(r"\boxed{x+1}", ["y+2", "z^2"], "math") is None
    assert grade(r"\boxed{x+1}", ["y+2", "x+1"], "math") is True


# --- Questions files and stores ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"answer": ["Delhi", "New Delhi"]}, CITY),
        ({"answers": ["Delhi", "New Delhi"]}, CITY),
        ({"answers": ["Delhi", "New Delhi"], "answer": None}, CITY),
        ({"answers": "Delhi"}, "Delhi"),
        ({"answer": ["Delhi", "Delhi"]}, "Delhi"),
        ({"answer": [408, "408.5", 0.5, True]}, ("408", "408.5", "0.5", "true")),
        ({"answer": 408}, "408"),
        ({"answer": 0.25}, "0.25"),
        ({"answer": NAN}, None),
        ({"answer": []}, None),
        ({"answers": []}, None),
        ({}, None),
        ({"answer": "[1, 2]"}, "[1, 2]"),
        ({"answer": ["[1, 2]", "[2, 1]"]}, ("[1, 2]", "[2, 1]")),
    ],
)
def test_answers_are_read_from_a_questions_file_stored_and_read_back(
    tmp_path: Path, fields: dict[str, Any], answer: object
) -> None:
    (question,) = read_questions(question_file(tmp_path, **fields))
    assert question.answer == answer
    with SampleStore(tmp_path / "s.db", write=True) as store:
        store.add_questions([question])
    with SampleStore(tmp_path / "s.db") as store:
        assert store.questions() == [question]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": "a", "answers": ["b"]}, 'line 1: it has "answer" and "answers"'),
        ({"answers": ["a", None]}, "line 1: 'answers' contains null"),
        ({"answer": [["a"]]}, r"line 1: 'answer\[0\]' is a list"),
        ({"answer": {"aliases": ["a"]}}, "line 1: 'answer' is a dict"),
    ],
)
def test_a_list_that_cannot_be_understood_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_questions(question_file(tmp_path, **fields))


@pytest.mark.parametrize("blob", [b"[]", b'"a"', b"[1]", b"\xff", b"{}"])
def test_a_damaged_list_in_a_samples_file_is_named(tmp_path: Path, blob: bytes) -> None:
    path = tmp_path / "s.db"
    with SampleStore(path, write=True) as store:
        store.add_questions([StoredQuestion(id="q", messages=(), answer=CITY)])
        store._connection.execute("UPDATE question SET answer = ?", (blob,))
    with SampleStore(path) as store, pytest.raises(ConfigurationError, match="it is damaged"):
        store.questions()


def test_a_list_replaces_an_answer_and_an_answer_a_list_but_nothing_replaces_nothing(tmp_path: Path) -> None:
    with SampleStore(tmp_path / "s.db", write=True) as store:
        for given, stored in (("Delhi", "Delhi"), (CITY, CITY), (None, CITY), ((), CITY), ("Agra", "Agra")):
            store.add_questions([StoredQuestion(id="q", messages=(), answer=given)])
            assert store.questions()[0].answer == stored


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    message = {"role": "user", "content": "Which city?"}
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=0))
        store.add_questions([StoredQuestion(id="q1", messages=(message,))])
        store.add_samples("q1", completions_of("Delhi", "Mumbai", "New Delhi"), usage=Usage())
    return path


def test_stored_completions_are_labelled_by_any_accepted_answer(samples: Path, tmp_path: Path) -> None:
    summary = add_answers(samples, question_file(tmp_path, answers=CITY))
    assert (summary.matched, summary.right, summary.wrong, summary.unknown) == (1, 2, 1, 0)
    (group,) = StoredGroups([samples])
    assert group.labels.tolist() == [1, 0, 1]


def test_the_command_grades_by_a_list(samples: Path, tmp_path: Path) -> None:
    question_file(tmp_path, answer=CITY)
    result = command("grade", "s.db", "--questions", "q.jsonl", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["right"] == 2


def test_parquet_holds_all_accepted_answers_and_the_first(samples: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    out = tmp_path / "s.parquet"
    for answer, expected in ((None, (None, [])), ("Agra", ("Agra", ["Agra"])), (CITY, ("Delhi", list(CITY)))):
        with SampleStore(samples, write=True) as store:
            store.add_questions(
                [*(StoredQuestion(id=q.id, messages=q.messages, answer=answer) for q in store.questions())]
            )
        export_parquet(samples, out)
        row = parquet.read_table(out).to_pylist()[0]
        assert (row["answer"], row["answers"]) == expected


# --- Short sentences


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("The capital of Chile is Santiago.", "Santiago", True),
        ("Santiago is the capital of Chile.", ["Santiago de Chile", "Santiago"], True),
        ("Each nephew gets 16 cookies.", 16, True),
        ("Final Answer: Each nephew gets 16 cookies.", "16", True),
        ("Santiago", "The capital of Chile is Santiago.", True),
        ("Dune was written by Frank Herbert.", "Frank Herbert", True),
        ("The capital of Chile is Lima.", "Santiago", False),
        ("The capital of Chile is not Santiago.", "Santiago", False),
        ("The capital of Chile is Santiago or Lima.", "Santiago", False),
        ("Each nephew gets at least 16 cookies.", 16, False),
        ("Each nephew gets 18 cookies.", [16, 17], False),
        ("France beat Brazil.", "Brazil", False),
        ("A long text about Santiago. " * 30, "Santiago", False),
    ],
)
def test_a_short_sentence_that_gives_the_answer_is_right(text: str, reference: Any, right: bool) -> None:
    assert grade(text, reference) is right
    assert grade_all(completions_of(text), reference).labels.tolist() == [float(right)]


def test_other_graders_do_not_read_sentences() -> None:
    assert grade("The capital of Chile is Santiago.", "Santiago", "text") is False
