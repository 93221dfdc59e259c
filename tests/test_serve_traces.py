"""Tests of the spans of the service, read from the SDK's exporter in memory."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, server_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from opentelemetry.trace import SpanKind, StatusCode

from swift_client.server.observability.record import RequestRecord
from swift_client.server.observability.trace_attributes import content_attributes
from swift_client.server.observability.trace_export import open_export
from tests.judges import let_judge
from tests.servers import FaultServer, Received, Response, after, chat, error, hang
from tests.services import FOUR_WINS, QUESTION, RunningService, run, service_config, wait_until

BODY = {"model": "best", "messages": QUESTION}
CHAT_PATH = "/v1/chat/completions"
TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
CONVENTIONS = {
    value
    for module in (gen_ai_attributes, server_attributes, error_attributes, http_attributes)
    for name, value in vars(module).items()
    if name.isupper()
}


@pytest.fixture(scope="session")
def exporter() -> InMemorySpanExporter:
    """Set up this process's provider as a program would, once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer(FOUR_WINS) as server:
        yield server


@pytest.fixture
def start(upstream: FaultServer, exporter: InMemorySpanExporter) -> Iterator[Callable[..., RunningService]]:
    exporter.clear()
    contexts = []

    def start(server: Mapping[str, Any] | None = None, **settings: Any) -> RunningService:
        contexts.append(run(service_config(upstream, server={"traces": True, **(server or {})}, **settings)))
        return contexts[-1].__enter__()

    yield start
    for context in contexts:
        context.__exit__(None, None, None)


def server_spans(exporter: InMemorySpanExporter, count: int = 1) -> list[ReadableSpan]:
    """Wait for the spans of ``count`` requests, which end after their replies."""

    def find() -> list[ReadableSpan]:
        return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]

    wait_until(lambda: len(find()) >= count)
    return find()


def calls(exporter: InMemorySpanExporter) -> Sequence[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_request_is_a_span_of_the_clients_trace_with_one_below_per_call(
    start: Callable[..., RunningService], exporter: InMemorySpanExporter, upstream: FaultServer
) -> None:
    upstream.script(after(0.2, chat(["The answer is 4", "The answer is 5", "The answer is 4"])))
    service = start()
    reply = service.post(BODY, headers={"traceparent": TRACEPARENT, "tracestate": "a=b"})
    (request,), (call,) = server_spans(exporter), calls(exporter)

    assert request.name == f"POST {CHAT_PATH}"
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE_ID
    assert f"{request.parent.span_id:016x}" == PARENT_ID
    assert attributes(request)["swift.selection.id"] == reply.headers["x-swift-id"]
    assert attributes(request)["swift.request.id"] == reply.headers["x-request-id"]
    assert attributes(request)["http.response.status_code"] == 200
    assert attributes(request)["http.route"] == CHAT_PATH
    assert (attributes(request)["swift.method"], attributes(request)["swift.n"]) == ("vote", 3)

    assert call.name == "chat m"
    assert call.parent is not None
    assert call.parent.span_id == request.context.span_id
    found = attributes(call)
    assert {name: found[name] for name in found if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai-compatible",
        "gen_ai.request.model": "m",
        "gen_ai.request.choice.count": 3,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 12,
    }
    assert found["server.address"] == "127.0.0.1"
    assert f":{found['server.port']}" in upstream.url
    assert call.start_time is not None
    assert call.end_time is not None
    assert request.start_time is not None
    assert request.end_time is not None
    assert 0.2e9 <= call.end_time - call.start_time < 2e9
    assert request.start_time <= call.start_time <= call.end_time <= request.end_time
    if "gen_ai.provider.name" in CONVENTIONS:  # those that come with older packages are shorter
        for name in {**attributes(request), **found}:
            assert name in CONVENTIONS or name.startswith("swift."), name

    assert not {"traceparent", "tracestate"} & upstream.requests[0].headers.keys()


def test_failed_calls_and_judgements_have_spans_of_their_own(
    start: Callable[..., RunningService], exporter: InMemorySpanExporter, upstream: FaultServer
) -> None:
    let_judge(upstream, lambda text: 0.9 if "4" in text else 0.2)
    upstream.script(error(500, "down", headers={"retry-after": "0", "retry-after-ms": "1"}))
    service = start(max_retries=1, verifier={"judge": "self", "when": "always"})
    service.post(BODY)
    server_spans(exporter)

    failed, sampled, *judged = calls(exporter)
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed)["error.type"] == "500"
    assert sampled.status.status_code is StatusCode.UNSET
    assert [attributes(span)["swift.phase"] for span in judged] == ["verification"] * len(judged)
    assert len(judged) >= 2
    assert all(attributes(span)["gen_ai.usage.input_tokens"] == 50 for span in judged)


