"""The way of spans out of the process: the provider that the program has set up, or OTLP by environment variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swift_client.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_NAME = "swift_client"


@dataclass(frozen=True, kw_only=True)
class TraceExport:
    """A tracer, and the function that sends its last spans and ends it; it may take seconds."""

    tracer: Tracer
    close: Callable[[], None]


def open_export() -> TraceExport:
    """Return a tracer of the global provider, or one that exports by OTLP over HTTP.

    The second reads OpenTelemetry's own variables, such as ``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``OTEL_SERVICE_NAME``
    (default: swift-client).

    Raises:
        MissingExtraError: the extra "otel" is not installed.
    """
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise MissingExtraError.needs("otel", "traces = true") from error
    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider):
        return TraceExport(tracer=provider.get_tracer(_NAME), close=lambda: None)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtraError.needs("otel", "traces = true") from error
    name = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "swift-client"}
    # Not the global one: that belongs to the program.
    own_provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
    own_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return TraceExport(tracer=own_provider.get_tracer(_NAME), close=own_provider.shutdown)
