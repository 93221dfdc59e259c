"""``swift-client drift``: what moved in stored questions, since when, and how sure that is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.cli.app import run
from swift_client.dataset.export_parquet import export_parquet
from swift_client.diagnostics.drift.examine import examine_drift
from swift_client.diagnostics.drift.report import ModelDrift
from swift_client.diagnostics.drift.series import read_series
from swift_client.models import HeadArtifact, load, save, scan
from swift_client.monitoring import build_profile
from swift_client.reranker import rank
from swift_client.reranker.feedback import selection_facts
from swift_client.store import Meta, RequestKey, SelectionStore, StoredQuestion
from swift_client.types import Completion, Usage

QUESTIONS, CHANGE = 300, 200  # the change begins with question 201
N, TOKENS, K = 4, 24, 8
FIRST_TIME, STEP = 1_772_000_000.0, 3600.0

Draw = Callable[[np.random.Generator, int], list[Completion]]


def answers(rng: np.random.Generator, *, temperature: float = 1.0, tokens: int = TOKENS) -> list[Completion]:
    """Draw answers whose lists are those of a model at a temperature, and whose tokens are drawn from the lists."""
    drawn = []
    for index in range(N):
        logits = rng.gumbel(size=(tokens, K)) * rng.gamma(1.2, 3.0, (tokens, 1)) / temperature
        logits = -np.sort(-logits, axis=1)
        top = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)) - 0.01).astype(np.float32)
        ranks = np.minimum((np.exp(top).cumsum(axis=1) < rng.random((tokens, 1))).sum(axis=1), K - 1)
        text = f"{'word ' * tokens}The answer is {rng.integers(2)}"
        logprobs = top[np.arange(tokens), ranks]
        censored = np.zeros(tokens, np.bool_)
        names = ("word ",) * tokens
        drawn.append(
            Completion(text=text, index=index, tokens=names, logprobs=logprobs, top_logprobs=top, censored=censored)
        )
    return drawn


def texts(rng: np.random.Generator, *, words: int) -> list[Completion]:
    """Draw answers without logprobs."""
    return [
        Completion(text=f"{'word ' * int(rng.poisson(words))}The answer is {rng.integers(2)}", index=index)
        for index in range(N)
    ]


def changed(rng: np.random.Generator, number: int) -> list[Completion]:
    """Draw the answers of a model whose temperature rises at question 201."""
    return answers(rng, temperature=1.4 if number >= CHANGE else 1.0)


def write_choices(
    path: Path,
    draw: Draw,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    temperature: Callable[[int], float] = lambda number: 0.7,
) -> Path:
    """Write what ``best_of`` stores, a choice per hour."""
    rng = np.random.default_rng(seed)
    with SelectionStore(path, write=True) as store:
        store.postpone_sync()
        for number in range(questions):
            completions = draw(rng, number)
            key = RequestKey(
                provider="openai",
                model="m",
                base_url=None,
                messages=({"role": "user", "content": f"What is {number}?"},),
                top_logprobs=K,
                sampling={"temperature": temperature(number)},
            )
            store.add_reply(key, completions, first_index=0, usage=Usage())
            facts = selection_facts(rank(completions))
            store.add_selection(f"s{number}", facts, completions, question_id=key.question.id, prompt="What?")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE selection SET time = ? + ? * (rowid - 1)", (FIRST_TIME, STEP))
    connection.close()
    return path


def write_collected(path: Path, draw: Draw) -> Path:
    """Write what ``collect`` stores: questions with samples, without choices and times."""
    rng = np.random.default_rng(0)
    with SelectionStore(path, write=True) as store:
        store.postpone_sync()
        store.begin(Meta(provider="openai", model="m", top_logprobs=K))
        for number in range(QUESTIONS):
            messages = ({"role": "user", "content": f"What is {number}?"},)
            store.add_questions([StoredQuestion(id=f"q{number}", messages=messages)])
            store.add_samples(f"q{number}", draw(rng, number), usage=Usage())
    return path


@pytest.fixture(scope="module")
def changed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write choices of a model whose temperature rises at question 201."""
    return write_choices(tmp_path_factory.mktemp("drift") / "changed.db", changed)


