"""SwiftReranker(store=...) over real HTTP: stored completions, repeated requests and errors of the file."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from swift_client import AsyncSwiftReranker, Cascade, SwiftReranker
from swift_client.errors import AuthenticationError, ConfigurationError, NoCompletionError
from swift_client.reranker.caching import merge_cached
from swift_client.sampling import Budget
from swift_client.store import Meta, ReplyStore, RequestKey, SampleStore, StoredQuestion, sqlite
from swift_client.store.packing import pack, unpack
from swift_client.types import Completion, ToolCall, Usage
from tests.children import environment
from tests.generated import completion
from tests.servers import FaultServer, Received, Response, chat, chat_stream, error, hang
from tests.test_cascade import SURE, UNSURE, acceptance, head

Make = Callable[..., AsyncSwiftReranker]
FOUR, FIVE = "The answer is 4", "The answer is 5"
PLAIN = RequestKey(
    provider="p", model="m", base_url=None, messages=({"role": "user", "content": "q"},), top_logprobs=20
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


@pytest.fixture
async def reranker(fault_server: FaultServer, path: Path) -> AsyncIterator[Make]:
    """Make rerankers of the fault server that share one store, and close them."""
    instances = []

    def make(provider: str = "openai-compatible", **options: Any) -> AsyncSwiftReranker:
        settings = {"base_url": fault_server.url, "api_key": "k", "max_retries": 0, "store": path, **options}
        instances.append(AsyncSwiftReranker(provider, settings.pop("model", "m"), **settings))
        return instances[-1]

    yield make
    for client in instances:
        await client.aclose()


def requested_counts(server: FaultServer) -> list[int]:
    return [request.json.get("n") or 1 for request in server.requests]


def seeds(server: FaultServer) -> list[int]:
    return [request.json["seed"] for request in server.requests]


def stored_texts(path: Path) -> list[str]:
    with SampleStore(path) as store:
        return [sample.completion.text for _, samples in store.questions_with_samples() for sample in samples]


def one_by_one(request: Received) -> Response:
    """Answer as a server with one choice per call, whose text depends on the seed."""
    return chat([f"{request.json.get('seed')}: the answer is 4"])


# What is sent again


async def test_a_larger_n_draws_only_the_rest_and_the_same_or_a_smaller_one_nothing(
    fault_server: FaultServer, reranker: Make
) -> None:
    best = reranker()
    first = await best.best_of("q", n=4)
    assert (first.reused, first.notes) == (0, ())

    more = await best.best_of("q", n=10)
    assert requested_counts(fault_server) == [4, 6]
    assert (more.reused, len(more.candidates)) == (4, 10)
    assert more.usage == Usage(prompt_tokens=7, completion_tokens=6 * 4, calls=1)
    assert more.notes[0].startswith("4 of 10 completions were reused from ")
    assert more.to_dict()["reused"] == 4

    for n in (10, 3):
        second = await best.best_of("q", n=n)
        assert (second.reused, len(second.candidates), second.usage) == (n, n, Usage())
    assert len(fault_server.requests) == 2


async def test_reused_completions_choose_as_the_drawn_ones_did(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.answers = (FOUR, FIVE, FIVE, "no idea", FOUR, FIVE)
    first = await reranker().best_of("q", n=6)
    second = await reranker().best_of("q", n=6)

    assert len(fault_server.requests) == 1
    assert (second.text, second.signal, second.method, second.winner) == (
        first.text,
        first.signal,
        first.method,
        first.winner,
    )
    for old, new in zip(first.candidates, second.candidates, strict=True):
        assert (old.text, old.answer, old.weight) == (new.text, new.answer, new.weight)
        assert old.score == new.score  # mean_logprob reads the chosen logprobs, which are stored as they are
        np.testing.assert_array_equal(old.completion.logprobs, new.completion.logprobs)
        assert new.completion.top_ids is not None  # so that any head can read them


@pytest.mark.parametrize(
    ("setting", "call"),
    [
        ({}, {"temperature": 0.5}),
        ({}, {"stop": ["\n"]}),
        ({}, {"seed": 1}),
        ({"model": "other"}, {}),
        ({"top_logprobs": 3}, {}),
        ({"require_logprobs": False}, {}),
        ({"provider": "vllm"}, {}),
    ],
    ids=str,
)
async def test_another_request_is_another_key(
    fault_server: FaultServer, reranker: Make, setting: dict[str, Any], call: dict[str, Any]
) -> None:
    await reranker().best_of("q", n=2)
    other = await reranker(**setting).best_of("q", n=2, **call)

    assert other.reused == 0
    assert len(fault_server.requests) == 2


async def test_fields_that_no_answer_depends_on_do_not_matter(fault_server: FaultServer, reranker: Make) -> None:
    await reranker().best_of("q", n=2, user="ann", metadata={"trace": "1"})
    second = await reranker().best_of([{"role": "user", "content": "q"}], n=2, user="bob", service_tier="flex")

    assert second.reused == 2
    assert len(fault_server.requests) == 1


def test_the_key_has_no_credentials_and_neither_has_the_file(path: Path) -> None:
    def key_for(address: str) -> RequestKey:
        return dataclasses.replace(PLAIN, base_url=address)

    clean, loaded = key_for("https://host:8/v1"), key_for("https://user:sesame@host:8/v1/?api-key=sesame#sesame")
    assert clean.question.id == loaded.question.id
    assert key_for("https://other:8/v1").question.id != clean.question.id
    ReplyStore(path).save(loaded, [completion(0, tokens=3)], first_index=0, usage=Usage()).result()
    assert b"sesame" not in path.read_bytes()


# Seeds and numbers


async def test_with_a_seed_completion_i_is_asked_for_with_seed_plus_i(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(one_by_one)
    best = reranker("ollama")  # one completion a call
    fault_server.serve(one_by_one)
    await best.best_of("q", n=2, seed=100)
    grown = await best.best_of("q", n=5, seed=100)

    assert sorted(seeds(fault_server)) == [100, 101, 102, 103, 104]
    assert [candidate.text[:3] for candidate in grown.candidates] == ["100", "101", "102", "103", "104"]
    fresh = await best.best_of("q", n=5, seed=200)
    assert fresh.reused == 0


async def test_a_hole_that_a_failed_call_left_is_filled_with_its_own_seed(
    fault_server: FaultServer, reranker: Make
) -> None:
    failing_seeds = {101}

    def serve(request: Received) -> Response:
        return error(400, "no") if request.json["seed"] in failing_seeds else one_by_one(request)

    fault_server.serve(serve)
    best = reranker("ollama")
    first = await best.best_of("q", n=4, seed=100)
    assert len(first.candidates) == 3
    failing_seeds.clear()
    fault_server.requests.clear()
    full = await best.best_of("q", n=4, seed=100)

    assert seeds(fault_server) == [101]
    assert sorted(candidate.text[:3] for candidate in full.candidates) == ["100", "101", "102", "103"]


async def test_a_hole_does_not_make_one_call_overlap_seeds_that_are_there(
    fault_server: FaultServer, reranker: Make, path: Path
) -> None:
    best = reranker()
    await best.best_of("q", n=6, seed=100)
    with sqlite3.connect(path) as rows:
        rows.execute("DELETE FROM sample WHERE number IN (1, 2, 4)")
    rows.close()
    await best.best_of("q", n=8, seed=100)

    calls = [(request.json["seed"], request.json.get("n") or 1) for request in fault_server.requests[1:]]
    assert sorted(calls) == [(101, 2), (104, 1), (106, 2)]


def test_two_that_ask_the_same_at_once_both_keep_what_they_paid_for(path: Path) -> None:
    store = ReplyStore(path)
    for text in (0, 1):
        store.save(PLAIN, [completion(text, tokens=3)], first_index=0, usage=Usage(calls=1)).result()

    assert [sample.index for sample in store.lookup(PLAIN, 9)] == [0, 1]


def test_what_came_twice_for_one_seed_is_one_completion(path: Path) -> None:
    store, seeded = ReplyStore(path), dataclasses.replace(PLAIN, seed=5)
    for _ in (0, 1):
        store.save(seeded, [completion(0, tokens=3)], first_index=2, usage=Usage(completion_tokens=3, calls=1)).result()

    (sample,) = store.lookup(seeded, 9)
    assert (sample.index, sample.seed) == (2, 7)
    with SampleStore(path) as sqlite:
        assert sqlite.totals().usage.completion_tokens == 6  # both were paid for


def test_a_reply_that_was_moved_keeps_all_its_completions(path: Path) -> None:
    store, seeded = ReplyStore(path), dataclasses.replace(PLAIN, seed=5)
    for first, reply in ((0, [0]), (1, [1]), (0, [2, 3, 4, 5])):  # the third was asked for in one request
        completions = [completion(text, tokens=3) for text in reply]
        store.save(seeded, completions, first_index=first, usage=Usage(calls=1)).result()

    # The first of the third reply has the seed of completion 0, so it is that one.
    assert [(sample.index, sample.seed) for sample in store.lookup(seeded, 9)] == [
        (0, 5), (1, 6), (2, 5), (3, 5), (4, 5),
    ]  # fmt: skip


# With the other parts of a draw


async def test_a_stopping_rule_looks_at_reused_ones_first_and_may_stop_before_anything_is_sent(
    fault_server: FaultServer, reranker: Make
) -> None:
    first = await reranker().best_of("q", n=16, stopping="beta")
    assert len(fault_server.requests) == 4
    second = await reranker().best_of("q", n=16, stopping="beta")

    assert len(fault_server.requests) == 4
    assert (second.reused, second.usage.calls) == (4, 0)
    assert first.stopped is not None
    assert second.stopped is not None
    assert second.stopped.after == 4
    assert second.stopped.saved_tokens == first.stopped.saved_tokens  # at the mean of those that are there


async def test_a_stopping_rule_goes_on_where_the_reused_ones_are_not_enough(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.answers = (FOUR, FIVE, FOUR, FOUR, FOUR, FOUR, FOUR, FOUR)
    await reranker().best_of("q", n=2)
    selection = await reranker().best_of("q", n=16, stopping="beta")

    assert selection.reused == 2
    assert requested_counts(fault_server) == [
        2,
        1,
        1,
        2,
        2,
    ]  # the waves go on where two completions would have left them
    assert selection.answer == "4"


async def test_a_budget_counts_only_what_is_sent_now(fault_server: FaultServer, reranker: Make) -> None:
    best = reranker("ollama")
    fault_server.serve(lambda request: chat([FOUR]))
    await best.best_of("q", n=3)
    selection = await best.best_of("q", n=8, budget=Budget(calls=2))

    assert (selection.reused, len(selection.candidates)) == (3, 5)
    assert selection.stopped is not None
    assert selection.stopped.rule == "budget"
    assert len(kept_of(selection)) == 5
    assert (await best.best_of("q", n=5)).usage == Usage()


def kept_of(selection: Any) -> list[str]:
    return [candidate.text for candidate in selection.candidates]


async def test_reused_completions_answer_where_the_provider_is_down(fault_server: FaultServer, reranker: Make) -> None:
    await reranker().best_of("q", n=2)
    fault_server.serve(lambda request: error(401, "bad key"))
    selection = await reranker().best_of("q", n=4)

    assert (selection.reused, len(selection.candidates)) == (2, 2)
    assert isinstance(selection.failures[0].error, AuthenticationError)


async def test_required_logprobs_are_not_taken_from_replies_that_had_none(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(chat([FOUR, FOUR], k=None))
    await reranker().best_of("q", n=2)
    strict = await reranker(require_logprobs=True).best_of("q", n=2)

    assert strict.reused == 0
    assert strict.signal.startswith("logprobs")


# Kept the moment it is here


async def test_what_came_before_the_draw_failed_is_kept(fault_server: FaultServer, reranker: Make, path: Path) -> None:
    best = reranker("ollama")
    fault_server.script(chat([FOUR]))
    fault_server.serve(lambda request: error(400, "no"))
    with pytest.raises(NoCompletionError):
        await best.best_of("q", n=4, min_completions=3)

    await eventually(lambda: stored_texts(path) == [FOUR])


async def test_what_came_before_a_cancellation_is_kept(fault_server: FaultServer, reranker: Make, path: Path) -> None:
    best = reranker("ollama")
    fault_server.script(chat([FOUR]))
    fault_server.serve(lambda request: hang())
    task = asyncio.create_task(best.best_of("q", n=3))
    await eventually(lambda: path.exists() and stored_texts(path) == [FOUR])  # while the others hang
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert stored_texts(path) == [FOUR]


async def test_what_came_before_the_deadline_is_kept_but_nothing_that_broke_off(
    fault_server: FaultServer, reranker: Make, path: Path
) -> None:
    best = reranker("ollama")
    fault_server.script(chat_stream([FOUR]), chat_stream([FIVE], pause=5.0))
    selection = await best.best_of("q", n=2, deadline=1.0)

    assert selection.answer == "4"
    assert stored_texts(path) == [FOUR]


async def test_the_deadline_counts_from_the_call_and_not_from_the_end_of_the_lookup(
    fault_server: FaultServer, reranker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplyStore, "lookup", lambda *_: time.sleep(0.3) or [])
    fault_server.serve(lambda _: dataclasses.replace(chat(["a"]), delay=0.4))
    started = time.monotonic()
    with pytest.raises(NoCompletionError, match=r"deadline of 0\.2 s"):
        await reranker().best_of("q", n=2, deadline=0.2)
    assert time.monotonic() - started < 0.45


def test_reused_completions_are_those_of_the_store_whatever_the_caller_brings() -> None:
    cached = {number: completion(number, tokens=3) for number in range(4)}
    others = [completion(number, tokens=3) for number in range(10, 14)]

    assert merge_cached(cached, others, 4) == (cached, 4)
    merged, n_cached = merge_cached(cached, [*cached.values()][:2] + others, 6)
    assert (list(merged), n_cached) == ([0, 1, 2, 3, 4, 5], 2)


async def eventually(happens: Callable[[], bool], *, within: float = 10.0) -> None:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if happens():
                return
        except ConfigurationError:  # the file is just being made
            pass
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not happen within {within} s")


def test_kill_9_in_the_middle_of_a_draw_loses_nothing_that_arrived(fault_server: FaultServer, path: Path) -> None:
    arrived = threading.Semaphore(0)

    def serve(request: Received) -> Response:
        if len(fault_server.requests) > 5:
            arrived.release()
            return hang()
        return chat([FOUR])

    fault_server.serve(serve)
    program = (
        "import sys; from swift_client import SwiftReranker\n"
        "with SwiftReranker('ollama', 'm', base_url=sys.argv[1], store=sys.argv[2], api_key='k', head=None) as best:\n"
        "    best.best_of('q', n=8)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, fault_server.url, str(path)], env=environment(), cwd=path.parent
    )
    try:
        for _ in range(3):
            assert arrived.acquire(timeout=30)
        asyncio.run(eventually(lambda: path.exists() and len(stored_texts(path)) == 5))
    finally:
        child.kill()
        child.wait()

    assert stored_texts(path) == [FOUR] * 5


# Many share one file


def test_processes_that_share_a_file_lose_nothing_and_get_in_each_others_way_never(
    fault_server: FaultServer, path: Path
) -> None:
    program = (
        "import sys; from concurrent.futures import ThreadPoolExecutor; from swift_client import SwiftReranker\n"
        "url, path, own = sys.argv[1:]\n"
        "with SwiftReranker('openai-compatible', 'm', base_url=url, store=path, head=None) as best:\n"
        "    def ask(at): return best.best_of(f'{own if at % 2 else 0}, {at}', n=3)\n"
        "    with ThreadPoolExecutor(4) as pool: found = list(pool.map(ask, range(8)))\n"
        "print(sum(len(each.candidates) - each.reused for each in found), [each.notes for each in found])"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, fault_server.url, str(path), str(own)],
            env=environment(),
            cwd=path.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in range(1, 4)
    ]
    outputs = [child.communicate(timeout=60)[0] for child in children]

    assert [child.returncode for child in children] == [0, 0, 0]
    assert not any("not stored" in output or "Nothing was reused" in output for output in outputs), outputs
    paid = sum(int(output.split()[0]) for output in outputs)
    assert len(stored_texts(path)) == paid == sum(requested_counts(fault_server))
    with SampleStore(path) as store:
        assert len(store.questions()) == 3 * 4 + 4


def test_a_fork_writes_with_a_thread_of_its_own(path: Path) -> None:
    program = (
        "import os, sys, warnings; warnings.simplefilter('ignore')\n"
        "from swift_client.store import ReplyStore, RequestKey; from swift_client.types import Completion, Usage\n"
        "store = ReplyStore(sys.argv[1])\n"
        "def keep(text):\n"
        "    messages = ({'role': 'user', 'content': text},)\n"
        "    asked = RequestKey(provider='p', model='m', base_url=None, messages=messages, top_logprobs=None)\n"
        "    store.save(asked, [Completion(text=text)], first_index=0, usage=Usage()).result(timeout=20)\n"
        "keep('parent'); child = os.fork()\n"
        "keep('child' if child == 0 else 'parent again')\n"
        "assert child == 0 or os.waitpid(child, 0)[1] == 0"
    )
    result = subprocess.run([sys.executable, "-c", program, str(path)], env=environment(), timeout=60, check=False)

    assert result.returncode == 0
    assert sorted(stored_texts(path)) == ["child", "parent", "parent again"]


def test_only_its_owner_may_read_a_new_file_and_an_old_one_keeps_its_mode(path: Path) -> None:
    store = ReplyStore(path)
    store.save(PLAIN, [completion(0, tokens=3)], first_index=0, usage=Usage()).result()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    store.save(PLAIN, [completion(1, tokens=3)], first_index=1, usage=Usage()).result()
    assert path.stat().st_mode & 0o777 == 0o640


async def test_writing_does_not_hold_up_the_loop(path: Path) -> None:
    store = ReplyStore(path)
    big = [completion(index, tokens=4000) for index in range(8)]  # about a second to pack
    longest, last = 0.0, time.perf_counter()
    writing = [
        store.save(PLAIN, [completion], first_index=index, usage=Usage()) for index, completion in enumerate(big)
    ]
    while not all(future.done() for future in writing):
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert all(future.exception() is None for future in writing)
    assert longest < 0.5  # two shared cores stall by themselves; in one go it would be all of it


# Trouble with the file


def broken_text(path: Path) -> None:
    path.write_text("not a database, but long enough to be read as one" * 100)


def foreign_file(path: Path) -> None:
    with sqlite3.connect(path) as rows:
        rows.execute("CREATE TABLE notes (text)")
    rows.close()


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [broken_text, foreign_file, a_folder])
async def test_a_broken_file_costs_no_answer(
    fault_server: FaultServer, reranker: Make, path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    selection = await reranker().best_of("q", n=3)

    assert selection.answer == "4"
    assert any("3 completions are not stored: " in note for note in selection.notes)


async def test_a_folder_that_is_not_there_costs_no_answer(
    reranker: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    selection = await reranker(store=tmp_path / "nowhere" / "samples.db").best_of("q", n=2)
    gc.collect()
    assert {record.name for record in caplog.records} <= {"swift_client.reranker.caching"}  # none of asyncio

    assert selection.answer == "4"
    assert any("does not exist" in note for note in selection.notes)


async def test_a_file_that_collect_holds_costs_no_answer(
    reranker: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SHARED_LOCK_TIMEOUT", 0.3)
    with SampleStore(path, write=True) as writer:
        writer.begin(Meta(provider="p", model="m", top_logprobs=5))
        selection = await reranker().best_of("q", n=2)

    assert selection.answer == "4"
    assert not any("Nothing was reused" in note for note in selection.notes)  # readers are free
    assert any("2 completions are not stored" in note and "in use" in note for note in selection.notes)
    assert (await reranker().best_of("q", n=2)).reused == 0
    assert (await reranker().best_of("q", n=2)).reused == 2


async def test_a_full_disk_costs_no_answer(reranker: Make, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await reranker().best_of("small", n=1)
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def small(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        connection.execute(f"PRAGMA max_page_count={path.stat().st_size // 4096}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    selection = await reranker().best_of("q" * 20_000, n=2)

    assert selection.answer == "4"
    assert any("disk is full" in note for note in selection.notes)


async def test_a_request_that_json_cannot_hold_costs_no_answer(reranker: Make, path: Path) -> None:
    class Own:
        name = "own"

        async def complete(self, messages: Any, n: int, **options: Any) -> list[Completion]:
            return [Completion(text=FOUR) for _ in range(n)]

    best = AsyncSwiftReranker(Own(), store=path)
    selection = await best.best_of("q", n=2, mood=object())
    assert selection.answer == "4"
    assert any("cannot store this" in note for note in selection.notes)
    assert (await best.best_of("q", n=2)).reused == 0
    assert (await best.best_of("q", n=3)).reused == 2


def test_anything_but_a_store_is_refused_before_anything_is_sent(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="takes the path of a file"):
        SwiftReranker("openai", store=5)  # type: ignore[arg-type]
    with SampleStore(path, write=True) as writer, pytest.raises(ConfigurationError, match="Close it"):
        SwiftReranker("openai", store=writer)  # type: ignore[arg-type]


# Rows that someone else wrote


def spoiled(change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a blob of three tokens whose arrays ``change`` has modified."""
    import zlib

    plain = completion(0, tokens=3, k=2)
    packed = msgspec.msgpack.decode(zlib.decompress(pack(plain)))
    change(packed[1])
    return zlib.compress(msgspec.msgpack.encode(packed))


