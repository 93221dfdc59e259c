"""Tests of on_reject and Cascade over real HTTP: routing, costs, and results when a reranker fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncCascade, AsyncSwiftReranker, Budget, Cascade, SwiftReranker
from swift_client.cli.app import run
from swift_client.display import summary
from swift_client.errors import ConfigurationError, RejectedError, ServerError
from swift_client.models import (
    Acceptance,
    GatedLinearHead,
    HeadArtifact,
    PlattCalibration,
    ResponseWeights,
    Standardizer,
    save,
    user_folder,
)
from swift_client.reranker.acceptance import HARD_QUESTION_NOTE
from tests.servers import FaultServer, chat, error

SURE, UNSURE = -50.0, 50.0
"""Thresholds that accept every answer, and none."""


def acceptance(threshold: float, **facts: Any) -> Acceptance:
    usual: dict[str, Any] = {
        "risk": 0.05,
        "confidence": 0.9,
        "n": 4,
        "stopping": None,
        "select": "auto",
        "answer": "auto",
        "questions": 200,
        "accepted": 120,
        "errors": 1,
    }
    return Acceptance(threshold=threshold, **{**usual, **facts})


def head(*acceptances: Acceptance, model: str = "m") -> HeadArtifact:
    """Return a head whose score is the mean logprob."""
    return HeadArtifact(
        features=("logprob",),
        width=1,
        standardizer=Standardizer(mean=np.zeros(1), scale=np.ones(1)),
        head=GatedLinearHead(gate_weight=np.zeros(1), gate_bias=0.0, reward_weight=np.ones(1), reward_bias=0.0),
        response=ResponseWeights(mean=[], scale=[], weight=[]),
        calibration=PlattCalibration(a=1.0, b=2.0),
        provider="openai-compatible",
        model=model,
        k_min=0,
        k_max=1,
        acceptances=acceptances,
    )


def reranker(server: FaultServer, *acceptances: Acceptance, model: str = "m", **options: Any) -> SwiftReranker:
    options = {"head": head(*acceptances, model=model), "max_retries": 0, **options}
    return SwiftReranker("openai-compatible", model, base_url=server.url, **options)


def requests_of(server: FaultServer) -> list[tuple[str, int]]:
    return [(request.json["model"], request.json.get("n") or 1) for request in server.requests]


@pytest.fixture
def second_server() -> Iterator[FaultServer]:
    with FaultServer(("The answer is 7",)) as server:
        yield server


@pytest.mark.parametrize(("threshold", "expected"), [(SURE, True), (UNSURE, False)])
def test_an_answer_is_accepted_where_it_is_surer_than_the_threshold_in_the_head(
    fault_server: FaultServer, threshold: float, expected: bool
) -> None:
    with reranker(fault_server, acceptance(threshold)) as one:
        selection = one.best_of("q", n=4)

    assert selection.accepted is expected
    assert selection.to_dict()["accepted"] is expected
    assert selection.text == "The answer is 4"


def test_without_a_calibration_accepted_is_none_and_nothing_is_reported(fault_server: FaultServer) -> None:
    with reranker(fault_server) as one:
        selection = one.best_of("q", n=4)

    assert selection.accepted is None
    assert not selection.notes


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (3, {}, "calibrated for n=4, stopping=None, select=auto, answer=auto, not for n=3"),
        (4, {"select": "best"}, "not for n=4, stopping=None, select=best"),
        (4, {"answer": "number"}, "not for n=4, stopping=None, select=auto, answer=number"),
    ],
)
def test_another_way_of_asking_than_the_calibrated_one_is_neither_accepted_nor_rejected_and_says_so(
    fault_server: FaultServer, n: int, options: dict[str, Any], words: str
) -> None:
    with reranker(fault_server, acceptance(SURE), **options) as one:
        selection = one.best_of("q", n=n)

    assert selection.accepted is None
    assert any(words in note for note in selection.notes)


def test_fewer_completions_than_were_calibrated_for_are_not_accepted(fault_server: FaultServer) -> None:
    fault_server.script(error(500, "broken"))
    with reranker(fault_server, acceptance(SURE)) as one:
        one.pipeline.endpoint.n_max = 1
        selection = one.best_of("q", n=4)

    assert len(selection.candidates) == 3
    assert selection.accepted is None
    assert any("calibrated for 4 completions and 3 arrived" in note for note in selection.notes)


def test_a_head_asked_for_by_name_for_another_model_accepts_nothing(
    fault_server: FaultServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWIFT_CLIENT_HEADS", str(tmp_path))
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    save(head(acceptance(SURE), model="other"), folder / "other.safetensors")
    with reranker(fault_server, head="openai-compatible/other") as one:
        selection = one.best_of("q", n=4)

    assert selection.scorer == "head openai-compatible/other"
    assert selection.accepted is None


def test_abstaining_raises_an_error_that_holds_the_rejected_answer(fault_server: FaultServer) -> None:
    with reranker(fault_server, acceptance(UNSURE)) as one, pytest.raises(RejectedError, match="not sure") as raised:
        one.best_of("q", n=4, on_reject="abstain")

    assert raised.value.selection.text == "The answer is 4"
    assert raised.value.selection.usage.completion_tokens > 0


def test_abstaining_returns_what_is_accepted(fault_server: FaultServer) -> None:
    with reranker(fault_server, acceptance(SURE)) as one:
        assert one.best_of("q", n=4, on_reject="abstain").accepted is True


def test_escalating_draws_what_the_stopping_rule_left_out_and_pays_nothing_twice(fault_server: FaultServer) -> None:
    stopped = acceptance(UNSURE, n=16, stopping="beta")
    with reranker(fault_server, stopped, acceptance(SURE, n=16)) as one:
        selection = one.best_of("q", n=16, stopping="beta", on_reject="escalate")

    assert sum(n for _, n in requests_of(fault_server)) == len(selection.candidates) == 16
    assert selection.usage.completion_tokens == sum(len(c.completion.tokens) for c in selection.candidates)
    assert selection.stopped is None
    assert selection.reused == 0
    assert selection.accepted is True
    assert HARD_QUESTION_NOTE in selection.notes
    assert any("4 completions was not accepted" in note for note in selection.notes)


def test_where_escalating_fails_the_first_answer_comes_back_with_a_note(fault_server: FaultServer) -> None:
    fault_server.script(*[chat(fault_server.answers)] * 4, *[error(500, "broken")] * 16)
    with reranker(fault_server, acceptance(UNSURE, n=16, stopping="beta")) as one:
        selection = one.best_of("q", n=16, stopping="beta", on_reject="escalate", min_completions=1)

    assert selection.text == "The answer is 4"
    assert selection.accepted is not True
    assert len(selection.candidates) == 4


def test_a_cascade_asks_the_strong_one_only_where_the_cheap_answer_is_not_accepted(
    fault_server: FaultServer, second_server: FaultServer
) -> None:
    for threshold, strong_asked in ((SURE, 0), (UNSURE, 1)):
        fault_server.requests.clear()
        second_server.requests.clear()
        cheap = reranker(fault_server, acceptance(threshold))
        strong = reranker(second_server, model="strong", head=None)
        with Cascade([cheap, (strong, 2)]) as cascade:
            selection = cascade.best_of("q", n=4)

        assert requests_of(fault_server) == [("m", 4)]
        assert requests_of(second_server) == [("strong", 2)] * strong_asked
        assert selection.text == ("The answer is 7" if strong_asked else "The answer is 4")
        assert [(step.model, step.n, step.accepted) for step in selection.path] == [
            ("m", 4, threshold == SURE),
            ("strong", 2, None),
        ][: 1 + strong_asked]
        spent = [step.usage for step in selection.path]
        assert selection.usage.completion_tokens == sum(usage.completion_tokens for usage in spent)
        assert selection.usage.calls == sum(usage.calls for usage in spent) == 1 + strong_asked
        assert selection.to_dict()["path"][0]["usage"]["completion_tokens"] == spent[0].completion_tokens


def test_the_same_reranker_with_more_completions_keeps_those_that_it_has(fault_server: FaultServer) -> None:
    one = reranker(fault_server, acceptance(UNSURE, n=1))
    with Cascade([(one, 1), (one, 4)]) as cascade:
        selection = cascade.best_of("q")

    assert requests_of(fault_server) == [("m", 1), ("m", 3)]
    assert len(selection.candidates) == 4
    assert [step.usage.completion_tokens for step in selection.path] == [4, 12]
    assert selection.usage.completion_tokens == 16
    assert selection.reused == 0


def test_a_strong_member_that_fails_costs_no_answer_that_has_come(
    fault_server: FaultServer, second_server: FaultServer
) -> None:
    second_server.script(error(500, "broken"))
    strong = reranker(second_server, model="strong", head=None)
    with Cascade([(reranker(fault_server, acceptance(UNSURE)), 4), (strong, 1)]) as cascade:
        selection = cascade.best_of("q")

    assert selection.text == "The answer is 4"
    assert selection.accepted is False
    assert [step.error is None for step in selection.path] == [True, False]
    assert any("openai-compatible/strong brought no answer" in note for note in selection.notes)


def test_a_cheap_member_that_fails_leaves_the_question_to_the_next(
    fault_server: FaultServer, second_server: FaultServer
) -> None:
    fault_server.script(error(500, "broken"))
    strong = reranker(second_server, model="strong", head=None)
    with Cascade([(reranker(fault_server, acceptance(SURE)), 4), (strong, 1)]) as cascade:
        selection = cascade.best_of("q")

    assert selection.text == "The answer is 7"
    assert [step.error is None for step in selection.path] == [False, True]
    assert any("openai-compatible/m brought no answer" in note for note in selection.notes)


def test_where_all_members_fail_the_last_error_is_raised(fault_server: FaultServer, second_server: FaultServer) -> None:
    fault_server.script(error(500, "broken"))
    second_server.script(error(503, "broken"))
    strong = reranker(second_server, model="strong", head=None)
    with (
        Cascade([(reranker(fault_server, acceptance(SURE)), 4), (strong, 1)]) as cascade,
        pytest.raises(Exception) as raised,  # noqa: PT011
    ):
        cascade.best_of("q")
    causes = getattr(raised.value, "causes", [raised.value])
    assert [cause.status for cause in causes] == [503]
    assert all(isinstance(cause, ServerError) for cause in causes)


def test_members_spend_one_budget_together(fault_server: FaultServer, second_server: FaultServer) -> None:
    strong = reranker(second_server, model="strong", head=None)
    with Cascade([(reranker(fault_server, acceptance(UNSURE)), 4), (strong, 1)]) as cascade:
        selection = cascade.best_of("q", budget=Budget(calls=1))

    assert selection.text == "The answer is 4"
    assert second_server.requests == []
    assert any("strong brought no answer" in note for note in selection.notes)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "at least two members, not 0"),
        ([(SURE, 4)], "at least two members, not 1"),
        ([None, (SURE, 4)], "needs a head that was calibrated to a risk: head openai-compatible/m was not"),
        ([(SURE, 2), (SURE, 4)], "was calibrated for n=4"),
        (["openai", (SURE, 4)], "takes SwiftReranker objects"),
        ([(SURE, 0), (SURE, 4)], "n of a member must be a whole number"),
    ],
)
def test_a_cascade_that_could_reject_nothing_is_refused_when_it_is_built(
    fault_server: FaultServer, members: Sequence[Any], words: str
) -> None:
    def member(spec: Any) -> Any:
        if isinstance(spec, tuple):
            return reranker(fault_server, acceptance(spec[0])), spec[1]
        return spec or reranker(fault_server)

    with pytest.raises(ConfigurationError, match=words):
        Cascade([member(spec) for spec in members])


def test_an_n_that_the_cheap_member_was_not_calibrated_for_is_refused_before_anything_is_sent(
    fault_server: FaultServer,
) -> None:
    one = reranker(fault_server, acceptance(SURE))
    with Cascade([one, one]) as cascade, pytest.raises(ConfigurationError, match="calibrated for n=4"):
        cascade.best_of("q", n=8)
    assert fault_server.requests == []


def test_abstaining_in_a_cascade_needs_every_member_calibrated_and_holds_the_path(
    fault_server: FaultServer, second_server: FaultServer
) -> None:
    cheap = reranker(fault_server, acceptance(UNSURE))
    with (
        Cascade([cheap, reranker(second_server, model="strong", head=None)]) as cascade,
        pytest.raises(ConfigurationError, match="strong needs a head"),
    ):
        cascade.best_of("q", n=4, on_reject="abstain")
    assert fault_server.requests == []
    strong = reranker(second_server, acceptance(UNSURE), model="strong")
    with (
        Cascade([reranker(fault_server, acceptance(UNSURE)), strong]) as cascade,
        pytest.raises(RejectedError) as error,
    ):
        cascade.best_of("q", n=4, on_reject="abstain")
    assert [step.model for step in error.value.selection.path] == ["m", "strong"]


async def test_an_async_cascade_does_the_same_on_the_callers_loop(
    fault_server: FaultServer, second_server: FaultServer
) -> None:
    cheap = AsyncSwiftReranker(
        "openai-compatible", "m", base_url=fault_server.url, head=head(acceptance(UNSURE)), max_retries=0
    )
    strong = AsyncSwiftReranker("openai-compatible", "strong", base_url=second_server.url, max_retries=0)
    async with AsyncCascade([cheap, (strong, 1)]) as cascade:
        both = await asyncio.gather(*(cascade.best_of("q", n=4) for _ in range(2)))

    assert [selection.text for selection in both] == ["The answer is 7"] * 2
    assert all(len(selection.path) == 2 for selection in both)


def test_an_answer_accepted_by_a_later_member_says_that_its_risk_was_measured_on_all_questions(
    fault_server: FaultServer, second_server: FaultServer
) -> None:
    strong = reranker(second_server, acceptance(SURE), model="strong")
    with Cascade([reranker(fault_server, acceptance(UNSURE)), strong]) as cascade:
        selection = cascade.best_of("q", n=4)

    assert selection.accepted is True
    assert HARD_QUESTION_NOTE in selection.notes
    assert selection.path[0].accepted is False


def test_the_table_says_whether_an_answer_is_accepted_and_who_was_asked(fault_server: FaultServer) -> None:
    one = reranker(fault_server, acceptance(UNSURE, n=1), acceptance(SURE))
    with Cascade([(one, 1), (one, 4)]) as cascade:
        selection = cascade.best_of("q")
    with reranker(fault_server, acceptance(UNSURE)) as single:
        other = single.best_of("q", n=4)

    assert "· accepted ·" in summary(selection)
    assert "asked m n=1 → m n=4" in summary(selection)
    assert "not accepted" in summary(other)
    assert "not accepted" in other._repr_html_()


def test_the_command_exits_with_6_and_shows_the_answer_that_it_kept_back(
    fault_server: FaultServer, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    save(head(acceptance(UNSURE)), tmp_path / "h")
    plan = ["best-of", "q", "--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url]
    assert run([*plan, "--n", "4", "--head", str(tmp_path / "h"), "--on-reject", "abstain", "--json"]) == 6

    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "RejectedError"
    assert error["selection"]["text"] == "The answer is 4"
