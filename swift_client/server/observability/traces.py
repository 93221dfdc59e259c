"""Traces for OpenTelemetry: a span per request, and below it one per call upstream.

The names are those of the GenAI semantic conventions, https://opentelemetry.io/docs/specs/semconv/gen-ai/, and of HTTP.
What they have no name for begins with ``swift.``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from swift_client.server.observability.record import NOT_KNOWN, RequestRecord
from swift_client.server.observability.trace_attributes import call_attributes, content_attributes, request_attributes
from swift_client.types import Event

Address = tuple[str, int | None]  # host and port
_UNTRACED = frozenset(["/healthz", "/readyz", "/metrics"])  # asked for every few seconds by machines
_NANOSECONDS = 1_000_000_000


@dataclass
class _Trace:
    """The span of one request, and the completions asked for by each of its calls."""

    span: Span
    requested: dict[tuple[str, int], int] = field(default_factory=dict)


class Traces:
    """A listener that makes spans. The client's ``traceparent`` is their parent; it is not sent upstream.

    Args:
        tracer: makes the spans.
        find_address: returns the host and port of the calls of a virtual model in a phase; None if there are none.
        has_content: whether spans have prompts and answers.
    """

    def __init__(
        self, tracer: Tracer, *, find_address: Callable[[str, str], Address | None], has_content: bool
    ) -> None:
        self._tracer, self._find_address, self._has_content = tracer, find_address, has_content
        self._propagator = TraceContextTextMapPropagator()
        self._traces: dict[RequestRecord, _Trace] = {}

    def begin(self, record: RequestRecord) -> None:
        """Start the span of a request."""
        span = self._tracer.start_span(
            record.method,
            context=self._propagator.extract(record.trace_headers, context=Context()),
            kind=SpanKind.SERVER,
            start_time=int(record.started_at * _NANOSECONDS),
            attributes={"http.request.method": record.method, "swift.request.id": record.id},
        )
        if span.get_span_context().is_valid:
            record.trace_id = format_trace_id(span.get_span_context().trace_id)
        if span.is_recording():
            self._traces[record] = _Trace(span)

    def on_event(self, record: RequestRecord, event: Event) -> None:
        """Make the span of a call that has ended; its start follows from its duration."""
        trace = self._traces.get(record)
        if trace is None:
            return
        key = (event.phase, event.call)
        if event.kind == "request":
            trace.requested[key] = event.n
        if event.kind not in ("reply", "retry", "failure") or event.duration is None:
            return
        end = time.time_ns()
        attributes = call_attributes(
            event, trace.requested.get(key, event.n), self._find_address(record.model, event.phase)
        )
        span = self._tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {event.model or event.provider}",
            context=set_span_in_context(trace.span, Context()),
            kind=SpanKind.CLIENT,
            start_time=end - int(event.duration * _NANOSECONDS),
            attributes=attributes,
        )
        if event.kind != "reply":
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=end)

    def end(self, record: RequestRecord) -> None:
        """End the span of a request."""
        trace = self._traces.pop(record, None)
        if trace is None or record.endpoint in _UNTRACED:  # a span that does not end is not exported
            return
        span = trace.span
        try:
            span.update_name(record.method if record.endpoint == NOT_KNOWN else f"{record.method} {record.endpoint}")
            span.set_attributes(request_attributes(record))
            if self._has_content:
                span.set_attributes(content_attributes(record))
            if record.has_failed:
                span.set_status(Status(StatusCode.ERROR))
        finally:
            span.end(end_time=int((record.started_at + record.seconds) * _NANOSECONDS))
