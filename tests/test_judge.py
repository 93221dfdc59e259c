"""Tests of the judge: without logprobs, a user's function may compare the answers."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, Completion, Selection, SwiftReranker
from swift_client.errors import ConfigurationError
from swift_client.types import Message
from tests.servers import FaultServer, Received, Response, json_response


def texts(*answers: str) -> Callable[[Received], Response]:
    """Answer without logprobs."""

    def serve(request: Received) -> Response:
        choices = [
            {"index": index, "message": {"content": text}, "finish_reason": "stop"}
            for index, text in enumerate(answers[: request.json["n"]])
        ]
        return json_response({"choices": choices})

    return serve


async def ask(
    server: FaultServer, judge: Any, n: int = 3, /, deadline: float | None = None, **settings: Any
) -> Selection:
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=server.url, judge=judge, **{"select": "best", **settings}
    ) as reranker:
        return await reranker.best_of("Which is longest?", n=n, deadline=deadline)


def longest(messages: list[Message], completions: list[Completion]) -> list[float]:
    assert messages == [{"role": "user", "content": "Which is longest?"}]
    return [len(completion.text) for completion in completions]


async def slowly(messages: list[Message], completions: list[Completion]) -> Any:
    await asyncio.sleep(0)
    return np.array(longest(messages, completions))


@pytest.mark.parametrize("judge", [longest, slowly])
async def test_a_judge_chooses_where_no_logprobs_come_and_the_signal_says_so(
    fault_server: FaultServer, judge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.serve(texts("a", "abc", "ab"))
    selection = await ask(fault_server, judge)
    assert (selection.text, selection.signal, selection.scorer) == ("abc", "judge", judge.__name__)
    assert [candidate.score for candidate in selection.candidates] == [1.0, 3.0, 2.0]
    assert caplog.records == []


async def test_where_logprobs_come_the_judge_is_not_asked_unless_it_is_the_scorer(fault_server: FaultServer) -> None:
    def never(messages: list[Message], completions: list[Completion]) -> list[float]:
        raise AssertionError

    assert (await ask(fault_server, never)).signal.startswith("logprobs")
    assert (await ask(fault_server, longest, scorer="judge")).signal == "judge"


async def test_the_judge_settles_ties_of_a_vote(fault_server: FaultServer) -> None:
    fault_server.serve(texts("The answer is 4.", "The answer is 17.", "no idea at all"))
    selection = await ask(fault_server, longest, select="vote", answer="number")
    assert (selection.method, selection.answer, selection.signal) == ("vote", "17", "judge")


async def test_no_opinion_of_one_is_no_score_and_of_all_is_reported(fault_server: FaultServer) -> None:
    fault_server.serve(texts("a", "abc", "ab"))
    selection = await ask(fault_server, lambda messages, completions: [1.0, None, math.nan])
    assert (selection.text, selection.signal) == ("a", "judge")
    assert [candidate.score for candidate in selection.candidates] == [1.0, None, None]
    unscored = await ask(fault_server, lambda messages, completions: [None] * 3)
    assert (unscored.signal, unscored.notes[-1]) == ("text", "The judge returned no scores.")


def failing(messages: list[Message], completions: list[Completion]) -> list[float]:
    raise KeyError("the model is asleep")


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (failing, "the model is asleep"),
        (lambda messages, completions: [1.0], "shape"),
        (lambda messages, completions: ["good", "bad", "ugly"], "numbers"),
        (lambda messages, completions: [math.inf, 0, 0], "infinite"),
        (lambda messages: [1.0], "TypeError"),
        (lambda messages, completions: None, "ConfigurationError"),
    ],
)
async def test_a_judge_that_fails_costs_no_completion_and_is_noted(
    fault_server: FaultServer, judge: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.serve(texts("a", "abc", "ab"))
    selection = await ask(fault_server, judge)
    assert selection.signal == "text"
    assert len(selection.candidates) == 3
    assert words in next(note for note in selection.notes if "judge" in note.lower())
    assert any("The judge failed" in record.getMessage() for record in caplog.records)


async def test_a_slow_judge_is_not_waited_for(fault_server: FaultServer) -> None:
    fault_server.serve(texts("a", "abc", "ab"))

    async def asleep(messages: list[Message], completions: list[Completion]) -> list[float]:
        await asyncio.sleep(30)
        return [0.0] * 3

    start = time.perf_counter()
    selection = await ask(fault_server, asleep, timeout=0.5)
    assert time.perf_counter() - start < 5
    assert "took longer than 0.5 s" in selection.notes[-1]
    assert "was ignored" in (await ask(fault_server, asleep, deadline=0.4)).notes[-1]


async def test_a_sync_judge_never_holds_the_loop(fault_server: FaultServer) -> None:
    fault_server.serve(texts("a", "abc", "ab"))
    threads: list[str] = []

    def in_thread(messages: list[Message], completions: list[Completion]) -> list[float]:
        threads.append(threading.current_thread().name)
        return [0.0] * 3

    await ask(fault_server, in_thread)
    assert "MainThread" not in threads


def test_the_sync_face_has_a_judge_too(fault_server: FaultServer) -> None:
    fault_server.serve(texts("a", "abc", "ab"))
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url, judge=slowly, select="best") as reranker:
        assert reranker.best_of("Which is longest?", n=3).text == "abc"


async def test_the_warning_names_the_judge_where_there_is_none(
    fault_server: FaultServer, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.serve(texts("a", "abc", "ab"))
    await ask(fault_server, None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "judge=" in caplog.text


@pytest.mark.parametrize("settings", [{"judge": "gpt"}, {"scorer": "judge"}])
def test_anything_but_a_judge_is_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="judge"):
        SwiftReranker("openai", **settings)