def shuffled(values: list[float], kind: str) -> tuple[int, bytes]:
    array = np.array(values, kind)
    return len(values) // 3, np.ascontiguousarray(array.view(np.uint8).reshape(array.size, -1).T).tobytes()


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("logprobs", "<f4", [-1, float("nan"), -1]),
        ("logprobs", "<f4", [-1, float("-inf"), -1]),
        ("logprobs", "<f4", [-1, 0.5, -1]),
        ("top", "<f2", [-1, -1, float("nan"), -2, -2, -2]),
        ("top", "<f2", [-1, float("inf"), -1, -2, -2, -2]),
        ("projections", "<f4", [1, float("inf"), 1, 1, 1, 1]),
        ("hidden", "<f2", [1, float("nan"), 1]),
    ],
)
def test_numbers_that_no_reply_has_are_not_read(name: str, kind: str, values: list[float]) -> None:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = shuffled(values, kind)

    with pytest.raises(ValueError, match=r"invalid logprobs|invalid hidden states"):
        unpack(spoiled(change), text="t", index=0, finish_reason="stop")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sample SET arrays = x'00'",
        "UPDATE sample SET number = -1 WHERE number = 0",
        "UPDATE sample SET finish_reason = 'great'",
        "UPDATE sample SET text = x'ff'",
        'UPDATE question SET messages = \'[{"role": "user", "content": "another"}]\'',
        "UPDATE question SET messages = 'no json'",
        "UPDATE sample SET number = 'many' WHERE number = 0",
    ],
)
async def test_rows_that_were_changed_are_drawn_anew_and_the_note_says_so(
    fault_server: FaultServer, reranker: Make, path: Path, statement: str
) -> None:
    await reranker().best_of("q", n=2)
    with sqlite3.connect(path) as rows:
        rows.execute(statement)
    rows.close()
    selection = await reranker().best_of("q", n=2)

    assert (selection.reused, selection.answer) == (0, "4")
    assert selection.notes[0].startswith("Nothing was reused: ")
    assert requested_counts(fault_server) == [2, 2]