def test_an_error_and_a_client_that_hangs_up_end_their_spans(
    start: Callable[..., RunningService], exporter: InMemorySpanExporter, upstream: FaultServer
) -> None:
    service = start()
    upstream.script(Response(503), hang())
    assert service.post(BODY).status_code == 502
    (request,) = server_spans(exporter)
    assert request.status.status_code is StatusCode.ERROR
    assert attributes(request)["error.type"]

    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        body = json.dumps(BODY).encode()
        head = f"POST {CHAT_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: len(upstream.requests) == 2)
    gone = server_spans(exporter, 2)[1]
    assert attributes(gone)["http.response.status_code"] == 499
    assert gone.status.status_code is StatusCode.UNSET
    assert service.get("/no-such-path").status_code == 404
    assert server_spans(exporter, 3)[2].name == "GET"


def test_no_content_is_in_spans_unless_the_configuration_asks_for_it(
    start: Callable[..., RunningService], exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")  # meant for other libraries
    start().post(BODY, headers={"authorization": "Bearer sk-secret"})
    server_spans(exporter)
    text = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "2 + 2" not in text
    assert "The answer" not in text
    assert "sk-secret" not in text

    exporter.clear()
    start({"trace_content": True}).post(BODY)
    (request,) = server_spans(exporter)
    found = attributes(request)
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "What is 2 + 2?"}]}
    ]
    (answer,) = json.loads(found["gen_ai.output.messages"])
    assert answer == {"role": "assistant", "parts": [{"type": "text", "content": "The answer is 4"}]} | {
        "finish_reason": "stop"
    }


@pytest.mark.parametrize("value", ["00-zz-00f067aa0ba902b7-01", "x" * 5000, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_wrong_traceparent_begins_a_new_trace(
    value: str, start: Callable[..., RunningService], exporter: InMemorySpanExporter
) -> None:
    assert start().post(BODY, headers={"traceparent": value}).status_code == 200
    (request,) = server_spans(exporter)
    assert request.parent is None


def test_a_trace_that_the_client_does_not_sample_has_no_spans(
    start: Callable[..., RunningService], exporter: InMemorySpanExporter
) -> None:
    service = start()
    service.post(BODY, headers={"traceparent": TRACEPARENT[:-1] + "0"})
    for path in ("/healthz", "/readyz", "/metrics"):  # asked for by machines
        assert service.get(path).status_code == 200
    time.sleep(0.1)
    assert exporter.get_finished_spans() == ()


def test_content_of_any_form_is_json() -> None:
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "\ud83d"}, {"type": "image_url", "image_url": {}}, 7]},
        {"role": None, "content": {"odd": 1}},
    ]
    record = RequestRecord(id="r", messages=messages)

    (first, second) = json.loads(content_attributes(record)["gen_ai.input.messages"])
    assert [part["type"] for part in first["parts"]] == ["text", "image_url", "None"]
    assert second["parts"] == []


def test_without_a_provider_of_the_program_spans_go_out_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    received: list[Received] = []
    with FaultServer() as collector:
        collector.serve(lambda request: received.append(request) or Response(200))  # type: ignore[func-returns-value]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.removesuffix("/v1"))
        export = open_export()
        export.tracer.start_span("POST /x").end()
        export.close()

    assert received[0].path == "/v1/traces"
    assert b"POST /x" in received[0].body
    assert b"swift-client" in received[0].body
