"""Some hundred injected faults against real clients, and a test of each kind of damage that they have found."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import openai
import pytest
from pydantic import BaseModel, field_validator

from swift_client import AsyncSwiftReranker, SwiftReranker
from swift_client.adapters import PROVIDERS
from swift_client.answers.math_equality import FormulaWorker
from swift_client.errors import NoCompletionError, ResponseDecodeError
from swift_client.store import SampleStore
from tests.children import ROOT
from tests.servers import FaultServer, Response, chat, chat_body, chat_stream, json_response, slow

SSE = {"content-type": "text/event-stream"}


def make(server: FaultServer, **options: Any) -> SwiftReranker:
    options = {"base_url": server.url, "api_key": "k", "max_retries": 0, **options}
    return SwiftReranker("openai-compatible", "m", **options)


def test_some_hundred_faults_end_in_a_selection_or_a_typed_error_in_time_and_nothing_paid_for_is_lost() -> None:
    command = [
        sys.executable,
        "benchmarks/faults.py",
        "--json",
        "--faults",
        "300",
        "--at-once",
        "8",
        "--repeats",
        "0",
        "--no-memory",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    bars = {name: bar["value"] for name, bar in result["bars"].items()}
    assert bars.pop("kinds") >= 50
    assert bars.pop("faults") >= 300
    # A machine that stands still for seconds may still delay a call three times: the full run in the note counts those.
    del bars["past_deadline"], bars["paid_lost"]
    assert set(bars.values()) == {0}, result["examples"]


# --- what had arrived when a reply was cut short -----------------------------------------------------------------


@pytest.mark.parametrize("call", [{}, {"deadline": 0.6}], ids=["timeout", "deadline"])
def test_choices_that_arrived_before_a_timeout_are_kept(fault_server: FaultServer, call: dict[str, Any]) -> None:
    body = json.dumps(chat_body(["4", "5", "6"], k=2)).encode()
    end = body.index(b'{"index": 2')
    fault_server.script(
        Response(headers={"content-type": "application/json"}, chunks=(body[:end], *([b" "] * 40)), pause=0.1)
    )
    row = PROVIDERS["openai-compatible"]
    row = replace(row, capabilities=replace(row.capabilities, streams_logprobs=False))
    reranker = SwiftReranker(row, "m", base_url=fault_server.url, timeout=0.6, max_retries=0, require_logprobs=False)
    with reranker:
        fault_server.serve(lambda _: Response(hang=True))
        selection = reranker.best_of("q", n=3, **call)
    assert [candidate.completion.text for candidate in selection.candidates] == ["4", "5"]


@pytest.mark.parametrize("deadline", [None, 20.0])
@pytest.mark.parametrize("tail", [b" " * 500_000, b"1, " * 200_000], ids=["blanks", "list"])
def test_choices_before_the_limit_of_a_reply_that_is_too_long_are_kept(
    fault_server: FaultServer, tail: bytes, deadline: float | None
) -> None:
    body = json.dumps(chat_body(["4"], k=2)).encode()
    fault_server.script(Response(headers={"content-type": "application/json"}, body=body[:-1] + b', "x": [' + tail))
    with make(fault_server, max_reply_bytes=200_000) as reranker:
        selection = reranker.best_of("q", n=1, deadline=deadline)
    assert selection.text == "4"


def test_a_stream_that_nobody_asked_for_is_kept_where_it_grew_too_long(fault_server: FaultServer) -> None:
    reply = chat_stream(["The answer is 4"], done=False)
    fault_server.script(Response(headers=SSE, chunks=(*(reply.chunks or ()), b'data: {"choices": []}\n\n' * 20_000)))
    with make(fault_server, max_reply_bytes=200_000) as reranker:
        assert reranker.best_of("q", n=1).text == "The answer is 4"


# --- fields of wrong types ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"refusal": []}, {"refusal": 5}, {"tool_calls": "x"}, {"tool_calls": 5}, {"refusal": {}, "tool_calls": {"a": 1}}],
    ids=str,
)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_field_of_a_wrong_type_costs_neither_the_text_nor_the_logprobs(
    fault_server: FaultServer, change: dict[str, Any], is_streamed: bool
) -> None:
    if is_streamed:
        reply = chat_stream(["The answer is 4"], k=2)
        field = json.dumps(change)[1:-1].encode()
        chunks = tuple(
            chunk.replace(b'"delta": {"content"', b'"delta": {%s, "content"' % field) for chunk in reply.chunks or ()
        )
        fault_server.script(Response(headers=SSE, chunks=chunks))
    else:
        body = chat_body(["The answer is 4"], k=2)
        body["choices"][0]["message"].update(change)
        fault_server.script(json_response(body))
    with make(fault_server, top_logprobs=2) as reranker:
        selection = reranker.best_of("q", n=1, deadline=20.0 if is_streamed else None)
    assert selection.text == "The answer is 4"
    assert selection.signal == "logprobs:k=2"


@pytest.mark.parametrize("logprobs", ["x", 5, [], {"content": 5}, {"content": {}}, True], ids=str)
def test_logprobs_of_a_wrong_type_in_a_stream_cost_no_text(fault_server: FaultServer, logprobs: Any) -> None:
    events = [
        {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": reason}]}
        for text, reason in (("The answer ", None), ("is 4", "stop"))
    ]
    chunks = tuple(f"data: {json.dumps(event)}\n\n".encode() for event in events)
    fault_server.script(Response(headers=SSE, chunks=chunks))
    with make(fault_server) as reranker:
        assert reranker.best_of("q", n=1, deadline=20.0).text == "The answer is 4"


def test_a_list_of_what_are_no_choices_is_refused_at_once(fault_server: FaultServer) -> None:
    fault_server.script(
        Response(headers={"content-type": "application/json"}, body=b'{"choices": [' + b"1, " * 300_000)
    )
    started = time.monotonic()
    with make(fault_server) as reranker, pytest.raises(NoCompletionError) as caught:
        reranker.best_of("q", n=1)
    assert isinstance(caught.value.causes[0], ResponseDecodeError)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("count", [-5, 10**40, "many", True, 1e300, [], {"a": 1}], ids=str)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_token_count_that_cannot_be_right_is_named(fault_server: FaultServer, count: Any, is_streamed: bool) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": None}
    if is_streamed:
        chunks = (chat_stream(["The answer is 4"], k=2, done=False).chunks or ())[:-1]
        fault_server.script(
            Response(headers=SSE, chunks=(*chunks, f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode()))
        )
    else:
        fault_server.script(json_response({**chat_body(["The answer is 4"], k=2), "usage": usage}))
    with make(fault_server) as reranker:
        selection = reranker.best_of("q", n=1, deadline=20.0 if is_streamed else None)
    assert "The provider's count of completion_tokens cannot be right and is left out." in selection.notes
    assert selection.usage.prompt_tokens == 7
    assert selection.usage.estimated


# --- functions of the user --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, ValueError])
@pytest.mark.parametrize("argument", ["on_event", "judge", "external", "scorer", "answer"])
def test_whatever_a_function_raises_the_completions_are_kept(
    fault_server: FaultServer, kind: type[BaseException], argument: str
) -> None:
    def fail(*_: object) -> Any:
        raise kind("mine")

    options: dict[str, Any] = {argument: fail, **({"scorer": "judge"} if argument == "judge" else {})}
    with make(fault_server, **options) as reranker:
        selection = reranker.best_of("q", n=2)
        assert len(selection.candidates) == 2
        assert argument == "on_event" or any(kind.__name__ in note for note in selection.notes)
        assert len(reranker.best_of("q", n=2).candidates) == 2, "the client still works"


def make_model(validate: Any) -> type[BaseModel]:
    class Answer(BaseModel):
        answer: int

        @field_validator("answer")
        @classmethod
        def check(cls, value: int) -> int:
            validate()
            return value

    return Answer


def test_a_validator_that_hangs_costs_the_timeout_and_harms_no_other_call(fault_server: FaultServer) -> None:
    fault_server.answers = ('{"answer": 4}',)
    release = threading.Event()
    with make(fault_server, timeout=0.5) as reranker:
        started = time.monotonic()
        for _ in range(12):
            with pytest.raises(NoCompletionError, match="response_model= took longer than") as caught:
                reranker.best_of("q", n=1, response_model=make_model(lambda: release.wait(20)), deadline=0.3)
            assert len(caught.value.completions) == 1
        assert reranker.best_of("q", n=1, response_model=make_model(lambda: None)).parsed.answer == 4
        assert time.monotonic() - started < 12
        release.set()


@pytest.mark.parametrize("kind", [SystemExit, ZeroDivisionError])
def test_a_validator_that_fails_costs_only_its_completion(fault_server: FaultServer, kind: type[BaseException]) -> None:
    fault_server.answers = ('{"answer": 4}', '{"answer": 5}')
    n_called = 0

    def fail_once() -> None:
        nonlocal n_called
        n_called += 1
        if n_called == 1:
            raise kind("mine")

    with make(fault_server) as reranker:
        selection = reranker.best_of("q", n=2, response_model=make_model(fail_once))
    assert selection.parsed.answer == 5
    assert len(selection.candidates) == 2


# --- stores ---------------------------------------------------------------------------------------------------------


def test_a_locked_store_does_not_hold_a_call_beyond_its_deadline(fault_server: FaultServer, tmp_path: Any) -> None:
    import sqlite3

    path = tmp_path / "s.db"
    SampleStore(path, write=True).close()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with make(fault_server, store=str(path)) as reranker:
        reranker_started = time.monotonic()
        selection = reranker.best_of("q", n=2, deadline=1.0)
        seconds = time.monotonic() - reranker_started
    lock.execute("ROLLBACK")
    lock.close()
    assert len(selection.candidates) == 2
    assert any("slow" in note or "in use" in note for note in selection.notes)
    assert seconds < 2.0


# --- a client of the user -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_requests_of_an_own_client_that_were_given_up_do_not_hold_up_others(
    fault_server: FaultServer, kind: Any
) -> None:
    async def run() -> list[Any]:
        client = kind(base_url=fault_server.url, api_key="k")
        reranker = AsyncSwiftReranker("openai-compatible", "m", client=client, max_concurrency=4, max_retries=0)
        with pytest.raises(NoCompletionError):
            await reranker.best_of("q", n=1, deadline=0.3)
        fault_server.serve(lambda _: Response(hang=True))
        hung = [asyncio.create_task(reranker.best_of("q", n=1, deadline=0.3)) for _ in range(4)]
        await asyncio.gather(*hung, return_exceptions=True)
        fault_server.serve(lambda _: chat(["4"]))
        started = time.monotonic()
        selections = await asyncio.gather(*(reranker.best_of("q", n=1) for _ in range(8)))
        assert time.monotonic() - started < 5
        await reranker.aclose()
        await (client.close() if kind is openai.AsyncOpenAI else asyncio.to_thread(client.close))
        return list(selections)

    fault_server.script(Response(hang=True))
    assert [selection.text for selection in asyncio.run(run())] == ["4"] * 8


@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_reply_of_an_own_client_is_decompressed_in_pieces_up_to_the_limit(
    fault_server: FaultServer, kind: Any, encoding: str
) -> None:
    import zlib

    compress = gzip.compress if encoding == "gzip" else zlib.compress
    client = kind(base_url=fault_server.url, api_key="k")
    fault_server.script(
        Response(headers={"content-encoding": encoding}, body=compress(chat(["4"]).body)),
        Response(headers={"content-encoding": encoding}, body=compress(b" " * 30_000_000)),
        Response(headers={"content-encoding": "br"}, body=b"x"),
    )
    reranker = SwiftReranker("openai-compatible", "m", client=client, max_reply_bytes=1_000_000, max_retries=0)
    with reranker:
        assert reranker.best_of("q", n=1).text == "4"
        with pytest.raises(ResponseDecodeError, match="max_reply_bytes=1_000_000"):
            reranker.best_of("q", n=1)
        with pytest.raises(ResponseDecodeError, match="compressed in another way"):
            reranker.best_of("q", n=1)


def test_slow_replies_still_arrive_whole(fault_server: FaultServer) -> None:
    fault_server.script(slow(chat(["4", "5"]), chunk=200, pause=0.01))
    with make(fault_server) as reranker:
        assert len(reranker.best_of("q", n=2).candidates) == 2


# --- formulas -------------------------------------------------------------------------------------------------------


def test_the_question_that_has_used_the_least_time_compares_its_formulas_first() -> None:
    worker = FormulaWorker()
    order: list[float] = []
    lock = worker._lock
    assert lock.acquire(timeout=1)

    def compare(seconds_used: float) -> None:
        assert lock.acquire(seconds_used=seconds_used, timeout=20)
        order.append(seconds_used)
        lock.release()

    threads = []
    for seconds_used in (4.0, 2.0, 0.0, 6.0):
        threads.append(threading.Thread(target=compare, args=(seconds_used,)))
        threads[-1].start()
        while len(lock._waiting) < len(threads):
            time.sleep(0.001)
    assert not lock.acquire(timeout=0.01), "it is held"
    lock.release()
    for thread in threads:
        thread.join(20)
    assert order == [0.0, 2.0, 4.0, 6.0]
