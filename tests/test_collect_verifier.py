"""Judgements of collected samples: a loopback model and a loopback judge, over real HTTP."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swift_client import SwiftReranker, Verifier
from swift_client.collect.batch.collect import collect_batch
from swift_client.collect.collect import CollectProgress, CollectResult, Prices, collect
from swift_client.collect.judging import find_unjudged_answers
from swift_client.errors import ConfigurationError
from swift_client.store import Sample, SampleStore, StoredQuestion
from swift_client.types import Completion, ToolCall
from tests.children import command
from tests.judges import Judgement, candidates_of, is_verdict, judge_by, prompt_of
from tests.servers import FaultServer, Received, Response, chat, error

QUESTIONS = [
    StoredQuestion(id=f"q{index}", messages=({"role": "user", "content": f"What is {index} + 400?"},), answer="408")
    for index in range(3)
]
ANSWERS = ["The answer is 408", "The answer is 398", "So the answer is 408", "The answer is 418"]  # three distinct
IDENTITY = "openai-compatible/m p_true v1"


def right(p: float, q: float = 0.1) -> Judgement:
    return lambda text: p if "408" in text else q


def serve(judge: Callable[[Received], Response], answers: list[str] = ANSWERS) -> Callable[[Received], Response]:
    turn = itertools.count()

    def reply(request: Received) -> Response:
        if is_verdict(request):
            return judge(request)
        return chat([answers[next(turn) % len(answers)] for _ in range(request.json.get("n", 1))], k=3)

    return reply


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


@pytest.fixture(autouse=True)
def server(fault_server: FaultServer) -> FaultServer:
    fault_server.serve(serve(judge_by(right(0.9))))
    return fault_server


def run(server: FaultServer, out: Path, verifier: Any = "self", **settings: Any) -> CollectResult:
    options = {
        "n": 4,
        "top_logprobs": 3,
        "max_retries": 0,
        "concurrency": 1,
        "require_logprobs": False,
        "questions": QUESTIONS,
        **settings,
    }
    return collect(
        options.pop("questions"),
        out,
        provider="openai-compatible",
        model="m",
        base_url=server.url,
        verifier=verifier,
        **options,
    )


def verdicts(server: FaultServer) -> list[Received]:
    return [request for request in server.requests if is_verdict(request)]


def stored(out: Path, verifier: str = IDENTITY) -> dict[str, list[tuple[str, float | None]]]:
    with SampleStore(out) as store:
        return {
            question.id: [(sample.completion.text, sample.verifier_scores.get(verifier)) for sample in samples]
            for question, samples in store.questions_with_samples()
        }


def judged(question: list[tuple[str, float | None]], p: float = 0.9, q: float = 0.1) -> bool:
    return all(score == pytest.approx(p if "408" in text else q, abs=1e-6) for text, score in question)


def test_each_distinct_answer_is_judged_once_and_every_sample_of_it_has_the_judgement(
    server: FaultServer, out: Path
) -> None:
    progress: list[CollectProgress] = []
    result = run(server, out, on_progress=progress.append)
    assert len(verdicts(server)) == 3 * 3 * 2  # questions, distinct answers, orders of the options
    assert len(stored(out)) == 3
    assert all(judged(question) and len(question) == 4 for question in stored(out).values())
    assert result.complete
    assert result.judgements is not None
    assert (result.judgements.verifier, result.judgements.judged) == (IDENTITY, 9)
    assert (result.judgements.calls, result.judgements.unjudged_questions) == (18, 0)
    assert (result.judgements.usage.prompt_tokens, result.judgements.usage.completion_tokens) == (18 * 50, 18)
    assert result.requests == 3 + 18
    assert result.usage.calls == 3 + 18
    assert (progress[-1].judged, progress[-1].requests) == (9, 21)
    assert json.loads(json.dumps(result.to_dict()))["judgements"]["judged"] == 9
    # The right answer is not shown to the judge.
    assert all("408" not in prompt_of(request) or "408" in candidates_of(prompt_of(request))[0]
               for request in verdicts(server))  # fmt: skip
    with SampleStore(out) as store:
        assert [question.id for question in store.questions()] == ["q0", "q1", "q2"]


def test_a_second_run_judges_nothing_again(server: FaultServer, out: Path) -> None:
    first = run(server, out)
    result = run(server, out)
    assert (result.requests, result.added) == (0, 0)
    assert result.judgements is not None
    assert (result.judgements.judged, result.judgements.unjudged_questions) == (0, 0)
    assert result.complete
    assert result.usage == first.usage  # of the whole file


def test_a_file_that_was_collected_before_is_judged_without_sampling(server: FaultServer, out: Path) -> None:
    run(server, out, verifier=None)
    before = len(server.requests)
    result = run(server, out)
    assert all(is_verdict(request) for request in server.requests[before:])
    assert (result.added, result.requests, result.complete) == (0, 18, True)
    assert all(map(judged, stored(out).values()))


def test_only_new_answers_are_judged_if_n_grows(server: FaultServer, out: Path) -> None:
    run(server, out, questions=QUESTIONS[:1])
    before = len(verdicts(server))
    server.serve(serve(judge_by(right(0.5, 0.3)), ["It is clear: the answer is 408", "The answer is 77"]))
    run(server, out, questions=QUESTIONS[:1], n=6)
    assert {candidates_of(prompt_of(request))[0] for request in verdicts(server)[before:]} == {"The answer is 77"}
    *_, (old_text, old_score), (new_text, new_score) = stored(out)["q0"]
    assert (old_text, new_text) == ("It is clear: the answer is 408", "The answer is 77")
    assert (old_score, new_score) == (pytest.approx(0.9, abs=1e-6), pytest.approx(0.3, abs=1e-6))


def test_another_verifier_judges_beside_the_first(server: FaultServer, out: Path) -> None:
    run(server, out, questions=QUESTIONS[:1])
    result = run(
        server, out, Verifier(mode="score", criteria=["It is right.", "It is short."]), questions=QUESTIONS[:1]
    )
    assert result.judgements is not None
    assert (result.judgements.judged, result.judgements.calls) == (3, 6)
    assert result.judgements.verifier.startswith("openai-compatible/m score v1 criteria=")
    with SampleStore(out) as store:
        scores = [sample.verifier_scores for sample in store.samples("q0")]
    assert all(set(score) == {IDENTITY, result.judgements.verifier} for score in scores)


def test_failed_judgements_stay_missing_with_a_note_and_the_next_run_asks_for_the_failed_verdicts_alone(
    server: FaultServer, out: Path
) -> None:
    # Of the right answer, the verdict with the options in the second order fails.
    healthy = judge_by(right(0.9))

    def broken(request: Received) -> Response:
        prompt = prompt_of(request)
        if "408" in candidates_of(prompt)[0] and "No or Yes" in prompt:
            return error(500, "the judge is down")
        return healthy(request)

    server.serve(serve(broken))
    result = run(server, out)
    assert not result.complete
    assert result.samples == result.wanted
    assert result.judgements is not None
    assert (result.judgements.judged, result.judgements.unjudged_questions) == (6, 3)
    assert any("brought no judgement of some answers" in note and "down" in note for note in result.notes)
    assert {score for text, score in stored(out)["q0"] if "408" in text} == {None}
    server.serve(serve(healthy))
    before = len(server.requests)
    result = run(server, out)
    assert len(server.requests) - before == 3
    assert all("No or Yes" in prompt_of(request) for request in server.requests[before:])
    assert result.complete
    assert all(map(judged, stored(out).values()))


def test_a_refused_key_costs_one_call_and_the_samples_are_collected(server: FaultServer, out: Path) -> None:
    server.serve(serve(lambda request: error(401, "bad key")))
    result = run(server, out, concurrency=4)
    assert len(verdicts(server)) == 1
    assert result.samples == result.wanted == 12
    assert result.judgements is not None
    assert result.judgements.unjudged_questions == 3


def test_a_dead_judge_is_left_alone_after_eight_answers(server: FaultServer, out: Path) -> None:
    server.serve(serve(judge_by(lambda text: math.nan)))
    questions = [StoredQuestion(id=f"r{i}", messages=QUESTIONS[0].messages) for i in range(10)]
    result = run(server, out, questions=questions)
    assert result.samples == 40
    # Each answer asks once while the judge has never replied.
    assert len(verdicts(server)) <= 2 * 8


@pytest.mark.parametrize("limit", [3, 4, 9, 20])
def test_the_limit_on_requests_holds_and_the_rest_is_judged_later(server: FaultServer, out: Path, limit: int) -> None:
    result = run(server, out, max_requests=limit)
    assert result.requests == len(server.requests) == limit
    assert (result.stopped, result.complete) == ("max_requests", False)
    assert result.judgements is not None
    assert result.judgements.unjudged_questions >= 1
    result = run(server, out)
    assert result.complete
    assert len(server.requests) == 21  # no verdict was lost
    assert all(map(judged, stored(out).values()))


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_limit_on_the_cost_holds_over_all_runs(server: FaultServer, out: Path, concurrency: int) -> None:
    prompts = [f"What is {index} + 400?" for index in range(20)]
    questions = [StoredQuestion(id=text, messages=({"role": "user", "content": text},)) for text in prompts]
    prices = Prices(prompt=1.0, completion=1.0)
    settings: dict[str, Any] = {"prices": prices, "max_tokens": 20, "concurrency": concurrency, "questions": questions}
    free = run(server, out.with_name("free.db"), **settings)
    assert free.cost is not None
    assert free.cost == pytest.approx((free.usage.prompt_tokens + free.usage.completion_tokens) / 1e6)
    server.requests.clear()
    limit, spent = 0.7 * free.cost, 0.0
    for _ in range(2):
        result = run(server, out, max_cost=limit, **settings)
        assert result.stopped == "max_cost"
        assert result.cost is not None
        assert spent <= result.cost <= limit
        spent = result.cost
        assert spent == pytest.approx((result.usage.prompt_tokens + result.usage.completion_tokens) / 1e6)
    assert verdicts(server)
    result = run(server, out, max_cost=10 * free.cost, **settings)
    assert result.complete
    assert result.cost == pytest.approx(free.cost)


def test_a_limit_on_the_cost_needs_the_price_of_the_judge(server: FaultServer, out: Path) -> None:
    settings = {"prices": Prices(prompt=1.0, completion=1.0), "max_tokens": 20, "max_cost": 1.0}
    with pytest.raises(ConfigurationError, match="needs the price of the judge openai-compatible/other"):
        run(server, out, "openai-compatible/other", **settings)
    assert not server.requests


def test_another_reranker_judges(server: FaultServer, out: Path) -> None:
    with FaultServer() as other:
        other.serve(judge_by(right(0.7)))
        with SwiftReranker("openai-compatible", "judge", base_url=other.url) as judge:
            result = run(server, out, Verifier(judge))
        assert len(other.requests) == 18
    assert not verdicts(server)
    assert result.judgements is not None
    assert all(score is not None for question in stored(out, "openai-compatible/judge p_true v1").values()
               for _, score in question)  # fmt: skip


def test_a_question_that_lacks_samples_is_not_judged_yet(server: FaultServer, out: Path) -> None:
    answers = serve(judge_by(right(0.9)))
    server.serve(lambda request: error(400, "no") if "What is 1 +" in prompt_of(request) else answers(request))
    result = run(server, out, concurrency=2)
    assert result.judgements is not None
    assert result.judgements.unjudged_questions == 1
    assert sorted(stored(out)) == ["q0", "q2"]
    server.serve(answers)
    assert run(server, out).complete
    assert all(map(judged, stored(out).values()))


def test_cut_completions_have_no_judgement(server: FaultServer, out: Path) -> None:
    judge = judge_by(right(0.9))
    texts, reasons = ["The answer is 408", "The answer is 408", "The answer is 3", "The ans"], ["stop"] * 3 + ["length"]

    def reply(request: Received) -> Response:
        return judge(request) if is_verdict(request) else chat(texts, k=3, finish_reason=reasons)

    server.serve(reply)
    result = run(server, out, questions=QUESTIONS[:1])
    assert result.complete
    assert [score is None for _, score in stored(out)["q0"]] == [False, False, False, True]
    assert run(server, out, questions=QUESTIONS[:1]).requests == 0


def test_wrong_verifiers_are_refused_before_anything_is_sent(server: FaultServer, out: Path) -> None:
    for verifier, message in (
        (Verifier(mode="pairwise"), 'Use mode="p_true" or mode="score"'),
        ("no-such-provider/m", "no-such-provider"),
        (3, "verifier= takes a Verifier"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            run(server, out, verifier)
    with pytest.raises(ConfigurationError, match="Batches cannot be judged"):
        collect_batch(QUESTIONS, out, provider="openai", model="m", verifier="self")
    assert not server.requests
    assert not out.exists()


# The command


def invoke(server: FaultServer, out: Path, *extra: str) -> subprocess.CompletedProcess[bytes]:
    questions = out.with_name("q.jsonl")
    questions.write_text('{"id": "q", "prompt": "What is 8 + 400?", "answer": 408}\n')
    arguments = ["collect", "--questions", str(questions), "--out", str(out), "--provider", "openai-compatible"]
    arguments += ["--model", "m", "--base-url", server.url, "--n", "4", *extra]
    return command(*arguments, cwd=out.parent)


def test_the_command_judges_and_says_so(server: FaultServer, out: Path) -> None:
    result = invoke(
        server, out, "--verifier", "self", "--verifier-mode", "score", "--criteria", "It is right.", "--json"
    )
    assert result.returncode == 0, result.stderr
    judgements = json.loads(result.stdout)["judgements"]
    assert (judgements["judged"], judgements["calls"], judgements["unjudged_questions"]) == (3, 3, 0)
    result = invoke(server, out, "--verifier", "self")
    assert "3 answers judged by openai-compatible/m p_true v1: 6 calls, 306 tokens" in " ".join(
        result.stdout.decode().split()
    )
    server.serve(serve(judge_by(lambda text: math.nan)))
    result = invoke(server, out, "--verifier", "openai-compatible/judge")
    assert result.returncode == 4
    assert "Judgements of 1 questions are missing" in " ".join(result.stderr.decode().split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--criteria", "It is right."], "need --verifier"),
        (["--verifier-mode", "score"], "need --verifier"),
        (["--verifier", "self", "--batch"], "cannot be combined with --batch"),
        (["--verifier", "self", "--replies", "r.jsonl"], "samples nothing that the file has"),
    ],
)
def test_options_that_contradict_each_other(server: FaultServer, out: Path, options: list[str], message: str) -> None:
    result = invoke(server, out, *options)
    assert result.returncode == 3
    assert message in " ".join(result.stderr.decode().split())
    assert not server.requests


def test_a_stored_answer_is_judged_with_its_tool_calls_as_at_run_time() -> None:
    call = ToolCall(name="search", arguments='{"q": "rain"}')
    completion = Completion(text="I look it up.", index=0, tool_calls=(call,))
    (answer,) = find_unjudged_answers([Sample(question_id="a", index=0, completion=completion)], "m p_true v1")
    assert answer.text == 'I look it up.\nCalls the tool search with {"q": "rain"}'
