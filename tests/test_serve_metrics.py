"""Tests of ``/metrics`` with real HTTP: every number against a service that was asked a known number of questions."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from swift_client.server.access.client_keys import create_key
from swift_client.server.access.identity import Caller
from swift_client.server.app import Service
from swift_client.server.config import KeyConfig, PassthroughConfig
from swift_client.server.http.error_reply import HttpError
from swift_client.server.observability.metrics import Metrics, completion_outcomes, vote_share
from swift_client.server.observability.metrics_endpoint import check_access
from swift_client.server.observability.observers import Observers
from swift_client.server.observability.record import RequestRecord
from swift_client.server.observability.worker_metrics import forget_worker, shared_metrics
from swift_client.types import Candidate, Completion, Event, Selection
from tests.children import python
from tests.judges import let_judge
from tests.servers import FaultServer, Response, after, chat, error, hang
from tests.services import FOUR_WINS, QUESTION, RunningService, run, service_config, wait_until

BODY = {"model": "best", "messages": QUESTION}
CHAT_PATH = "/v1/chat/completions"


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer(FOUR_WINS) as server:
        yield server


@pytest.fixture
def service(upstream: FaultServer) -> Iterator[RunningService]:
    with run(service_config(upstream, server={"keep_alive": 0.2}, caps={"n": 8})) as running:
        yield running


def parse(text: str) -> dict[tuple[str, frozenset[str]], float]:
    """Map the name of a sample with its label values to its value."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples(service: RunningService, **headers: str) -> dict[tuple[str, frozenset[str]], float]:
    reply = service.get("/metrics", **headers)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=")
    return parse(reply.text)


def value(service: RunningService, name: str, *labels: str) -> float:
    return samples(service).get((name, frozenset(labels)), 0.0)


def wait_for_value(expected: float, service: RunningService, name: str, *labels: str) -> None:
    """Wait for a value: a request is counted when its reply has been sent, which a client may notice earlier."""
    wait_until(lambda: value(service, name, *labels) == expected)


def test_a_question_is_counted_with_its_completions_tokens_and_choice(service: RunningService) -> None:
    for _ in range(2):
        assert service.post(BODY).status_code == 200
    wait_for_value(2, service, "swift_requests_total", "best", CHAT_PATH, "200")
    found = samples(service)

    assert {name for name, _ in found if not name.startswith("swift_")} == set()
    assert found["swift_completions_requested_total", frozenset(["best"])] == 6
    assert found["swift_completions_total", frozenset(["best", "used"])] == 6
    assert found["swift_tokens_total", frozenset(["best", "prompt"])] == 2 * 7
    assert found["swift_tokens_total", frozenset(["best", "completion"])] == 2 * 12
    assert found["swift_selections_total", frozenset(["best", "vote", "logprobs:k", "none", "not_calibrated"])] == 2
    assert found["swift_upstream_calls_total", frozenset(["best", "sampling", "200"])] == 2
    assert found["swift_upstream_call_duration_seconds_count", frozenset(["best", "sampling"])] == 2
    assert found["swift_unpriced_replies_total", frozenset(["best", "sampling"])] == 2
    assert found["swift_request_duration_seconds_count", frozenset(["best"])] == 2
    assert found["swift_time_to_first_byte_seconds_count", frozenset(["best"])] == 2
    assert found["swift_agreement_ratio_count", frozenset(["best"])] == 2
    assert found["swift_agreement_ratio_sum", frozenset(["best"])] == pytest.approx(4 / 3, abs=0.4)
    assert found["swift_requests_running", frozenset()] == 0
    assert found["swift_limiter_size", frozenset(["best", "model"])] == 64
    assert found["swift_limiter_allowed", frozenset(["best", "model"])] == 64


def test_the_first_byte_of_a_stream_is_not_a_comment(service: RunningService, upstream: FaultServer) -> None:
    upstream.script(after(0.7, chat(list(FOUR_WINS))))

    text = service.post({**BODY, "stream": True}).text

    assert text.startswith(": sampling")
    wait_for_value(1, service, "swift_requests_total", "best", CHAT_PATH, "200")
    assert 0.6 < value(service, "swift_time_to_first_byte_seconds_sum", "best") < 5


def test_a_stream_that_breaks_after_its_status_is_counted(service: RunningService, upstream: FaultServer) -> None:
    upstream.script(after(0.6, error(401, "no")))

    reply = service.post({**BODY, "stream": True})

    assert reply.status_code == 200
    assert "upstream_authentication" in reply.text
    wait_for_value(1, service, "swift_broken_streams_total", "best")
    assert value(service, "swift_requests_total", "best", CHAT_PATH, "200") == 1


