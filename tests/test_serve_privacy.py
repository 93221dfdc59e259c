"""The service with redaction: nothing private in its files, its log and its traces, and tenants apart."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from swift_client.errors import ConfigurationError
from swift_client.server.access.client_keys import create_key
from swift_client.server.config import KeyConfig, ServiceConfig, parse_config
from swift_client.server.observability.log_format import JsonFormatter
from swift_client.store import SelectionStore
from tests.redis_servers import REDIS_SERVER, RedisServer
from tests.servers import FaultServer
from tests.services import run, service_config, wait_until
from tests.test_inspector import Browser
from tests.test_privacy import ALL, CARD, PRESETS, SECRETS, leaks

BODY = {"model": "best", "messages": [{"role": "user", "content": f"{ALL}?"}], "user": "jane.doe+x@example.org"}
KEYS = {name: create_key(name) for name in ("anne", "bob", "carl")}


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer((f"{ALL}: the answer is {CARD}", f"The answer is {CARD}", "The answer is 4")) as server:
        yield server


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger("swift_client")
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(level)


def with_keys(upstream: FaultServer, store: object, **settings: object) -> ServiceConfig:
    """Return a configuration in which anne and carl are one tenant, and bob another."""
    keys = {
        name: KeyConfig(hash=key.hash, ui=True, tenant=None if name == "bob" else "acme") for name, key in KEYS.items()
    }
    server = {"ui": True, "log_content": True}
    return service_config(upstream, server=server, keys=keys, store=str(store), n=3, **settings)


def as_client(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name].key}"}


@pytest.mark.parametrize("keep", ["all", "arrays"])
def test_files_log_and_traces_of_a_service_hold_nothing_private(
    upstream: FaultServer, log: io.StringIO, tmp_path: Path, keep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    server = {
        "traces": True, "trace_content": True, "log_content": True, "log_format": "json",
        "usage_store": str(tmp_path / "usage.db"),
    }  # fmt: skip
    config = service_config(
        upstream, server=server, store=str(tmp_path / "kept.db"), redact=PRESETS, keep=keep, n=3, verifier="self"
    )
    with run(config) as service:
        reply = service.post(BODY, headers={"x-request-id": "mine"})
        wait_until(lambda: "mine" in log.getvalue() and exporter.get_finished_spans())
    spans = json.dumps([dict(span.attributes or {}) for span in exporter.get_finished_spans()])

    assert reply.status_code == 200
    assert CARD in reply.text  # the client gets everything
    assert not any(secret in log.getvalue() or secret in spans for secret in SECRETS)
    assert leaks(tmp_path) == []
    if keep == "all":
        assert "[card]" in log.getvalue()
        assert "[card]" in spans


def test_each_tenant_has_a_file_and_sees_nothing_of_another(upstream: FaultServer, tmp_path: Path) -> None:
    with run(with_keys(upstream, tmp_path / "{tenant}.db")) as service:
        ids = {name: service.post(BODY, headers=as_client(name)).json()["swift"]["id"] for name in KEYS}
        assert len(upstream.requests) == 2  # carl's answer is anne's
        assert sorted(path.name for path in tmp_path.glob("*.db")) == ["acme.db", "bob.db"]

        def post_feedback(name: str, id: str) -> int:
            path = "/feedback"
            return service.post({"id": id, "correct": True}, path=path, headers=as_client(name)).status_code

        assert [post_feedback(name, ids["anne"]) for name in KEYS] == [200, 404, 200]
        assert [post_feedback(name, ids["bob"]) for name in KEYS] == [404, 200, 404]
        for name, seen in (("anne", {"anne", "carl"}), ("bob", {"bob"})):
            http = Browser(service)
            page = http.send("/ui/login", http.get("/ui/").text, key=KEYS[name].key)
            assert {other for other in ids if ids[other] in page.text} == seen
            for other, id in ids.items():
                assert http.get(f"/ui/selections/{id}").status_code == (200 if other in seen else 404)
            http.http.close()
    with SelectionStore(tmp_path / "bob.db") as store:
        assert [selection.id for selection in store.selections()] == [ids["bob"]]


@pytest.mark.skipif(REDIS_SERVER is None, reason="redis-server is not installed")
def test_tenants_of_a_redis_have_prefixes_of_their_own(upstream: FaultServer, tmp_path: Path) -> None:
    upstream.answers = ("The answer is 4",)
    server = RedisServer(tmp_path)
    server.start()
    try:
        with run(with_keys(upstream, f"{server.url}?prefix={{tenant}}", redact=PRESETS)) as service:
            reused = [service.post(BODY, headers=as_client(name)).json()["swift"]["reused"] for name in KEYS]
        client = server.client()
        keys = sorted(key.decode() for key in client.scan_iter())
    finally:
        server.kill()

    assert reused == [0, 0, 3]
    assert {key.split(":")[0] for key in keys} == {"acme", "bob"}


@pytest.mark.skipif(REDIS_SERVER is None, reason="redis-server is not installed")
def test_a_redis_gets_no_completion_with_private_texts(upstream: FaultServer, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        with run(service_config(upstream, store=server.url, redact=PRESETS, n=3)) as service:
            reused = [service.post(BODY).json()["swift"]["reused"] for _ in range(2)]
        client = server.client()
        values = [value for key in client.scan_iter("swift:reply:*") for value in client.hvals(key)]
    finally:
        server.kill()

    assert reused == [0, 1]
    assert len(values) == 1
    assert b"answer is 4" in values[0]


def test_settings_of_privacy_are_checked_with_the_configuration() -> None:
    model = '[models.best]\nprovider = "openai"\n'
    for text, message in (
        (model + 'store = "kept/{tenant}.db"', "needs client keys"),
        (model + 'keep = "texts"', "keep"),
        (model + f'[keys.a]\nhash = "{KEYS["anne"].hash}"\ntenant = "../b"', "letters, digits"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            parse_config(text)
