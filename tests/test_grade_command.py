"""Tests of grading a store that ``best_of`` filled, and of evaluating and simulating with it."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from swift_client import training
from swift_client.dataset.add_answers import add_answers
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.report.charts.stopping import savings_svg
from swift_client.store import ReplyStore, RequestKey, SampleStore, StoredQuestion
from swift_client.types import Completion, Usage
from tests.children import command
from tests.generated import completion

N = 4


def request_key(number: int, *, model: str = "m", temperature: float = 1.0) -> RequestKey:
    return RequestKey(
        provider="p",
        model=model,
        base_url=None,
        messages=({"role": "user", "content": f"question {number}"},),
        top_logprobs=5,
        sampling={"temperature": temperature},
    )


def random_completions(number: int) -> list[Completion]:
    """Return N completions whose answers are (number + i) % 3."""
    return [completion(number + index, tokens=20 + index, k=5) for index in range(N)]


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A samples file as ``best_of(store=...)`` writes it."""
    path = tmp_path / "samples.db"
    store = ReplyStore(path)
    for number in range(12):
        store.save(
            request_key(number), random_completions(number), first_index=0, usage=Usage(prompt_tokens=5, calls=1)
        ).result()
    until = time.monotonic() + 30
    while Path(f"{path}-wal").exists() and time.monotonic() < until:
        time.sleep(0.01)  # what was kept is safe; its thread is just folding it into the file
    return path


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    path = tmp_path / "answers.jsonl"
    lines = [
        {"id": f"q{number}", "prompt": f"question {number}", "answer": str(number % 3), "family": "thirds"}
        for number in range(12)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_answers_are_given_by_prompt_whatever_the_sampling_was(served: Path, answers: Path) -> None:
    store = ReplyStore(served)
    store.save(request_key(0, temperature=0.0), random_completions(0)[:1], first_index=0, usage=Usage()).result()
    graded = add_answers(served, answers)

    assert (graded.matched, graded.questions, graded.unlabelled, graded.unknown) == (13, 13, 0, 0)
    # of 4 answers q, q+1, q+2, q+3 (mod 3) the first and the last are q
    assert (graded.right, graded.wrong) == (12 * 2 + 1, 12 * 2)
    with SampleStore(served) as file:
        assert {question.family for question in file.questions()} == {"thirds"}
    assert len(store.lookup(request_key(0), N)) == N  # an answer changes no key


def test_only_counting_leaves_the_file_alone(served: Path) -> None:
    before = served.read_bytes()
    graded = add_answers(served)

    assert (graded.questions, graded.unlabelled, graded.right, graded.unknown) == (12, 12, 0, 12 * N)
    assert served.read_bytes() == before


def test_answers_to_other_prompts_are_reported(served: Path) -> None:
    other = StoredQuestion(id="x", messages=({"role": "user", "content": "another"},), answer="1")
    with pytest.raises(ConfigurationError, match="None of 12 questions"):
        add_answers(served, [other])


def test_without_labels_simulate_shows_what_rules_cost_and_with_them_what_they_get_right(
    served: Path, answers: Path
) -> None:
    blind = training.simulate(served, n=N, rules="fixed:2,beta", orders=8)
    assert blind.questions == 12
    assert math.isnan(blind.row("beta").accuracy.value)
    assert blind.to_dict()["rows"][0]["accuracy"] == {"value": None, "low": None, "high": None}
    assert any("swift-client grade" in note for note in blind.notes)
    with pytest.raises(ConfigurationError, match="no accuracy to draw"):
        savings_svg(blind)

    add_answers(served, answers)
    simulation = training.simulate(served, n=N, rules="fixed:2,beta", orders=8)
    assert simulation.row("fixed:2").accuracy.value > 0
    for name in ("fixed:2", "beta"):  # labels change no cost
        np.testing.assert_allclose(blind.row(name).token_share.value, simulation.row(name).token_share.value)
    savings_svg(simulation)


def test_questions_without_labels_are_left_out_beside_those_with(served: Path) -> None:
    with SampleStore(served, write=True) as store:
        labelled_questions = store.questions()[:5]
        store.set_labels(
            {(question.id, index): float(index == 0) for question in labelled_questions for index in range(N)}
        )
    simulation = training.simulate(served, n=N, rules="fixed:2", orders=8)

    assert simulation.questions == 5
    assert not math.isnan(simulation.row("fixed:2").accuracy.value)
    assert any("7 questions are left out" in note for note in simulation.notes)


def test_a_file_of_two_models_is_reported_before_anything_is_made_of_it(served: Path) -> None:
    ReplyStore(served).save(request_key(0, model="other"), random_completions(0), first_index=0, usage=Usage()).result()
    with pytest.raises(ConfigurationError, match=r"samples of 2 models: p/m, p/other"):
        StoredGroups([served])


@pytest.mark.parametrize("damage", ["no json", "[]", '{"provider": 1, "model": null}'])
def test_facts_of_a_request_that_someone_changed_are_reported(served: Path, damage: str) -> None:
    with sqlite3.connect(served) as rows:
        rows.execute("UPDATE meta SET value = ?", (damage,))
    rows.close()
    with pytest.raises(ConfigurationError, match="not a samples file: it is damaged"):
        StoredGroups([served])


def test_the_commands_grade_evaluate_and_train_read_a_served_file(served: Path, answers: Path, tmp_path: Path) -> None:
    unlabelled = command("evaluate", "none", str(served), "--split", "all", "--n", "4", cwd=tmp_path)
    assert unlabelled.returncode == 3
    assert b"has a label" in b" ".join(unlabelled.stderr.split())

    graded = command("grade", str(served), "--questions", str(answers), "--json", cwd=tmp_path)
    assert json.loads(graded.stdout)["matched"] == 12
    arguments = ("--split", "all", "--n", "4", "--no-trained", "--grade", "exact", "--json")
    table = command("evaluate", "none", str(served), *arguments, cwd=tmp_path)
    assert json.loads(table.stdout)["rows"]["oracle"]["accuracy"]["4"]["value"] == 0  # no text is "0" to the letter