def test_failures_are_counted_by_class_and_status(service: RunningService, upstream: FaultServer) -> None:
    upstream.script(error(429, "slow down", headers={"retry-after": "0"}), error(401, "no"), Response(599), hang())

    assert service.post(BODY).status_code == 429
    assert service.post(BODY).status_code == 502
    assert service.post(BODY).status_code == 502
    assert service.post({**BODY, "swift": {"deadline": 0.2}}).status_code in (400, 504)

    wait_for_value(1, service, "swift_requests_total", "best", CHAT_PATH, "429")
    wait_for_value(2, service, "swift_requests_total", "best", CHAT_PATH, "502")
    found = samples(service)
    assert found["swift_upstream_failures_total", frozenset(["best", "sampling", "RateLimitError"])] == 1
    assert found["swift_upstream_failures_total", frozenset(["best", "sampling", "AuthenticationError"])] == 1
    assert found["swift_upstream_calls_total", frozenset(["best", "sampling", "429"])] == 1
    assert found["swift_upstream_calls_total", frozenset(["best", "sampling", "401"])] == 1
    assert found["swift_upstream_calls_total", frozenset(["best", "sampling", "-"])] == 1  # 599 is no known status
    assert found["swift_completions_total", frozenset(["best", "failed"])] >= 9
    assert found["swift_limiter_allowed", frozenset(["best", "model"])] < 64
    assert ("swift_request_duration_seconds_count", frozenset(["best"])) not in found


def test_clients_cannot_make_series(service: RunningService) -> None:
    before = len(samples(service))
    with httpx2.Client(base_url=service.root) as client:
        for index in range(9):
            client.post(CHAT_PATH, json={**BODY, "model": f"no-{index}"})
            client.get(f"/v1/models/no-{index}")
            client.get(f"/no-{index}")
    wait_for_value(9, service, "swift_requests_total", "-", "-", "404")

    found = samples(service)
    assert found["swift_requests_total", frozenset(["-", CHAT_PATH, "404"])] == 9
    assert found["swift_requests_total", frozenset(["-", "/v1/models/{model:path}", "404"])] == 9
    assert len(found) <= before + 5


def test_a_client_that_hangs_up_cancels_its_completions(service: RunningService, upstream: FaultServer) -> None:
    upstream.script(hang())
    body = b'{"model": "best", "messages": [{"role": "user", "content": "2 + 2?"}]}'
    head = f"POST {CHAT_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: len(upstream.requests) == 1)
        wait_for_value(1, service, "swift_requests_running")
        assert value(service, "swift_limiter_active", "best", "model") == 1

    wait_for_value(1, service, "swift_requests_total", "best", CHAT_PATH, "499")
    assert value(service, "swift_completions_total", "best", "cancelled") == 3
    assert value(service, "swift_requests_running") == 0


def test_a_stopping_rule_and_a_judge_are_counted(upstream: FaultServer) -> None:
    let_judge(upstream, lambda text: 0.9 if "4" in text else 0.2)
    verifier = {"judge": "self", "when": "always"}
    with run(service_config(upstream, n=8, stopping="beta:threshold=0.7", verifier=verifier)) as service:
        upstream.answers = ("The answer is 4", "The answer is 5")
        assert service.post(BODY).status_code == 200
        wait_for_value(1, service, "swift_requests_total", "best", CHAT_PATH, "200")
        found = samples(service)

    used = found["swift_completions_total", frozenset(["best", "used"])]
    assert used + found.get(("swift_completions_total", frozenset(["best", "not_drawn"])), 0) == 8
    assert found["swift_verifications_total", frozenset(["best", "judged"])] == 1
    assert found["swift_judgements_total", frozenset(["best", "judged"])] == 2
    assert found["swift_tokens_total", frozenset(["best", "judge"])] >= 102
    assert found["swift_upstream_calls_total", frozenset(["best", "verification", "200"])] >= 2


def test_metrics_are_open_on_loopback_and_need_a_key_with_keys(upstream: FaultServer) -> None:
    made = {name: create_key(name) for name in ("app", "prometheus")}
    keys = {
        "app": KeyConfig(hash=made["app"].hash),
        "prometheus": KeyConfig(hash=made["prometheus"].hash, models=(), metrics=True),
    }
    bearer = {name: f"Bearer {key.key}" for name, key in made.items()}
    with run(service_config(upstream, keys=keys, server={"path_prefix": "/llm"})) as service:
        assert service.get("/metrics").status_code == 401
        assert service.get("/metrics", authorization=f"Bearer {made['app'].key[:-1]}!").status_code == 401
        refused = service.get("/metrics", authorization=bearer["app"])
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")
        assert "swift_" not in refused.text
        assert samples(service, authorization=bearer["prometheus"])
        assert service.post(BODY, headers={"authorization": bearer["prometheus"]}).status_code == 404
    assert not upstream.requests


def test_metrics_of_a_public_address_without_keys_are_refused(upstream: FaultServer) -> None:
    public = service_config(upstream, server={"host": "0.0.0.0"}, key="caller")
    Service(public)  # it may run: every caller pays with a key of its own
    with pytest.raises(HttpError) as refused:
        check_access(Caller(name=None, bearer="sk-upstream"), public, public.server.host)
    assert refused.value.status == 403


