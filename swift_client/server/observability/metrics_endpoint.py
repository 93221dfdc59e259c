"""``/metrics``: who may read it, and the values that are measured instead of counted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from swift_client.sampling.rate_limiter import RateLimit
from swift_client.server.access.admission import Admission
from swift_client.server.access.identity import Caller, is_loopback
from swift_client.server.config import ServerConfig, ServiceConfig
from swift_client.server.http.error_reply import HttpError
from swift_client.server.observability.metrics import Metrics
from swift_client.server.virtual_model import ModelSet, VirtualModel

_INTERVAL = 0.5  # seconds


class ServiceState(Protocol):
    """The parts of a running service that are measured."""

    models: ModelSet

    @property
    def admission(self) -> Admission:
        """The queue before the work."""

    @property
    def limits(self) -> ServerConfig:
        """The table ``[server]``."""


class MetricsEndpoint:
    """Shows the metrics of a service, and measures the event loop's lag, the queue and the limiters.

    Args:
        metrics: the counts.
        service: the service.
    """

    def __init__(self, metrics: Metrics, service: ServiceState) -> None:
        self._metrics, self._service = metrics, service

    async def __call__(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        """Return all metrics.

        Raises:
            HttpError: 403: the caller's key may not read them.
        """
        check_access(caller, models.config, self._service.limits.host)
        self._measure()
        body = await asyncio.to_thread(self._metrics.render)
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})

    async def run(self) -> None:
        """Measure until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            self._metrics.families.lag.observe(max(0.0, loop.time() - due))
            self._measure()

    def _measure(self) -> None:
        admission = self._service.admission
        self._metrics.set_queue(running=admission.running, waiting=admission.waiting)
        for name, model in self._service.models.models.items():
            for role, limit in find_limits(model).items():
                self._metrics.set_limiter(name, role, limit.for_this_process().state())
            if drift := model.reranker.pipeline.config.drift:
                self._metrics.set_drift(name, drift.evidence)


def check_access(caller: Caller, config: ServiceConfig, host: str) -> None:
    """Raise HttpError with status 403 if the caller may not read the metrics."""
    if caller.name is not None:
        if not config.keys[caller.name].metrics:
            raise HttpError(403, "The key may not read metrics: it needs metrics = true.", code="not_allowed")
    elif not is_loopback(host):  # every caller has a key of its own for the provider, and none for this service
        raise HttpError(403, "Metrics on a public address need client keys.", code="not_allowed")


def find_limits(model: VirtualModel) -> Mapping[str, RateLimit]:
    """Return the limits of a virtual model's calls: "model", and "judge" if its verifier has one of its own."""
    limits = {role: client.rate_limit for role, client in model.clients().items()}
    if limits.get("judge") is limits["model"]:
        del limits["judge"]
    return limits
