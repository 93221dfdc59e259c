"""Tests of verifiers: a loopback judge and a loopback model, over real HTTP."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Budget, Completion, Price, Selection, SwiftReranker, Verifier, rank
from swift_client.errors import ConfigurationError, VerificationError
from swift_client.types import Event, ToolCall
from swift_client.verify.distinct_answers import judged_text
from tests.judges import Judgement, candidates_of, is_verdict, judge_by, prompt_of
from tests.servers import FaultServer, Received, Response, chat

QUESTION = "What is 17 * 24?"
RIGHT, WRONG, OTHER = "The answer is 408", "The answer is 398", "The answer is 418"


def serve(answers: list[str], judgement: Judgement, **how: Any) -> Callable[[Received], Response]:
    """Answer questions with ``answers``, and verdicts by ``judgement``."""
    judge = judge_by(judgement, **how)
    turn = itertools.count()

    def reply(request: Received) -> Response:
        if is_verdict(request):
            return judge(request)
        n = request.json.get("n", 1)
        return chat([answers[next(turn) % len(answers)] for _ in range(n)], k=5)

    return reply


def right(p: float, q: float = 0.1) -> Judgement:
    """Judge the right answer by ``p`` and others by ``q``."""
    return lambda text: p if "408" in text else q


async def ask(server: FaultServer, verifier: object, n: int = 4, **options: Any) -> Selection:
    settings = {name: options.pop(name) for name in ("prices", "store", "on_event", "max_retries") if name in options}
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=server.url, verifier=verifier, **settings
    ) as reranker:
        return await reranker.best_of(QUESTION, n=n, **options)


def verdicts(server: FaultServer) -> list[Received]:
    return [request for request in server.requests if is_verdict(request)]


async def test_votes_in_doubt_are_judged_and_both_choose(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT, WRONG, RIGHT], right(0.9)))
    selection = await ask(fault_server, Verifier(mode="p_true"))
    assert selection.text == RIGHT
    assert selection.method == "vote"
    assert selection.signal.startswith("logprobs")
    verification = selection.verification
    assert verification is not None
    assert (verification.mode, verification.judged, verification.calls) == ("p_true", 2, 4)
    assert verification.judge == "openai-compatible/m"
    scores = {candidate.text: candidate.verifier_score for candidate in selection.candidates}
    assert scores == {WRONG: pytest.approx(0.1, abs=1e-6), RIGHT: pytest.approx(0.9, abs=1e-6)}
    # Posterior by hand: equal weights of votes, odds 9 against 1 / 9.
    weight = {text: sum(c.weight for c in selection.candidates if c.text == text) for text in (RIGHT, WRONG)}
    odds = {RIGHT: weight[RIGHT] * 9, WRONG: weight[WRONG] / 9}
    assert verification.confidence == pytest.approx(odds[RIGHT] / sum(odds.values()), rel=1e-5)
    # The judge's tokens count.
    assert verification.usage.prompt_tokens == 4 * 50
    assert selection.usage.calls == 1 + 4
    assert selection.usage.prompt_tokens >= verification.usage.prompt_tokens
    assert any("not validated" in note for note in selection.notes)


async def test_a_sure_vote_is_not_judged_unless_always(fault_server: FaultServer) -> None:
    fault_server.serve(serve([f"I multiply, step by step, 17 by 24. {WRONG}"] * 31 + [RIGHT], right(0.98)))
    selection = await ask(fault_server, Verifier(mode="p_true"), n=32)
    assert selection.answer == "398"
    assert selection.verification is not None
    assert (selection.verification.judged, selection.verification.calls) == (0, 0)
    assert not verdicts(fault_server)
    selection = await ask(fault_server, Verifier(mode="p_true", when="always"), n=32)
    assert selection.verification is not None
    assert selection.verification.judged == 2
    assert len(verdicts(fault_server)) == 4  # two distinct answers in two orders


async def test_doubt_means_always_where_no_two_agree_and_never_for_one(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT, OTHER], right(0.9)))
    selection = await ask(fault_server, "self", n=3)
    assert selection.text == RIGHT
    assert selection.verification is not None
    assert selection.verification.judged == 3
    before = len(verdicts(fault_server))
    selection = await ask(fault_server, "self", n=1)
    assert selection.verification is not None
    assert selection.verification.calls == 0
    assert len(verdicts(fault_server)) == before


async def test_free_texts_are_judged_once_per_distinct_text(fault_server: FaultServer) -> None:
    texts = [
        "Rain falls.\nIt is wet, and I sit.",
        "Rain on the roof,\nslow and grey.",
        "Rain  falls.\nIt is wet, and I sit.",
    ]
    fault_server.serve(serve(texts, lambda text: 0.9 if "roof" in text else 0.2))
    selection = await ask(fault_server, Verifier(mode="p_true"), n=3)
    assert "roof" in selection.text
    assert len(verdicts(fault_server)) == 4
    assert selection.candidates[0].verifier_score == selection.candidates[2].verifier_score


async def test_the_order_of_the_options_does_not_move_a_judgement(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.6, 0.4), bias=1.5))
    selection = await ask(fault_server, Verifier(mode="p_true"), n=2)
    by_text = {candidate.text: candidate.verifier_score for candidate in selection.candidates}
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    for text, p in ((RIGHT, 0.6), (WRONG, 0.4)):
        log_odds = math.log(p / (1 - p))
        assert by_text[text] == pytest.approx((sigmoid(log_odds + 1.5) + sigmoid(log_odds - 1.5)) / 2, abs=1e-5)


@pytest.mark.parametrize("mode", ["p_true", "score", "pairwise"])
async def test_every_mode_chooses_what_the_judge_prefers(fault_server: FaultServer, mode: Any) -> None:
    fault_server.serve(serve([WRONG, RIGHT, OTHER, "The answer is 1"], right(0.95, 0.05), bias=0.5))
    selection = await ask(fault_server, Verifier(mode=mode), n=4)
    assert selection.text == RIGHT
    assert selection.verification is not None
    assert selection.verification.mode == mode
    assert selection.verification.judged == 4
    calls = {"p_true": 8, "score": 4, "pairwise": 6}[mode]
    assert selection.verification.calls <= calls
    judgements = [candidate.verifier_score for candidate in selection.candidates]
    assert max(range(4), key=lambda i: judgements[i] or 0) == selection.winner


async def test_criteria_of_a_score_are_weighed(fault_server: FaultServer) -> None:
    def judge(request: Received) -> Response:
        prompt = prompt_of(request)
        is_first = "408" in candidates_of(prompt)[0]
        good = is_first if "It is right." in prompt.rsplit("Criterion:")[-1] else not is_first
        return judge_by(lambda text: 0.99 if good else 0.01)(request)

    answers = serve([WRONG, RIGHT], right(0.5))
    fault_server.serve(lambda request: judge(request) if is_verdict(request) else answers(request))
    criteria = {"It is right.": 3.0, "It is short.": 1.0}
    selection = await ask(fault_server, Verifier(mode="score", criteria=criteria), n=2)
    by_text = {candidate.text: candidate.verifier_score for candidate in selection.candidates}
    assert selection.text == RIGHT
    assert by_text[RIGHT] == pytest.approx(0.75, abs=0.02)
    assert by_text[WRONG] == pytest.approx(0.25, abs=0.02)
    assert len(verdicts(fault_server)) == 4


async def test_a_judge_without_logprobs_is_read_as_text_and_the_notes_say_so(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.7, 0.3), logprobs=False))
    selection = await ask(fault_server, Verifier(mode="p_true"), n=2)
    assert selection.text == RIGHT
    assert [candidate.verifier_score for candidate in selection.candidates] == [0.0, 1.0]
    assert any("lists no logprobs" in note for note in selection.notes)


async def test_a_dead_judge_costs_one_call_and_changes_nothing(fault_server: FaultServer) -> None:
    answers = [WRONG, RIGHT, WRONG, RIGHT]
    fault_server.serve(serve(answers, right(0.9)))
    plain = await ask(fault_server, None)
    fault_server.requests.clear()
    fault_server.serve(serve(answers, lambda text: math.nan))
    selection = await ask(fault_server, Verifier(mode="p_true"), max_retries=0)
    assert (selection.text, selection.winner) == (plain.text, plain.winner)
    assert selection.verification is not None
    assert selection.verification.judged == 0
    assert {candidate.verifier_score for candidate in selection.candidates} == {None}
    assert len(selection.verification.failures) == 4
    assert any("brought no judgement" in note for note in selection.notes)
    with pytest.raises(VerificationError, match="brought no judgement") as caught:
        await ask(fault_server, Verifier(mode="p_true", require=True), max_retries=0)
    assert caught.value.selection is not None
    assert caught.value.selection.text == plain.text
    assert caught.value.causes


async def test_a_refused_key_is_tried_once(fault_server: FaultServer) -> None:
    from tests.servers import error

    answers = serve([WRONG, RIGHT], right(0.9))
    fault_server.serve(lambda request: error(401, "bad key") if is_verdict(request) else answers(request))
    selection = await ask(fault_server, "self", n=2)
    assert len(verdicts(fault_server)) == 1
    assert selection.verification is not None
    assert selection.verification.judged == 0


@pytest.mark.parametrize("failing", [RIGHT, WRONG])
async def test_no_answer_wins_or_loses_because_its_judgement_failed(fault_server: FaultServer, failing: str) -> None:
    # Three of four votes are for OTHER; the judge likes all answers equally, and one fails.
    answers = [OTHER, OTHER, RIGHT, WRONG]
    fault_server.serve(serve(answers, lambda text: math.nan if text == failing else 0.3))
    selection = await ask(fault_server, Verifier(mode="p_true", when="always"), max_retries=0)
    assert selection.text == OTHER
    assert selection.verification is not None
    assert selection.verification.judged == 2
    assert any("mean of the 2 judged ones" in note for note in selection.notes)


async def test_a_budget_holds_with_the_judge_inside(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT, OTHER, "The answer is 1"], right(0.9)))
    selection = await ask(fault_server, Verifier(mode="p_true"), budget=Budget(calls=4), max_tokens=20)
    assert selection.usage.calls <= 4
    assert selection.verification is not None
    assert selection.verification.calls == 3
    assert any("The budget kept verdicts" in note for note in selection.notes)
    tokens = 2500
    selection = await ask(fault_server, Verifier(mode="p_true"), budget=Budget(tokens=tokens), max_tokens=20)
    assert selection.usage.prompt_tokens + selection.usage.completion_tokens <= tokens


async def test_a_budget_in_dollars_needs_the_price_of_the_judge(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    prices = {"m": Price(input=1.0, output=2.0)}
    with FaultServer() as other:
        judge = AsyncSwiftReranker("openai-compatible", "judge", base_url=other.url)
        with pytest.raises(ConfigurationError, match="price of 'judge' is unknown"):
            await ask(fault_server, Verifier(judge), n=2, prices=prices, budget=Budget(usd=1.0), max_tokens=20)
        assert not fault_server.requests
    selection = await ask(fault_server, "self", n=2, prices=prices, budget=Budget(usd=1.0), max_tokens=20)
    assert selection.verification is not None
    usage = selection.verification.usage
    assert selection.verification.cost == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)


async def test_a_deadline_holds_with_the_judge_inside(fault_server: FaultServer) -> None:
    from tests.servers import after

    judge = judge_by(right(0.9))
    answers = serve([WRONG, RIGHT], right(0.9))
    fault_server.serve(lambda request: after(5.0, judge(request)) if is_verdict(request) else answers(request))
    selection = await ask(fault_server, "self", n=2, deadline=0.6)
    assert selection.elapsed < 2.0
    assert selection.verification is not None
    assert selection.verification.judged == 0


async def test_another_reranker_judges_with_its_own_address_and_key(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.1, 0.9)))
    with FaultServer() as other:
        other.serve(judge_by(right(0.9)))
        judge = AsyncSwiftReranker("openai-compatible", "judge", base_url=other.url, api_key="secret-of-the-judge")
        selection = await ask(fault_server, Verifier(judge), n=2)
        assert selection.text == RIGHT
        assert selection.verification is not None
        assert selection.verification.judge == "openai-compatible/judge"
        assert len(other.requests) == 4
        assert not verdicts(fault_server)
        assert other.requests[0].headers["authorization"] == "Bearer secret-of-the-judge"
        assert other.requests[0].json["top_logprobs"] == 20
        assert other.requests[0].json["model"] == "judge"
        await judge.aclose()


async def test_a_judge_of_the_same_provider_uses_its_address(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    selection = await ask(fault_server, "openai-compatible/strong", n=2)
    assert selection.text == RIGHT
    assert {request.json["model"] for request in verdicts(fault_server)} == {"strong"}


async def test_events_of_the_judge_say_their_phase(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    events: list[Event] = []
    await ask(fault_server, "self", n=2, on_event=events.append)
    assert {event.phase for event in events} == {"sampling", "verification"}
    assert sum(event.kind == "reply" and event.phase == "verification" for event in events) == 4


async def test_the_reference_of_a_question_reaches_the_judge(fault_server: FaultServer) -> None:
    fault_server.serve(serve([WRONG, RIGHT], right(0.9)))
    await ask(fault_server, Verifier(reference="general rubric"), n=2, reference="17 * 24 = 408")
    assert all("17 * 24 = 408" in prompt_of(request) for request in verdicts(fault_server))
    await ask(fault_server, Verifier(reference="general rubric"), n=2)
    assert "general rubric" in prompt_of(verdicts(fault_server)[-1])


async def test_a_reasoning_judge_is_found_out_by_its_first_reply(fault_server: FaultServer) -> None:
    from tests.servers import json_response

    def judge(request: Received) -> Response:
        prompt = prompt_of(request)
        if request.json["max_tokens"] < 100:
            message = {"role": "assistant", "content": "", "reasoning_content": "Let me think about"}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
        else:
            tag = prompt.split("written as <")[1].split(">")[0]
            words = "AJ" if "from A to J" in prompt else ("Yes", "No")
            word = words[0] if "408" in candidates_of(prompt)[0] else words[1]
            message = {"role": "assistant", "content": f"I checked it. <{tag}>{word}</{tag}>"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})

    answers = serve([WRONG, RIGHT], right(0.9))
    fault_server.serve(lambda request: judge(request) if is_verdict(request) else answers(request))
    selection = await ask(fault_server, Verifier(mode="p_true"), n=2)
    assert selection.text == RIGHT
    assert selection.verification is not None
    assert selection.verification.judged == 2
    # Two per distinct answer, and the one that was cut: no answer is judged in one order alone.
    assert selection.verification.calls == 5
    assert not selection.verification.failures
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url) as own:
        assert Verifier(own).score(QUESTION, RIGHT) == 1.0  # each call meets the judge for the first time
        assert Verifier(own, mode="score").score(QUESTION, RIGHT) == 1.0


def test_ranking_a_reply_with_a_verifier(fault_server: FaultServer) -> None:
    fault_server.serve(judge_by(right(0.9)))
    completions = [Completion(text=WRONG, index=0), Completion(text=RIGHT, index=1)]
    judge = SwiftReranker("openai-compatible", "judge", base_url=fault_server.url)
    selection = rank(completions, prompt=QUESTION, verifier=Verifier(judge))
    assert selection.text == RIGHT
    assert selection.usage.calls == 4
    assert QUESTION in prompt_of(fault_server.requests[0])
    with pytest.raises(ConfigurationError, match="needs prompt="):
        rank(completions, verifier=Verifier(judge))
    with pytest.raises(ConfigurationError, match="self"):
        rank(completions, prompt=QUESTION, verifier="self")
    own = SwiftReranker("openai-compatible", "m", base_url=fault_server.url)
    assert own.rank(completions, prompt=QUESTION, verifier="self").text == RIGHT
    assert own.rank(completions, prompt=QUESTION).verification is None
    own.close()
    judge.close()


def test_a_judge_sees_the_tool_calls_beside_a_text() -> None:
    call = ToolCall(name="search", arguments='{"q": "rain"}')
    beside = Completion(text="I look it up.", tool_calls=(call,))
    assert judged_text(beside) == 'I look it up.\nCalls the tool search with {"q": "rain"}'
    alone = Completion(text='[{"name":"search","arguments":{"q":"rain"}}]', tool_calls=(call,))
    assert judged_text(alone) == alone.text
    trajectory = Completion(text="user: hi", tool_calls=(call,), answer_text="done")
    assert judged_text(trajectory) == trajectory.text
    assert "search" in judged_text(Completion(text='[{"name": 3', tool_calls=(call,)))


async def test_ranking_awaited(fault_server: FaultServer) -> None:
    fault_server.serve(judge_by(right(0.9)))
    completions = [Completion(text=WRONG, index=0), Completion(text=RIGHT, index=1)]
    async with AsyncSwiftReranker("openai-compatible", "m", base_url=fault_server.url) as reranker:
        selection = await reranker.arank(completions, prompt=QUESTION, verifier="self")
        assert selection.text == RIGHT
        assert (await reranker.arank(completions)).verification is None


async def test_one_answer_is_scored_without_sampling(fault_server: FaultServer) -> None:
    fault_server.serve(judge_by(right(0.9)))
    judge = AsyncSwiftReranker("openai-compatible", "judge", base_url=fault_server.url)
    verifier = Verifier(judge)
    assert await verifier.ascore(QUESTION, RIGHT) == pytest.approx(0.9, abs=1e-6)
    assert len(fault_server.requests) == 2
    assert await Verifier(judge, mode="score").ascore(QUESTION, WRONG, reference="408") < 0.2
    assert "408" in prompt_of(fault_server.requests[-1])
    fault_server.serve(judge_by(lambda text: math.nan))
    with pytest.raises(VerificationError, match="judge is down"):
        await Verifier(judge_without_retries(fault_server)).ascore(QUESTION, RIGHT)
    with pytest.raises(ConfigurationError, match="self"):
        await Verifier().ascore(QUESTION, RIGHT)
    with pytest.raises(ConfigurationError, match="pairwise"):
        await Verifier(judge, mode="pairwise").ascore(QUESTION, RIGHT)
    await judge.aclose()


def judge_without_retries(server: FaultServer) -> AsyncSwiftReranker:
    return AsyncSwiftReranker("openai-compatible", "judge", base_url=server.url, max_retries=0)


def test_one_answer_is_scored_in_sync_code(fault_server: FaultServer) -> None:
    fault_server.serve(judge_by(right(0.9)))
    with SwiftReranker("openai-compatible", "judge", base_url=fault_server.url) as judge:
        assert Verifier(judge).score(QUESTION, RIGHT) == pytest.approx(0.9, abs=1e-6)


def test_wrong_settings_are_refused() -> None:
    for settings in ({"mode": "best"}, {"when": "never"}, {"criteria": []}, {"reference": " "}, {"reference": 3}):
        with pytest.raises(ConfigurationError):
            Verifier(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="judge of your own"):
        SwiftReranker("openai", verifier="self", judge=lambda messages, completions: [1.0])
    with pytest.raises(ConfigurationError):
        SwiftReranker("openai", verifier=Verifier(3))
    with pytest.raises(ConfigurationError, match="There is no provider"):
        SwiftReranker("openai", verifier="nobody/model")
    with pytest.raises(ConfigurationError):
        SwiftReranker("openai", verifier=True)  # type: ignore[arg-type]