def test_every_field_of_a_completion_comes_back() -> None:
    """A new field of Completion that the store does not know would be lost by reusing it."""
    full = dataclasses.replace(
        completion(0, tokens=3, k=2),
        finish_reason="length",
        hidden_states=np.ones((3, 4), np.float16),
        projections=np.ones((3, 2), np.float32),
        thinking=dataclasses.replace(completion(0, tokens=5, k=2), text="hm", finish_reason="length"),
        tool_calls=(ToolCall(name="f", arguments='{"a": 1}'),),
        answer_text="4",
    )
    second = unpack(pack(full), text=full.text, index=full.index, finish_reason=full.finish_reason)
    for name in (field.name for field in dataclasses.fields(Completion)):
        value, back = getattr(full, name), getattr(second, name)
        assert value is not None, f"give {name} a value here, and see that it comes back"
        if name == "thinking":
            assert (back.text, back.finish_reason, back.tokens) == ("hm", "length", value.tokens)
            np.testing.assert_array_equal(back.logprobs, value.logprobs)
            continue
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(back, value, rtol=1e-3)
        else:
            assert back == value


# Beside collect


def test_collect_and_best_of_may_fill_one_file(path: Path) -> None:
    ReplyStore(path).save(PLAIN, [completion(0, tokens=3)], first_index=0, usage=Usage()).result()
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=20, sampling={"temperature": 1}))
        store.add_questions([StoredQuestion(id="q1", messages=PLAIN.messages, answer="4")])
        store.add_samples("q1", [completion(1, tokens=3)], usage=Usage())
    with SampleStore(path) as store:
        assert store.models() == {store.source_of(name) for name in (PLAIN.question.id, "q1")} == {("p", "m")}
    assert len(ReplyStore(path).lookup(PLAIN, 9)) == 1


