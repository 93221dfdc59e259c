from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swift_client.collect.batch.collect import BatchProgress, collect_batch, collect_batch_async
from swift_client.collect.batch.runner import MAX_EMPTY_POLLS
from swift_client.collect.collect import CollectResult, Prices, collect
from swift_client.errors import (
    BadRequestError,
    ConfigurationError,
    LogprobsUnavailableError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
)
from swift_client.store import BatchStore, Sample, SampleStore, StoredQuestion
from tests.batch_server import BatchServer
from tests.children import command, environment
from tests.servers import Response, error, html, json_response, reset

QUESTIONS = [
    StoredQuestion(
        id=f"q/{index} é\n", messages=({"role": "user", "content": f"What is {index} + 2?"},), answer=str(index + 2)
    )
    for index in range(6)
]
KEYS = {(question.id, index) for question in QUESTIONS for index in range(4)}


@pytest.fixture
def server() -> Iterator[BatchServer]:
    with BatchServer() as running:
        yield running


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


def run(server: BatchServer, out: Path, **settings: Any) -> CollectResult:
    options: dict[str, Any] = {
        "questions": QUESTIONS,
        "n": 4,
        "top_logprobs": 3,
        "temperature": 0.8,
        "require_logprobs": False,
        "poll": (0.01, 0.02),
        "settle": 0.2,
        **settings,
    }
    options = {name: value for name, value in options.items() if value is not None}
    row = {"provider": "openai-compatible", "model": "m", "base_url": server.url}
    return collect_batch(options.pop("questions"), out, **row, **options)


def rows(out: Path) -> dict[tuple[str, int], Sample]:
    with SampleStore(out) as store:
        return {
            (question.id, sample.index): sample
            for question, samples in store.questions_with_samples()
            for sample in samples
        }


def open_batches(out: Path) -> int:
    with BatchStore(out) as store:
        return len(store.batches())


# --- what it brings ------------------------------------------------------------------------------------------------


def test_rows_are_those_of_a_direct_collect_at_half_the_price(server: BatchServer, out: Path, tmp_path: Path) -> None:
    prices = Prices(prompt=2e6, completion=4e6)
    result = run(server, out, seed=5, prices=prices)
    assert (result.samples, result.wanted, result.added, result.complete) == (24, 24, 24, True)
    assert (result.requests, result.failures, server.direct, len(server.batches)) == (6, (), 0, 1)
    direct_path = tmp_path / "direct.db"
    direct = collect(
        QUESTIONS, direct_path, provider="openai-compatible", model="m", base_url=server.url, n=4, top_logprobs=3,
        temperature=0.8, require_logprobs=False, seed=5, prices=prices,
    )  # fmt: skip
    assert direct.cost is not None
    assert result.cost == pytest.approx(direct.cost / 2)
    assert result.usage == direct.usage
    direct_requests = [request.json for request in server.requests if request.path.endswith("/chat/completions")]
    ordered = sorted(json.dumps(request["body"], sort_keys=True) for request in server.batched_requests)
    assert ordered == sorted(json.dumps(body, sort_keys=True) for body in direct_requests)
    batch_rows, direct_rows = rows(out), rows(direct_path)
    assert batch_rows.keys() == direct_rows.keys() == KEYS
    for key, sample in batch_rows.items():
        other = direct_rows[key]
        assert (sample.seed, sample.completion.text, sample.completion.finish_reason) == (
            other.seed, other.completion.text, other.completion.finish_reason,
        )  # fmt: skip
        assert sample.cost == pytest.approx((other.cost or 0) / 2)
        for name in ("tokens", "logprobs", "top_logprobs", "top_ids"):
            np.testing.assert_array_equal(getattr(sample.completion, name), getattr(other.completion, name))
    with SampleStore(out) as one, SampleStore(direct_path) as two:
        assert one.meta == two.meta


def test_names_of_requests_are_safe_and_short_whatever_the_questions_are_called(server: BatchServer, out: Path) -> None:
    run(server, out)
    names = [request["custom_id"] for request in server.batched_requests]
    assert len(set(names)) == 6
    assert all(len(name) <= 64 and name.replace("-", "").isalnum() and name.isascii() for name in names)


