"""Tests of the settings that one request may choose: head, verifier, answer reader and the way to choose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import pytest

from swift_client.errors import ArtifactError, ConfigurationError
from swift_client.server.app import Service
from swift_client.server.config import ModelConfig, ServiceConfig
from tests.servers import FaultServer
from tests.services import QUESTION, RunningService, run, service_config

ANSWERS = ("Paris it is. The answer is 4", "Paris it is. The answer is 5", "Paris it is. The answer is 4")
HEADS = {"packaged": "pocket/pocket", "plain": "none"}


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer(ANSWERS) as server:
        yield server


def ask(service: RunningService, **swift: Any) -> dict[str, Any]:
    reply = service.post({"model": "best", "messages": QUESTION, "swift": swift})
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()["swift"]
    return body


def refuse(service: RunningService, **swift: Any) -> tuple[int, str | None]:
    reply: httpx2.Response = service.post({"model": "best", "messages": QUESTION, "swift": swift})
    return reply.status_code, reply.json()["error"]["param"]


def test_a_request_chooses_the_method_and_the_answer_reader(upstream: FaultServer) -> None:
    with run(service_config(upstream)) as service:
        methods = {name: ask(service, select=name)["method"] for name in ("auto", "vote", "best", "consensus")}
        assert methods == {"auto": "vote", "vote": "vote", "best": "best", "consensus": "consensus"}
        assert ask(service, answer="number")["answer"] == "4"
        assert ask(service, answer="none")["answer"] is None
        assert ask(service, answer="none")["method"] == "best"
        assert ask(service)["answer"] == "4"  # the other requests keep the rules of the table

        for answer in ("(a+)+$", "nonsense", "tool_call:" + "x" * 1000, "", "/etc/passwd", "auto\n"):
            assert refuse(service, answer=answer) == (400, "swift.answer"), answer
        assert refuse(service, answer="tool_call:nonsense=1") == (400, None)
        assert refuse(service, answer=["number"]) == (400, "swift")
        assert refuse(service, select="worst") == (400, "swift")


def test_a_request_chooses_one_of_the_heads_of_the_table(upstream: FaultServer) -> None:
    with run(service_config(upstream, heads=HEADS)) as service:
        assert ask(service)["scorer"] == "mean_logprob"
        asked = upstream.requests[-1].json["top_logprobs"]
        assert ask(service, head="packaged")["scorer"] == "head pocket/pocket"
        assert ask(service, head="plain")["scorer"] == "mean_logprob"
        assert {request.json["top_logprobs"] for request in upstream.requests} == {asked}

        for name in ("pocket/pocket", "none", "auto", "../head.safetensors", ""):
            assert refuse(service, head=name) == (400, "swift.head"), name


def test_all_variants_share_the_connections_and_close_with_them(upstream: FaultServer) -> None:
    with run(service_config(upstream, heads=HEADS, max_concurrency=4)) as service:
        for head in ("packaged", "plain", "packaged"):
            for select in ("vote", "best"):
                ask(service, head=head, select=select)
    assert upstream.most_connections == 1


def test_a_request_may_do_without_the_verifier_but_not_bring_one(upstream: FaultServer) -> None:
    verifier = {"judge": "self", "mode": "p_true", "when": "always"}
    with run(service_config(upstream, verifier=verifier)) as service:
        before = len(upstream.requests)
        assert ask(service, verifier=False)["verification"] is None
        assert len(upstream.requests) == before + 1
        assert ask(service)["verification"] is not None
        assert ask(service, verifier=True)["verification"] is not None
        assert refuse(service, verifier="openai/gpt-4.1") == (400, "swift")
    with run(service_config(upstream)) as service:
        assert refuse(service, verifier=True) == (400, "swift.verifier")
        assert ask(service, verifier=False)["verification"] is None


def test_every_override_needs_its_permission(upstream: FaultServer) -> None:
    caps = {"overrides": ["texts"]}
    with run(service_config(upstream, heads=HEADS, caps=caps, verifier="self")) as service:
        changes = {"head": "plain", "answer": "number", "select": "best", "verifier": False, "n": 1}
        for name, value in changes.items():
            assert refuse(service, **{name: value}) == (400, f"swift.{name}")
        assert not upstream.requests
        ask(service, texts=True)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"heads": {"a": "no-such-head"}}, ArtifactError),
        ({"heads": {"a": "pocket/pocket"}, "scorer": "mean_logprob"}, ConfigurationError),
    ],
)
def test_the_heads_are_read_at_the_start(settings: dict[str, Any], error: type[Exception]) -> None:
    table = {"provider": "openai-compatible", "model": "m", "base_url": "http://127.0.0.1:1/v1", **settings}
    with pytest.raises(error):
        Service(ServiceConfig(models={"a": msgspec.convert(table, ModelConfig)}))


def test_a_vote_needs_no_similarity(upstream: FaultServer) -> None:
    with run(service_config(upstream, select="consensus", similarity="chrf")) as service:
        methods = {name: ask(service, select=name)["method"] for name in ("consensus", "vote", "best")}

    assert methods == {"consensus": "consensus", "vote": "vote", "best": "best"}