async def test_what_a_rule_left_out_is_drawn_and_kept_where_an_answer_is_not_accepted(
    fault_server: FaultServer, reranker: Make, path: Path
) -> None:
    unsure = head(acceptance(UNSURE, n=8, stopping="beta"), acceptance(SURE, n=8))
    best = reranker(head=unsure)
    options: dict[str, Any] = {"n": 8, "stopping": "beta", "on_reject": "escalate"}
    grown = await best.best_of("q", **options)
    assert (grown.reused, sum(requested_counts(fault_server)), len(grown.candidates)) == (0, 8, 8)
    assert len(stored_texts(path)) == 8
    second = await best.best_of("q", **options)
    assert (second.reused, second.usage.calls, len(second.candidates)) == (8, 0, 8)
    assert sum("were reused" in note for note in second.notes) == 1


@pytest.mark.parametrize("shares_reranker", [True, False], ids=["one reranker twice", "two rerankers"])
def test_a_cascade_over_one_store_sends_nothing_twice(
    fault_server: FaultServer, path: Path, shares_reranker: bool
) -> None:
    both = head(acceptance(UNSURE, n=1), acceptance(SURE, n=8))

    def ask() -> Any:
        rerankers = [
            SwiftReranker("openai-compatible", "m", base_url=fault_server.url, head=both, store=path) for _ in range(2)
        ]
        with Cascade([(rerankers[0], 1), (rerankers[not shares_reranker], 8)]) as cascade, rerankers[1]:
            return cascade.best_of("q")

    first = ask()
    assert sum(requested_counts(fault_server)) == len(first.candidates) == 8
    second = ask()
    assert sum(requested_counts(fault_server)) == 8
    assert (second.reused, len(second.candidates), second.usage.calls) == (8, 8, 0)
    assert len(stored_texts(path)) == 8
