from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from swift_client.collect.collect import CollectProgress, CollectResult, Prices, collect, collect_async
from swift_client.collect.setup import question_seed
from swift_client.dataset.questions import read_questions
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    LogprobsUnavailableError,
    MissingApiKeyError,
)
from swift_client.store import SampleStore, StoredQuestion
from tests.children import environment
from tests.servers import FaultServer, Received, Response, chat, error, reset

QUESTIONS = [
    StoredQuestion(
        id=f"q{index}", messages=({"role": "user", "content": f"What is {index} + 2?"},), answer=str(index + 2)
    )
    for index in range(6)
]
KEYS = {(question.id, index) for question in QUESTIONS for index in range(4)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


def run(server: FaultServer, out: Path, **settings: Any) -> CollectResult:
    options = {
        "n": 4,
        "top_logprobs": 3,
        "max_retries": 0,
        "temperature": 0.8,
        "questions": QUESTIONS,
        "require_logprobs": False,
        **settings,
    }
    return collect(
        options.pop("questions"), out, provider="openai-compatible", model="m", base_url=server.url, **options
    )


def keys(out: Path) -> list[tuple[str, int]]:
    with SampleStore(out) as store:
        return [
            (question.id, sample.index) for question, samples in store.questions_with_samples() for sample in samples
        ]


def test_it_draws_n_completions_of_each_question_with_numbers_and_identities(
    fault_server: FaultServer, out: Path
) -> None:
    result = run(fault_server, out)
    assert (result.samples, result.wanted, result.added, result.complete) == (24, 24, 24, True)
    assert (result.requests, result.stopped, result.failures, result.cost) == (6, None, (), None)
    assert result.usage.calls == 6
    assert sorted(keys(out)) == sorted(KEYS)
    assert all(request.json["temperature"] == 0.8 for request in fault_server.requests)
    with SampleStore(out) as store:
        (first, *_), *_ = (samples for _, samples in store.questions_with_samples())
    assert first.completion.text == "The answer is 4"
    assert first.completion.top_logprobs.shape == first.completion.top_ids.shape == (4, 3)


def test_a_second_run_asks_nothing_and_a_larger_n_asks_for_the_rest(fault_server: FaultServer, out: Path) -> None:
    run(fault_server, out)
    assert run(fault_server, out).requests == 0
    result = run(fault_server, out, n=6)
    assert (result.added, result.samples) == (12, 36)
    assert [request.json["n"] for request in fault_server.requests] == [4] * 6 + [2] * 6


def test_other_settings_are_refused_before_anything_is_sent(fault_server: FaultServer, out: Path) -> None:
    run(fault_server, out)
    fault_server.requests.clear()
    with pytest.raises(ConfigurationError, match=r"contains samples with sampling"):
        run(fault_server, out, temperature=1.0)
    assert not fault_server.requests


def test_single_failures_cost_themselves_alone_and_the_next_run_mends_them(
    fault_server: FaultServer, out: Path
) -> None:
    fault_server.script(chat(["a"] * 4, k=3), error(500, "boom"), reset(), error(429, "slow"))
    result = run(fault_server, out, concurrency=1)
    assert (result.samples, result.stopped, result.complete) == (12, None, False)
    assert [type(failure.error).__name__ for failure in result.failures] == [
        "ServerError",
        "ConnectionFailedError",
        "RateLimitError",
    ]
    assert json.loads(json.dumps(result.to_dict()))["failures"][0]["lost"] == 4
    mended = run(fault_server, out)
    assert (mended.added, mended.complete) == (12, True)
    assert sorted(keys(out)) == sorted(KEYS)


def test_with_one_completion_a_call_the_lost_ones_leave_gaps_that_are_filled_with_their_own_seeds(
    fault_server: FaultServer, out: Path
) -> None:
    def serve(request: Received) -> Response:
        return error(500, "boom") if request.json["seed"] in failing_seeds else chat(["x"], k=3)

    seeds = {key: [question_seed(key, 10) + index for index in range(4)] for key in (f"q{i}" for i in range(6))}
    assert (
        len({seed for question_seeds in seeds.values() for seed in question_seeds}) == 24
    )  # no two questions share their chance
    failing_seeds = {seed for question_seeds in seeds.values() for seed in question_seeds[1:3]}
    fault_server.serve(serve)
    row = one_a_call()
    settings: dict[str, Any] = {
        "provider": row,
        "model": "m",
        "base_url": fault_server.url,
        "n": 4,
        "seed": 10,
        "require_logprobs": False,
    }
    first = collect(QUESTIONS, out, max_retries=0, **settings)
    assert (first.samples, first.wanted) == (12, 24)
    assert sorted(keys(out)) == sorted(key for key in KEYS if key[1] in (0, 3))
    n_lost = Counter(failing_seeds)
    failing_seeds.clear()
    fault_server.requests.clear()
    assert collect(QUESTIONS, out, max_retries=0, **settings).complete
    assert Counter(request.json["seed"] for request in fault_server.requests) == n_lost
    with SampleStore(out) as store:
        assert [sample.seed for sample in store.samples("q3")] == seeds["q3"]


def one_a_call() -> Any:
    from dataclasses import replace

    from swift_client.adapters import PROVIDERS

    row = PROVIDERS["openai-compatible"]
    return replace(row, capabilities=replace(row.capabilities, n_max=1, top_logprobs_max=3))


def test_a_server_that_gives_fewer_or_more_than_asked_still_fills_every_index_once(
    fault_server: FaultServer, out: Path
) -> None:
    fault_server.script(chat(["a"] * 3, k=3), chat(["b"] * 6, k=3))
    result = run(fault_server, out, concurrency=1)
    assert result.complete
    stored = keys(out)
    assert len(stored) == len(set(stored))
    assert set(stored) >= KEYS


def test_max_requests_is_never_passed_retries_counted(fault_server: FaultServer, out: Path) -> None:
    fault_server.script(error(500, "boom", headers={"retry-after": "0"}))
    result = run(fault_server, out, max_requests=4, max_retries=3)
    assert len(fault_server.requests) == result.requests == 4
    assert (result.stopped, result.samples, result.failures) == ("max_requests", 12, ())
    assert run(fault_server, out).complete


def test_max_cost_is_never_passed_and_what_it_allows_is_used(fault_server: FaultServer, out: Path) -> None:
    # A completion takes 4 tokens of at most 5, at 1 each; prompts are free: 20 for the first hold, 16 in the end.
    prices = Prices(prompt=0, completion=1e6)
    result = run(fault_server, out, prices=prices, max_cost=50, max_tokens=5)
    assert result.stopped == "max_cost"
    assert result.cost is not None
    assert 45 < result.cost <= 50
    assert result.cost == 4 * result.samples
    assert run(fault_server, out, prices=prices, max_cost=50, max_tokens=5).requests == 0
    full_run = run(fault_server, out, prices=prices, max_cost=500, max_tokens=5)
    assert (full_run.complete, full_run.cost) == (True, 96)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_cost": 1.0}, "max_cost needs prices"),
        ({"max_cost": 1.0, "prices": Prices(prompt=1, completion=1)}, "max_cost needs max_tokens"),
        ({"n": 0}, "n must be a whole number"),
        ({"seed": -1}, "seed must be"),
        ({"max_requests": 0}, "max_requests must be"),
        ({"logprobs": True}, "not a sampling field"),
        ({"questions": "nowhere.jsonl"}, "cannot be read"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_make_no_file(
    fault_server: FaultServer, out: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(fault_server, out, **settings)
    assert not out.exists()
    assert not fault_server.requests


def test_prices_must_be_numbers() -> None:
    with pytest.raises(ConfigurationError, match="Prices are"):
        Prices(prompt=float("nan"), completion=1)


def test_progress_tells_spend_so_far_and_what_is_expected(fault_server: FaultServer, out: Path) -> None:
    reports: list[CollectProgress] = []
    run(fault_server, out, prices=Prices(prompt=0, completion=1e6), on_progress=reports.append, concurrency=1)
    assert (reports[0].samples, reports[0].wanted, reports[0].cost, reports[0].expected_cost) == (0, 24, 0.0, None)
    assert [report.samples for report in reports] == sorted(report.samples for report in reports)
    assert {report.expected_cost for report in reports[1:]} == {96.0}
    assert (reports[-1].cost, reports[-1].samples, reports[-1].requests) == (96.0, 24, 6)


def test_a_callback_that_fails_costs_nothing(fault_server: FaultServer, out: Path) -> None:
    assert run(fault_server, out, on_progress=lambda progress: 1 / 0).complete


def test_a_refused_key_ends_it_at_once(fault_server: FaultServer, out: Path) -> None:
    fault_server.serve(lambda request: error(401, "bad key"))
    with pytest.raises(AuthenticationError):
        run(fault_server, out, concurrency=2)
    assert len(fault_server.requests) <= 4


def test_a_missing_key_is_reported(out: Path) -> None:
    with pytest.raises(MissingApiKeyError):
        collect(QUESTIONS, out, provider="openai")


def test_no_logprobs_is_reported_after_one_completion(fault_server: FaultServer, out: Path) -> None:
    fault_server.serve(lambda request: chat(["4"] * request.json.get("n", 1), k=None))
    with pytest.raises(LogprobsUnavailableError):
        run(fault_server, out, concurrency=1, require_logprobs=True)
    assert [request.json.get("n", 1) for request in fault_server.requests] == [1]
    assert run(fault_server, out).complete


def test_it_gives_up_where_question_after_question_fails(fault_server: FaultServer, out: Path) -> None:
    many = [StoredQuestion(id=str(index), messages=QUESTIONS[0].messages) for index in range(100)]
    fault_server.serve(lambda request: error(404, "no such model"))
    with pytest.raises(BadRequestError, match="no such model"):
        run(fault_server, out, questions=many, concurrency=2)
    assert len(fault_server.requests) <= 10
    fault_server.script(chat(["4"] * 4, k=3))
    result = run(fault_server, out, questions=many, concurrency=2)
    assert (result.stopped, result.samples) == ("failures", 4)


async def test_cancelling_keeps_what_arrived_and_leaves_nothing_behind(fault_server: FaultServer, out: Path) -> None:
    arrived = asyncio.Event()

    def report(progress: CollectProgress) -> None:
        if progress.samples >= 8:
            arrived.set()

    def serve(request: Received) -> Response:
        late = len(fault_server.requests) > 2
        return Response(hang=True) if late else chat(["4"] * 4, k=3)

    fault_server.serve(serve)
    task = asyncio.create_task(
        collect_async(
            QUESTIONS,
            out,
            provider="openai-compatible",
            model="m",
            base_url=fault_server.url,
            n=4,
            top_logprobs=3,
            require_logprobs=False,
            on_progress=report,
        )
    )
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(keys(out)) == 8
    assert not [other for other in asyncio.all_tasks() if other is not asyncio.current_task()]


async def test_the_sync_face_works_inside_a_running_loop(fault_server: FaultServer, out: Path) -> None:
    assert run(fault_server, out).complete


def test_a_full_disk_stops_it_with_one_sentence(fault_server: FaultServer, out: Path) -> None:
    resource = pytest.importorskip("resource")
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    many = [StoredQuestion(id=str(index), messages=QUESTIONS[0].messages) for index in range(200)]
    fault_server.answers = ("word " * 200,)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))
    try:
        with pytest.raises(ConfigurationError, match=r"disk is full|could not be read or written"):
            run(fault_server, out, questions=many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    stored = keys(out)
    assert stored
    assert len(stored) % 4 == 0


# --- kill -9 -----------------------------------------------------------------------------------------------------

CHILD = """
import sys
from swift_client.training import collect
def report(progress):
    sys.stdout.write(f"{progress.samples}\\n"); sys.stdout.flush()
collect(sys.argv[1], sys.argv[2], provider="openai-compatible", model="m", base_url=sys.argv[3], n=8, top_logprobs=5,
        concurrency=4, seed=0, on_progress=report)
"""


def test_kill_9_at_random_moments_loses_no_reply_that_arrived_and_asks_nothing_twice(
    fault_server: FaultServer, tmp_path: Path
) -> None:
    kills = int(os.environ.get("SWIFT_KILLS", "3"))  # SWIFT_KILLS=20 pytest -s tests/test_collect.py -k kill_9
    count = 30 * kills
    questions = tmp_path / "q.jsonl"
    questions.write_text(
        "".join(json.dumps({"id": f"q{index}", "prompt": f"{index}?"}) + "\n" for index in range(count))
    )
    out = tmp_path / "samples.db"
    fault_server.answers = ("The answer is four " * 10,)
    fault_server.serve(lambda request: obey_slowly(fault_server, request))
    draw = random.Random(7)
    arguments = [sys.executable, "-c", CHILD, str(questions), str(out), fault_server.url]
    before, rows_kept, underway = 0, list[int](), 0
    for kill in range(kills + 1):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment()) as child:
            assert child.stdout
            counts = [int(child.stdout.readline())]
            if kill < kills:
                enough = before + draw.randrange(120)
                while counts[-1] < enough:
                    counts.append(int(child.stdout.readline()))
                time.sleep(draw.uniform(0.0, 0.03))
                underway += child.poll() is None
                child.kill()
            counts += [int(rest) for rest in child.stdout.read().split(b"\n")[:-1] if rest]
            child.wait()
            assert counts[0] == before  # it goes on from exactly what was there
        stored = keys(out)
        assert len(stored) == len(set(stored))
        assert len(stored) >= counts[-1] >= before
        before = len(stored)
        rows_kept.append(before)
    assert sorted(stored) == sorted((f"q{number}", index) for number in range(count) for index in range(8))
    assert underway == kills  # none came after the end,
    assert rows_kept[-2] > 0  # nor all before the first reply
    # Each completion was paid for once, but for the calls under way at each kill: 4 at most, of 8 at most.
    complete_requests = [
        request.json for request in fault_server.requests if request.body
    ]  # a kill may cut a request off
    n_asked = sum(body.get("n", 1) for body in complete_requests)
    assert n_asked <= count * 8 + kills * 4 * 8
    sys.stdout.write(
        f"{kills} kills; completions kept after each, and at the end: {rows_kept}; {n_asked} were asked for\n"
    )


def obey_slowly(server: FaultServer, request: Received) -> Response:
    from dataclasses import replace

    return replace(chat(["The answer is four " * 10] * request.json.get("n", 1), k=5), delay=0.01)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to a child")
def test_an_interrupt_keeps_what_arrived(fault_server: FaultServer, tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps({"id": f"q{index}", "prompt": f"{index}?"}) + "\n" for index in range(500)))
    out = tmp_path / "samples.db"
    fault_server.serve(lambda request: obey_slowly(fault_server, request))
    arguments = [sys.executable, "-c", CHILD, str(questions), str(out), fault_server.url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as child:
        assert child.stdout
        for line in child.stdout:
            if int(line) >= 16:
                break
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr.splitlines()[-1]
    assert len(keys(out)) >= 16
    assert not out.with_name("samples.db-wal").exists()


# --- questions ---------------------------------------------------------------------------------------------------


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_questions_file_is_read_with_prompts_messages_and_numbers(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "prompt": "x\u2028y", "answer": "1", "family": "f", "extra": [1]},
        {"id": 7, "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "answer": 2.50},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    first, second = read_questions(written(tmp_path / "q.jsonl", text))
    assert first == StoredQuestion(id="a", messages=({"role": "user", "content": "x\u2028y"},), answer="1", family="f")
    assert (second.id, second.answer, len(second.messages)) == ("7", "2.5", 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: it is not JSON"),
        ("[" * 100_000, r"line 2: it is not JSON"),
        ("[1]", r"line 2: it is not a JSON object"),
        ('{"prompt": "x"}', r'line 2: it has no "id"'),
        ('{"id": "", "prompt": "x"}', r'line 2: it has no "id"'),
        ('{"id": "b"}', r'line 2: it needs either "prompt" or "messages"'),
        ('{"id": "b", "prompt": "x", "messages": []}', r'line 2: it needs either "prompt" or "messages"'),
        ('{"id": "b", "prompt": ""}', r"line 2: The prompt is empty"),
        ('{"id": "b", "messages": [{"content": "x"}]}', r"line 2: Message 0 of the prompt has no role"),
        ('{"id": "a", "prompt": "x"}', r"line 2: the id 'a' is already on an earlier line"),
        ('{"id": "b", "prompt": "x", "answer": {"a": 1}}', r"line 2: 'answer' is a dict, not a string"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path / "q.jsonl", '{"id": "a", "prompt": "x"}\n' + line + "\n")
    with pytest.raises(ConfigurationError, match=message):
        read_questions(path)


def test_a_file_without_questions_or_of_other_bytes_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="contains no questions"):
        read_questions(written(tmp_path / "q.jsonl", "\n"))
    (tmp_path / "q.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_questions(tmp_path / "q.jsonl")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_questions(tmp_path)


@pytest.mark.parametrize("provider", ["anthropic", "openai-responses"])
def test_a_seed_is_sent_only_where_one_is_given_and_the_wire_has_one(
    fault_server: FaultServer, out: Path, provider: str
) -> None:
    options: dict[str, Any] = {"provider": provider, "model": "m", "api_key": "k", "require_logprobs": False}
    collect(QUESTIONS[:1], out, base_url=fault_server.url, n=1, max_retries=0, max_tokens=9, **options)
    assert len(fault_server.requests) == 1
    assert b"seed" not in fault_server.requests[0].body

    with pytest.raises(ConfigurationError, match="takes no seed"):
        collect(QUESTIONS[:1], out, base_url=fault_server.url, n=2, seed=0, max_tokens=9, **options)
    assert len(fault_server.requests) == 1
