"""Judgements in the samples file: of samples, by verifier."""

from __future__ import annotations

import math
import re
import sqlite3
from pathlib import Path

import pytest

from swift_client.dataset.export_parquet import export_parquet
from swift_client.errors import ConfigurationError
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.store.schema import ADDED_TABLES
from swift_client.types import Usage
from tests.generated import completion

VERIFIER, OTHER = "openai/gpt-4.1-nano p_true v1", "openai/gpt-4.1-nano score v1"


def user_version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "samples.db"
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=5))
        for name in ("q1", "q2"):
            store.add_questions([StoredQuestion(id=name, messages=({"role": "user", "content": name},))])
            store.add_samples(name, [completion(index, tokens=4) for index in range(3)], usage=Usage())
    connection = sqlite3.connect(path, isolation_level=None)  # as an earlier version wrote it
    for table in re.findall(r"CREATE TABLE (\w+)", " ".join(sql for n in range(2, 7) for sql in ADDED_TABLES[n])):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("PRAGMA user_version=1")
    connection.close()
    return path


def scores(path: Path, question: str = "q1") -> list[dict[str, float]]:
    with SampleStore(path) as store:
        return [dict(sample.verifier_scores) for sample in store.samples(question)]


def test_judgements_are_kept_beside_the_samples_by_verifier(path: Path) -> None:
    assert scores(path) == [{}, {}, {}]
    with SampleStore(path, write=True) as store:
        store.add_verifier_scores("q1", {0: 0.25, 2: 1}, verifier=VERIFIER)
        store.add_verifier_scores("q1", {2: 0.5}, verifier=OTHER)
        store.add_verifier_scores("q1", {0: 0.75}, verifier=VERIFIER)  # replaces the first
        store.add_verifier_scores("q2", {1: 0.125}, verifier=VERIFIER)
    assert scores(path) == [{VERIFIER: 0.75}, {}, {VERIFIER: 1.0, OTHER: 0.5}]
    assert scores(path, "q2") == [{}, {VERIFIER: 0.125}, {}]


def test_a_file_gets_format_2_with_its_first_judgement_while_others_have_it_open(path: Path) -> None:
    assert user_version(path) == 1
    with SampleStore(path) as reader, SampleStore(path, write=True, shared=True) as other:
        assert reader.samples("q1")[0].verifier_scores == {}
        with SampleStore(path, write=True, shared=True) as store:
            store.add_verifier_scores("q1", {0: 0.5}, verifier=VERIFIER)
        assert reader.samples("q1")[0].verifier_scores == {VERIFIER: 0.5}
        other.add_verifier_scores("q1", {1: 0.25}, verifier=VERIFIER)
    assert user_version(path) == 2
    with SampleStore(path, write=True) as store:
        store.add_samples("q1", [completion(9, tokens=4)], usage=Usage())
    assert user_version(path) == 6
    assert scores(path) == [{VERIFIER: 0.5}, {VERIFIER: 0.25}, {}, {}]


@pytest.mark.parametrize("score", [-0.01, 1.01, math.nan, math.inf])
def test_a_judgement_outside_0_to_1_is_refused_and_nothing_is_stored(path: Path, score: float) -> None:
    with (
        SampleStore(path, write=True) as store,
        pytest.raises(ConfigurationError, match=r"The judgement of 'q1', 1 is .*\. Give a number from 0 to 1"),
    ):
        store.add_verifier_scores("q1", {0: 0.5, 1: score}, verifier=VERIFIER)
    assert scores(path) == [{}, {}, {}]
    assert user_version(path) == 1


def test_a_judgement_of_a_sample_that_does_not_exist_is_refused(path: Path) -> None:
    with (
        SampleStore(path, write=True) as store,
        pytest.raises(ConfigurationError, match="no sample 'q1', 7"),
    ):
        store.add_verifier_scores("q1", {0: 0.5, 7: 0.5}, verifier=VERIFIER)
    assert scores(path) == [{}, {}, {}]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE verifier_score SET score = 1.5",
        "UPDATE verifier_score SET score = 'high'",
        "UPDATE verifier_score SET verifier = x'00'",
        "UPDATE verifier_score SET number = 'first'",
    ],
)
def test_a_judgement_that_is_not_ours_is_reported(path: Path, statement: str) -> None:
    with SampleStore(path, write=True) as store:
        store.add_verifier_scores("q1", {0: 0.5}, verifier=VERIFIER)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises(ConfigurationError, match="it is damaged: question 'q1' has a judgement"):
        scores(path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_with_the_tables_of_another_format_is_refused(path: Path, version: int) -> None:
    if version == 1:
        with SampleStore(path, write=True) as store:
            store.add_verifier_scores("q1", {0: 0.5}, verifier=VERIFIER)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA user_version={version}")
    connection.close()
    for write in (False, True):
        with pytest.raises(ConfigurationError, match="its tables are not those of this format"):
            SampleStore(path, write=write)


def test_judgements_are_exported_beside_the_labels(path: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    with SampleStore(path, write=True) as store:
        store.add_verifier_scores("q1", {0: 0.25}, verifier=VERIFIER)
        store.add_verifier_scores("q1", {0: 0.5}, verifier=OTHER)
    export_parquet(path, tmp_path / "s.parquet")
    rows = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert [dict(row["verifier_scores"]) for row in rows] == [{VERIFIER: 0.25, OTHER: 0.5}, {}, {}, {}, {}, {}]