def test_a_second_run_asks_nothing_and_a_larger_n_asks_for_the_rest(server: BatchServer, out: Path) -> None:
    run(server, out)
    assert run(server, out).requests == 0
    assert len(server.batches) == 1
    result = run(server, out, n=6)
    assert (result.added, result.samples, result.complete) == (12, 36, True)
    assert [request["body"]["n"] for request in server.batched_requests] == [4] * 6 + [2] * 6


def test_files_are_split_by_lines_and_by_bytes(server: BatchServer, out: Path, tmp_path: Path) -> None:
    assert run(server, out, max_lines=4).complete
    assert [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()] == [4, 2]
    longest = max(
        len(line) + 1 for name, file in server.files.items() for line in file.splitlines() if name == "file-0"
    )
    server.batches.clear()
    other = tmp_path / "other.db"
    assert run(server, other, max_bytes=2 * longest).complete
    sizes = [len(server.files[batch["input_file_id"]]) for batch in server.batches.values()]
    assert len(sizes) == 3
    assert max(sizes) <= 2 * longest
    assert rows(other).keys() == rows(out).keys() == KEYS
    with pytest.raises(ConfigurationError, match="makes a request of"):
        run(server, tmp_path / "third.db", max_bytes=50)


def test_progress_shows_what_the_provider_counts(server: BatchServer, out: Path) -> None:
    reports: list[BatchProgress] = []
    run(server, out, on_progress=reports.append)
    assert [report.samples for report in reports] == sorted(report.samples for report in reports)
    assert {"validating", "in_progress"} & {status for report in reports for status in report.statuses}
    assert (reports[-1].samples, reports[-1].wanted, reports[-1].batches) == (24, 24, 0)
    assert max(report.requests for report in reports) == 6
    assert run(server, out, n=5, on_progress=lambda progress: 1 / 0).complete


def test_max_requests_and_max_cost_leave_the_rest_unasked(server: BatchServer, out: Path, tmp_path: Path) -> None:
    first = run(server, out, max_requests=2)
    assert (first.stopped, first.samples, first.wanted) == ("max_requests", 8, 24)
    assert run(server, out).complete
    # Completions cost at most 10 tokens, at 0.5 each in a batch: 5; nine of them fit into 47.
    prices, limited = Prices(prompt=0, completion=1e6), tmp_path / "limited.db"
    result = run(server, limited, prices=prices, max_cost=47, max_tokens=10)
    assert (result.stopped, result.samples) == ("max_cost", 9)
    assert result.cost is not None
    assert result.cost <= 47


