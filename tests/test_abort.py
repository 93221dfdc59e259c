"""Tests of closing streams that lose confidence: the rule against a plain loop, and over real HTTP."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swift_client import AsyncSwiftReranker, SwiftReranker
from swift_client.adapters import Reply
from swift_client.errors import ConfigurationError
from swift_client.sampling import AbortMonitor, EarlyAbort
from swift_client.types import Completion, Usage
from tests.servers import FaultServer, Received, Response, sse

Make = Callable[..., AsyncSwiftReranker]
SURE, UNSURE = math.log(0.97), math.log(0.4)


@pytest.fixture
async def reranker(fault_server: FaultServer) -> AsyncIterator[Make]:
    """Make rerankers of the fault server, and close them."""
    instances = []

    def make(provider: str = "openai-compatible", **options: Any) -> AsyncSwiftReranker:
        instances.append(AsyncSwiftReranker(provider, "m", base_url=fault_server.url, **{"max_retries": 0, **options}))
        return instances[-1]

    yield make
    for instance in instances:
        await instance.aclose()


def stream(
    words: list[str], chances: list[float], *, pause: float = 0.0, usage: bool = True, hold: float | None = None
) -> Response:
    """Stream a text word by word, with its logprob and one alternative that has the remaining probability."""
    events: list[Any] = []
    for word, chance in zip(words, chances, strict=True):
        rest = math.log(max(1 - math.exp(chance), 1e-9))
        top = sorted([(word, chance), (" x", rest)], key=lambda pair: -pair[1])
        alternatives = [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in top]
        entry = {"token": word, "logprob": chance, "bytes": list(word.encode()), "top_logprobs": alternatives}
        events.append({"choices": [{"index": 0, "delta": {"content": word}, "logprobs": {"content": [entry]}}]})
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        events.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(words)}})
    return sse(events, pause=pause)


def answer(number: int, length: int = 40) -> list[str]:
    return [" so"] * (length - 4) + [" The", " answer", " is", f" {number}."]


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the other side is a thread and has no event
            await asyncio.sleep(0.01)


async def test_a_stream_under_the_bar_is_closed_its_tokens_are_counted_and_it_does_not_vote(
    fault_server: FaultServer, reranker: Make
) -> None:
    calls = itertools.count()

    def serve(request: Received) -> Response:
        if next(calls) == 2:  # after the warm-up of two: unsure, and slow enough to be caught
            return stream(answer(5, 400), [SURE] * 8 + [UNSURE] * 392, pause=0.002)
        return stream(answer(4), [SURE] * 40)

    fault_server.serve(serve)
    selection = await reranker(top_logprobs=2, abort="deepconf:warmup=2:window=8").best_of("q", n=4)

    assert [request.json.get("n") for request in fault_server.requests] == [None] * 4
    assert all(request.json["stream"] for request in fault_server.requests)
    await until(lambda: fault_server.closed_early == 1)  # the server saw the connection go
    closed = [candidate for candidate in selection.candidates if candidate.completion.finish_reason == "length"]
    assert len(closed) == 1
    assert closed[0].weight == 0
    assert closed[0].answer is None
    tokens = len(closed[0].completion.tokens)
    assert 8 <= tokens < 100
    assert selection.answer == "4"
    assert selection.failures == ()
    assert selection.usage.completion_tokens == 3 * 40 + tokens
    assert selection.usage.prompt_tokens == 4 * 7  # the closed stream sent no count: as the others
    assert selection.usage.estimated
    assert selection.usage.calls == 4
    assert any("1 completions were closed early (deepconf)" in note for note in selection.notes)


async def test_an_answer_that_has_ended_is_never_closed_however_low_it_fell(
    fault_server: FaultServer, reranker: Make
) -> None:
    calls = itertools.count()

    def serve(request: Received) -> Response:
        if next(calls) < 2:
            return stream(answer(4), [SURE] * 40)
        burst = stream(answer(5), [UNSURE] * 40)
        assert burst.chunks is not None
        return Response(headers=burst.headers, chunks=(b"".join(burst.chunks),))

    fault_server.serve(serve)
    selection = await reranker(top_logprobs=2, abort="deepconf:warmup=2:window=8").best_of("q", n=4)
    assert all(candidate.completion.complete for candidate in selection.candidates)
    assert selection.usage.completion_tokens == 160
    assert not selection.usage.estimated
    assert not selection.notes


async def test_where_no_stream_can_be_measured_nothing_is_closed_and_the_notes_say_why(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda request: stream(answer(4, 12), [SURE] * 12))
    selection = await reranker(top_logprobs=2, abort="deepconf:warmup=2:window=16").best_of("q", n=4)
    assert all(candidate.completion.complete for candidate in selection.candidates)
    assert [note for note in selection.notes if "closed early" in note] == [
        "No stream was closed early (deepconf): 2 streams with 16 tokens and logprobs must arrive first, and 0 did."
    ]


async def test_cancelling_closes_every_stream_that_is_watched(fault_server: FaultServer, reranker: Make) -> None:
    calls = itertools.count()

    def serve(request: Received) -> Response:
        if next(calls) < 2:
            return stream(answer(4), [SURE] * 40)
        return stream(answer(4, 2000), [SURE] * 2000, pause=0.01)

    fault_server.serve(serve)
    rr = reranker(top_logprobs=2, abort="deepconf:warmup=2:window=8")
    draw = asyncio.create_task(rr.best_of("q", n=5))
    await until(lambda: len(fault_server.requests) == 5)
    draw.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draw
    await until(lambda: fault_server.closed_early == 3)


async def test_where_no_stream_falls_nothing_is_closed_and_nothing_is_reported(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda request: stream(answer(4), [SURE] * 40))
    selection = await reranker(top_logprobs=2, abort="deepconf").best_of("q", n=6)

    assert not selection.notes
    assert len(selection.candidates) == 6
    assert not selection.usage.estimated
    assert all(candidate.completion.complete for candidate in selection.candidates)


async def test_a_stream_without_logprobs_or_with_nonsense_midway_is_read_to_its_end(
    fault_server: FaultServer, reranker: Make
) -> None:
    calls = itertools.count()

    def serve(request: Received) -> Response:
        is_odd = next(calls) % 2
        good = stream(answer(4), [SURE] * 40)
        if not is_odd:
            return good
        assert good.chunks is not None
        damaged = [
            chunk.replace(b'"logprob": -0.03', b'"logprob": "NaN", "was": -0.03') if index > 12 else chunk
            for index, chunk in enumerate(good.chunks)
        ]
        return Response(headers=good.headers, chunks=tuple(damaged))

    fault_server.serve(serve)
    selection = await reranker(top_logprobs=2, abort="deepconf:warmup=2:window=8").best_of("q", n=8)
    assert len(selection.candidates) == 8
    assert all(candidate.completion.complete for candidate in selection.candidates)


async def test_a_provider_that_does_not_stream_logprobs_is_asked_anyway_and_the_notes_say_so(
    fault_server: FaultServer, reranker: Make
) -> None:
    rr = reranker(abort="deepconf")
    rr.pipeline.endpoint.can_stream = False
    selection = await rr.best_of("q", n=3)

    assert len(selection.candidates) == 3
    assert any("does not stream logprobs" in note for note in selection.notes)


async def test_closing_with_a_stopping_rule_ends_the_draw_as_usual(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda request: stream(answer(4), [SURE] * 40))
    selection = await reranker(top_logprobs=2, abort="deepconf").best_of("q", n=16, stopping="beta")

    assert len(selection.candidates) == 4
    assert selection.stopped is not None


async def test_what_was_closed_is_not_kept_as_a_sample(
    fault_server: FaultServer, reranker: Make, tmp_path: Any
) -> None:
    calls = itertools.count()

    def serve(request: Received) -> Response:
        if next(calls) == 2:
            return stream(answer(5, 400), [UNSURE] * 400, pause=0.002)
        return stream(answer(4), [SURE] * 40)

    fault_server.serve(serve)
    options = {"top_logprobs": 2, "store": tmp_path / "kept.db"}
    first = await reranker(**options, abort="deepconf:warmup=2:window=8").best_of("q", n=4)
    assert any("closed early" in note for note in first.notes)
    second_selection = await reranker(**options).best_of("q", n=3)
    assert second_selection.reused == 3
    assert all(candidate.completion.complete for candidate in second_selection.candidates)


@pytest.mark.parametrize(
    "spec", ["soon", "deepconf:keep=2", "deepconf:warmup=0", "deepconf:warmup=1.5", "head:share=1", "deepconf:keep"]
)
def test_a_wrong_rule_is_one_clear_error_and_nothing_is_sent(fault_server: FaultServer, spec: str) -> None:
    with pytest.raises(ConfigurationError, match="abort="):
        SwiftReranker("openai-compatible", "m", base_url=fault_server.url, abort=spec)


def test_by_the_head_needs_a_head(fault_server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="needs a head"):
        SwiftReranker("openai-compatible", "m", base_url=fault_server.url, abort="head")


def test_the_packaged_models_streams_are_closed_by_deepconf_and_by_its_head() -> None:
    pytest.importorskip("xllamacpp")
    for rule in ("deepconf:keep=0.1", "head:keep=0.3"):
        with SwiftReranker("pocket", abort=rule) as rr:
            selection = rr.best_of("What is 31 + 47 + 5?", n=16, temperature=1.0, seed=1)
            closed = [candidate for candidate in selection.candidates if candidate.completion.finish_reason == "length"]
            assert len(selection.candidates) == 16
            assert any(f"{len(closed)} completions were closed early" in note for note in selection.notes) == bool(
                closed
            )


def piece(confidence: list[float], ranks: int = 1) -> Completion:
    """Return tokens whose first listed alternative is the chosen one; each further one doubles its logprob.

    With one rank the confidence is minus its logprob; with three it is 7/3 of that, which no sum represents exactly.
    """
    values = -np.array(confidence, np.float32)
    return Completion(
        text="",
        tokens=("a",) * len(values),
        logprobs=values,
        top_logprobs=values[:, None] * np.array([1, 2, 4], np.float32)[:ranks],
        censored=np.zeros(len(values), np.bool_),
    )


@given(
    st.lists(st.lists(st.floats(0.125, 8, width=16), min_size=1, max_size=30), min_size=4, max_size=6),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.integers(1, 8),
    st.integers(1, 9),
)
def test_the_rule_is_deepconfs_plain_loop(runs: list[list[float]], keep: float, window: int, step: int) -> None:
    aborting = AbortMonitor(EarlyAbort(keep=keep, warmup=3, window=window))
    lows = []
    for run in runs:
        trace, fell = aborting.begin(), None
        for end in range(0, len(run), step):
            if trace.below_threshold(piece(run[end : end + step])):
                fell = end
                break
        groups = [math.fsum(run[index : index + window]) / window for index in range(len(run) - window + 1)]
        if len(lows) < 3:  # warm-up: read whole; one shorter than the window says nothing
            assert fell is None
            aborting.record_finished(trace, Reply(completions=(), usage=Usage()))
            lows += [min(groups)] if groups else []
            continue
        bar = float(np.quantile(lows[:3], 1 - keep))
        assert aborting.threshold == pytest.approx(bar)
        starts = range(0, len(run), step)
        under = [any(group < bar for group in groups[: max(0, index + step - window + 1)]) for index in starts]
        if all(abs(group - bar) > 1e-6 for group in groups):
            assert fell == (under.index(True) * step if any(under) else None)


@given(
    st.lists(st.floats(0.125, 8), min_size=8, max_size=40),
    st.lists(st.integers(1, 20), min_size=4, max_size=4),
    st.integers(1, 8),
)
def test_a_stream_equal_to_the_warm_ups_is_not_closed_however_its_tokens_arrive(
    run: list[float], steps: list[int], window: int
) -> None:
    monitor = AbortMonitor(EarlyAbort(keep=0.1, warmup=3, window=window))
    for step in steps:
        stream_monitor = monitor.begin()
        for start in range(0, len(run), step):
            assert not stream_monitor.below_threshold(piece(run[start : start + step], ranks=3))
        monitor.record_finished(stream_monitor, Reply(completions=(), usage=Usage()))
    confidences = [7 * float(np.float32(value)) / 3 for value in run]
    windows = [confidences[end - window : end] for end in range(window, len(run) + 1)]
    assert monitor.threshold == min(math.fsum(values) / window for values in windows)
