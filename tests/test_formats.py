"""Tests of files that releases wrote: each format of a samples file and of a head is read, and samples go on."""

from __future__ import annotations

import itertools
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from swift_client.models import load
from swift_client.models.file_format import READABLE_FORMATS, read_facts
from swift_client.store import SampleStore, SelectionStore, prune
from swift_client.store.account_store import FileAccountStore
from swift_client.store.usage_store import UsageStore
from swift_client.store.verdict_store import VerdictStore
from tests.children import ROOT
from tests.face.made import completions
from tests.formats import make

FOLDER = ROOT / "tests" / "formats"
HEADS = ROOT / "tests" / "face" / "files"
NEWEST = len(make.STEPS)
SAMPLES = [FOLDER / f"samples-{number}.db" for number in range(1, NEWEST + 1)]
HEAD_FILES = {
    1: ("head-format1.safetensors", "hidden-format1.safetensors"),
    2: ("head.safetensors", "hidden.safetensors"),
}


@pytest.fixture(params=SAMPLES, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a released samples file."""
    return Path(shutil.copy(request.param, tmp_path))


def format_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return everything that a file holds, by table."""
    connection = sqlite3.connect(path)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}  # noqa: S608
    finally:
        connection.close()


def test_each_file_has_the_format_of_its_name(path: Path) -> None:
    assert f"samples-{format_of(path)}.db" == path.name


def test_samples_of_every_format_are_read_with_the_values_that_were_written(path: Path) -> None:
    with SampleStore(path) as store:
        for number, (question, samples) in enumerate(itertools.islice(store.questions_with_samples(), 2)):
            assert (question.id, question.answer, question.family) == (make.QUESTIONS[number], "4", "sums")
            for sample, expected in zip(samples, completions(2, first=10 * number), strict=True):
                assert sample.completion.text == expected.text
                assert sample.completion.tokens == expected.tokens
                assert np.array_equal(sample.completion.logprobs, expected.logprobs)
        labels = [sample.label for sample in store.samples("q0")]
    assert labels == [None, 1.0]


def test_judgements_counts_and_choices_are_read_from_their_format_on(path: Path) -> None:
    number = format_of(path)
    with SelectionStore(path) as store:
        scores = [dict(sample.verifier_scores) for sample in store.samples("q0")]
        assert scores == [{make.VERIFIER: 0.25} if number >= 2 else {}, {}]
        assert store.verdicts(["digest"]) == ({"digest": make.VERDICT} if number >= 2 else {})
        feedback = [(entry.selection.id, entry.selection.answer, entry.correct) for entry in store.feedback()]
        assert feedback == ([("s1", "4", True)] if number >= 4 else [])
        reused = store.samples_for_request(make.ASKED, limit=9)
        assert [sample.completion.text for sample in reused] == [one.text for one in completions(number // 6)]
    counts = UsageStore(path)
    windows = counts.update([("team", 60)], lambda windows: list(windows.values()))
    counts.close()
    assert windows == ([make.WINDOW] if number >= 3 else [])
    accounts = FileAccountStore(path)
    state = accounts.update("rate", lambda state, now: (make.STATE, state))
    accounts.close()
    assert state == (make.STATE if number >= 5 else None)


def test_a_file_of_every_format_goes_on_and_keeps_what_it_had(path: Path) -> None:
    before, number = rows(path), format_of(path)
    for step in make.STEPS[number:]:
        step(path)
    with VerdictStore(path, write=True) as store:
        store.set_labels({("q1", 0): 0.0})
    after = rows(path)
    assert format_of(path) == NEWEST
    for name in before.keys() - {"sample"}:
        assert after[name][: len(before[name])] == before[name]
    assert [row[:-1] for row in after["sample"]][: len(before["sample"])] == [row[:-1] for row in before["sample"]]


@pytest.mark.parametrize(
    ("criterion", "is_found"), [({"user": "anne"}, 1), ({"key": "team"}, 1), ({"user": "team"}, 0)]
)
def test_users_are_found_from_format_6_on(path: Path, criterion: dict[str, str], is_found: int) -> None:
    number = format_of(path)
    result = prune(path, **criterion)  # type: ignore[arg-type]
    count = is_found * (number >= 6)
    assert (result.questions, result.completions, result.selections, result.verdicts) == (count,) * 4


@pytest.mark.parametrize("number", READABLE_FORMATS)
def test_there_are_heads_of_every_format_and_they_load(number: int) -> None:
    for name in HEAD_FILES[number]:
        assert read_facts(HEADS / name).format == number
        assert len(load(HEADS / name).head.reward_weight)


def test_the_policy_names_the_released_formats() -> None:
    text = (ROOT / "docs" / "reference" / "policy.md").read_text()
    released = dict(re.findall(r"^\| \[(\w+)\]\S+ \| ([\d, ]+) \|", text, re.MULTILINE))
    assert released == {
        "Heads": ", ".join(map(str, READABLE_FORMATS)),
        "Samples": ", ".join(map(str, range(1, NEWEST + 1))),
        "States": "1",
    }