def test_a_model_that_may_give_no_logprobs_is_asked_for_one_completion_first(server: BatchServer, out: Path) -> None:
    server.script(json_response({"choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}]}))
    with pytest.raises(LogprobsUnavailableError):
        run(server, out, require_logprobs=True)
    assert not server.batches
    result = run(server, out, require_logprobs=True)
    assert (result.complete, server.direct, len(server.batches)) == (True, 1, 1)
    assert rows(out).keys() == KEYS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"max_lines": 50_001}, "max_lines must be"),
        ({"max_cost": 1.0}, "max_cost needs prices"),
        ({"poll": (0, 1)}, "poll must be"),
        ({"hidden_states": True}, "has no batches"),
        ({"logprobs": True}, "not a sampling field"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_send_nothing(
    server: BatchServer, out: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(server, out, **settings)
    assert not server.requests
    assert not out.exists()


def test_a_provider_without_batches_is_reported(out: Path) -> None:
    with pytest.raises(ConfigurationError, match="'anthropic' has no batches"):
        collect_batch(QUESTIONS, out, provider="anthropic")


async def test_your_own_client_carries_batches_too(server: BatchServer, tmp_path: Path) -> None:
    import openai

    settings: dict[str, Any] = {"n": 4, "top_logprobs": 3, "require_logprobs": False, "poll": (0.01, 0.02)}
    with openai.OpenAI(api_key="sk-own-123456", base_url=server.url) as client:
        assert (
            await collect_batch_async(QUESTIONS, tmp_path / "1", provider="openai", client=client, **settings)
        ).complete
    async with openai.AsyncOpenAI(api_key="sk-own-123456", base_url=server.url) as other:
        assert (
            await collect_batch_async(QUESTIONS, tmp_path / "2", provider="openai", client=other, **settings)
        ).complete
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-own-123456"}


# --- kill -9 -------------------------------------------------------------------------------------------------------

CHILD = """
import sys, time
from swift_client.collect.batch.collect import collect_batch
def report(progress):
    sys.stdout.write(f"{progress.samples}\\n"); sys.stdout.flush()
    time.sleep(0.05 if 0 < progress.samples < 24 else 0)
collect_batch(sys.argv[1], sys.argv[2], provider="openai-compatible", model="m", base_url=sys.argv[3], n=4,
              top_logprobs=3, require_logprobs=False, poll=(0.01, 0.02), settle=1.0, max_lines=3, on_progress=report)
"""


@pytest.mark.parametrize("stage", ["upload", "create", "created", "poll", "content", "import"])
def test_kill_9_at_any_stage_pays_once_and_loses_nothing(server: BatchServer, tmp_path: Path, stage: str) -> None:
    questions, out = tmp_path / "q.jsonl", tmp_path / "samples.db"
    questions.write_text(
        "".join(json.dumps({"id": f"q{number}", "prompt": f"{number}?"}) + "\n" for number in range(6))
    )
    line = [sys.executable, "-c", CHILD, str(questions), str(out), server.url]
    server.stop_at = stage
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment()) as child:
        assert child.stdout
        if stage == "import":
            while int(child.stdout.readline()) < 8:
                pass
        else:
            assert server.stopped.wait(30)
        assert child.poll() is None
        child.kill()
    before = len(rows(out))
    assert before < 24
    if stage != "upload":  # nothing is paid for yet
        with pytest.raises(ConfigurationError, match="open batch"):
            collect(questions, out, provider="openai-compatible", model="m", base_url=server.url, top_logprobs=3)
    resumed = run(server, out, questions=questions, temperature=None, max_lines=3)
    assert (resumed.complete, resumed.added) == (True, 24 - before)
    assert sorted(rows(out)) == [(f"q{number}", index) for number in range(6) for index in range(4)]
    assert len(server.batches) == 2
    assert len({request["custom_id"] for request in server.batched_requests}) == len(server.batched_requests) == 6
    assert (server.direct, open_batches(out)) == (0, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"q.jsonl", "samples.db"}


def test_a_create_that_was_not_answered_is_looked_up_before_it_is_asked_again(server: BatchServer, out: Path) -> None:
    handle = server._handle
    batches_made = []

    def serve(request: Any) -> Response:
        if (request.method, request.path) == ("POST", "/v1/batches") and not batches_made:
            batches_made.append(handle(request))
            return reset()
        return handle(request)

    server.serve(serve)
    assert run(server, out).complete
    assert len(server.batches) == 1


def test_a_create_that_never_arrived_is_asked_again(server: BatchServer, out: Path) -> None:
    handle = server._handle
    answers = [error(500, "boom"), error(429, "slow down", headers={"retry-after": "0"})]
    for number in range(5):  # of others, over several pages of the list
        server.files[f"other-{number}"] = b""
        server.batches[f"other-{number}"] = {
            "id": f"other-{number}",
            "status": "completed",
            "input_file_id": f"other-{number}",
        }

    def serve(request: Any) -> Response:
        creates = (request.method, request.path) == ("POST", "/v1/batches")
        return answers.pop(0) if creates and answers else handle(request)

    server.serve(serve)
    assert run(server, out).complete
    assert len(server.batches) == 6


def test_a_batch_that_is_refused_is_forgotten_and_one_that_nobody_knows_of_is_kept(
    server: BatchServer, out: Path
) -> None:
    handle = server._handle

    def refusing(status: int) -> Any:
        return lambda request: error(status, "no") if "/v1/batches" in request.path else handle(request)

    server.serve(refusing(400))
    with pytest.raises(BadRequestError, match="no"):
        run(server, out)
    assert open_batches(out) == 0
    server.serve(refusing(500))
    with pytest.raises(ServerError):
        run(server, out, max_retries=0)
    assert open_batches(out) == 1
    with pytest.raises(ServerError, match="remembers this batch"):
        run(server, out, max_retries=0)
    assert not server.batches
    server.serve(handle)
    assert run(server, out, forget_batches=True).complete
    assert len(server.batches) == 1


def test_a_second_batch_that_is_refused_does_not_keep_the_first_from_coming_home(
    server: BatchServer, out: Path
) -> None:
    handle, creates = server._handle, [0]

    def serve(request: Any) -> Response:
        if (request.method, request.path) == ("POST", "/v1/batches"):
            creates[0] += 1
            if creates[0] == 2:
                return error(429, "You exceeded your current quota", code="insufficient_quota")
        return handle(request)

    server.serve(serve)
    result = run(server, out, max_lines=2)
    assert (result.samples, len(server.batches)) == (8, 1)
    assert {type(failure.error) for failure in result.failures} == {RateLimitError}
    assert run(server, out).complete


# --- batches that end otherwise, and hostile lines -----------------------------------------------------------------


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_an_ended_batch_brought_is_kept_and_the_next_run_asks_for_the_rest(
    server: BatchServer, out: Path, status: str
) -> None:
    server.statuses[-1] = status
    seen_ids: list[str] = []

    def answer(custom_id: str, body: dict[str, Any]) -> dict[str, Any] | None:
        seen_ids.append(custom_id)
        error = {"code": f"batch_{status}", "message": "This request could not be executed."}
        return {"custom_id": custom_id, "response": None, "error": error} if len(seen_ids) in (2, 4) else None

    server.answer = answer
    result = run(server, out)
    assert (result.samples, result.wanted, len(result.failures)) == (16, 24, 2)
    assert "asks for what is missing" in str(result.failures[0].error)
    assert any(f"is {status}: 2 of its 6 requests" in note for note in result.notes)
    server.statuses[-1] = "completed"
    assert run(server, out).complete
    assert len(server.batched_requests) == 8


def test_a_failed_batch_says_why_and_costs_nothing(server: BatchServer, out: Path) -> None:
    server.statuses[-1] = "failed"
    result = run(server, out)
    assert (result.samples, len(result.failures), open_batches(out)) == (0, 6, 0)
    assert "Enqueued token limit reached." in str(result.failures[0].error)


def test_single_requests_that_are_refused_keep_the_providers_sentence(server: BatchServer, out: Path) -> None:
    def answer(custom_id: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if "What is 3" not in body["messages"][0]["content"]:
            return None
        refusal = {"error": {"message": "Your prompt was flagged.", "code": "content_filter"}}
        return {"custom_id": custom_id, "response": {"status_code": 400, "body": refusal}, "error": None}

    server.answer = answer
    (failure,) = run(server, out).failures
    assert (failure.question_id, failure.lost, type(failure.error)) == (QUESTIONS[3].id, 4, BadRequestError)
    assert "Your prompt was flagged." in str(failure.error)


def test_hostile_lines_are_counted_and_told_and_change_nothing_else(
    server: BatchServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swift_client.collect.batch.results.MAX_LINE_BYTES", 100_000)

    def lines(output: list[bytes], errors: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        strange = json.loads(output[0]) | {"custom_id": "q0-0"}
        name = json.loads(output[1])["custom_id"]
        empty = json.loads(output[2])["custom_id"]
        bodies: list[Any] = ["text", [], {}, {"choices": []}, {"choices": None}, {"choices": [{"index": {}}]}, None, 7]
        bad_lines = [
            b"", b"   ", b"{", b"\xff\xfe\x00", b"null", b"[]", b"[" * 50_000, b'{"custom_id": 7}', b'"x"',
            b'{"custom_id": "' + b"x" * 200_000 + b'"}', json.dumps(strange).encode(),
        ]  # fmt: skip
        broken_lines = [
            json.dumps({"custom_id": empty, "response": {"status_code": 200, "body": body}}) for body in bodies
        ]
        broken_lines += [
            json.dumps({"custom_id": empty, "response": value, "error": value}) for value in (None, 7, [], "x")
        ]
        broken_lines += [json.dumps({"custom_id": empty, "response": {"status_code": "x" * 9, "body": {"error": "e"}}})]
        failing = json.dumps({"custom_id": name, "error": {"message": "too late", "code": 10**30}}).encode()
        mixed = [
            *bad_lines,
            output[0],
            failing,
            output[0],
            *(text.encode() for text in broken_lines),
            *output[3:],
            output[1],
        ]
        return mixed, [output[1], failing]

    server.lines = lines
    result = run(server, out)
    lost_row = json.loads(server.files["file-0"].splitlines()[3])  # the output is the input's in reverse
    assert lost_row["custom_id"] not in {"", None}
    assert result.samples == 20
    assert {failure.question_id for failure in result.failures} == {QUESTIONS[3].id}
    (note,) = [note for note in result.notes if "were skipped" in note]
    assert "1 not of its requests" in note
    assert "1 too long" in note
    assert "unreadable" in note
    assert "repeated" in note
    server.lines = lambda output, errors: (output, errors)
    assert run(server, out).complete
    assert rows(out).keys() == KEYS


def test_replies_of_another_size_than_asked_still_fill_every_number_once(server: BatchServer, out: Path) -> None:
    def lines(output: list[bytes], errors: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        less, more = json.loads(output[0]), json.loads(output[1])
        del less["response"]["body"]["choices"][1:]
        more["response"]["body"]["choices"] *= 2
        return [json.dumps(less).encode(), json.dumps(more).encode(), *output[2:]], errors

    server.lines = lines
    assert not run(server, out).complete
    server.lines = lambda output, errors: (output, errors)
    assert run(server, out).complete
    assert set(rows(out)) >= KEYS
    assert server.batched_requests[-1]["body"]["n"] == 3


def test_a_page_instead_of_the_output_gives_no_paid_batch_up(server: BatchServer, out: Path) -> None:
    handle, pages = server._handle, [html(200, "Sign in")] * MAX_EMPTY_POLLS
    server.serve(lambda request: pages.pop() if pages and "content" in request.path else handle(request))
    with pytest.raises(ResponseDecodeError, match="not its output: it is a web page"):
        run(server, out)
    assert open_batches(out) == 1
    pages[:] = [html(200, "Sign in")]  # one that passes needs no second run
    assert run(server, out).complete
    assert len(server.batches) == 1


def test_a_page_beside_a_readable_file_of_errors_gives_no_paid_batch_up(server: BatchServer, out: Path) -> None:
    refusal = {"error": {"message": "flagged"}}
    server.answer = lambda custom_id, body: (
        {"custom_id": custom_id, "response": {"status_code": 400, "body": refusal}, "error": None}
        if "What is 3" in body["messages"][0]["content"]
        else None
    )
    handle, pages = server._handle, [html(200, "Sign in")] * 2 * MAX_EMPTY_POLLS
    server.serve(lambda request: pages.pop() if pages and "content" in request.path else handle(request))
    with pytest.raises(ResponseDecodeError, match="not its output"):
        run(server, out)
    assert open_batches(out) == 1
    assert run(server, out).samples == 20
    assert len(server.batches) == 1


@pytest.mark.parametrize("cuts", [1, MAX_EMPTY_POLLS])
def test_an_output_shorter_than_the_provider_counts_is_fetched_again(server: BatchServer, out: Path, cuts: int) -> None:
    handle, remaining_cuts = server._handle, [2] * cuts

    def serve(request: Any) -> Response:
        response = handle(request)
        if remaining_cuts and "content" in request.path:
            return Response(200, b"".join(response.body.splitlines(keepends=True)[: remaining_cuts.pop()]), {})
        return response

    server.serve(serve)
    result = run(server, out)
    assert result.samples == (24 if cuts == 1 else 8)
    assert open_batches(out) == (cuts > 1)
    if cuts > 1:
        assert {failure.lost for failure in result.failures} == {4}
        assert len(result.failures) == 4
        assert "run the same command again" in str(result.failures[0].error)
        assert run(server, out).complete
    assert len(server.batches) == 1


def test_a_completed_batch_without_counts_and_files_is_waited_for(server: BatchServer, out: Path) -> None:
    handle, looks = server._handle, [3]

    def serve(request: Any) -> Response:
        response = handle(request)
        if "/v1/batches/" not in request.path:
            return response
        batch = json.loads(response.body)
        batch["request_counts"] = None
        if batch["status"] == "completed" and looks[0]:
            looks[0] -= 1
            batch["output_file_id"] = None
        return json_response(batch)

    server.serve(serve)
    assert run(server, out).complete
    assert len(server.batches) == 1


def test_batches_that_bring_no_logprobs_are_paid_for_once(server: BatchServer, out: Path) -> None:
    def without_counts(output: list[bytes], errors: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        replies = [json.loads(line) for line in output]
        for reply in replies:
            for choice in reply["response"]["body"]["choices"]:
                choice["logprobs"] = None
        return [json.dumps(reply).encode() for reply in replies], errors

    server.lines = without_counts
    first = run(server, out, require_logprobs=True)
    assert (len(server.batches), open_batches(out)) == (1, 0)
    assert {type(failure.error) for failure in first.failures} == {LogprobsUnavailableError}
    with pytest.raises(LogprobsUnavailableError, match="an earlier batch"):
        run(server, out, require_logprobs=True)
    assert len(server.batches) == 1
    server.lines = lambda output, errors: (output, errors)
    assert run(server, out, require_logprobs=True, forget_batches=True).complete
    assert len(server.batches) == 2


@pytest.mark.parametrize("provider", ["vllm", "mistral", "xai", "pocket", "huggingface", "gemini"])
def test_a_provider_without_such_batches_is_refused_with_those_that_have(provider: str, out: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no batches.* openai, .*groq"):
        collect_batch(QUESTIONS[:1], out, provider=provider, model="m", n=1)


def test_outages_while_it_waits_and_downloads_cut_short_cost_nothing(server: BatchServer, out: Path) -> None:
    handle = server._handle
    polls = [error(502, "bad gateway"), reset(), html(503), json_response({"id": 7}), json_response([])]
    files = [Response(200, b"x" * 1000, cut_at=10)]

    def serve(request: Any) -> Response:
        if polls and "/batches/" in request.path:
            return polls.pop(0)
        return files.pop() if files and "content" in request.path else handle(request)

    server.serve(serve)
    assert run(server, out, max_retries=1).complete
    assert not polls
    assert not files


def test_a_batch_that_is_not_there_any_more_is_reported_with_the_way_out(server: BatchServer, out: Path) -> None:
    handle = server._handle
    server.serve(lambda request: error(404, "No such batch") if "/batches/" in request.path else handle(request))
    with pytest.raises(BadRequestError, match=r"No such batch.*--forget-batches"):
        run(server, out)
    assert open_batches(out) == 1


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_collects_by_batch(server: BatchServer, tmp_path: Path) -> None:
    lines = [json.dumps({"id": question.id, "messages": question.messages}) for question in QUESTIONS]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    server.statuses = ["validating", "completed"]
    arguments = [
        "collect",
        "--questions",
        "q.jsonl",
        "--out",
        "s.db",
        "--provider",
        "openai",
        "--model",
        "gpt-4.1-mini",
    ]
    arguments += ["--base-url", server.url, "--n", "4", "--batch", "--json"]
    result = command(*arguments, cwd=tmp_path, OPENAI_API_KEY="sk-test-1234567890")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["samples"] == 24
    assert len(server.batches) == 1
    for extra in (["--batch", "--capture"], ["--forget-batches"]):
        refusal = command(*arguments[:9], *extra, cwd=tmp_path)
        assert refusal.returncode == 3
