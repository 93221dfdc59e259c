"""Verdicts in the samples file of ``best_of(store=...)``: paid for once."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Budget, Price, Selection, SwiftReranker, Verifier
from swift_client.dataset.stored import StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.store import ReplyStore, SampleStore, StoredVerdict, sqlite
from swift_client.store.verdict_store import VerdictStore
from swift_client.types import Usage
from swift_client.verify import verdict_cache
from tests.children import environment
from tests.judges import candidates_of, is_verdict, judge_by, prompt_of
from tests.servers import FaultServer, Received, Response, chat, json_response

QUESTION = "What is 17 * 24?"
RIGHT, WRONG, OTHER = "The answer is 408", "The answer is 398", "The answer is 418"
VERIFIER = Verifier("openai-compatible/judge", mode="p_true")
VERDICT = StoredVerdict(value=0.25, confidence=0.5, from_text=False, prompt_tokens=7, completion_tokens=1, cost=0.5)


def serve(answers: list[str], judge: Callable[[Received], Response]) -> Callable[[Received], Response]:
    turn = itertools.count()

    def reply(request: Received) -> Response:
        if is_verdict(request):
            return judge(request)
        return chat([answers[next(turn) % len(answers)] for _ in range(request.json.get("n", 1))], k=5)

    return reply


JUDGE = judge_by(lambda text: 0.9 if "408" in text else 0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


@pytest.fixture(autouse=True)
def server(fault_server: FaultServer) -> FaultServer:
    fault_server.serve(serve([WRONG, RIGHT], JUDGE))
    return fault_server


async def ask(server: FaultServer, path: Path, verifier: Verifier = VERIFIER, **options: Any) -> Selection:
    """Ask with a new reranker, which remembers nothing of earlier ones."""
    settings = {name: options.pop(name) for name in ("prices", "max_retries") if name in options}
    question, n = options.pop("question", QUESTION), options.pop("n", 2)
    async with AsyncSwiftReranker(
        "openai-compatible", "m", base_url=server.url, verifier=verifier, store=path, **settings
    ) as reranker:
        return await reranker.best_of(question, n=n, **options)


def verdicts(server: FaultServer) -> list[Received]:
    return [request for request in server.requests if is_verdict(request)]


def judgements(selection: Selection) -> list[float | None]:
    return [candidate.verifier_score for candidate in selection.candidates]


@pytest.mark.parametrize("mode", ["p_true", "score", "pairwise"])
async def test_the_same_question_again_sends_nothing(server: FaultServer, path: Path, mode: Any) -> None:
    verifier = Verifier("openai-compatible/judge", mode=mode)
    first = await ask(server, path, verifier)
    n_requests = len(server.requests)
    assert first.verification is not None
    assert first.verification.calls == len(verdicts(server)) > 0
    second = await ask(server, path, verifier, budget=Budget(calls=1))
    assert len(server.requests) == n_requests
    assert second.verification is not None
    assert (second.verification.judged, second.verification.calls, second.verification.cost) == (2, 0, 0.0)
    assert second.verification.usage == second.usage == Usage()
    assert second.verification.confidence == first.verification.confidence
    assert (second.text, judgements(second)) == (first.text, judgements(first))
    reused = "1 verdict was" if first.verification.calls == 1 else f"{first.verification.calls} verdicts were"
    assert f"{reused} reused from {path}." in second.notes


CHANGES: dict[str, tuple[Verifier, dict[str, Any]]] = {
    "question": (VERIFIER, {"question": "What is 24 * 17?"}),
    "judge": (Verifier("openai-compatible/other", mode="p_true"), {}),
    "criteria": (Verifier("openai-compatible/judge", mode="p_true", criteria="It is short."), {}),
    "reference": (VERIFIER, {"reference": "17 * 24 = 408"}),
    "rubric": (Verifier("openai-compatible/judge", mode="p_true", reference="17 * 24 = 408"), {}),
    "mode": (Verifier("openai-compatible/judge", mode="score"), {}),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_another_question_to_the_judge_is_sent(server: FaultServer, path: Path, name: str) -> None:
    await ask(server, path)
    before = len(verdicts(server))
    verifier, options = CHANGES[name]
    for _ in range(2):  # and its verdicts are stored in turn
        selection = await ask(server, path, verifier, **options)
        assert selection.verification is not None
        assert selection.verification.judged == 2
    assert len(verdicts(server)) - before == (2 if name == "mode" else 4)


async def test_only_a_new_candidate_is_judged(server: FaultServer, path: Path) -> None:
    await ask(server, path)
    before = len(verdicts(server))
    server.serve(serve([WRONG, OTHER], JUDGE))
    await ask(server, path, temperature=0.5)  # other completions
    assert [candidates_of(prompt_of(request)) for request in verdicts(server)[before:]] == [[OTHER], [OTHER]]


@pytest.mark.parametrize("constant", ["PROMPT_VERSION", "READING_VERSION"])
async def test_a_new_version_of_prompts_or_reading_asks_again(
    server: FaultServer, path: Path, monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    await ask(server, path)
    monkeypatch.setattr(verdict_cache, constant, 99)
    await ask(server, path)
    assert len(verdicts(server)) == 8


async def test_another_address_is_another_judge_and_its_password_is_not_stored(server: FaultServer, path: Path) -> None:
    await ask(server, path)
    with FaultServer() as other:
        other.serve(JUDGE)
        for password in ("secret-1", "secret-2"):  # not a part of the address
            judge = AsyncSwiftReranker(
                "openai-compatible", "judge", base_url=other.url.replace("://", f"://user:{password}@"), api_key="k"
            )
            await ask(server, path, Verifier(judge, mode="p_true"))
            await judge.aclose()
        assert len(other.requests) == 4
    assert b"secret" not in await asyncio.to_thread(path.read_bytes)


async def test_verdicts_are_not_questions(server: FaultServer, path: Path) -> None:
    await ask(server, path)
    with VerdictStore(path) as store:
        assert [question.messages for question in store.questions()] == [({"role": "user", "content": QUESTION},)]
        assert store.totals().usage.calls == 1
        usage, cost = store.verdict_totals()
        assert (usage.calls, usage.prompt_tokens, usage.completion_tokens, cost) == (4, 200, 4, None)
    groups = list(StoredGroups([path]))
    assert [len(group.completions) for group in groups] == [2]


async def test_the_cost_of_verdicts_is_stored(server: FaultServer, path: Path) -> None:
    prices = {"m": Price(input=1.0, output=2.0), "judge": Price(input=3.0, output=4.0)}
    selection = await ask(server, path, prices=prices)
    assert selection.verification is not None
    with VerdictStore(path) as store:
        assert store.verdict_totals()[1] == pytest.approx(4 * (3 * 50 + 4 * 1) / 1e6)
        assert store.verdict_totals()[1] == pytest.approx(selection.verification.cost)


async def test_failed_verdicts_are_asked_again(server: FaultServer, path: Path) -> None:
    broken = judge_by(lambda text: float("nan") if "408" in text else 0.1)
    server.serve(serve([WRONG, RIGHT], broken))
    selection = await ask(server, path, max_retries=0)
    assert selection.verification is not None
    assert selection.verification.judged == 1
    server.serve(serve([WRONG, RIGHT], JUDGE))
    before = len(verdicts(server))
    selection = await ask(server, path)
    assert len(verdicts(server)) - before == 2
    assert selection.verification is not None
    assert (selection.verification.judged, selection.verification.calls) == (2, 2)


async def test_verdicts_that_were_read_as_text_say_so_again(server: FaultServer, path: Path) -> None:
    server.serve(serve([WRONG, RIGHT], judge_by(lambda text: 0.9 if "408" in text else 0.1, logprobs=False)))
    for _ in range(2):
        selection = await ask(server, path)
        assert any("lists no logprobs for its verdicts" in note for note in selection.notes)
    assert len(verdicts(server)) == 4


async def test_what_a_reply_showed_of_the_judge_is_known_from_its_stored_verdicts(
    server: FaultServer, path: Path
) -> None:
    def judge(request: Received) -> Response:
        tag = prompt_of(request).split("written as <")[1].split(">")[0] if request.json["max_tokens"] > 100 else ""
        if not tag:
            message = {"role": "assistant", "content": "", "reasoning_content": "Let me think about"}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
        else:
            word = "Yes" if "408" in candidates_of(prompt_of(request))[0] else "No"
            choice = {"index": 0, "message": {"role": "assistant", "content": f"Hm. <{tag}>{word}</{tag}>"}}
            choice["finish_reason"] = "stop"
        usage = {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
        return json_response({"model": "judge", "choices": [choice], "usage": usage})

    server.serve(serve([WRONG, RIGHT], judge))
    await ask(server, path)
    before = len(verdicts(server))
    assert before == 5  # the first was cut, and was asked for again
    await ask(server, path)
    assert len(verdicts(server)) == before
    server.serve(serve([WRONG, OTHER], judge))
    selection = await ask(server, path, temperature=0.5)  # other completions
    # The new one is asked for as of a judge that reasons.
    assert [request.json["max_tokens"] > 100 for request in verdicts(server)[before:]] == [True, True]
    assert selection.verification is not None
    assert selection.verification.judged == 2


# Trouble with the file


def broken_text(path: Path) -> None:
    path.write_text("not a database, but long enough to be read as one" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [broken_text, a_folder])
async def test_a_broken_file_costs_no_judgement(server: FaultServer, path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(path)
    selection = await ask(server, path)
    assert selection.text == RIGHT
    assert judgements(selection) == [pytest.approx(0.1, abs=1e-6), pytest.approx(0.9, abs=1e-6)]
    assert any(note.startswith("No verdict was reused: ") for note in selection.notes)
    assert any(note.startswith("1 verdict is not stored: ") for note in selection.notes)


@pytest.mark.parametrize(
    "change",
    ["value = 1.5", "value = 'x'", "confidence = -1", "prompt_tokens = -5", "cost = 'free'", "from_text = 0.5"],
)
async def test_a_verdict_that_is_not_ours_is_not_used(server: FaultServer, path: Path, change: str) -> None:
    await ask(server, path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"UPDATE verdict SET {change}")  # noqa: S608 - our own
    connection.close()
    selection = await ask(server, path)
    assert len(verdicts(server)) == 8
    assert judgements(selection) == [pytest.approx(0.1, abs=1e-6), pytest.approx(0.9, abs=1e-6)]
    assert any("it is damaged: a verdict has a field" in note for note in selection.notes)


async def test_a_file_that_collect_writes_costs_no_judgement(
    server: FaultServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "SHARED_LOCK_TIMEOUT", 0.2)
    with SampleStore(path, write=True):
        selection = await ask(server, path)
    assert selection.text == RIGHT
    assert any("verdict is not stored" in note and "in use" in note for note in selection.notes)


async def test_a_file_that_hangs_costs_no_deadline(
    server: FaultServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(server, path)
    release = threading.Event()
    monkeypatch.setattr(ReplyStore, "lookup_verdicts", lambda self, keys: release.wait(20) and {})
    try:
        selection = await ask(server, path, deadline=2.0)
    finally:
        release.set()
    assert selection.elapsed < 3.0
    assert selection.verification is not None
    assert selection.verification.judged == 2
    assert f"No verdict was reused: {path} is slow." in selection.notes


# Sharing


async def test_two_rerankers_share_a_file_at_the_same_time(server: FaultServer, path: Path) -> None:
    questions = [f"What is 17 * 24, in {unit}?" for unit in ("g", "kg", "t")]
    selections = await asyncio.gather(*(ask(server, path, question=question) for question in questions * 2))
    assert {selection.text for selection in selections} == {RIGHT}
    before = len(server.requests)
    await asyncio.gather(*(ask(server, path, question=question) for question in questions))
    assert len(server.requests) == before


def test_threads_share_a_file(server: FaultServer, path: Path) -> None:
    def run(unit: str) -> None:
        with SwiftReranker("openai-compatible", "m", base_url=server.url, verifier=VERIFIER, store=path) as reranker:
            reranker.best_of(f"What is 17 * 24, in {unit}?", n=2)

    for _ in range(2):
        threads = [threading.Thread(target=run, args=(unit,)) for unit in ("g", "kg", "t")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(verdicts(server)) == 12


CHILD = """
import json, sys
from swift_client.store import ReplyStore, StoredVerdict
path, name = sys.argv[1:]
store = ReplyStore(path)
writes = [
    store.save_verdict(f"{name}-{i}", StoredVerdict(
        value=i / 50, confidence=1.0, from_text=False, prompt_tokens=i, completion_tokens=1, cost=None))
    for i in range(50)
]
for write in writes:
    write.result(timeout=60)
"""


def test_processes_share_a_file(path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, str(path), name], env=environment()) for name in ("a", "b", "a")
    ]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    store = ReplyStore(path)
    keys = [f"{name}-{i}" for name in "ab" for i in range(50)]
    found = store.lookup_verdicts([*keys, "none"])
    assert list(found) == keys
    assert [verdict.value for verdict in found.values()] == [i / 50 for i in range(50)] * 2


def test_the_first_of_two_equal_verdicts_is_kept(path: Path) -> None:
    store = ReplyStore(path)
    assert store.lookup_verdicts(["k"]) == {}
    store.save_verdict("k", VERDICT).result()
    store.save_verdict("k", StoredVerdict(**{**vars(VERDICT), "value": 1.0})).result()
    assert store.lookup_verdicts(["k"]) == {"k": VERDICT}
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match="is not a samples file"):
        store.lookup_verdicts(["k"])
