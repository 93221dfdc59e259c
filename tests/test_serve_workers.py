"""Tests of the service as real processes: workers, signals, kill -9."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from swift_client.errors import ConfigurationError
from swift_client.server import parse_config
from swift_client.server.access.client_keys import NewKey, create_key
from swift_client.server.worker import share_config
from swift_client.store import UsageStore
from tests.servers import FaultServer, after, chat, hang
from tests.services import QUESTION, ServiceProcess, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and sends Unix signals")

BODY = {"model": "best", "messages": QUESTION}
DAY = 86_400


@pytest.fixture(scope="module")
def alice() -> NewKey:
    return create_key("alice")


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def config(upstream: FaultServer, key: NewKey, *, server: str = "", n: int = 1, limits: str = "") -> str:
    return f"""
[server]
usage_store = "usage.db"
max_concurrency = 400
{server}

[models.best]
provider = "openai-compatible"
model = "m"
base_url = "{upstream.url}"
n = {n}
max_retries = 0
max_concurrency = 400

[keys.alice]
hash = "{key.hash}"
metrics = true
{limits}
"""


def ask(service: ServiceProcess, key: NewKey) -> tuple[int, Any]:
    """Return the status and the body of a reply, on a connection of its own, which any worker may accept."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    headers = {"authorization": f"Bearer {key.key}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(BODY), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def n_choices(service: ServiceProcess, key: NewKey) -> float:
    """Return the number of choices that its metrics show."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {key.key}"})
        text = connection.getresponse().read().decode()
        return sum(float(count) for count in re.findall(r"^swift_selections_total\{.*\} (\S+)", text, re.MULTILINE))
    finally:
        connection.close()


def n_candidates(service: ServiceProcess, key: NewKey) -> int:
    _, body = ask(service, key)
    return len(body["swift"]["candidates"])


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_lets_200_running_requests_end(
    upstream: FaultServer, alice: NewKey, tmp_path: Path, workers: int
) -> None:
    upstream.serve(lambda received: after(1.5, chat(["The answer is 4"])))
    text = config(upstream, alice, server=f"workers = {workers}")

    with ServiceProcess(tmp_path, text) as service:
        assert ask(service, alice)[0] == 200  # verifies the key once

        with ThreadPoolExecutor(200) as threads:
            running = [threads.submit(ask, service, alice) for _ in range(200)]
            wait_until(lambda: len(upstream.requests) == 201)
            service.process.send_signal(signal.SIGTERM)
            statuses = [request.result()[0] for request in running]

        assert (service.process.wait(timeout=20), statuses) == (0, [200] * 200)
        assert "Traceback" not in service.log
    assert UsageStore(tmp_path / "usage.db").update([("key alice", DAY)], len) == 0  # a key without limits


def test_two_workers_share_limits_are_replaced_and_reload(upstream: FaultServer, alice: NewKey, tmp_path: Path) -> None:
    limits = "limits = { requests_per_day = 20 }"
    with (
        ServiceProcess(tmp_path, config(upstream, alice, limits=limits), "--workers", "2") as service,
        ThreadPoolExecutor(8) as threads,
    ):
        pids = service.workers()
        assert len(pids) == 2

        # 1. A limit of requests holds for both together.
        statuses = [status for status, _ in threads.map(lambda _: ask(service, alice), range(40))]
        assert (statuses.count(200), statuses.count(429)) == (20, 20)
        assert n_choices(service, alice) == 20  # whichever answers

        # 2. Both read the file again.
        service.write(config(upstream, alice, n=3))
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.log.count("The configuration was reloaded.") == 3)  # the parent too
        assert set(threads.map(lambda _: n_candidates(service, alice), range(20))) == {3}
        service.write("[models]")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was not reloaded" in service.log)

        # 3. The other one goes on while one that died is replaced, by the new configuration.
        os.kill(pids[0], signal.SIGKILL)
        assert [ask(service, alice)[0] for _ in range(5)] == [200] * 5
        wait_until(lambda: len(service.workers()) == 2)
        assert pids[1] in service.workers()
        assert f"Worker {pids[0]} ended (-9)" in service.log
        os.kill(pids[1], signal.SIGKILL)
        wait_until(lambda: service.answers() and pids[1] not in service.workers())
        assert n_candidates(service, alice) == 3

        # 4. Workers end with their parent, however it ends.
        left = service.workers()
        service.end(signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", service.port)) != 0


def test_limits_go_on_after_kill_9(upstream: FaultServer, alice: NewKey, tmp_path: Path) -> None:
    text = config(upstream, alice, limits="limits = { requests_per_day = 4, tokens_per_day = 1000 }")
    with ServiceProcess(tmp_path, text) as service, ThreadPoolExecutor(1) as threads:
        assert [ask(service, alice)[0] for _ in range(2)] == [200, 200]
        upstream.serve(lambda received: hang())
        running = threads.submit(ask, service, alice)
        wait_until(lambda: len(upstream.requests) == 3)
        service.end(signal.SIGKILL)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            running.result()
    upstream.serve(upstream.obey)
    with ServiceProcess(tmp_path, text) as service:
        statuses = [ask(service, alice)[0] for _ in range(2)]

    window = UsageStore(tmp_path / "usage.db").update([("key alice", DAY)], lambda windows: windows["key alice", DAY])
    assert statuses == [200, 429]
    assert (window.requests, window.tokens) == (4, 3 * 11)
    assert window.reserved_tokens == 11  # of the request that was running


def test_settings_that_workers_cannot_share_are_refused(upstream: FaultServer, alice: NewKey) -> None:
    text = config(upstream, alice, server="workers = 4", limits="limits = { requests_per_day = 4 }")
    shares = [share_config(parse_config(text.replace("= 400", "= 10")), index) for index in range(4)]
    assert [share.server.max_concurrency for share in shares] == [3, 3, 2, 2]
    assert [share.models["best"].max_concurrency for share in shares] == [3, 3, 2, 2]
    assert [share.server.max_queue for share in shares] == [64] * 4

    with pytest.raises(ConfigurationError, match="4 workers need usage_store"):
        parse_config(text.replace('usage_store = "usage.db"', ""))
    with pytest.raises(ConfigurationError, match=r"\[server\]: max_concurrency is 3, below workers = 4"):
        parse_config(text.replace("= 400", "= 3"))
