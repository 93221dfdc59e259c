"""Tests of the service with real HTTP: OpenAI's client in front, a real upstream behind."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from swift_client.server.chat.reply import rank_candidates
from swift_client.types import Candidate, Completion, FinishReason, Selection
from tests.servers import FaultServer, Response, after, chat, chat_body, error, hang, json_response
from tests.services import FOUR_WINS, QUESTION, RunningService, run, service_config, wait_until


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer(FOUR_WINS) as server:
        yield server


@pytest.fixture
def service(upstream: FaultServer) -> Iterator[RunningService]:
    with run(service_config(upstream, server={"keep_alive": 0.2}, caps={"n": 8})) as running:
        yield running


def tool_reply(*contents: str | None) -> dict[str, Any]:
    """Return a reply whose choices call a tool, each with the text beside it."""
    body = chat_body(["x"] * len(contents), k=None, finish_reason="tool_calls")
    for choice, content in zip(body["choices"], contents, strict=True):
        function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
        choice["message"] |= {
            "content": content, "tool_calls": [{"id": "call_up", "type": "function", "function": function}]
        }  # fmt: skip
    return body


def test_an_openai_client_gets_the_best_answer_and_why(service: RunningService, upstream: FaultServer) -> None:
    reply = service.openai().chat.completions.with_raw_response.create(model="best", messages=QUESTION)
    completion = reply.parse()

    assert completion.choices[0].message.content == "The answer is 4"
    assert (completion.model, completion.object, len(completion.choices)) == ("best", "chat.completion", 1)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 7 + 12  # one prompt, three answers of four tokens
    swift = completion.model_extra["swift"]  # type: ignore[index]
    assert (swift["method"], swift["answer"]) == ("vote", "4")
    assert swift["winner"] in (0, 2)
    assert swift["signal"].startswith("logprobs:k=")
    assert [row["answer"] for row in swift["candidates"]] == ["4", "5", "4"]
    assert all("text" not in row and row["score"] < 0 for row in swift["candidates"])
    assert reply.headers["x-swift-method"] == "vote"
    assert reply.headers["x-swift-id"] == swift["id"]
    assert reply.headers["x-request-id"]
    assert len(upstream.requests) == 1
    assert upstream.requests[0].json["n"] == 3


def test_a_stream_brings_the_same_answer_with_comments_before_it(
    service: RunningService, upstream: FaultServer
) -> None:
    upstream.script(after(0.7, chat(["So " * 40 + "the answer is 4", "The answer is 5", "The answer is 4"], k=None)))
    chunks = []
    with service.openai().chat.completions.create(
        model="best", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]

    assert "".join(texts).lower().endswith("the answer is 4")
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].model_extra["swift"]["answer"] == "4"  # type: ignore[index]
    assert len({chunk.id for chunk in chunks}) == 1

    upstream.script(after(0.7, chat(list(FOUR_WINS))))
    body = service.post({"model": "best", "messages": QUESTION, "stream": True}).text
    assert body.count(": sampling\n\n") >= 2
    assert body.endswith("data: [DONE]\n\n")


def test_fields_pass_through_and_those_that_selection_needs_do_not(
    service: RunningService, upstream: FaultServer
) -> None:
    image = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    fields = {
        "temperature": 0.3, "max_tokens": 9, "stop": ["\n"], "user": "u", "metadata": {"a": "b"}, "store": True,
        "response_format": {"type": "json_object"}, "top_k": 5, "tempersture": 1,
    }  # fmt: skip
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": image}]

    reply = service.post({"model": "best", "messages": messages, "seed": 3, "logit_bias": None, **fields})

    assert reply.status_code == 200, reply.text
    sent = upstream.requests[0].json
    assert {name: sent[name] for name in fields} == fields
    assert (sent["messages"], sent["seed"], sent["model"]) == (messages, 3, "m")
    assert "swift" not in sent
    assert "logit_bias" not in sent


def test_n_choices_are_the_best_n_ranked(service: RunningService, upstream: FaultServer) -> None:
    upstream.answers = ("The answer is 5", "The answer is 4", "The answer is 4", "The answer is 6")

    completion = service.openai().chat.completions.create(
        model="best", messages=QUESTION, n=3, extra_body={"swift": {"n": 4, "texts": True}}
    )

    texts = [choice.message.content for choice in completion.choices]
    assert texts[:2] == ["The answer is 4"] * 2
    assert texts[2] in ("The answer is 5", "The answer is 6")
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    swift = completion.model_extra["swift"]  # type: ignore[index]
    assert [row["text"] for row in swift["candidates"]] == list(upstream.answers)


def test_logprobs_of_the_chosen_tokens_come_if_asked_for(service: RunningService) -> None:
    completion = service.openai().chat.completions.create(
        model="best", messages=QUESTION, logprobs=True, top_logprobs=2
    )

    assert completion.choices[0].logprobs is not None
    content = completion.choices[0].logprobs.content or []
    assert "".join(token.token for token in content) == "The answer is 4"
    assert all(token.logprob <= 0 for token in content)


@pytest.mark.parametrize("content", [None, "Let me look."])
def test_tool_calls_of_the_winner_come_back_as_tool_calls(
    service: RunningService, upstream: FaultServer, content: str | None
) -> None:
    upstream.serve(lambda received: json_response(tool_reply(content, content, content)))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]

    completion = service.openai().chat.completions.create(model="best", messages=QUESTION, tools=tools)  # type: ignore[call-overload]
    message = completion.choices[0].message

    assert upstream.requests[0].json["tools"] == tools
    assert message.content == content
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("weather", '{"city": "Oslo"}')
    ]
    assert message.tool_calls[0].id.startswith("call_")
    assert completion.choices[0].finish_reason == "tool_calls"

    with service.openai().chat.completions.create(model="best", messages=QUESTION, tools=tools, stream=True) as stream:  # type: ignore[call-overload]
        deltas = [chunk.choices[0].delta for chunk in stream]
    (call,) = [call for delta in deltas for call in delta.tool_calls or ()]
    assert call.function.arguments == '{"city": "Oslo"}'


def test_legacy_functions_come_back_as_a_function_call(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: json_response(tool_reply(None, None, None)))

    choice = service.post({"model": "best", "messages": QUESTION, "functions": [{"name": "weather"}]}).json()[
        "choices"
    ][0]

    assert choice["message"]["function_call"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert choice["finish_reason"] == "function_call"


def test_length_and_refusals_keep_their_finish_reason(service: RunningService, upstream: FaultServer) -> None:
    upstream.script(chat(["The answer is"] * 3, finish_reason="length"))
    assert service.post({"model": "best", "messages": QUESTION}).json()["choices"][0]["finish_reason"] == "length"

    body = chat_body(["x"] * 3, k=None)
    for choice in body["choices"]:
        choice["message"] = {"role": "assistant", "content": None, "refusal": "I cannot help."}
    upstream.script(json_response(body))
    message = service.post({"model": "best", "messages": QUESTION}).json()["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I cannot help.")


def test_a_partial_failure_degrades_to_the_completions_that_came(
    service: RunningService, upstream: FaultServer
) -> None:
    # A server that gives one choice per call, and fails every second call.
    upstream.serve(
        lambda received: error(500, "boom") if len(upstream.requests) % 2 == 0 else chat(["The answer is 4"])
    )

    reply = service.post({"model": "best", "messages": QUESTION, "swift": {"n": 4}})

    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == "The answer is 4"
    assert reply.json()["swift"]["failures"]
    assert int(reply.headers["x-swift-failures"]) == len(reply.json()["swift"]["failures"])


@pytest.mark.parametrize(
    ("response", "status", "code", "retry_after"),
    [
        (error(400, "bad temperature", param="temperature"), 400, "invalid_request", None),
        (error(401, "Incorrect API key provided: sk-upstream-secret"), 502, "upstream_authentication", None),
        (error(403, "not allowed"), 502, "upstream_authentication", None),
        (error(404, "The model m does not exist"), 502, "upstream_refused", None),
        (error(429, "slow down", headers={"retry-after": "7"}), 429, "rate_limit_exceeded", "7"),
        (error(500, "boom"), 502, "upstream_error", None),
        (error(503, "later", headers={"retry-after": "3"}), 502, "upstream_error", "3"),
        (Response(200, b"{not json", {"content-type": "application/json"}), 502, "upstream_invalid_reply", None),
    ],
    ids=lambda value: str(value) if isinstance(value, int | str) else "",
)
def test_errors_of_the_upstream_have_openais_shape(
    service: RunningService, upstream: FaultServer, response: Response, status: int, code: str, retry_after: str | None
) -> None:
    upstream.serve(lambda received: response)

    reply = service.post({"model": "best", "messages": QUESTION})

    assert reply.status_code == status, reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.json()["error"]["code"] == code
    assert reply.headers.get("retry-after") == retry_after
    assert "sk-upstream" not in reply.text


def test_an_early_error_of_a_stream_has_a_status_of_its_own(upstream: FaultServer) -> None:
    upstream.serve(lambda received: error(400, "bad"))

    with run(service_config(upstream)) as service:  # its first comment comes after five seconds
        streamed = service.post({"model": "best", "messages": QUESTION, "stream": True})

    assert (streamed.status_code, streamed.json()["error"]["code"]) == (400, "invalid_request")


def test_openais_client_raises_its_own_errors(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: error(429, "slow down", headers={"retry-after": "0"}))
    with pytest.raises(openai.RateLimitError):
        service.openai().chat.completions.create(model="best", messages=QUESTION)
    with pytest.raises(openai.NotFoundError) as caught:
        service.openai().chat.completions.create(model="gpt-4", messages=QUESTION)
    assert caught.value.code == "model_not_found"

    upstream.serve(lambda received: after(0.6, error(500, "boom")))
    with (
        pytest.raises(openai.APIError, match="boom"),
        service.openai().chat.completions.create(model="best", messages=QUESTION, stream=True) as stream,
    ):
        list(stream)


def test_a_deadline_and_a_budget_that_cannot_be_kept_have_their_own_status(
    service: RunningService, upstream: FaultServer
) -> None:
    upstream.serve(lambda received: hang())
    late = service.post({"model": "best", "messages": QUESTION, "swift": {"deadline": 0.3}})
    poor = service.post({"model": "best", "messages": QUESTION, "max_tokens": 100, "swift": {"budget": {"tokens": 10}}})

    assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout")
    assert (poor.status_code, poor.json()["error"]["code"]) == (402, "budget_exceeded")


def test_models_and_health_are_listed(service: RunningService) -> None:
    assert [model.id for model in service.openai().models.list()] == ["best"]
    assert service.openai().models.retrieve("best").id == "best"
    assert service.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
    assert service.get("/healthz").json() == {"status": "ok"}
    assert service.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_cancels_its_upstream_call(upstream: FaultServer, stream: bool) -> None:
    upstream.serve(lambda received: after(30, chat(["The answer is 4"])))
    with run(service_config(upstream)) as service:  # its streams are silent for the first five seconds
        body = json.dumps({"model": "best", "messages": QUESTION, "stream": stream}).encode()
        fields = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", service.port)) as caller:
            caller.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body)
            wait_until(lambda: len(upstream.requests) == 1)
            assert service.service.models._n_requests == 1
        started = time.monotonic()
        wait_until(lambda: service.service.models._n_requests == 0)

        assert time.monotonic() - started < 3  # on a machine with other work; the reply would take 30


def test_answers_are_json_even_if_a_model_writes_half_a_character(
    service: RunningService, upstream: FaultServer
) -> None:
    text = "\ud83d is half \u2028 data: [DONE]\n\n The answer is 4"
    upstream.serve(lambda received: chat([text] * 3, k=None))

    content = service.post({"model": "best", "messages": QUESTION}).json()["choices"][0]["message"]["content"]
    with service.openai().chat.completions.create(model="best", messages=QUESTION, stream=True) as stream:
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert content == streamed
    assert content.endswith("is half \u2028 data: [DONE]\n\n The answer is 4")
    assert json.dumps(content)


def test_half_a_character_in_an_answer_is_json_too(service: RunningService, upstream: FaultServer) -> None:
    upstream.serve(lambda received: chat(["\ud83d"] * 3, k=None))

    reply = service.post({"model": "best", "messages": QUESTION, "swift": {"texts": True}})
    streamed = service.post({"model": "best", "messages": QUESTION, "stream": True})

    assert reply.json()["choices"][0]["message"]["content"] == "?"
    assert "\\ud83d" not in streamed.text
    assert streamed.text.isascii()


def test_a_bug_is_a_500_that_says_nothing_and_logs_no_content(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = QUESTION[0]["content"]

    async def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError(secret)

    monkeypatch.setattr(service.service.models.models["best"], "answer", fail)
    for stream in (False, True):
        reply = service.post({"model": "best", "messages": QUESTION, "stream": stream})
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")

    assert "RuntimeError" in caplog.text
    assert secret not in reply.text + caplog.text


def test_candidates_are_ranked_by_support_then_score() -> None:
    def candidate(index: int, answer: str, group: int | None, weight: float, score: float | None) -> Candidate:
        finish: FinishReason = "length" if weight == 0 else "stop"
        completion = Completion(text=answer, index=index, finish_reason=finish)
        return Candidate(completion=completion, answer=answer, group=group, weight=weight, score=score)

    rows = (
        candidate(0, "a", 0, 1.0, -0.9), candidate(1, "b", 1, 1.5, -0.1), candidate(2, "a", 0, 1.0, -0.5),
        candidate(3, "c", 2, 0.0, -0.01), candidate(4, "d", 3, 1.5, None),
    )  # fmt: skip
    common = {"candidates": rows, "winner": 2, "signal": "text", "scorer": "s"}

    # Support: a 2.0, b 1.5, d 1.5. c was cut off.
    assert [c.completion.index for c in rank_candidates(Selection(method="vote", **common))] == [2, 0, 1, 4, 3]
    assert [c.completion.index for c in rank_candidates(Selection(method="best", **common))] == [2, 1, 0, 4, 3]


def test_a_reply_is_sent_at_once(service: RunningService) -> None:
    """Without TCP_NODELAY, the second part of every reply waits for the client's delayed acknowledgement, 40 ms."""
    seconds = []
    with httpx2.Client() as client:
        for _ in range(11):
            start = time.perf_counter()
            client.get(f"{service.root}/healthz")
            seconds.append(time.perf_counter() - start)

    assert statistics.median(seconds) < 0.03
