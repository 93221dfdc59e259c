"""Tests of what a verifier must not do when its judge is slow, down or shared, or when its votes are unusual."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from pydantic import BaseModel

from swift_client import AsyncSwiftReranker, Completion, Price, SwiftReranker, Verifier, rank
from swift_client.errors import BudgetExceededError, ConfigurationError, NoCompletionError, VerificationError
from swift_client.sampling import Budget
from swift_client.verify.connect_judge import connect_judge
from tests.judges import is_verdict, judge_by
from tests.servers import FaultServer, Received, Response, after, chat, chat_stream, error, json_response, reset, sse
from tests.test_verifier import OTHER, QUESTION, RIGHT, WRONG, ask, right, serve, verdicts


class Number(BaseModel):
    """An answer that has to be a number."""

    value: int


async def test_a_judge_that_is_down_holds_up_nobody_for_long(fault_server: FaultServer) -> None:
    answers = serve([WRONG, RIGHT, OTHER, "The answer is 1"], right(0.9))
    down = json_response({"error": {"message": "down", "type": "server_error"}}, 500)
    fault_server.serve(lambda request: after(0.3, down) if is_verdict(request) else answers(request))
    selection = await ask(fault_server, Verifier(mode="p_true"), max_retries=0)
    assert selection.verification is not None
    assert len(selection.verification.failures) == 8
    assert selection.elapsed < 1.5  # the first one, then seven at once; one by one they took 2.4 s


async def test_a_reranker_that_judges_keeps_its_connections(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    with FaultServer() as other:
        judge = judge_by(right(0.9))
        other.serve(lambda request: judge(request) if is_verdict(request) else after(0.8, chat([OTHER])))
        async with AsyncSwiftReranker("openai-compatible", "judge", base_url=other.url) as shared:
            running = asyncio.create_task(shared.best_of(QUESTION, n=1))
            await asyncio.sleep(0.2)
            assert (await ask(fault_server, Verifier(shared), n=2)).text == RIGHT  # closes its own connections
            assert not running.done()
            assert (await running).text == OTHER


async def test_no_connection_to_another_judge_is_left(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", fault_server.url)
    fault_server.serve(judge_by(right(0.9)))
    assert await Verifier("ollama/judge").ascore(QUESTION, RIGHT) == pytest.approx(0.9, abs=1e-6)
    completions = [Completion(text=WRONG, index=0), Completion(text=RIGHT, index=1)]
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        assert (await reranker.arank(completions, prompt=QUESTION, verifier="ollama/judge")).text == RIGHT
        for _ in range(100):
            if not fault_server._open:
                break
            await asyncio.sleep(0.02)
        assert fault_server._open == 0


@pytest.mark.parametrize("select", ["auto", "best", "vote", "consensus"])
async def test_an_answer_that_does_not_fit_the_schema_is_not_judged(fault_server: FaultServer, select: Any) -> None:
    answers = ["It is 408, no doubt.", '{"value": 1}', '{"value": 2}', "It is 408."]
    fault_server.serve(serve(answers, right(0.98, 0.3)))
    verifier = Verifier(mode="p_true", when="always")
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=fault_server.url, verifier=verifier, select=select
    ) as reranker:
        selection = await reranker.best_of(QUESTION, n=4, response_model=Number)
    assert selection.parsed in (Number(value=1), Number(value=2))
    assert [candidate.verifier_score is None for candidate in selection.candidates] == [True, False, False, True]


async def test_an_error_costs_no_verdict(fault_server: FaultServer) -> None:
    fault_server.serve(serve(["no number", "none at all"], right(0.9)))
    always = Verifier(mode="p_true", when="always")
    with pytest.raises(NoCompletionError):
        await ask(fault_server, always, response_model=Number)
    with pytest.raises(BudgetExceededError):
        await ask(fault_server, always, n=4, min_completions=4, budget=Budget(calls=1, tokens=250), max_tokens=100)
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url) as judge, pytest.raises(NoCompletionError):
        rank(
            [Completion(text="none"), Completion(text="nothing")],
            prompt=QUESTION,
            verifier=Verifier(judge, mode="p_true", when="always"),
            response_model=Number,
        )
    assert not verdicts(fault_server)


_SENTENCES = ["the cat sat on the mat today", "the cat sat on the mat now", "purple elephants fly", "the cat sat"]
_OBJECTS = ['{"a":1,"b":2,"c":3}', '{"a":1,"b":5,"c":3}', '{"a":1,"b":2,"c":9}', '{"a":7,"b":8,"c":9}']


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mode", ["p_true", "score"])
@pytest.mark.parametrize("kind", ["consensus", "best", "fields"])
async def test_a_judge_without_an_opinion_changes_no_choice(
    fault_server: FaultServer, kind: str, mode: Any, turn: int
) -> None:
    texts = _OBJECTS if kind == "fields" else _SENTENCES
    texts = [*texts[turn:], *texts[:turn]]
    members = {name: {"type": "integer"} for name in "abc"}
    schema = {"type": "object", "properties": members, "required": list(members)}
    winners = []
    for verifier in (None, Verifier(mode=mode, when="always")):
        fault_server.serve(serve(texts, lambda text: 0.5))
        async with AsyncSwiftReranker(
            "openai-compatible",
            "m",
            base_url=fault_server.url,
            verifier=verifier,
            select="auto" if kind == "fields" else kind,  # type: ignore[arg-type]
        ) as reranker:
            selection = await reranker.best_of(QUESTION, n=4, response_model=schema if kind == "fields" else None)
        winners.append(selection.winner)
    assert winners[0] == winners[1]
    assert selection.verification is not None
    assert selection.verification.judged


async def test_verdicts_are_read_from_streams(fault_server: FaultServer) -> None:
    judge = judge_by(right(0.9))

    def reply(request: Received) -> Response:
        assert request.json["stream"]
        if not is_verdict(request):
            return chat_stream([WRONG, RIGHT])
        body = json.loads(judge(request).body)
        (choice,) = body["choices"]
        first = {"index": 0, "delta": choice["message"], "logprobs": choice["logprobs"], "finish_reason": None}
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        return sse([{"choices": [first]}, {"choices": [last]}, {"choices": [], "usage": body["usage"]}])

    fault_server.serve(reply)
    selection = await ask(fault_server, Verifier(mode="p_true"), n=2, deadline=10)
    scores = {candidate.text: candidate.verifier_score for candidate in selection.candidates}
    assert scores == {WRONG: pytest.approx(0.1, abs=1e-6), RIGHT: pytest.approx(0.9, abs=1e-6)}


def test_a_local_model_judges_by_its_own_weights() -> None:
    pytest.importorskip("torch")
    from swift_client.adapters.providers.custom import CustomTransport

    async def model_of(judge: str) -> Any:
        reranker = AsyncSwiftReranker("huggingface", "first")
        transport = await connect_judge(judge, reranker.pipeline.model_client).model.transports.get()
        assert isinstance(transport, CustomTransport)
        return getattr(transport._custom, "model", None)

    assert asyncio.run(model_of("self")) == "first"
    assert asyncio.run(model_of("huggingface/first")) == "first"
    assert asyncio.run(model_of("huggingface/second")) == "second"


@pytest.mark.parametrize(
    ("provider", "model", "fields"),
    [
        ("openai", "gpt-5.6", {"reasoning_effort": "none"}),
        ("openai-responses", "gpt-5.6", {"reasoning": {"effort": "none"}}),
        ("deepseek", "deepseek-v4-flash", {"thinking": {"type": "disabled"}}),
    ],
)
async def test_thinking_is_turned_off_by_the_field_that_the_interface_has(
    fault_server: FaultServer, provider: str, model: str, fields: dict[str, Any]
) -> None:
    fault_server.serve(lambda request: error(400, "enough"))
    async with AsyncSwiftReranker(provider, model, base_url=fault_server.url, api_key="k") as judge:
        with pytest.raises(VerificationError, match="enough"):
            await Verifier(judge).ascore(QUESTION, RIGHT)
    sent = fault_server.requests[0].json
    names = ("reasoning", "reasoning_effort", "thinking")
    assert {name: sent[name] for name in names if name in sent} == fields
    assert sent.get("max_tokens", sent.get("max_output_tokens")) == 16


async def test_one_price_is_that_of_the_judge_too_if_it_is_the_same_model(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    options: dict[str, Any] = {"prices": Price(input=1, output=2), "budget": Budget(usd=1.0), "max_tokens": 20}
    selection = await ask(fault_server, "openai-compatible/m", n=2, **options)
    assert selection.verification is not None
    assert selection.verification.cost == pytest.approx(4 * (50 + 2) / 1e6)
    with pytest.raises(ConfigurationError) as caught:
        await ask(fault_server, "openai-compatible/strong", n=2, **options)
    assert "prices={'strong': Price(input=..., output=...)}" in str(caught.value)


async def test_verdicts_that_are_read_as_text_are_not_drawn_at_random(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9), logprobs=False))
    await ask(fault_server, Verifier(mode="p_true"), n=2)
    # The first reply shows that no logprobs come.
    assert [request.json["temperature"] for request in verdicts(fault_server)] == [1.0, 0.0, 0.0, 0.0]


async def test_a_note_says_that_lost_verdicts_may_be_billed(fault_server: FaultServer) -> None:
    answers = serve([WRONG, RIGHT], right(0.9))
    fault_server.serve(lambda request: reset() if is_verdict(request) else answers(request))
    options: dict[str, Any] = {"budget": Budget(tokens=5000), "max_tokens": 10, "max_retries": 0}
    selection = await ask(fault_server, Verifier(mode="p_true"), n=2, **options)
    assert sum("may be billed" in note for note in selection.notes) == 1


async def test_one_judged_answer_is_named_in_the_singular(fault_server: FaultServer) -> None:
    fault_server.serve(serve([OTHER, RIGHT], lambda text: math.nan if "408" in text else 0.3))
    selection = await ask(fault_server, Verifier(mode="p_true"), n=2, max_retries=0)
    assert "Answers without a judgement count as the judged one." in selection.notes
