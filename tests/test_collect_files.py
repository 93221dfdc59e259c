"""Tests of the command ``collect``, the import of replies, and the export to Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.collect.collect import Prices, collect
from swift_client.collect.import_replies import import_replies
from swift_client.collect.setup import question_seed
from swift_client.dataset.export_parquet import export_parquet
from swift_client.dataset.questions import read_questions
from swift_client.errors import ConfigurationError, MissingExtraError, ProviderError
from swift_client.store import SampleStore, StoredQuestion
from tests.children import command
from tests.servers import FaultServer, chat_body, error

QUESTIONS = [
    StoredQuestion(id=f"q{number}", messages=({"role": "user", "content": f"{number}?"},)) for number in range(2)
]


def lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return lines(
        tmp_path / "q.jsonl", *({"id": f"q{number}", "prompt": f"{number}?", "answer": 4} for number in range(5))
    )


def run(server: FaultServer, cwd: Path, *more: str) -> Any:
    line = (
        "collect",
        "--provider",
        "openai-compatible",
        "--model",
        "m",
        "--base-url",
        server.url,
        "--questions",
        "q.jsonl",
        "--out",
        "samples.db",
        "--n",
        "3",
        "--top-logprobs",
        "4",
        "--temperature",
        "0.7",
    )
    return command(*line, *more, cwd=cwd)


def test_the_command_collects_and_a_second_one_finds_nothing_to_do(
    fault_server: FaultServer, questions: Path, tmp_path: Path
) -> None:
    first = run(fault_server, tmp_path, "--json")
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert (document["samples"], document["wanted"], document["complete"], document["cost"]) == (15, 15, True, None)
    n_requests = len(fault_server.requests)
    second = run(fault_server, tmp_path)
    assert second.returncode == 0
    assert b"samples.db: 15 of 15 samples of 5 questions." in second.stdout
    assert len(fault_server.requests) == n_requests


def test_a_run_that_a_budget_stops_exits_with_5_and_says_what_is_missing(
    fault_server: FaultServer, questions: Path, tmp_path: Path
) -> None:
    result = run(fault_server, tmp_path, "--max-requests", "2", "--concurrency", "1")
    assert result.returncode == 5
    assert b"Stopped at --max-requests." in result.stderr
    assert b"samples are missing" in result.stderr
    money = ("--price-prompt", "0", "--price-completion", "1000000", "--max-cost", "30", "--max-tokens", "5")
    (tmp_path / "samples.db").unlink()
    result = run(fault_server, tmp_path, *money)
    assert result.returncode == 5
    assert b"Stopped at --max-cost." in result.stderr
    assert b"cost 28" in result.stdout


def test_a_run_with_lost_samples_exits_with_4(fault_server: FaultServer, questions: Path, tmp_path: Path) -> None:
    assert run(fault_server, tmp_path, "--max-requests", "2", "--concurrency", "1").returncode == 5
    fault_server.script(error(400, "this prompt is not allowed"))
    result = run(fault_server, tmp_path, "--json")
    assert result.returncode == 4
    document = json.loads(result.stdout)
    assert (document["stopped"], document["failures"][0]["error"]) == (None, "BadRequestError")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--max-cost", "1"), "--max-cost needs prices"),
        (("--price-prompt", "1"), "Only one of the two prices is given"),
        (("--questions", "nowhere.jsonl"), "cannot be read"),
        (("--out", "q.jsonl"), "is not a samples file"),
        (("--out", "nowhere/samples.db"), "cannot be opened"),
    ],
)
def test_wrong_settings_exit_with_3_and_one_sentence(
    fault_server: FaultServer, questions: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    result = run(fault_server, tmp_path, *more, "--json")
    assert result.returncode == 3
    assert message in json.loads(result.stdout)["error"]["message"]
    assert message in result.stderr.decode().replace("\n", " ")
    assert not fault_server.requests


# --- replies that are there already ------------------------------------------------------------------------------


def test_replies_are_imported_by_id_as_a_batch_writes_them_and_in_order(tmp_path: Path) -> None:
    body = chat_body(["The answer is 4", "The answer is 5"], k=3)
    forms = {
        "own": [{"id": "q1", "reply": body}, {"id": "q1", "reply": body}, {"id": "q0", "reply": body}],
        "batch": [{"id": "b1", "custom_id": "q1", "response": {"status_code": 200, "body": body}, "error": None}],
        "raw": [body, body],
    }
    expected = {"own": {"q0": 2, "q1": 4}, "batch": {"q1": 2}, "raw": {"q0": 2, "q1": 2}}
    for form, values in forms.items():
        out = tmp_path / f"{form}.db"
        result = import_replies(
            QUESTIONS, lines(tmp_path / "r.jsonl", *values), out, prices=Prices(prompt=1, completion=1)
        )
        assert (result.complete, result.requests, result.samples) == (True, 0, 2 * len(values))
        with SampleStore(out) as store:
            assert store.counts() == expected[form]
            assert store.meta is not None
            assert (store.meta.model, store.meta.top_logprobs) == ("test-model", 3)
            assert store.totals().usage == result.usage
            assert store.totals().cost == pytest.approx(result.cost)
            assert store.samples("q1")[1].completion.text == "The answer is 5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch.db", "own.db", "r.jsonl", "raw.db"]


def test_a_reply_that_is_an_error_costs_itself_alone(tmp_path: Path) -> None:
    error_body = {"error": {"message": "boom", "type": "invalid_request_error"}}
    path = lines(
        tmp_path / "r.jsonl",
        {"id": "q0", "reply": error_body},
        {"custom_id": "q0", "response": None, "error": {"code": "expired", "message": "too late"}},
        {"id": "q1", "reply": chat_body(["4"])},
    )
    result = import_replies(QUESTIONS, path, tmp_path / "s.db")
    assert (result.samples, result.complete, [failure.question_id for failure in result.failures]) == (
        1,
        False,
        ["q0", "q0"],
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"id": "q9", "reply": {}}, "line 2: there is no question 'q9'"),
        ({"id": "q1"}, "line 2: it is not a reply"),
        ({"choices": []}, "line 2: a raw reply names no question, and 3 lines are not 2 questions"),
        (
            {"id": "q1", "reply": chat_body(["4"], model="other")},
            "line 2: a reply of 'other' among those of 'test-model'",
        ),
    ],
)
def test_a_wrong_line_of_replies_is_named_and_nothing_is_written(tmp_path: Path, value: Any, message: str) -> None:
    good = {"id": "q0", "reply": chat_body(["4"])}
    path = lines(tmp_path / "r.jsonl", good, value, good)
    with pytest.raises(ConfigurationError, match=message):
        import_replies(QUESTIONS, path, tmp_path / "s.db")
    assert [file.name for file in tmp_path.iterdir()] == ["r.jsonl"]


def test_replies_go_into_a_new_file_only(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", {"id": "q0", "reply": chat_body(["4"])})
    import_replies(QUESTIONS, path, tmp_path / "s.db")
    with pytest.raises(ConfigurationError, match="exists already"):
        import_replies(QUESTIONS, path, tmp_path / "s.db")
    only_errors = lines(tmp_path / "e.jsonl", {"id": "q0", "reply": {"error": {"message": "boom", "code": 400}}})
    with pytest.raises(ProviderError, match="boom"):
        import_replies(QUESTIONS, only_errors, tmp_path / "t.db")
    assert not (tmp_path / "t.db").exists()


def test_the_command_imports_replies_without_a_request(questions: Path, tmp_path: Path) -> None:
    lines(tmp_path / "r.jsonl", {"id": "q1", "reply": chat_body(["4"])})
    result = command(
        "collect", "--questions", "q.jsonl", "--replies", "r.jsonl", "--out", "s.db", "--json", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["samples"] == 1


# --- Parquet -----------------------------------------------------------------------------------------------------


@pytest.fixture
def samples(fault_server: FaultServer, tmp_path: Path) -> Path:
    out = tmp_path / "s.db"
    settings: dict[str, Any] = {"provider": "openai-compatible", "model": "m", "base_url": fault_server.url}
    collect(QUESTIONS, out, n=3, top_logprobs=4, require_logprobs=False, seed=5, **settings)
    with SampleStore(out, write=True) as store:
        store.set_labels({("q1", 2): 1})
    return out


def test_parquet_holds_one_row_a_sample_with_all_numbers(samples: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'parquet' is not installed")
    assert export_parquet(samples, tmp_path / "s.parquet") == 6
    rows = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    with SampleStore(samples) as store:
        stored = [sample for _, group in store.questions_with_samples() for sample in group]
    assert [(row["question"], row["index"], row["seed"]) for row in rows] == [
        (sample.question_id, sample.index, question_seed(sample.question_id, 5)) for sample in stored
    ]
    assert [row["label"] for row in rows] == [None] * 5 + [1]
    completion = stored[5].completion
    assert tuple(rows[5]["tokens"]) == completion.tokens
    np.testing.assert_array_equal(np.float32(rows[5]["logprobs"]), completion.logprobs)
    np.testing.assert_allclose(np.float32(rows[5]["top_logprobs"]), completion.top_logprobs, rtol=1e-3)
    np.testing.assert_array_equal(np.array(rows[5]["top_ids"]), completion.top_ids)
    from swift_client.dataset.sample_columns import ParquetSamples
    from tests.test_sample_columns import assert_same_samples

    assert_same_samples(stored, [sample for _, group in ParquetSamples(tmp_path / "s.parquet") for sample in group])


def test_an_export_that_fails_leaves_nothing(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        export_parquet(samples, tmp_path / "nowhere" / "s.parquet")
    with pytest.raises(ConfigurationError, match="There is no samples file"):
        export_parquet(tmp_path / "none.db", tmp_path / "s.parquet")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.db"]


def test_without_pyarrow_the_extra_is_named(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"swift-client\[parquet\]"):
        export_parquet(samples, samples.with_suffix(".parquet"))


@pytest.mark.parametrize("field", ["id", "prompt", "answer", "family"])
def test_half_a_surrogate_pair_in_a_questions_file_is_named_with_its_line(field: str, tmp_path: Path) -> None:
    good, bad = ({"id": name, "prompt": "2 + 2?", "answer": "4", "family": "sum"} for name in "ab")
    bad[field] += "\ud800"
    with pytest.raises(ConfigurationError, match=r"line 2: it contains half a surrogate pair \(\\ud800\)"):
        read_questions(lines(tmp_path / "q.jsonl", good, bad))