def test_another_name_of_this_machine_does_not_open_the_metrics(service: RunningService) -> None:
    assert service.get("/metrics", host="evil.example").status_code == 403


def test_metrics_can_be_switched_off(upstream: FaultServer) -> None:
    with run(service_config(upstream, server={"metrics": False})) as service:
        assert service.get("/metrics").status_code == 404
        assert service.post(BODY).status_code == 200


def test_the_lag_of_the_event_loop_is_measured(service: RunningService) -> None:
    assert service.loop is not None
    service.loop.call_soon_threadsafe(time.sleep, 0.9)

    wait_until(lambda: value(service, "swift_event_loop_lag_seconds_sum") > 0.2)


def test_workers_add_up_and_the_gauges_of_dead_ones_go(tmp_path: Path) -> None:
    code = """
import os
from swift_client.server.observability.metrics import Metrics
from swift_client.server.observability.record import RequestRecord
metrics = Metrics()
metrics.set_queue(running=2, waiting=3)
metrics.end(RequestRecord(id="a", model="best", endpoint="/x", status=200))
print(os.getpid())
"""
    with shared_metrics():
        workers = [python("-c", code, cwd=tmp_path) for _ in range(2)]
        assert [worker.returncode for worker in workers] == [0, 0]
        metrics = Metrics()
        found = parse(metrics.render().decode())
        assert found["swift_requests_total", frozenset(["best", "/x", "200"])] == 2
        assert found["swift_requests_waiting", frozenset()] == 6
        forget_worker(int(workers[0].stdout))
        found = parse(metrics.render().decode())
        assert found["swift_requests_total", frozenset(["best", "/x", "200"])] == 2
        assert found["swift_requests_waiting", frozenset()] == 3
    assert "swift_requests_total" in metrics.render().decode()


def test_a_listener_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    prompt = "a" * 9

    class Broken:
        def begin(self, record: RequestRecord) -> None:
            raise ValueError(prompt)

        def on_event(self, record: RequestRecord, event: Event) -> None:
            raise ValueError(prompt)

        end = begin

    metrics = Metrics()
    observers = Observers([Broken(), metrics])
    record = RequestRecord(id="r1", model="best", endpoint="/x", status=200)
    with caplog.at_level(logging.ERROR):
        observers.begin(record)
        observers.on_event(record, Event(kind="request", call=0, n=1, message=""))
        observers.end(record)

    assert parse(metrics.render().decode())["swift_requests_total", frozenset(["best", "/x", "200"])] == 1
    assert caplog.text.count("r1: ValueError") == 3
    assert prompt not in caplog.text


def selection(*votes: tuple[int | None, float], winner: int = 0, **facts: Any) -> Selection:
    candidates = tuple(
        Candidate(completion=Completion(text="x", index=index), group=group, weight=weight)
        for index, (group, weight) in enumerate(votes)
    )
    return Selection(candidates=candidates, winner=winner, signal="text", scorer="s", method="vote", **facts)


def test_drift_is_counted_by_statistic_and_its_evidence_is_shown() -> None:
    metrics, record = Metrics(), RequestRecord(id="r", model="best")
    for statistic in ("entropy", "entropy", None):
        event = Event(kind="drift", call=0, n=4, message="changed", provider="p", model="m", statistic=statistic)
        metrics.on_event(record, event)
    metrics.set_drift("best", 0.25)
    text = metrics.render().decode()
    assert 'swift_drift_alarms_total{model="best",statistic="entropy"} 2.0' in text
    assert 'swift_drift_alarms_total{model="best",statistic="fingerprint"} 1.0' in text
    assert 'swift_drift_evidence_ratio{model="best"} 0.25' in text


def test_the_agreement_is_the_winners_share_of_the_votes() -> None:
    assert vote_share(selection((0, 2.0), (1, 1.0), (0, 1.0), (None, 0.0))) == 0.75
    assert vote_share(selection((None, 0.0), (1, 1.0))) is None
    assert vote_share(selection((0, 0.0))) is None


def test_the_outcomes_of_planned_completions_add_up() -> None:
    record = RequestRecord(id="r", n=8)
    assert completion_outcomes(record) == {"cancelled": 8}
    record.error = TimeoutError()
    assert completion_outcomes(record) == {"failed": 8}
    record.selection = selection((0, 1.0), (0, 1.0), (1, 1.0), reused=1)
    assert completion_outcomes(record) == {"used": 2, "reused": 1, "not_drawn": 5}


def test_tokens_of_requests_that_are_passed_through_are_counted(
    upstream: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
    passthrough = PassthroughConfig(provider="openai", base_url=upstream.url)
    with run(msgspec.structs.replace(service_config(upstream), passthrough=passthrough)) as service:
        for _ in range(2):
            assert service.post({**BODY, "model": "any-other"}).status_code == 200
        wait_for_value(2, service, "swift_requests_total", "-", CHAT_PATH, "200")
        found = samples(service)

    assert found["swift_tokens_total", frozenset(["-", "passthrough"])] > 0
    assert not [labels for name, labels in found if name == "swift_completions_total"]