@pytest.fixture(scope="module")
def steady_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write choices of a model that does not change."""
    return write_choices(tmp_path_factory.mktemp("drift") / "steady.db", lambda rng, number: answers(rng))


def only(path: Path, **options: Any) -> ModelDrift:
    (model,) = examine_drift(path, **options)
    return model


def test_a_change_is_dated_and_named(changed_file: Path) -> None:
    model = only(changed_file)
    assert (model.name, model.questions, model.reference, model.reference_questions) == ("openai/m", 300, "file", 100)
    moved = {movement.statistic: movement for movement in model.movements}
    assert {"entropy", "tail_mass"} <= moved.keys()
    assert not {"listed", "tokens", "characters", "cut_share", "answered"} & moved.keys()
    entropy = moved["entropy"]
    assert entropy.after > entropy.before
    assert entropy.end is None
    assert entropy.earliest.question <= CHANGE + 1 <= entropy.latest.question
    assert CHANGE < entropy.alarm.question <= CHANGE + 30
    assert entropy.start.time == FIRST_TIME + STEP * (entropy.start.question - 1)
    assert entropy.questions_per_false_alarm >= 10_000
    assert entropy.reference[0] < entropy.reference[2] < entropy.reference[4]
    (change,) = model.changes
    assert change.earliest.question <= CHANGE + 1 <= change.latest.question
    assert model.is_drifted
    assert model.reasons == ()


def test_nothing_moved_is_said_in_a_clear_sentence(steady_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drift", str(steady_file), "--fail"]) == 0
    assert "Nothing moved" in capsys.readouterr().out
    assert only(steady_file).movements == ()


def test_a_change_fails_a_cron_job_only_if_it_is_asked_to(
    changed_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    svg = tmp_path / "drift.svg"
    assert run(["drift", str(changed_file), "--svg", str(svg)]) == 0
    shown = capsys.readouterr().out
    assert "entropy" in shown
    assert "still so" in shown
    assert run(["drift", str(changed_file), "--fail", "--json"]) == 7
    document = json.loads(capsys.readouterr().out)
    assert document["drifted"] is True
    (model,) = document["models"]
    assert {"entropy", "tail_mass"} <= {movement["statistic"] for movement in model["movements"]}
    # The picture has a panel for each statistic that moved.
    picture = svg.read_text()
    assert picture.count("alarm 2026-0") == len(model["movements"])
    assert all(f">{movement['label']}</text>" in picture for movement in model["movements"])


def test_a_change_that_ended_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_choices(
        tmp_path / "s.db", lambda rng, number: answers(rng, temperature=1.5 if 120 <= number < 200 else 1.0)
    )
    assert run(["drift", str(path), "--fail"]) == 0
    assert "came back" in capsys.readouterr().out
    ends = [movement.end.question for movement in only(path).movements if movement.end]
    assert ends
    assert all(abs(end - 201) <= 15 for end in ends)


def test_files_of_collect_have_no_times_and_parquet_says_the_same(tmp_path: Path) -> None:
    path = write_collected(tmp_path / "collected.db", changed)
    model = only(path)
    assert "entropy" in {movement.statistic for movement in model.movements}
    assert model.first.time is None
    assert all(movement.start.time is None for movement in model.movements)
    export_parquet(path, tmp_path / "collected.parquet")
    assert only(tmp_path / "collected.parquet").to_dict() == model.to_dict()


def test_answers_without_logprobs_are_compared_by_their_texts(tmp_path: Path) -> None:
    path = write_collected(tmp_path / "texts.db", lambda rng, number: texts(rng, words=60 if number >= CHANGE else 40))
    model = only(path)
    assert "entropy" not in model.compared
    assert {movement.statistic for movement in model.movements} == {"characters"}
    (movement,) = model.movements
    assert movement.earliest.question <= CHANGE + 1 <= movement.latest.question


def test_other_settings_and_other_questions_are_named_as_reasons(tmp_path: Path) -> None:
    path = write_choices(tmp_path / "s.db", changed, temperature=lambda number: 1.3 if number >= CHANGE else 0.7)
    (reason,) = only(path).reasons
    assert "temperature 0.7 → 1.3" in reason


def test_repeated_choices_among_the_same_answers_count_once(changed_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "repeated.db"
    path.write_bytes(changed_file.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO selection SELECT id || 'again', question, time + 1e7, served_as, prompt, number, numbers, "
            "facts FROM selection"
        )
    connection.close()
    assert only(path).to_dict() == only(changed_file).to_dict()


@pytest.mark.parametrize(
    "facts",
    [
        f'{{"scorer": "head x", "candidates": [{{"score": {10**400}}}, {{"score": 1e999}}, {{"group": "a"}}, {{}}]}}',
        '{"scorer": 7, "candidates": [1, 2, 3, 4], "stopped": "x", "accepted": 3}',
        '{"candidates": {}}',
        "{}",
    ],
)
def test_strange_facts_of_a_choice_are_not_read(facts: str, steady_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "strange.db"
    path.write_bytes(steady_file.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE selection SET facts = ? WHERE rowid = 250", (facts,))
    connection.close()
    model = only(path)
    assert (model.questions, model.movements) == (QUESTIONS, ())


def test_too_few_questions_are_an_error_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_choices(tmp_path / "few.db", lambda rng, number: answers(rng), questions=40)
    assert run(["drift", str(path), "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert "40 of one model" in error["message"]
    assert "--head" in error["hint"]


def head_with_profile(path: Path) -> HeadArtifact:
    """Return the packaged head as one of this model, whose training's questions are those of a file."""
    (packaged,) = scan().by_name("pocket/pocket")
    head = load(packaged.path)
    assert isinstance(head, HeadArtifact)
    head = replace(head, provider="openai", model="m", sketch=None)
    (series,) = read_series(path, head, sizes=(1, 4))
    return replace(head, drift_profile=build_profile({size: series.values(size) for size in (1, 4)}))


def test_a_heads_profile_is_the_reference_from_the_first_question_on(
    changed_file: Path, steady_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write_choices(tmp_path / "training.db", lambda rng, number: answers(rng), seed=5)
    head = tmp_path / "head.safetensors"
    save(head_with_profile(reference), head)
    assert run(["drift", str(steady_file), "--head", str(head), "--fail"]) == 0
    assert "compared with 300 of the head's training" in " ".join(capsys.readouterr().out.split())
    assert run(["drift", str(changed_file), "--head", str(head), "--fail", "--json"]) == 7
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["reference"], model["size"], model["tested"]) == ("head", 4, QUESTIONS)
    assert {"score", "accepted", "entropy"} - set(model["compared"]) == {"accepted"}
    (entropy,) = (movement for movement in model["movements"] if movement["statistic"] == "entropy")
    assert entropy["earliest"]["question"] <= CHANGE + 1 <= entropy["latest"]["question"]


def test_heads_without_a_profile_and_of_other_models_are_errors_with_advice(
    steady_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tmp_path / "head.safetensors"
    save(replace(head_with_profile(steady_file), drift_profile=None), head)
    assert run(["drift", str(steady_file), "--head", str(head)]) == 3
    assert "no profile" in capsys.readouterr().err
    save(replace(head_with_profile(steady_file), model="x"), head)
    assert run(["drift", str(steady_file), "--head", str(head)]) == 3
    assert "no questions to openai/x" in capsys.readouterr().err
