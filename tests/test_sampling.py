"""Tests of sampling N completions over real HTTP, from servers that obey, cap, ignore, break, stall and misreport."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from swift_client import AsyncSwiftReranker, Event, Price
from swift_client.errors import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConnectionFailedError,
    LogprobsUnavailableError,
    NoCompletionError,
    RateLimitError,
    RequestTimeoutError,
    ResponseDecodeError,
    ServerError,
)
from swift_client.sampling import RateLimiter
from swift_client.types import Selection
from tests.servers import (
    FaultServer,
    Received,
    Response,
    after,
    chat,
    chat_body,
    chat_stream,
    cut,
    error,
    hang,
    html,
    json_response,
    reset,
    sse,
    tokens_of,
)

Make = Callable[..., AsyncSwiftReranker]


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


def sent_values(server: FaultServer, field: str) -> list[Any]:
    return [request.json.get(field) for request in server.requests]


def texts(selection: Selection) -> list[str]:
    return [candidate.text for candidate in selection.candidates]


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until a server's thread has met the condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- the other side is a thread and has no event
            await asyncio.sleep(0.01)


# --- plan and top up ---------------------------------------------------------------------------------------------


async def test_one_call_asks_for_all_where_no_cap_is_known(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker().best_of("What is 2 + 2?", n=16)

    assert sent_values(fault_server, "n") == [16]
    assert len(selection.candidates) == 16
    assert selection.usage.calls == 1
    assert selection.usage.prompt_tokens == 7
    assert selection.notes == selection.failures == ()


async def test_a_row_with_n_max_1_fans_out_and_sums_usage(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker("ollama").best_of("q", n=5)

    assert sent_values(fault_server, "n") == [None] * 5
    assert selection.usage.calls == 5
    assert selection.usage.prompt_tokens == 35
    assert [candidate.completion.index for candidate in selection.candidates] == [0, 1, 2, 3, 4]


async def test_a_cap_of_the_row_is_kept_and_the_prompt_is_paid_as_few_times_as_possible(
    fault_server: FaultServer, reranker: Make
) -> None:
    selection = await reranker("fireworks", api_key="k").best_of("q", n=300)

    assert sorted(sent_values(fault_server, "n")) == [44, 128, 128]
    assert len(selection.candidates) == 300
    assert selection.usage.prompt_tokens == 3 * 7


async def test_a_server_that_ignores_n_is_topped_up_and_asked_singly_ever_after(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.n_max = 1
    rr = reranker()

    first = await rr.best_of("q", n=4, seed=10)
    assert sent_values(fault_server, "n") == [4, None, None, None]
    assert sorted(sent_values(fault_server, "seed")) == [10, 11, 12, 13]
    assert len(first.candidates) == first.usage.calls == 4
    assert any("1 completions per call" in note for note in first.notes)

    fault_server.requests.clear()
    second = await rr.best_of("q", n=4, seed=10)
    assert sent_values(fault_server, "n") == [None] * 4
    assert sorted(sent_values(fault_server, "seed")) == [10, 11, 12, 13]
    assert second.notes == ()


async def test_a_silent_cap_above_one_is_believed_when_it_shows_twice(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.n_max = 4
    rr = reranker()

    assert len((await rr.best_of("q", n=16)).candidates) == 16
    assert sent_values(fault_server, "n") == [16, 12, 4, 4]

    fault_server.requests.clear()
    await rr.best_of("q", n=8)
    assert sent_values(fault_server, "n") == [4, 4]


async def test_one_reply_that_is_short_by_accident_teaches_nothing(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(chat(["a"] * 7))
    rr = reranker()

    assert len((await rr.best_of("q", n=8)).candidates) == 8
    assert len((await rr.best_of("q", n=8)).candidates) == 8
    assert sent_values(fault_server, "n") == [8, None, 8]


async def test_a_server_that_returns_nothing_does_not_loop(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda _: json_response({**chat_body([]), "choices": []}))

    with pytest.raises(NoCompletionError, match="holds no completion"):
        await reranker(max_retries=1).best_of("q", n=8)
    assert len(fault_server.requests) == 2


async def test_completions_beyond_n_are_paid_for_and_kept(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(chat(["a", "b", "c"]))

    selection = await reranker().best_of("q", n=2)
    assert texts(selection) == ["a", "b", "c"]
    assert any("3 completions for 2" in note for note in selection.notes)


async def test_completions_are_numbered_by_call_and_not_by_arrival(fault_server: FaultServer, reranker: Make) -> None:
    def serve(request: Received) -> Response:
        place = request.json["seed"]
        return after(0.3 - 0.1 * place, chat([f"answer {place}"]))

    fault_server.serve(serve)
    selection = await reranker("ollama").best_of("q", n=4, seed=0)
    assert texts(selection) == ["answer 0", "answer 1", "answer 2", "answer 3"]


async def test_call_i_of_a_fan_out_sends_seed_plus_i_and_native_calls_do_not_overlap(
    fault_server: FaultServer, reranker: Make
) -> None:
    await reranker("ollama").best_of("q", n=3, seed=7)
    assert sorted(sent_values(fault_server, "seed")) == [7, 8, 9]

    # vLLM gives choice j of a call seed + j: the next call must begin after them.
    fault_server.requests.clear()
    await reranker("fireworks", api_key="k").best_of("q", n=130, seed=7)
    assert sorted(sent_values(fault_server, "seed")) == [7, 135]


async def test_a_top_up_asks_for_the_seeds_that_are_missing_and_for_no_other(
    fault_server: FaultServer, reranker: Make
) -> None:
    def serve(request: Received) -> Response:
        if (request.json.get("n") or 1) > 4:
            return error(400, "n must be at most 4")
        return chat([f"{request.json['seed']}"] * (2 if request.json["seed"] == 10 else request.json.get("n") or 1))

    rr = reranker()
    fault_server.serve(serve)
    await rr.best_of("q", n=5, seed=0)  # learns the limit

    fault_server.requests.clear()
    selection = await rr.best_of("q", n=8, seed=10)  # seeds 10, 11 and 14 to 17 arrive; 12 and 13 are missing
    calls = [(request.json["seed"], request.json.get("n") or 1) for request in fault_server.requests]
    assert sorted(calls) == [(10, 4), (12, 2), (14, 4)]
    assert len(selection.candidates) == 8


async def test_without_a_seed_none_is_sent_and_sampling_fields_pass_untouched(
    fault_server: FaultServer, reranker: Make
) -> None:
    await reranker().best_of("q", n=1, temperature=0.3, stop=["\n"], extra_thing={"a": [1]})

    body = fault_server.requests[0].json
    assert "seed" not in body
    assert (body["temperature"], body["stop"], body["extra_thing"]) == (0.3, ["\n"], {"a": [1]})


async def test_two_calls_on_one_instance_share_no_state(fault_server: FaultServer, reranker: Make) -> None:
    rr = reranker()
    hot, cold = await asyncio.gather(
        rr.best_of("hot", n=3, temperature=1.0, seed=1), rr.best_of("cold", n=2, temperature=0.0)
    )
    bodies_by_prompt = {request.json["messages"][0]["content"]: request.json for request in fault_server.requests}

    assert (len(hot.candidates), len(cold.candidates)) == (3, 2)
    assert (bodies_by_prompt["hot"]["temperature"], bodies_by_prompt["hot"]["seed"], bodies_by_prompt["hot"]["n"]) == (
        1.0,
        1,
        3,
    )
    assert bodies_by_prompt["cold"]["temperature"] == 0.0
    assert "seed" not in bodies_by_prompt["cold"]
    assert hot.usage.calls == cold.usage.calls == 1


async def test_max_concurrency_holds_over_all_calls_of_an_instance(fault_server: FaultServer, reranker: Make) -> None:
    busy, max_busy, lock = 0, 0, threading.Lock()

    def serve(request: Received) -> Response:
        nonlocal busy, max_busy
        with lock:
            busy += 1
            max_busy = max(max_busy, busy)
        time.sleep(0.03)
        with lock:
            busy -= 1
        return chat(["a"])

    fault_server.serve(serve)
    rr = reranker("ollama", max_concurrency=3)
    await asyncio.gather(*(rr.best_of("q", n=4) for _ in range(4)))
    assert max_busy == 3
    assert len(fault_server.requests) == 16


async def test_more_than_a_hundred_calls_run_at_once_where_the_limit_allows_it(
    fault_server: FaultServer, reranker: Make
) -> None:
    together = threading.Barrier(120)

    def serve(request: Received) -> Response:
        together.wait(timeout=30)
        return chat(["a"])

    fault_server.serve(serve)
    selection = await reranker("ollama", max_concurrency=120).best_of("q", n=120)
    assert len(selection.candidates) == 120


# --- caps read from a 400 ----------------------------------------------------------------------------------------


def capped(cap: int, message: str, *, param: str | None = "n") -> Callable[[Received], Response]:
    def serve(request: Received) -> Response:
        n = request.json.get("n", 1)
        return error(400, message.format(n=n), param=param) if n > cap else chat(["a"] * n)

    return serve


@pytest.mark.parametrize(
    ("cap", "message"),
    [
        (4, "Field 'n': Value must be between 1 <= value <= 4, but got {n}"),
        (8, "Invalid 'n': integer must be between 1 and 8, but got {n}."),
        (1, "'n' : number must be at most 1"),
        (1, "Multiple completions (n) are not enabled for this model"),
    ],
)
async def test_a_400_that_names_a_cap_on_n_is_read_remembered_and_retried(
    cap: int, message: str, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(capped(cap, message))
    rr = reranker()

    selection = await rr.best_of("q", n=16)
    assert len(selection.candidates) == 16
    assert selection.failures == ()
    assert sent_values(fault_server, "n")[0] == 16
    assert all((n or 1) <= cap for n in sent_values(fault_server, "n")[1:])
    assert any("at most" in note for note in selection.notes)

    fault_server.requests.clear()
    await rr.best_of("q", n=16)
    assert all((n or 1) <= cap for n in sent_values(fault_server, "n"))
    assert len(fault_server.requests) == 16 // cap


async def test_a_400_that_names_a_cap_on_top_logprobs_is_read_and_remembered(
    fault_server: FaultServer, reranker: Make
) -> None:
    message = "Invalid 'top_logprobs': integer must be between 0 and 5, but got 20."
    fault_server.script(error(400, message, param="top_logprobs"))
    rr = reranker()

    selection = await rr.best_of("q", n=4)
    assert selection.signal == "logprobs:k=5"
    assert any("at most 5 alternatives" in note for note in selection.notes)
    await rr.best_of("q", n=4)
    assert sent_values(fault_server, "top_logprobs") == [20, 5, 5]


async def test_both_caps_may_be_named_one_after_the_other(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(
        error(400, "top_logprobs must be between 0 and 5", param="top_logprobs"),
        error(400, "n must be between 1 and 2", param="n"),
    )
    selection = await reranker().best_of("q", n=4)
    assert len(selection.candidates) == 4
    assert list(zip(sent_values(fault_server, "n"), sent_values(fault_server, "top_logprobs"), strict=True)) == [
        (4, 20),
        (4, 5),
        (2, 5),
        (2, 5),
    ]


async def test_a_cap_is_retried_once_and_no_oftener(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda request: error(400, f"n must be at most {request.json.get('n', 1) - 1}", param="n"))

    with pytest.raises(BadRequestError):
        await reranker(max_retries=5).best_of("q", n=4)
    assert sent_values(fault_server, "n") == [4, 3]


@pytest.mark.parametrize(
    "fault",
    [
        error(429, "Rate limit: at most 3 requests; n must be at most 1", param="n", type="requests"),
        error(503, "n must be at most 1", param="n"),
        error(408, "timeout; n must be at most 1", param="n"),
    ],
)
async def test_a_cap_is_never_learnt_from_a_rate_limit_a_timeout_or_a_server_fault(
    fault: Response, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(fault)
    rr = reranker()

    with pytest.raises(NoCompletionError):
        await rr.best_of("q", n=16)
    assert len((await rr.best_of("q", n=16)).candidates) == 16
    assert sent_values(fault_server, "n") == [16, 16]


async def test_a_cap_is_never_learnt_from_a_hanging_server(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(hang())
    rr = reranker(timeout=1.0)

    with pytest.raises(NoCompletionError) as excinfo:
        await rr.best_of("q", n=16)
    assert isinstance(excinfo.value.causes[0], RequestTimeoutError)
    await rr.best_of("q", n=16)
    assert sent_values(fault_server, "n") == [16, 16]


# --- logprobs that do not come -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        error(403, "You are not allowed to request logprobs from this model"),
        error(400, "Unsupported parameter: 'logprobs' is not supported with this model.", param="logprobs"),
    ],
)
async def test_a_model_that_refuses_logprobs_is_asked_once_and_remembered(
    refusal: Response, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(
        lambda request: refusal if "logprobs" in request.json else chat(["The answer is 4"] * request.json["n"], k=None)
    )
    rr = reranker(max_retries=3)

    selection = await rr.best_of("q", n=4)
    assert selection.signal == "text"
    assert selection.score is None
    assert any("refuses logprobs" in note for note in selection.notes)
    assert len(fault_server.requests) == 2

    second_selection = await rr.best_of("q", n=4)
    assert sent_values(fault_server, "logprobs") == [True, None, None]
    assert any("refused logprobs" in note for note in second_selection.notes)


async def test_require_logprobs_true_raises_at_the_refusal_and_later_before_anything_is_sent(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda _: error(403, "You are not allowed to request logprobs from this model"))
    rr = reranker(require_logprobs=True)

    with pytest.raises(LogprobsUnavailableError, match="not allowed"):
        await rr.best_of("q", n=16)
    assert len(fault_server.requests) == 1
    with pytest.raises(LogprobsUnavailableError):
        await rr.best_of("q", n=16)
    assert len(fault_server.requests) == 1


async def test_require_logprobs_true_asks_for_one_completion_first_if_no_row_confirms_them(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda request: chat(["text"] * request.json.get("n", 1), k=None))

    with pytest.raises(LogprobsUnavailableError):
        await reranker(require_logprobs=True).best_of("q", n=16)
    assert sent_values(fault_server, "n") == [None]


async def test_the_trial_completion_is_one_of_the_n_and_is_drawn_once_per_instance(
    fault_server: FaultServer, reranker: Make
) -> None:
    rr = reranker(require_logprobs=True)

    selection = await rr.best_of("q", n=16, seed=100)
    assert len(selection.candidates) == 16
    assert list(zip(sent_values(fault_server, "n"), sent_values(fault_server, "seed"), strict=True)) == [
        (None, 100),
        (15, 101),
    ]
    await rr.best_of("q", n=16)
    assert sent_values(fault_server, "n") == [None, 15, 16]


async def test_a_row_that_confirms_logprobs_needs_no_trial(fault_server: FaultServer, reranker: Make) -> None:
    await reranker("vllm", require_logprobs=True).best_of("q", n=16)
    assert sent_values(fault_server, "n") == [16]


async def test_a_trial_that_fails_does_not_spend_the_other_completions(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(error(503, "overloaded"))

    with pytest.raises(NoCompletionError):
        await reranker(require_logprobs=True).best_of("q", n=16)
    assert sent_values(fault_server, "n") == [None]


async def test_once_logprobs_have_come_one_reply_without_them_loses_only_itself(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(chat(["a"]), chat(["b"], k=None))

    selection = await reranker("ollama", require_logprobs=True, max_concurrency=1).best_of("q", n=6)
    assert len(selection.candidates) == 5
    (failure,) = selection.failures
    assert isinstance(failure.error, LogprobsUnavailableError)


async def test_require_logprobs_false_asks_for_none(fault_server: FaultServer, reranker: Make) -> None:
    selection = await reranker(require_logprobs=False).best_of("q", n=2)
    assert sent_values(fault_server, "logprobs") == [None]
    assert selection.signal == "text"


async def test_logprobs_null_with_200_is_a_stated_fallback_to_the_text(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(chat(["The answer is 4", "The answer is 5", "The answer is 4"], k=None))

    selection = await reranker().best_of("q", n=3)
    assert (selection.signal, selection.method, selection.answer) == ("text", "vote", "4")
    assert any("without logprobs" in note for note in selection.notes)


# --- failures ----------------------------------------------------------------------------------------------------


async def test_one_failed_call_of_16_loses_only_its_own_completion(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(error(500, "boom"))

    selection = await reranker("ollama").best_of("q", n=16)
    assert len(selection.candidates) == 15
    assert [candidate.completion.index for candidate in selection.candidates] == list(range(15))
    (failure,) = selection.failures
    assert isinstance(failure.error, ServerError)
    assert (failure.lost, failure.attempts) == (1, 1)
    assert selection.usage.calls == 16


@pytest.mark.parametrize("final", [error(400, "odd"), html(404), Response(body=b"{")])
async def test_a_final_failure_of_one_call_does_not_stop_the_others(
    final: Response, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(chat(["a"]), final)

    selection = await reranker("ollama", max_concurrency=1).best_of("q", n=6)
    assert len(selection.candidates) == 5
    assert sum(failure.lost for failure in selection.failures) == 1


async def test_when_all_fail_every_cause_is_inside(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(error(500, "first"), error(503, "second"), error(429, "third"))

    with pytest.raises(NoCompletionError) as excinfo:
        await reranker("ollama", max_concurrency=1).best_of("q", n=3)
    assert [type(cause) for cause in excinfo.value.causes] == [ServerError, ServerError, RateLimitError]
    for word in ("first", "second", "third"):
        assert word in str(excinfo.value)
    assert excinfo.value.retryable


async def test_fewer_than_min_completions_is_an_error_with_the_causes(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(*[error(503, "overloaded")] * 3)

    with pytest.raises(NoCompletionError, match="Only 3 of 6 completions arrived; min_completions=4") as excinfo:
        await reranker("ollama").best_of("q", n=6, min_completions=4)
    assert len(excinfo.value.causes) == len(excinfo.value.completions) == 3  # what is paid for is not lost
    fault_server.script(*[error(503, "overloaded")] * 2)
    assert len((await reranker("ollama").best_of("q", n=6, min_completions=4)).candidates) == 4


async def test_a_single_cause_that_no_retry_can_help_is_raised_itself_and_spares_the_calls_that_wait(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda _: error(401, "Incorrect API key provided"))

    with pytest.raises(AuthenticationError, match="Incorrect API key"):
        await reranker("ollama", max_retries=3, max_concurrency=2).best_of("q", n=16)
    assert len(fault_server.requests) == 2


async def test_a_missing_key_is_raised_before_anything_is_sent(fault_server: FaultServer, reranker: Make) -> None:
    with pytest.raises(ConfigurationError, match="FIREWORKS_API_KEY"):
        await reranker("fireworks").best_of("q", n=300)
    assert fault_server.requests == []


async def test_a_refused_connection_is_one_clear_error(reranker: Make) -> None:
    rr = AsyncSwiftReranker("openai-compatible", "m", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(NoCompletionError, match=r"127\.0\.0\.1:9") as excinfo:
        await rr.best_of("q", n=4)
    assert isinstance(excinfo.value.causes[0], ConnectionFailedError)
    await rr.aclose()


async def test_a_server_that_hangs_is_one_clear_error(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(hang())
    with pytest.raises(NoCompletionError, match="timeout"):
        await reranker(timeout=0.2).best_of("q", n=4)


async def test_an_html_page_with_200_is_one_clear_error(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda _: html(200, "Sign in"))
    with pytest.raises(ResponseDecodeError, match="web page"):
        await reranker().best_of("q", n=4)


async def test_an_error_inside_a_200_is_that_error(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(json_response({"error": {"message": "upstream overloaded", "code": 503}}))
    with pytest.raises(NoCompletionError, match="upstream overloaded") as excinfo:
        await reranker().best_of("q", n=4)
    assert isinstance(excinfo.value.causes[0], ServerError)


def long_chat(choices: int = 8) -> Response:
    return chat([f"{place}: " + "word " * 150 for place in range(choices)], k=20)


@pytest.mark.parametrize("with_reset", [False, True])
async def test_whole_choices_before_a_broken_connection_are_kept_and_the_rest_is_topped_up(
    with_reset: bool, fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(cut(long_chat(), fraction=0.5, reset=with_reset))

    selection = await reranker(max_retries=1).best_of("q", n=8)
    assert len(selection.candidates) == 8
    if not with_reset:  # after a reset the kernel may drop what had arrived, and all is asked for again
        assert [text[:2] for text in texts(selection)[:3]] == ["0:", "1:", "2:"]
        assert 2 <= sent_values(fault_server, "n")[1] <= 5
        assert any("cut" in note or "broke" in note for note in selection.notes)


async def test_truncated_json_with_a_whole_http_reply_keeps_whole_choices_too(
    fault_server: FaultServer, reranker: Make
) -> None:
    body = long_chat().body
    fault_server.script(Response(body=body[: len(body) // 2]))

    selection = await reranker().best_of("q", n=8)
    assert len(selection.candidates) == 8
    assert len(fault_server.requests) == 2
    assert selection.notes


async def test_a_cut_reply_with_one_whole_choice_teaches_no_cap(fault_server: FaultServer, reranker: Make) -> None:
    body = long_chat().body
    fault_server.script(Response(body=body[: len(body) * 3 // 16]))
    rr = reranker()

    assert len((await rr.best_of("q", n=8)).candidates) == 8
    await rr.best_of("q", n=8)
    assert sent_values(fault_server, "n") == [8, 7, 8]


async def test_truncated_json_without_a_whole_choice_is_one_clear_error(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.script(Response(body=long_chat().body[:2000]))
    with pytest.raises(NoCompletionError) as excinfo:
        await reranker().best_of("q", n=8)
    assert isinstance(excinfo.value.causes[0], ResponseDecodeError)


async def test_a_13_mb_reply_cut_half_way_keeps_its_whole_choices(fault_server: FaultServer, reranker: Make) -> None:
    reply = chat(["x " * 460] * 16, k=20)
    assert len(reply.body) > 13e6
    fault_server.script(cut(reply))

    selection = await reranker().best_of("q", n=16)
    assert len(selection.candidates) == 16
    assert len([text for text in texts(selection) if text.startswith("x x")]) in (7, 8)
    assert selection.notes


# --- deadline ----------------------------------------------------------------------------------------------------


async def test_a_deadline_returns_the_best_of_what_has_arrived(fault_server: FaultServer, reranker: Make) -> None:
    slow = iter([False, True, False, True, False])
    fault_server.serve(lambda _: hang() if next(slow) else chat_stream(["The answer is 4"]))

    start = time.monotonic()
    selection = await reranker("ollama").best_of("q", n=5, deadline=0.8)
    assert time.monotonic() - start < 3
    assert len(selection.candidates) == 3
    assert [failure.lost for failure in selection.failures] == [1, 1]
    assert all("deadline of 0.8 s" in str(failure.error) for failure in selection.failures)


async def test_choices_that_ended_before_the_deadline_survive_the_unfinished_ones_of_their_call(
    fault_server: FaultServer, reranker: Make
) -> None:
    reply = chat_stream(["short", "a much longer answer that will not be done in time"], k=3)
    assert reply.chunks is not None
    events = [json.loads(chunk[6:]) for chunk in reply.chunks[:-2]]
    end_index = next(index for index, event in enumerate(events) if event["choices"][0]["finish_reason"])
    slow = sse(events[: end_index + 1], done=False)
    assert slow.chunks is not None
    stalled = Response(headers=slow.headers, chunks=(*slow.chunks, *[b": still thinking\n\n"] * 200), pause=0.05)
    fault_server.script(stalled)

    selection = await reranker().best_of("q", n=2, deadline=1.0)
    assert sent_values(fault_server, "stream") == [True]
    assert texts(selection) == ["short"]
    assert selection.signal == "logprobs:k=3"
    (failure,) = selection.failures
    assert failure.lost == 1
    assert isinstance(failure.error, RequestTimeoutError)


async def test_without_a_deadline_nothing_is_streamed(fault_server: FaultServer, reranker: Make) -> None:
    await reranker().best_of("q", n=2)
    assert sent_values(fault_server, "stream") == [None]


async def test_streamed_and_whole_replies_give_the_same_selection(fault_server: FaultServer, reranker: Make) -> None:
    rr, answers = reranker(), ["The answer is 4", "The answer is 5"]
    fault_server.script(chat(answers), chat_stream(answers))

    plain_selection, streamed = await rr.best_of("q", n=2), await rr.best_of("q", n=2, deadline=30)
    assert [candidate.score for candidate in plain_selection.candidates] == [
        candidate.score for candidate in streamed.candidates
    ]
    assert (plain_selection.text, plain_selection.usage) == (streamed.text, streamed.usage)


async def test_a_deadline_with_nothing_arrived_is_an_error_with_its_cause(
    fault_server: FaultServer, reranker: Make
) -> None:
    fault_server.serve(lambda _: hang())
    start = time.monotonic()
    with pytest.raises(NoCompletionError, match=r"deadline of 0\.3 s"):
        await reranker(max_retries=5).best_of("q", n=3, deadline=0.3)
    assert time.monotonic() - start < 2


async def test_a_server_that_refuses_to_stream_is_asked_without(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(
        lambda request: (
            error(400, "logprobs is not compatible with stream", param="stream")
            if request.json.get("stream")
            else chat(["a"] * request.json["n"])
        )
    )
    selection = await reranker().best_of("q", n=2, deadline=30)
    assert len(selection.candidates) == 2
    assert sent_values(fault_server, "stream") == [True, None]


async def test_a_stream_that_breaks_keeps_what_had_ended_and_tops_up(fault_server: FaultServer, reranker: Make) -> None:
    reply = chat_stream(["one", "a longer second answer"])
    fault_server.script(cut(reply, fraction=0.75))

    selection = await reranker().best_of("q", n=2, deadline=30)
    assert len(selection.candidates) == 2
    assert texts(selection)[0] == "one"
    assert selection.failures == ()
    assert sent_values(fault_server, "n") == [2, None]


# --- cancellation and events -------------------------------------------------------------------------------------


async def test_cancelling_closes_the_connections_and_leaves_no_task(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.serve(lambda _: Response(chunks=(b" ",) * 2000, pause=0.02))
    rr = reranker("ollama")
    before = asyncio.all_tasks()

    task = asyncio.create_task(rr.best_of("q", n=8))
    await until(lambda: len(fault_server.requests) == 8)
    hung_up = fault_server.closed_early
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert asyncio.all_tasks() == before
    await until(lambda: fault_server.closed_early >= hung_up + 8)


async def test_events_tell_the_story_without_the_prompt(fault_server: FaultServer, reranker: Make) -> None:
    events: list[Event] = []
    fault_server.script(error(503, "busy", headers={"retry-after": "0"}), chat(["a"] * 3))

    await reranker(max_retries=1, on_event=events.append).best_of("my secret question", n=4)
    story = [event.kind for event in events if event.kind != "limit"]
    assert story == ["request", "retry", "request", "reply", "top_up", "request", "reply"]
    assert events[1].kind == "limit"
    assert events[1].message == "requests: at most 8 at once from now on"
    assert events[2].wait == 0
    assert isinstance(events[2].error, ServerError)
    assert "secret" not in repr(events)


async def test_events_say_what_a_call_took_and_cost(fault_server: FaultServer, reranker: Make) -> None:
    events: list[Event] = []
    fault_server.script(error(503, "busy", headers={"retry-after": "0"}), chat(["a b c"]))
    price = Price(input=2.0, output=8.0)
    await reranker(max_retries=1, on_event=events.append, prices=price).best_of("q", n=1)
    request, retry, reply = (
        next(event for event in events if event.kind == kind) for kind in ("request", "retry", "reply")
    )
    assert {event.provider for event in events} == {request.provider}
    (model,) = {event.model for event in events}
    assert model == reranker().pipeline.config.model
    assert {event.phase for event in events} == {"sampling"}
    assert (request.duration, request.status, request.tokens, request.cost) == (None, None, None, None)
    assert retry.status == 503
    assert reply.status == 200
    assert retry.duration is not None
    assert 0 < retry.duration < 5
    assert reply.duration is not None
    assert 0 < reply.duration < 5
    n_tokens = len(tokens_of("a b c"))
    assert reply.tokens == 7 + n_tokens
    assert reply.cost == pytest.approx((7 * 2 + n_tokens * 8) / 1e6)


async def test_each_call_logs_one_line_without_content(
    fault_server: FaultServer, reranker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    fault_server.script(chat(["my private answer"] * 2))
    with caplog.at_level(logging.INFO, logger="swift_client"):
        await reranker().best_of("my secret question", n=2)
    (record,) = [record for record in caplog.records if record.levelno == logging.INFO and "chosen" in record.message]
    assert "among 2" in record.message
    assert "signal" in record.message
    assert "secret" not in caplog.text
    assert "private" not in caplog.text


async def test_a_callback_that_raises_costs_no_completion(
    fault_server: FaultServer, reranker: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Event) -> None:
        raise RuntimeError("observer bug")

    selection = await reranker(on_event=broken).best_of("q", n=2)
    assert len(selection.candidates) == 2
    assert "on_event failed" in caplog.text


async def test_a_reset_before_any_byte_is_retried(fault_server: FaultServer, reranker: Make) -> None:
    fault_server.script(reset())
    selection = await reranker(max_retries=1).best_of("q", n=2)
    assert selection.usage.calls == 2


# --- the limit ---------------------------------------------------------------------------------------------------


async def test_a_cancelled_waiter_gives_its_slot_on() -> None:
    limit = RateLimiter(1)
    await limit.acquire()
    first, second = asyncio.create_task(limit.acquire()), asyncio.create_task(limit.acquire())
    await asyncio.sleep(0)
    limit.release()  # handed to the first waiter ...
    first.cancel()  # ... which is cancelled in the same moment
    await asyncio.wait_for(second, 1)
    limit.release()
    await asyncio.wait_for(limit.acquire(), 1)


def test_a_limit_holds_over_threads_with_their_own_loops() -> None:
    limit, busy, max_busy, lock = RateLimiter(2), 0, 0, threading.Lock()

    async def work() -> None:
        nonlocal busy, max_busy
        for _ in range(5):
            await limit.acquire()
            with lock:
                busy += 1
                max_busy = max(max_busy, busy)
            await asyncio.sleep(0.002)
            with lock:
                busy -= 1
            limit.release()

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert max_busy == 2
