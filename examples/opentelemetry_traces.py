"""Make a span of OpenTelemetry for every call of a reranker, by the GenAI semantic conventions.

    python examples/opentelemetry_traces.py

Uses the packaged model, or OpenAI if OPENAI_API_KEY is set. Needs opentelemetry-sdk. A program that exports would give
its provider an OTLPSpanExporter instead of the exporter that prints.
"""

import os
import time

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

from swift_client import Event, SwiftReranker

QUESTION = "Nadia starts with 70 figs. Omar gives Nadia 25 of them. Nadia sells 12 of them. How many figs are left?"

exporter = ConsoleSpanExporter(formatter=lambda span: f"{span.name}: {dict(span.attributes or {})}\n")
traces = TracerProvider()
traces.add_span_processor(SimpleSpanProcessor(exporter))
tracer = traces.get_tracer("my_program")


def trace_call(event: Event) -> None:
    """Make the span of a call that has ended; pass this function as ``on_event=``."""
    if event.kind not in ("reply", "retry", "failure") or event.duration is None:
        return
    end = time.time_ns()
    attributes = {
        "gen_ai.operation.name": "embeddings" if event.phase == "consensus" else "chat",
        "gen_ai.provider.name": event.provider,
        "gen_ai.request.model": event.model or "-",
    }
    if event.usage is not None:
        attributes["gen_ai.usage.input_tokens"] = event.usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = event.usage.completion_tokens
    if event.error is not None:
        attributes["error.type"] = str(event.status or type(event.error).__name__)
    name = f"{attributes['gen_ai.operation.name']} {event.model or event.provider}"
    # Events come on the event loop of the call, so the span that is current there becomes the parent.
    start = end - int(event.duration * 1e9)
    span = tracer.start_span(name, kind=SpanKind.CLIENT, start_time=start, attributes=attributes)
    if event.error is not None:
        span.set_status(Status(StatusCode.ERROR))
    span.end(end_time=end)


provider = "openai" if os.environ.get("OPENAI_API_KEY") else "pocket"
with tracer.start_as_current_span("my question"), SwiftReranker(provider, on_event=trace_call) as reranker:
    print(reranker.best_of(QUESTION, n=4).answer)
