"""Tests of the log: one line per request with its facts, failures upstream, and content only if it is asked for."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from swift_client.server.access.client_keys import create_key
from swift_client.server.config import KeyConfig
from swift_client.server.observability.log_format import JsonFormatter, TextFormatter
from swift_client.server.observability.record import RequestRecord
from swift_client.server.observability.request_log import RequestLog
from tests.children import ROOT, python
from tests.servers import FaultServer, Response, error
from tests.services import FOUR_WINS, QUESTION, ServiceProcess, run, service_config, wait_until

BODY = {"model": "best", "messages": QUESTION}
CHAT_PATH = "/v1/chat/completions"


class Log:
    """The lines that a service writes."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._text = io.StringIO()
        self.handler = logging.StreamHandler(self._text)
        self.handler.setFormatter(formatter)

    @property
    def text(self) -> str:
        return self._text.getvalue()

    def lines(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait for ``count`` lines, and return them: a line comes when its reply has been sent."""
        wait_until(lambda: self.text.count("\n") >= count)
        return [json.loads(line) for line in self.text.splitlines()]


def listen(formatter: logging.Formatter) -> Iterator[Log]:
    log, logger = Log(formatter), logging.getLogger("swift_client.server")
    level = logger.level
    logger.addHandler(log.handler)
    logger.setLevel(logging.INFO)
    yield log
    logger.removeHandler(log.handler)
    logger.setLevel(level)


@pytest.fixture
def log() -> Iterator[Log]:
    yield from listen(JsonFormatter())


@pytest.fixture
def text_log() -> Iterator[Log]:
    yield from listen(TextFormatter())


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer(FOUR_WINS) as server:
        yield server


def test_a_request_is_one_json_object_with_its_facts(upstream: FaultServer, log: Log) -> None:
    key = create_key("backend")
    config = service_config(upstream, keys={"backend": KeyConfig(hash=key.hash)}, stopping="beta:threshold=0.6")
    with run(config) as service:
        reply = service.post(BODY, headers={"authorization": f"Bearer {key.key}", "x-request-id": "mine-1"})
        (line,) = log.lines()

    assert line.pop("time").endswith("+00:00")
    assert 0 < line.pop("seconds") < 10
    assert line.pop("message").startswith(f"mine-1 POST {CHAT_PATH} 200 ")
    used, tokens = line.pop("candidates"), line.pop("tokens")
    assert used in (2, 3)
    assert tokens == reply.json()["usage"]["total_tokens"]
    assert line.pop("stopped", "beta") == "beta"
    assert line == {
        "level": "INFO",
        "logger": "swift_client.server.observability.request_log",
        "request_id": "mine-1",
        "method": "POST",
        "path": CHAT_PATH,
        "status": 200,
        "model": "best",
        "key": "backend",
        "n": 3,
        "selection_id": reply.headers["x-swift-id"],
        "selected_by": "vote",
    }


def test_failures_upstream_are_warnings_with_the_requests_id_and_without_the_providers_words(
    upstream: FaultServer, log: Log
) -> None:
    upstream.script(error(400, "your prompt was: What is 2 + 2?"), Response(503))
    with run(service_config(upstream)) as service:
        for index in range(2):
            service.post(BODY, headers={"x-request-id": f"mine-{index}"})
        lines = log.lines(4)

    warnings = [line for line in lines if line["level"] == "WARNING"]
    assert [(line["request_id"], line["error"], line["upstream_status"]) for line in warnings] == [
        ("mine-0", "BadRequestError", 400),
        ("mine-1", "ServerError", 503),
    ]
    assert warnings[0]["upstream_request_id"] == "req_test"
    assert {(line["status"], line["error"]) for line in lines if line["level"] == "INFO"} == {
        (400, "BadRequestError"),
        (502, "NoCompletionError"),
    }
    assert "2 + 2" not in log.text


def test_nothing_of_a_wrong_request_is_logged(upstream: FaultServer, log: Log) -> None:
    with run(service_config(upstream)) as service:
        service.post({"model": "sk-secret", "messages": QUESTION}, headers={"authorization": "Bearer sk-secret"})
        service.get("/sk-secret?key=sk-secret")
        service.get("/v1/models/sk-secret")
        service.raw(b"SK-SECRET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        lines = log.lines(4)

    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("POST", CHAT_PATH, 404),
        ("GET", "-", 404),
        ("GET", "/v1/models/{model:path}", 404),
        ("-", "/healthz", 405),
    ]
    assert "secret" not in log.text.lower()


def test_content_is_logged_only_if_the_configuration_asks_for_it(upstream: FaultServer, log: Log) -> None:
    with run(service_config(upstream)) as service:
        service.post(BODY)
        log.lines()
    assert "2 + 2" not in log.text
    assert "The answer" not in log.text

    with run(service_config(upstream, server={"log_content": True})) as service:
        service.post(BODY, headers={"authorization": "Bearer sk-secret"})
        line = log.lines(2)[1]
    assert (line["prompt"], line["answer"]) == (QUESTION, "The answer is 4")
    assert "secret" not in log.text


def test_the_text_format_has_the_same_facts_on_one_line(upstream: FaultServer, text_log: Log) -> None:
    upstream.answers = ("The answer is\n4\x1b[31m",)
    with run(service_config(upstream, server={"log_content": True})) as service:
        service.post(BODY, headers={"x-request-id": "mine-1"})
        wait_until(lambda: "\n" in text_log.text)

    (line,) = text_log.text.splitlines()
    assert f" INFO swift_client.server.observability.request_log mine-1 POST {CHAT_PATH} 200 " in line
    assert " model=best " in line
    assert " n=3 tokens=" in line
    assert '"What is 2 + 2?"' in line
    assert "\x1b" not in line


def test_a_trace_has_its_id_in_the_log(log: Log) -> None:
    RequestLog().end(RequestRecord(id="r", trace_id="4bf92f3577b34da6a3ce929d0e0e4736"))

    assert log.lines()[0]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_an_error_is_an_object_with_its_traceback() -> None:
    formatter = JsonFormatter()
    try:
        raise ValueError("x\ny")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "it\nfailed %s", ("\ud83d",), info)
    line = formatter.format(record)

    assert "\n" not in line
    assert "ValueError: x" in json.loads(line)["traceback"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_program_writes_its_log_to_stderr(log_format: str) -> None:
    code = f"""
import logging
from swift_client.server.observability.log_format import set_up_logging
set_up_logging({log_format!r})
logging.getLogger("swift_client.server.x").info("seen")
logging.getLogger("swift_client.sampling").info("not seen")
logging.getLogger("uvicorn.error").warning("seen too")
"""
    result = python("-c", code, cwd=ROOT)

    lines = result.stderr.decode().splitlines()
    assert (result.returncode, result.stdout, len(lines)) == (0, b"", 2)
    if log_format == "json":
        assert [json.loads(line)["message"] for line in lines] == ["seen", "seen too"]
    else:
        assert lines[0].endswith(" INFO swift_client.server.x seen")


def test_the_command_writes_json_if_it_is_told_to(upstream: FaultServer, tmp_path: Path) -> None:
    text = f"""
[models.best]
provider = "openai-compatible"
model = "m"
n = 3
base_url = "{upstream.url}"
"""
    with ServiceProcess(tmp_path, text, "--log-format", "json") as service:
        reply = httpx2.post(f"{service.url}/chat/completions", json=BODY, timeout=20)
        assert reply.status_code == 200
        assert service.end() == 0
        lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]

    assert [line["selection_id"] for line in lines if "selection_id" in line] == [reply.headers["x-swift-id"]]
