"""Collecting on a real Ray cluster: the same requests as ``collect``, and rows that fail cost only themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swift_client.collect.collect import Prices, collect
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import AuthenticationError, ConfigurationError
from swift_client.store import SampleStore, StoredQuestion
from tests.ray_clusters import CountingServer, local_cluster
from tests.servers import error

pytest.importorskip("ray")
pytest.importorskip("pyarrow")

from swift_client.dataset.sample_columns import group_samples
from swift_client.ray import ShardsResult, best_of_dataset, collect_dataset, collect_shards
from swift_client.ray.job import HiddenJob, plan_job

KEY = "sk-secret-7f3a"


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with local_cluster() as ray:
        yield ray


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        yield server


def settings(server: CountingServer, **changes: Any) -> dict[str, Any]:
    return {
        "provider": "openai-compatible", "model": "m", "base_url": server.url, "api_key": KEY, "n": 3, "seed": 5,
        "top_logprobs": 3, "max_retries": 0, "temperature": 0.5, **changes,
    }  # fmt: skip


def questions(count: int = 12) -> list[dict[str, Any]]:
    return [{"id": f"q{number}", "prompt": f"What is {number}?", "answer": "4"} for number in range(count)]


def collect_questions(
    ray: Any, rows: list[dict[str, Any]], out: Path, server: CountingServer, *, workers: int = 1, **changes: Any
) -> Any:
    return collect_shards(ray.data.from_items(rows), out, workers=workers, concurrency=2, **settings(server, **changes))


def test_the_samples_equal_those_of_collect_and_nothing_is_asked_twice(
    ray: Any, server: CountingServer, tmp_path: Path
) -> None:
    result = collect_questions(ray, questions(), tmp_path / "run", server, workers=2)
    assert isinstance(result, ShardsResult)
    assert (result.samples, result.wanted, result.added, result.complete) == (36, 36, 36, True)
    assert (result.stopped, result.failures, result.lost_in_flight) == (None, (), 0)
    counts = server.counts()
    assert set(counts.values()) == {1}
    assert result.requests == len(server.requests)
    # The same questions on one machine ask for the same completions.
    server.served.clear()
    stored = [
        StoredQuestion(id=row["id"], messages=({"role": "user", "content": row["prompt"]},), answer="4")
        for row in questions()
    ]
    collect(stored, tmp_path / "local.db", **settings(server))
    assert server.counts() == counts
    table = result.dataset().to_arrow_refs()
    import pyarrow

    samples = {
        (sample.question_id, sample.index): sample
        for _, group in group_samples(pyarrow.concat_tables(ray.get(table)))
        for sample in group
    }
    with SampleStore(tmp_path / "local.db") as store:
        for question, group in store.questions_with_samples():
            for expected in group:
                sample = samples.pop((question.id, expected.index))
                assert (sample.seed is None) == (expected.seed is None)
                assert sample.completion.text == expected.completion.text
                assert sample.completion.top_logprobs.tobytes() == expected.completion.top_logprobs.tobytes()
    assert not samples
    # Training and evaluation read the folder of the run.
    assert sum(len(group.completions) for group in StoredGroups([tmp_path / "run"])) == 36
    # Another run asks for nothing; one with other settings is refused; neither file has the key.
    server.requests.clear()
    again = collect_questions(ray, questions(), tmp_path / "run", server)
    assert (again.added, again.requests, again.samples, again.usage) == (0, 0, 36, result.usage)
    with pytest.raises(ConfigurationError, match=r"contains samples with sampling"):
        collect_questions(ray, questions(), tmp_path / "run", server, temperature=1.0)
    assert not server.requests
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_rows_that_fail_are_reported_and_the_others_are_collected(
    ray: Any, server: CountingServer, tmp_path: Path
) -> None:
    rows = [
        *questions(4),
        {"id": "b", "prompt": "broken", "answer": None},
        {"id": None, "prompt": "no id", "answer": None},
        {"id": "q1", "prompt": "twice", "answer": None},
    ]
    result = collect_questions(ray, rows, tmp_path, server)
    assert (result.samples, result.wanted, result.complete) == (12, 21, False)
    failures = {failure.question_id: (failure.lost, type(failure.error).__name__) for failure in result.failures}
    assert failures == {
        "b": (3, "BadRequestError"),
        "row 6": (3, "ConfigurationError"),
        "q1": (3, "ConfigurationError"),
    }
    assert json.loads(json.dumps(result.to_dict()))["complete"] is False


def test_workers_share_the_limits_on_requests_and_cost(ray: Any, server: CountingServer, tmp_path: Path) -> None:
    result = collect_questions(ray, questions(40), tmp_path, server, n=1, workers=2, max_requests=15, max_tokens=4)
    assert result.stopped == "max_requests"
    assert 0 < len(server.requests) == result.requests <= 15
    # The limit on the cost is that of the folder, whose first run counts: 7 prompt and 4 completion tokens each.
    prices = Prices(prompt=1e6, completion=1e6)
    server.requests.clear()
    limited = collect_questions(
        ray, questions(40), tmp_path, server, n=1, prices=prices, max_cost=200.0 + 11 * result.samples, max_tokens=4
    )
    assert limited.stopped == "max_cost"
    assert 0 < limited.added == len(server.requests) < 25
    assert limited.cost == pytest.approx(11.0 * limited.samples)


def test_a_budget_that_does_not_cover_the_worst_case_of_all_workers_is_used_up(
    ray: Any, server: CountingServer, tmp_path: Path
) -> None:
    # 11 dollars per completion, but some 400 are set aside for each, and 3200 would be for all that may run.
    server.delay = 0.05
    limited = collect_questions(
        ray, questions(60), tmp_path, server, n=1, workers=2, prices=Prices(prompt=1e6, completion=1e6),
        max_cost=900.0, max_tokens=300,
    )  # fmt: skip
    assert limited.stopped == "max_cost"
    assert limited.cost is not None
    assert 900.0 - 420.0 <= limited.cost <= 900.0
    assert set(server.counts().values()) == {1}


def test_a_folder_without_samples_is_an_empty_dataset(ray: Any, server: CountingServer, tmp_path: Path) -> None:
    result = collect_shards([], tmp_path, **settings(server))
    assert (result.questions, result.samples) == (0, 0)
    dataset = result.dataset()
    assert dataset.count() == 0
    assert {"question", "index", "text"} <= set(dataset.schema().names)


def test_a_refused_key_ends_the_run_as_itself(ray: Any, server: CountingServer, tmp_path: Path) -> None:
    server.serve(lambda request: error(401, f"wrong key {KEY}"))
    with pytest.raises(AuthenticationError, match="wrong key") as caught:
        collect_questions(ray, questions(), tmp_path, server)
    assert KEY not in str(caught.value)
    assert type(caught.value) is AuthenticationError
    # A refused request costs nothing, so nothing counts as lost.
    with pytest.raises(AuthenticationError):
        collect_questions(ray, questions(8), tmp_path / "one batch", server)
    assert not list((tmp_path / "one batch").glob("in_flight/*"))


def test_without_out_the_samples_are_a_dataset_of_ray(ray: Any, server: CountingServer) -> None:
    dataset = collect_dataset(ray.data.from_items(questions(4)), workers=1, concurrency=2, **settings(server))
    assert not server.requests
    rows = dataset.take_all()
    assert sorted((row["question"], row["index"]) for row in rows) == [
        (f"q{number}", index) for number in range(4) for index in range(3)
    ]
    assert set(server.counts().values()) == {1}


def test_the_best_answers_are_a_dataset_of_ray(ray: Any, server: CountingServer) -> None:
    rows = [*questions(3), {"id": "b", "prompt": "broken", "answer": None}, {"id": "e", "prompt": "", "answer": None}]
    arguments = settings(server)
    reranker = {name: arguments[name] for name in ("base_url", "api_key", "max_retries")}
    dataset = best_of_dataset(
        ray.data.from_items(rows), provider="openai-compatible", model="m", n=3, reranker=reranker, workers=1, seed=5,
        top_logprobs=3,
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="did you mean 'temperature'"):
        best_of_dataset(dataset, provider="openai-compatible", model="m", temprature=0.5)
    with pytest.raises(ConfigurationError, match="has no argument 'basis_url'"):
        best_of_dataset(dataset, provider="openai-compatible", model="m", reranker={"basis_url": server.url})
    assert not server.requests
    answers = {row["question"]: row for row in dataset.take_all()}
    assert answers.keys() == {"q0", "q1", "q2", "b", "e"}
    first = answers["q0"]
    assert (first["text"], first["answer"], first["n"], first["error"]) == ("The answer is 4", "4", 3, None)
    assert (first["calls"], first["completion_tokens"], len(first["id"])) == (1, 12, 32)
    assert "broken" in answers["b"]["error"]
    assert "empty" in answers["e"]["error"]


def test_the_logs_of_ray_data_show_no_key(server: CountingServer) -> None:
    from ray.data._internal.metadata_exporter import sanitize_for_struct

    job, _ = plan_job(**settings(server))
    assert KEY in str(sanitize_for_struct({"job": job}))
    assert KEY not in str(sanitize_for_struct({"hidden": HiddenJob(job)}))


def test_wrong_settings_are_refused_before_ray_starts_anything(tmp_path: Path) -> None:
    for wrong in ({"workers": 0}, {"n": 0}, {"max_cost": 1.0}, {"temprature": 1}):
        with pytest.raises(ConfigurationError):
            collect_shards([], tmp_path / "out", provider="openai-compatible", model="m", **wrong)
    assert not (tmp_path / "out").exists()
