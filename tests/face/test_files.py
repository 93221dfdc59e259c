"""Tests of users' files: heads, samples and hidden states that today's code wrote, read, and written again."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import Completion, Selection, SwiftReranker
from swift_client.models import AnyHead, HiddenHead, load, save, scan
from swift_client.store import StateFile, StateLayout, StoredQuestion
from swift_client.training import Group, StoredGroups, collect
from tests.face.frozen import FILES, REGENERATE, recorded
from tests.face.made import QUESTIONS, Fixed, completions, head, hidden_head, states

HEADS: dict[str, AnyHead] = {"head.safetensors": head(), "hidden.safetensors": hidden_head()}
SEED = 7


def collected(path: Path) -> Path:
    """Write the samples file of two questions with three completions each, as `collect` does."""
    stored_questions = [
        StoredQuestion(id=f"q{index}", messages=({"role": "user", "content": text},), answer="4", family="sums")
        for index, text in enumerate(QUESTIONS)
    ]
    collect(stored_questions, path, provider=Fixed(), model="m", n=3, concurrency=1, seed=SEED, temperature=1.0)
    return path


def stored(path: Path, provider: Fixed) -> Selection:
    """Ask the first question with ``store=``, which reuses the completions in the file."""
    with SwiftReranker(provider, "m", store=path, max_concurrency=1) as reranker:
        return reranker.best_of(QUESTIONS[0], n=3, seed=SEED, temperature=0.5, stop=["\n\n"])


def capture(path: Path) -> Path:
    """Write the hidden states beside a samples file."""
    with StateFile(path, write_layout=StateLayout(layers=(1, 2), width=3)) as file:
        for question in range(len(QUESTIONS)):
            completions_made = [Completion(text="x", hidden_states=states(10 * question + index)) for index in range(3)]
            file.append(f"q{question}", range(3), completions_made)
    return path


def make_files() -> None:
    """Write ``files/`` anew: what older releases wrote can then no longer be tested."""
    for path in FILES.iterdir():
        if "format1" not in path.name:  # written by older code, and never again
            path.unlink()
    for name, artifact in HEADS.items():
        save(artifact, FILES / name)
    capture(collected(FILES / "samples.db"))
    stored(FILES / "store.db", Fixed())


if REGENERATE == "files":
    make_files()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES, tmp_path / "files"))


def content(path: Path) -> dict[str, Any]:
    """Return all that a samples file holds; numbers of completions are compared as they are packed."""
    connection = sqlite3.connect(path)
    try:
        tables = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        ).fetchall()
        pragmas = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name, _ in tables}  # noqa: S608
        return {"pragmas": pragmas, "tables": tables, "rows": rows}
    finally:
        connection.close()


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_written_byte_for_byte_as_before(name: str, files: Path, tmp_path: Path) -> None:
    frozen = (FILES / name).read_bytes()
    for artifact in (HEADS[name], load(files / name)):
        save(artifact, tmp_path / name)
        assert (tmp_path / name).read_bytes() == frozen


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_read_with_all_that_it_holds(name: str, files: Path) -> None:
    loaded_head, expected_head = load(files / name), HEADS[name]
    assert type(loaded_head) is type(expected_head)
    assert loaded_head.acceptances == expected_head.acceptances
    for fact in (
        "provider",
        "model",
        "training",
        "licence",
        "width",
        "k_min",
        "k_max",
        "name",
        "beats_majority",
        "beta",
    ):
        assert getattr(loaded_head, fact) == getattr(expected_head, fact)
    for part in ("gate_weight", "gate_bias", "reward_weight", "reward_bias"):
        assert np.array_equal(getattr(loaded_head.head, part), getattr(expected_head.head, part))
    if isinstance(loaded_head, HiddenHead):
        assert (loaded_head.layers, loaded_head.moment) == ((1, 2), "read")
        assert loaded_head.logprob_head is not None
        assert loaded_head.logprob_head.features == ("logprob",)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_of_format_1_loads_with_beta_1_and_without_its_acceptances(name: str, files: Path) -> None:
    old_head, expected_head = load(files / name.replace(".safetensors", "-format1.safetensors")), HEADS[name]
    assert (old_head.beta, old_head.acceptances) == (1.0, ())
    assert old_head.has_void_acceptances is bool(expected_head.acceptances)
    assert np.array_equal(old_head.head.reward_weight, expected_head.head.reward_weight)


def scored(head: str | Path, provider: str | Fixed, model: str) -> list[list[float | None]]:
    with SwiftReranker(provider, model, head=head) as reranker:
        selection = reranker.rank(completions())
    assert selection.scorer.startswith("head ")
    return [[candidate.score, candidate.probability] for candidate in selection.candidates]


def test_heads_give_fixed_completions_the_recorded_scores(files: Path) -> None:
    """Also the packaged ones, by their names."""
    scores = {"head": scored(files / "head.safetensors", Fixed(), "m")}
    for shelved in scan().heads:
        scores[shelved.name] = scored(shelved.name, shelved.provider, shelved.model)
    frozen = recorded("head-scores", scores)
    assert list(scores) == list(frozen)
    for name, rows in scores.items():
        assert np.asarray(rows, float) == pytest.approx(np.asarray(frozen[name], float), rel=1e-7, abs=1e-7), name


def same(stored_completion: Completion, original: Completion) -> None:
    assert (
        stored_completion.text,
        stored_completion.index,
        stored_completion.finish_reason,
        stored_completion.tokens,
    ) == (*(original.text, original.index, original.finish_reason, original.tokens),)
    for name in ("logprobs", "top_logprobs", "censored", "top_ids"):
        stored_value, expected = getattr(stored_completion, name), getattr(original, name)
        assert stored_value.dtype == expected.dtype
        if name == "top_logprobs":  # in half the room, but for the chosen token
            halved = expected.astype(np.float16).astype(np.float32)
            expected = np.where(expected == original.logprobs[:, None], expected, halved)
        assert np.array_equal(stored_value, expected), name


def test_samples_and_their_hidden_states_are_read_with_the_values_that_were_written(files: Path) -> None:
    groups = list(StoredGroups([files / "samples.db"], grade="number", states="layers"))
    assert all(isinstance(group, Group) for group in groups)
    assert [(group.question_id, group.family) for group in groups] == [("q0", "sums"), ("q1", "sums")]
    for question, group in enumerate(groups):
        expected_completions = completions(3, first=10 * question)
        for index, (stored_completion, expected) in enumerate(
            zip(group.completions, expected_completions, strict=True)
        ):
            same(stored_completion, expected)
            assert np.array_equal(np.asarray(stored_completion.hidden_states), states(10 * question + index))
            assert group.labels[index] == expected.text.endswith("4")
    source = StoredGroups([files / "samples.db"])
    assert (source.provider, source.model) == ("fixed", "m")


def test_a_samples_file_is_written_with_the_same_content(tmp_path: Path) -> None:
    new, frozen = content(collected(tmp_path / "samples.db")), content(FILES / "samples.db")
    assert {name: new["rows"][name] for name in frozen["rows"]} == frozen["rows"]
    assert set(frozen["tables"]) <= set(new["tables"])
    origins = [(reply, user) for reply, user, _ in new["rows"]["reply_origin"]]
    assert origins == [(row[0], b"") for row in frozen["rows"]["reply"]]


def test_hidden_states_are_written_byte_for_byte_as_before(tmp_path: Path) -> None:
    capture(tmp_path / "samples.db")
    assert (tmp_path / "samples.db.states").read_bytes() == (FILES / "samples.db.states").read_bytes()


def test_a_samples_file_is_gone_on_with(files: Path) -> None:
    provider = Fixed()
    stored_questions = [StoredQuestion(id="q0", messages=({"role": "user", "content": QUESTIONS[0]},), answer="4")]
    collect(stored_questions, files / "samples.db", provider=provider, model="m", n=3, seed=SEED, temperature=1.0)
    assert provider.calls == 0  # what was paid for is not asked for again


def test_a_store_answers_for_what_was_paid_for(files: Path, tmp_path: Path) -> None:
    provider = Fixed()
    selection = stored(files / "store.db", provider)
    assert (selection.reused, provider.calls, len(selection.candidates)) == (3, 0, 3)
    for candidate, expected in zip(selection.candidates, completions(3), strict=True):
        same(candidate.completion, expected)
    stored(tmp_path / "new.db", Fixed())
    new, frozen = content(tmp_path / "new.db"), content(FILES / "store.db")
    assert new["rows"].keys() - frozen["rows"].keys() == {
        *("selection", "feedback"),
        *("key_usage", "verifier_score", "verdict", "account"),
        *("reply_origin", "selection_user", "verdict_origin"),
    }
    assert {name: new["rows"][name] for name in frozen["rows"]} == frozen["rows"]
