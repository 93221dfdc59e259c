"""A shadow head scores every question and decides nothing: `SwiftReranker(shadow=)`, and `shadow` of a service."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, Cascade, Selection, SwiftReranker, rank
from swift_client.errors import ArtifactMismatchError, ConfigurationError
from swift_client.features.segments import F64
from swift_client.models import GatedLinearHead, HeadArtifact, HiddenHead, PlattCalibration, save
from swift_client.models.file_format import head_digest
from swift_client.store import SelectionStore
from tests.servers import FaultServer
from tests.services import QUESTION, run, service_config
from tests.test_cascade import SURE, UNSURE, acceptance, head

ANSWERS = ("The answer is 4", "I multiply twice. The answer is 5", "The answer is 4", "So it is: the answer is 5")


def reversed_head(**changes: Any) -> HeadArtifact:
    """A head that prefers the completions that ``head()`` likes least."""
    weights = GatedLinearHead(gate_weight=np.zeros(1), gate_bias=0.0, reward_weight=-9 * np.ones(1), reward_bias=0.0)
    return replace(head(), head=weights, beta=math.inf, **changes)


def reranker(server: FaultServer, **settings: Any) -> SwiftReranker:
    server.answers = ANSWERS
    settings = {"head": head(), "max_retries": 0, **settings}
    return SwiftReranker("openai-compatible", "m", base_url=server.url, **settings)


def decided(selection: Selection) -> dict[str, Any]:
    """Return all facts of a selection that a shadow must not change."""
    return {name: value for name, value in selection.to_dict().items() if name not in ("id", "elapsed", "shadow")}


def test_the_shadow_chooses_as_it_would_alone_and_changes_nothing(fault_server: FaultServer) -> None:
    shadow_head = reversed_head(acceptances=(acceptance(SURE),))
    with reranker(fault_server) as plain, reranker(fault_server, head=shadow_head) as alone:
        expected, other = plain.best_of("2 + 2?", n=4), alone.best_of("2 + 2?", n=4)
    with reranker(fault_server, shadow=shadow_head) as client:
        selection = client.best_of("2 + 2?", n=4)

    assert decided(selection) == decided(expected)
    assert expected.shadow is None
    shadow = selection.shadow
    assert shadow is not None
    assert (shadow.winner, shadow.answer, shadow.score) == (other.winner, other.answer, other.score)
    assert (shadow.probability, shadow.answer_probability) == (other.probability, other.answer_probability)
    assert shadow.scores == tuple(candidate.score for candidate in other.candidates)
    assert (shadow.accepted, selection.accepted) == (True, None)
    assert shadow.agrees is (other.answer == selection.answer)
    assert (shadow.scorer, shadow.digest, shadow.error) == (shadow_head.name, head_digest(shadow_head), None)
    assert shadow.answer != selection.answer  # else this test shows nothing
    assert json.loads(selection.to_json())["shadow"]["answer"] == shadow.answer


@pytest.mark.parametrize("settings", [{"head": None}, {"head": None, "select": "best"}, {"select": "consensus"}])
def test_a_shadow_works_beside_every_way_to_choose(fault_server: FaultServer, settings: dict[str, Any]) -> None:
    with reranker(fault_server, shadow=reversed_head(), **settings) as client:
        selection = client.best_of("2 + 2?", n=4)
    completions = [candidate.completion for candidate in selection.candidates]
    other = rank(completions, head=reversed_head(), select=settings.get("select", "auto"))

    shadow = selection.shadow
    assert shadow is not None
    assert (shadow.winner, shadow.answer, shadow.accepted) == (other.winner, other.answer, None)


class Broken(PlattCalibration):
    """A calibration that fails."""

    def __call__(self, scores: F64) -> F64:
        raise RuntimeError("no such number")


def test_a_shadow_that_fails_costs_nothing_and_says_so(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    with reranker(fault_server) as plain:
        expected = plain.best_of("2 + 2?", n=4)
    with reranker(fault_server, shadow=replace(head(), calibration=Broken(a=1.0, b=0.0))) as client:
        selection = client.best_of("2 + 2?", n=4)

    assert decided(selection) == decided(expected)
    assert selection.shadow is not None
    assert selection.shadow.error == "RuntimeError: no such number"
    assert (selection.shadow.winner, selection.shadow.scores) == (None, ())
    assert "shadow head failed" in caplog.text


def test_the_choice_of_the_shadow_is_stored(fault_server: FaultServer, tmp_path: Path) -> None:
    save(reversed_head(), tmp_path / "new.safetensors")
    path = tmp_path / "samples.db"
    with reranker(fault_server, shadow=tmp_path / "new.safetensors", store=path) as client:
        selection = client.best_of("2 + 2?", n=4)

    with SelectionStore(path) as store:
        stored = store.selection(selection.id)
    assert stored is not None
    assert selection.shadow is not None
    assert stored.facts["shadow"]["answer"] == selection.shadow.answer
    assert stored.facts["shadow"]["digest"] == head_digest(reversed_head())


def test_as_many_alternatives_are_asked_for_as_either_head_reads(fault_server: FaultServer) -> None:
    with reranker(fault_server) as plain, reranker(fault_server, shadow=replace(head(), width=7, k_max=7)) as client:
        plain.best_of("2 + 2?", n=2)
        client.best_of("2 + 2?", n=2)

    assert [request.json["top_logprobs"] for request in fault_server.requests] == [1, 7]


def test_a_head_that_cannot_be_a_shadow_is_refused_before_anything_is_sent(fault_server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="auto"):
        reranker(fault_server, shadow="auto")
    with pytest.raises(ArtifactMismatchError):
        reranker(fault_server, shadow=head(model="another"))
    weights = GatedLinearHead(gate_weight=np.zeros(4), gate_bias=0.0, reward_weight=np.ones(4), reward_bias=0.0)
    hidden = HiddenHead(head=weights, provider="openai-compatible", model="m", layers=(1,), moment="read", width=4)
    with pytest.raises(ConfigurationError, match="hidden states"):
        reranker(fault_server, shadow=hidden)
    with reranker(fault_server) as client, pytest.raises(ConfigurationError, match="shadow"):
        client.best_of("2 + 2?", n=2, shadow=head())
    assert fault_server.requests == []


async def test_the_async_client_and_a_cascade_have_shadows_too(fault_server: FaultServer) -> None:
    fault_server.answers = ANSWERS
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=fault_server.url, head=head(), shadow=reversed_head()
    ) as client:
        selection = await client.best_of("2 + 2?", n=4)
    assert selection.shadow is not None
    with (
        reranker(fault_server, head=head(acceptance(UNSURE))) as cheap,
        reranker(fault_server, head=head(acceptance(SURE)), shadow=reversed_head()) as strong,
        Cascade([(cheap, 4), (strong, 4)]) as cascade,
    ):
        last = cascade.best_of("2 + 2?")
    assert last.shadow is not None
    assert last.shadow.answer == selection.shadow.answer


def test_a_service_stores_the_shadow_and_does_not_show_it_to_clients(fault_server: FaultServer, tmp_path: Path) -> None:
    save(head(), tmp_path / "head.safetensors")
    save(reversed_head(), tmp_path / "new.safetensors")
    fault_server.answers = ANSWERS
    settings = {"head": str(tmp_path / "head.safetensors"), "shadow": str(tmp_path / "new.safetensors"), "n": 4}
    with run(service_config(fault_server, store=str(tmp_path / "samples.db"), **settings)) as service:
        reply = service.post({"model": "best", "messages": QUESTION})

    assert reply.status_code == 200
    assert "shadow" not in reply.json()["swift"]
    with SelectionStore(tmp_path / "samples.db") as store:
        (stored,) = store.selections()
    assert stored.facts["shadow"]["answer"] not in (None, stored.answer)
