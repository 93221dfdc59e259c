"""Tests of verifiers on the command line: best-of, rank and plan, against loopback servers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Verifier
from swift_client.cli.app import run
from swift_client.pricing import Price
from swift_client.verify.connect_judge import connect_judge
from swift_client.verify.cost import plan_verdicts
from tests.children import ROOT
from tests.judges import is_verdict, judge_by, prompt_of
from tests.servers import FaultServer, chat_body
from tests.test_verifier import OTHER, QUESTION, RIGHT, WRONG, right, serve, verdicts


def best_of(server: FaultServer, *options: str, n: int = 4) -> int:
    where = ("--provider", "openai-compatible", "--model", "m", "--base-url", server.url)
    return run(["best-of", QUESTION, "--n", str(n), *where, *options])


def test_the_command_shows_judgements(fault_server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    fault_server.serve(serve([WRONG, RIGHT, WRONG, RIGHT], right(0.9)))

    assert best_of(fault_server, "--verifier", "self", "--verifier-mode", "p_true") == 0

    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == RIGHT
    assert "verifier" in lines[2]
    assert "0.900" in lines[3]
    assert "verifier openai-compatible/m (p_true): 2 answers judged · 4 calls" in out
    assert "not validated" in err


def test_json_has_the_verification(fault_server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    fault_server.serve(serve([WRONG, RIGHT, WRONG, RIGHT], right(0.9)))

    assert best_of(fault_server, "--verifier", "openai-compatible/strong", "--json") == 0

    document = json.loads(capsys.readouterr().out)
    verification = document["verification"]
    assert (verification["judge"], verification["judged"], verification["calls"]) == ("openai-compatible/strong", 2, 4)
    assert document["candidates"][1]["verifier_score"] == pytest.approx(0.9, abs=1e-6)
    assert {request.json["model"] for request in verdicts(fault_server)} == {"strong"}


def test_criteria_and_reference_reach_the_judge(fault_server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    fault_server.serve(serve([WRONG] * 15 + [RIGHT], right(0.9)))
    criteria = ("--criteria", "It is right.", "--criteria", "It is short.")
    mode = ("--verifier", "self", "--verifier-mode", "score", "--verifier-when", "always")

    assert best_of(fault_server, *mode, *criteria, "--reference", "17 * 24 = 408", n=16) == 0

    prompts = [prompt_of(request) for request in verdicts(fault_server)]
    assert len(prompts) == 2 * 2  # distinct answers × criteria
    assert all("17 * 24 = 408" in prompt for prompt in prompts)
    assert {prompt.rsplit("Criterion: ")[-1] for prompt in prompts} == {"It is right.", "It is short."}


def test_doubt_is_the_default(fault_server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    fault_server.serve(serve([WRONG] * 31 + [RIGHT], right(0.9)))

    assert best_of(fault_server, "--verifier", "self", n=32) == 0

    assert "not asked · confidence 0." in capsys.readouterr().out
    assert not verdicts(fault_server)


@pytest.mark.parametrize("option", ["--criteria", "--reference"])
def test_notes_for_a_judge_need_a_judge(
    option: str, fault_server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert best_of(fault_server, option, "It is short.") == 3

    error = capsys.readouterr().err
    assert f"{option} needs --verifier." in error
    assert "--verifier self" in error
    assert not fault_server.requests


def test_an_unknown_judge_is_refused_in_the_words_of_the_command(
    fault_server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert best_of(fault_server, "--verifier", "no-such-provider/m") == 3
    assert "no-such-provider" in capsys.readouterr().err
    assert not fault_server.requests


@pytest.fixture
def replies(tmp_path: Path) -> str:
    file = tmp_path / "reply.json"
    file.write_text(json.dumps(chat_body([WRONG, RIGHT, OTHER])))
    return str(file)


def test_rank_asks_a_judge_on_your_own_server(
    replies: str, fault_server: FaultServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fault_server.serve(judge_by(right(0.9)))
    judge = ("--verifier", "openai-compatible/judge", "--verifier-base-url", fault_server.url)

    assert run(["rank", replies, "--prompt", QUESTION, *judge, "--json"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert document["text"] == RIGHT
    assert document["verification"]["judged"] == 3
    assert document["usage"]["calls"] == len(fault_server.requests) == 6
    assert all(is_verdict(request) and QUESTION in prompt_of(request) for request in fault_server.requests)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", QUESTION, "--verifier", "self"], "no model is asked for answers"),
        (["--verifier", "openai/gpt-4.1-nano"], "--verifier needs --prompt."),
        (["--prompt", QUESTION, "--verifier-base-url", "http://localhost:1/v1"], "Name the judge by --verifier."),
    ],
)
def test_rank_says_what_a_judge_needs(
    options: list[str], words: str, replies: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rank", replies, *options]) == 3
    error = capsys.readouterr().err
    assert words in error
    assert "reranker" not in error


async def test_the_log_line_has_the_verification(fault_server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    caplog.set_level(logging.INFO, "swift_client")

    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, verifier="self") as reranker:
        await reranker.best_of(QUESTION, n=2)

    (line,) = [record.getMessage() for record in caplog.records if "chosen by" in record.getMessage()]
    assert "verifier openai-compatible/m (p_true): 2 answers judged · 4 calls" in line
    assert "408" not in line


# --- plan ------------------------------------------------------------------------------------------------------------


def planned(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert (
        run(["plan", QUESTION, "--provider", "openai", "--model", "gpt-4.1-mini", "-n", "8", "--json", *options]) == 0
    )
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(
    ("options", "mode", "calls"),
    [
        (("--max-tokens", "20"), "p_true", {2: 4, 4: 8, 8: 16}),
        (("--max-tokens", "500"), "pairwise", {2: 2, 4: 6, 8: 12}),
        (("--verifier-mode", "score"), "score", {2: 2, 4: 4, 8: 8}),
        (("--verifier-mode", "score", "--criteria", "a", "--criteria", "b"), "score", {2: 4, 4: 8, 8: 16}),
        (("--max-tokens", "20", "--distinct", "3"), "p_true", {3: 6, 8: 16}),
    ],
)
def test_plan_says_how_many_calls_a_verifier_takes(
    options: tuple[str, ...], mode: str, calls: dict[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    judgements = planned(capsys, "--verifier", "self", *options)["judgements"]

    assert (judgements["judge"], judgements["mode"]) == ("openai/gpt-4.1-mini", mode)
    assert {plan["distinct"]: plan["calls"] for plan in judgements["plans"]} == calls
    assert all(plan["calls"] <= plan["max_calls"] for plan in judgements["plans"])


def test_plan_without_a_verifier_has_no_judgements(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys)["judgements"] is None


def test_plan_shows_the_judges_calls_and_refuses_more_distinct_answers_than_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["plan", "--prompt-tokens", "50", "-n", "8", "--verifier", "openai/gpt-4.1-nano"]) == 0
    assert "Judged by openai/gpt-4.1-nano, pairwise" in capsys.readouterr().out
    assert run(["plan", QUESTION, "-n", "8", "--verifier", "self", "--distinct", "9"]) == 3
    assert "--distinct 9 needs --verifier" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["p_true", "score", "pairwise"])
async def test_the_plan_of_the_tokens_is_near_those_of_the_requests_really_sent(
    mode: Any, fault_server: FaultServer
) -> None:
    # All answers differ and have 40 characters: 10 tokens.
    answers = [f"The answer is {letter * 26}" for letter in "abcd"]
    fault_server.serve(serve(answers, lambda text: 0.5))
    verifier = Verifier(mode=mode)
    price = Price(input=2.0, output=8.0)
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url, verifier=verifier) as reranker:
        judge = connect_judge("self", reranker.pipeline.model_client)
        (plan,) = plan_verdicts(verifier, judge, QUESTION, answer_tokens=10, distinct=[4], price=price)
        await reranker.best_of(QUESTION, n=4)

    sent = verdicts(fault_server)
    assert len(sent) == plan.calls == plan.max_calls
    n_bytes = sum(len(prompt_of(request).encode()) for request in sent)
    assert plan.prompt_tokens == pytest.approx(n_bytes / 4, rel=0.03)
    assert plan.completion_tokens == sum(request.json["max_tokens"] for request in sent)
    assert plan.usd == pytest.approx((2 * plan.prompt_tokens + 8 * plan.completion_tokens) / 1e6)


def test_the_guides_table_of_costs_follows_from_the_prompts() -> None:
    own = AsyncSwiftReranker("openai/gpt-4.1-mini", head=None).pipeline.model_client
    lines = (ROOT / "docs" / "guides" / "judging.md").read_text().splitlines()
    rows = {cells[1].strip(): cells[2:8] for line in lines if len(cells := line.split("|")) == 9}

    for name, mode in (("`p_true`", "p_true"), ("`score`, without criteria", "score"), ("`pairwise`", "pairwise")):
        verifier = Verifier(mode=mode)  # type: ignore[arg-type]
        plans = plan_verdicts(
            verifier, connect_judge("self", own), "x" * 400, answer_tokens=200, distinct=[8, 3], price=None
        )
        numbers = [f"{n:,}" for plan in plans for n in (plan.calls, plan.prompt_tokens, plan.completion_tokens)]
        assert [cell.strip() for cell in rows[name]] == numbers
