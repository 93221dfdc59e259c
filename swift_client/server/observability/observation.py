"""All that watches one service: its listeners, as the table ``[server]`` switches them on, and what they need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from swift_client.server.http.disconnect import end
from swift_client.server.observability.metrics import Metrics
from swift_client.server.observability.metrics_endpoint import MetricsEndpoint, ServiceState
from swift_client.server.observability.observers import Observer, Observers
from swift_client.server.observability.request_log import RequestLog
from swift_client.server.observability.trace_export import TraceExport, open_export


class Observation:
    """The listeners of one service.

    Args:
        service: the service; its models may come later.
        further: listeners of other parts of the service.

    Attributes:
        observers: To be told of all requests.
        metrics_endpoint: The handler of ``/metrics``; None if metrics are off.

    Raises:
        MissingExtraError: traces are on, and the extra "otel" is not installed.
    """

    def __init__(self, service: ServiceState, *, further: Iterable[Observer] = ()) -> None:
        self._service, limits = service, service.limits
        listeners: list[Observer] = []
        self._export = open_export() if limits.traces else None
        if self._export is not None:  # first, so that the log has the trace's id
            listeners.append(self._create_traces(self._export))
        self.metrics_endpoint = None
        if limits.metrics:
            metrics = Metrics()
            listeners.append(metrics)
            self.metrics_endpoint = MetricsEndpoint(metrics, service)
        listeners += [RequestLog(has_content=limits.log_content), *further]
        self.observers = Observers(listeners)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Measure within the block, and send the last spans at its end."""
        measuring = None if self.metrics_endpoint is None else asyncio.create_task(self.metrics_endpoint.run())
        try:
            yield
        finally:
            if measuring is not None:
                await end(measuring)
            if self._export is not None:
                await asyncio.to_thread(self._export.close)

    def _create_traces(self, export: TraceExport) -> Observer:
        from swift_client.server.observability.traces import Traces  # needs the extra "otel"

        has_content = self._service.limits.trace_content
        return Traces(export.tracer, find_address=self._find_address, has_content=has_content)

    def _find_address(self, model: str, phase: str) -> tuple[str, int | None] | None:
        """Return the host and port that a virtual model's calls go to; None for calls of no known address."""
        virtual_model = self._service.models.models.get(model)
        role = {"sampling": "model", "verification": "judge"}.get(phase, "")
        client = None if virtual_model is None else virtual_model.clients().get(role)
        if client is None or client.provider.base_url is None:
            return None
        parts = urlsplit(client.provider.base_url)
        return (
            None if parts.hostname is None else (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        )
