"""Tests of similarity="embedding:…": the request, the cache, and the limits that it shares with sampling."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, Budget, Event, Price, Selection, SwiftReranker, rank
from swift_client.errors import ConfigurationError, ResponseDecodeError, ServerError
from swift_client.sampling.embeddings import parse_embeddings
from tests.servers import FaultServer, Received, Response, error, json_response

# Two texts of one meaning without a common word, and one of another.
VECTORS = {"a dog barks": [1.0, 0.0], "hounds howl": [0.9, 0.1], "two cats": [0.0, 2.0]}
TEXTS = ("two cats", "a dog barks", "hounds howl")
Serve = Callable[[Received], Response]


def serve(embeddings: Serve | None = None, *texts: str) -> Serve:
    """Answer chat requests with texts, and requests for embeddings by VECTORS or the given function."""

    def answer(request: Received) -> Response:
        if request.path.endswith("/embeddings"):
            return (embeddings or embed)(request)
        choices = [
            {"index": index, "message": {"content": text}, "finish_reason": "stop"}
            for index, text in enumerate(texts or TEXTS)
        ]
        usage = {"prompt_tokens": 5, "completion_tokens": 30}
        return json_response({"choices": choices, "usage": usage})

    return answer


def embed(request: Received) -> Response:
    data = [{"index": index, "embedding": VECTORS[text]} for index, text in enumerate(request.json["input"])]
    return json_response({"data": data[::-1], "usage": {"prompt_tokens": 11, "total_tokens": 11}})


def embedding_requests(server: FaultServer) -> list[Received]:
    return [request for request in server.requests if request.path.endswith("/embeddings")]


async def ask(
    server: FaultServer, *, similarity: str = "embedding:model=e5", calls: int = 1, deadline: float | None = None,
    budget: Budget | None = None, **settings: Any,
) -> Selection:  # fmt: skip
    settings = {"select": "consensus", "max_retries": 0, **settings}
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=server.url, api_key="k", similarity=similarity, **settings
    ) as reranker:
        for _ in range(calls):
            selection = await reranker.best_of("Which?", n=3, deadline=deadline, budget=budget, max_tokens=10)
    return selection


async def test_texts_with_the_nearest_vectors_agree(fault_server: FaultServer) -> None:
    fault_server.serve(serve())
    events: list[Event] = []
    selection = await ask(
        fault_server, on_event=events.append, prices={"m": Price(input=1, output=1), "e5": Price(input=2, output=0)}
    )
    assert (selection.text, selection.method) == ("hounds howl", "consensus")
    cosine = 0.9 / np.hypot(0.9, 0.1)
    expected = {
        "a dog barks": (1 + cosine) / 3,
        "hounds howl": (1 + cosine + 0.1 / np.hypot(0.9, 0.1)) / 3,
        "two cats": (1 + 0.1 / np.hypot(0.9, 0.1)) / 3,
    }
    assert {c.text: c.consensus for c in selection.candidates} == pytest.approx(expected)
    (request,) = embedding_requests(fault_server)
    assert request.json == {"model": "e5", "input": sorted(TEXTS)}
    assert request.headers["authorization"] == "Bearer k"
    # Usage and cost are those of both models.
    assert (selection.usage.prompt_tokens, selection.usage.completion_tokens, selection.usage.calls) == (16, 30, 2)
    assert selection.cost == pytest.approx((5 + 30 + 2 * 11) / 1e6)
    assert [event.kind for event in events if event.phase == "consensus"] == ["request", "reply"]


async def test_a_text_is_embedded_once(fault_server: FaultServer) -> None:
    fault_server.serve(serve())
    selection = await ask(fault_server, calls=2)
    assert len(embedding_requests(fault_server)) == 1
    assert selection.usage.calls == 1
    assert selection.method == "consensus"


async def test_another_provider_may_embed(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fault_server.serve(serve())
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("VLLM_BASE_URL", fault_server.url)
    selection = await ask(fault_server, similarity="embedding:openai-compatible/org/e5")
    assert embedding_requests(fault_server)[0].json["model"] == "org/e5"
    assert selection.text in ("a dog barks", "hounds howl")


async def test_a_failed_request_is_repeated(fault_server: FaultServer) -> None:
    replies = iter([error(503, "busy", headers={"retry-after": "0"})])
    fault_server.serve(serve(lambda request: next(replies, None) or embed(request)))
    selection = await ask(fault_server, max_retries=2)
    assert len(embedding_requests(fault_server)) == 2
    assert not selection.failures
    assert selection.usage.calls == 3


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(500, "broken"), ServerError),
        (json_response({"choices": []}), ResponseDecodeError),
        (json_response({"data": [{"embedding": [1.0], "index": 0}]}), ResponseDecodeError),
    ],
)
async def test_without_vectors_words_are_compared_and_a_note_says_so(
    fault_server: FaultServer, reply: Response, kind: type[Exception]
) -> None:
    fault_server.serve(serve(lambda request: reply, "x y", "a b", "a b c"))
    selection = await ask(fault_server)
    assert (selection.text, selection.method) == ("a b", "consensus")
    (failure,) = selection.failures
    assert isinstance(failure.error, kind)
    (note,) = [note for note in selection.notes if note.startswith("similarity=")]
    assert kind.__name__ in note
    assert note.endswith('texts are compared by "token_f1" instead.')


async def test_the_budget_keeps_the_request_back(fault_server: FaultServer) -> None:
    fault_server.serve(serve(None, "x y", "a b", "a b c"))
    selection = await ask(fault_server, budget=Budget(calls=1))
    assert not embedding_requests(fault_server)
    assert selection.text == "a b"
    assert any("BudgetExceededError" in note for note in selection.notes)
    # A budget in dollars needs the price of the model of embeddings, too.
    selection = await ask(fault_server, budget=Budget(usd=1), prices={"m": Price(input=1, output=1)})
    assert not embedding_requests(fault_server)
    assert any("price of 'e5' is unknown" in note for note in selection.notes)


async def test_the_deadline_ends_the_request(fault_server: FaultServer) -> None:
    fault_server.serve(serve(lambda request: Response(hang=True), "x y", "a b", "a b c"))
    selection = await ask(fault_server, deadline=1.0)
    assert selection.text == "a b"
    assert selection.elapsed < 3
    assert any("deadline passed" in note for note in selection.notes)


async def test_equal_texts_need_no_request(fault_server: FaultServer) -> None:
    fault_server.serve(serve(None, "The same.", "the same", "The same!"))
    selection = await ask(fault_server)
    assert not embedding_requests(fault_server)
    assert selection.winner == 0
    fault_server.serve(serve())
    # No consensus, no request: the answers vote, or the best score is asked for.
    fault_server.serve(serve(None, "The answer is 4.", "The answer is 4.", "The answer is 5."))
    selection = await ask(fault_server, select="auto")
    assert selection.method == "vote"
    assert not embedding_requests(fault_server)


async def test_texts_are_sent_as_valid_unicode(fault_server: FaultServer) -> None:
    def zeros(request: Received) -> Response:
        json.dumps(request.json).encode()
        return json_response({"data": [{"embedding": [0, 0]} for _ in request.json["input"]]})

    fault_server.serve(serve(zeros, "\ud800 text", "", "z" * 50_000))
    selection = await ask(fault_server)
    (request,) = embedding_requests(fault_server)
    assert sorted(map(len, request.json["input"])) == [1, 6, 20_000]
    assert [candidate.consensus for candidate in selection.candidates] == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "reply",
    [
        {"data": [{"embedding": [1.0], "index": 0}, {"embedding": [1.0], "index": 0}]},
        {"data": [{"embedding": [1.0], "index": 0}, {"embedding": [1.0, 2.0], "index": 1}]},
        {"data": [{"embedding": [], "index": 0}, {"embedding": [], "index": 1}]},
        {"data": [{"embedding": [1e300]}, {"embedding": [1.0]}]},
        {"data": [{"embedding": "AAAA"}, {"embedding": "AAAA"}]},
        [],
    ],
)
def test_vectors_that_do_not_belong_to_the_texts_are_refused(reply: object) -> None:
    with pytest.raises(ResponseDecodeError):
        parse_embeddings(json.dumps(reply).encode(), 2)


def test_vectors_come_in_the_order_of_their_index() -> None:
    data = [{"embedding": [2, 3], "index": 1}, {"embedding": [0, 1], "index": 0}]
    vectors, tokens = parse_embeddings(json.dumps({"data": data, "usage": {"prompt_tokens": 7}}).encode(), 2)
    assert vectors.tolist() == [[0, 1], [2, 3]]
    assert tokens == 7


def test_wrong_models_are_refused_before_anything_is_sent() -> None:
    for similarity in ("embedding", "embedding:", "embedding:model="):
        with pytest.raises(ConfigurationError, match="Unknown similarity"):
            SwiftReranker("openai", api_key="k", similarity=similarity)
    with pytest.raises(ConfigurationError, match="has no endpoint /embeddings"):
        SwiftReranker("anthropic", api_key="k", similarity="embedding:model=x")
    with pytest.raises(ConfigurationError, match="no provider 'opnai'"):
        SwiftReranker("openai", api_key="k", similarity="embedding:opnai/x")
    with pytest.raises(ConfigurationError, match="sends no requests"):
        rank([], select="consensus", similarity="embedding:openai/x")


async def test_rank_of_a_client_sends_nothing_and_says_so(fault_server: FaultServer) -> None:
    reply = {"choices": [{"index": i, "message": {"content": text}} for i, text in enumerate(("x y", "a b", "a b c"))]}
    with SwiftReranker(
        "openai-compatible", "m", base_url=fault_server.url, select="consensus", similarity="embedding:model=e5"
    ) as reranker:
        selection = reranker.rank(reply)
    assert not fault_server.requests
    assert selection.method == "consensus"
    assert any("none are sent here" in note for note in selection.notes)
