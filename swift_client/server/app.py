"""The Starlette application: its state, its routes, and who may call them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from swift_client.errors import SwiftClientError
from swift_client.server.access.admission import Admission
from swift_client.server.access.identity import Caller, check_address, check_host_header, check_tls, identify
from swift_client.server.access.usage_limits import UsageLimits
from swift_client.server.config import ServiceConfig
from swift_client.server.feedback_endpoint import FeedbackEndpoint
from swift_client.server.http.disconnect import ClientGone
from swift_client.server.http.error_reply import HttpError, error_body, reply_to_error
from swift_client.server.http.json_reply import JsonReply, error_response
from swift_client.server.http.middleware import RequestMiddleware
from swift_client.server.observability.observation import Observation
from swift_client.server.observability.record import RequestRecord
from swift_client.server.question_endpoint import QuestionEndpoint, find_model
from swift_client.server.virtual_model import ModelSet
from swift_client.server.wire_format import CHAT, RESPONSES

if TYPE_CHECKING:
    from swift_client.server.inspector.routes import Inspector

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
_NOBODY = 499  # nginx's status of a request whose client hung up


class Service:
    """The state of one running service: its models, its queue, its configuration.

    Raises:
        ConfigurationError: a setting is wrong, or anybody on a network could use it; nothing was sent.
    """

    def __init__(self, config: ServiceConfig) -> None:
        check_address(config)
        check_tls(config.server)
        limits = self.limits = config.server
        self._inspector = _create_inspector(self) if limits.ui else None
        self._observation = Observation(self, further=[self._inspector.ring] if self._inspector else [])
        self.observers = self._observation.observers
        self.models = ModelSet(config, self.observers.on_event)
        self.admission = Admission(running=limits.max_concurrency, queue=limits.max_queue, timeout=limits.queue_timeout)
        self.usage = UsageLimits(limits.usage_store)

    async def reload(self, config: ServiceConfig) -> None:
        """Serve new requests by another configuration; running ones end by theirs. The ``[server]`` table stays.

        Raises:
            ConfigurationError: it is wrong; nothing has changed.
        """
        check_address(replace(config, server=self.limits))
        models = ModelSet(config, self.observers.on_event)
        await models.prepare()
        self.models, retired = models, self.models
        await retired.retire()

    def create_app(self) -> Starlette:
        """Return the ASGI application."""
        prefix = self.limits.path_prefix
        routes = [
            *(
                Route(f"{prefix}/v1{wire.path}", self._endpoint(QuestionEndpoint(self, wire)), methods=["POST"])
                for wire in (CHAT, RESPONSES)
            ),
            Route(f"{prefix}/v1/feedback", self._endpoint(FeedbackEndpoint(self.limits)), methods=["POST"]),
            Route(f"{prefix}/v1/models", self._endpoint(self._list_models), methods=["GET"]),
            Route(f"{prefix}/v1/models/{{model:path}}", self._endpoint(self._show_model), methods=["GET"]),
            Route(f"{prefix}/healthz", _health, methods=["GET"]),
            Route(f"{prefix}/readyz", self._ready, methods=["GET"]),
        ]
        if metrics_endpoint := self._observation.metrics_endpoint:
            routes.append(Route(f"{prefix}/metrics", self._endpoint(metrics_endpoint), methods=["GET"]))
        if self._inspector is not None:
            routes += self._inspector.routes()
        middleware = [
            Middleware(
                RequestMiddleware,
                observers=self.observers,
                paths={route.endpoint: route.path.removeprefix(prefix) for route in routes},
                write_timeout=self.limits.write_timeout,
            )
        ]
        if self.limits.cors_origins:
            cors = Middleware(
                CORSMiddleware, allow_origins=self.limits.cors_origins, allow_methods=["GET", "POST"],
                allow_headers=["authorization", "content-type", "x-swift-key", "x-request-id"],
                expose_headers=["x-request-id", "retry-after", "x-swift-method", "x-swift-signal", "x-swift-cost"],
            )  # fmt: skip
            middleware.append(cors)
        app = Starlette(
            routes=routes, middleware=middleware, lifespan=self._lifespan, exception_handlers={HTTPException: _refuse}
        )
        app.router.redirect_slashes = False  # a redirect would name the host that the client sent
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        await self.models.prepare()
        async with self._observation.run():
            yield
        await self.models.retire()
        await self.usage.aclose()

    def _endpoint(self, handler: Callable[[Request, Caller, ModelSet], Awaitable[Response]]) -> Endpoint:
        """Return a handler with the caller identified, and every error as a reply."""

        async def endpoint(request: Request) -> Response:
            models = self.models
            record: RequestRecord = request.scope["state"]["record"]
            try:
                if not models.config.keys:
                    check_host_header(request.headers.get("host", ""), self.limits.host)
                caller = await identify(request.headers, models.keys, models.config)
                record.key = caller.name
                return await handler(request, caller, models)
            except (ClientGone, ClientDisconnect):
                return Response(status_code=_NOBODY)
            except (HttpError, SwiftClientError) as error:
                record.error = error
                return error_response(reply_to_error(error))

        return endpoint

    async def _list_models(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        rows = [_model_row(name) for name in models.models if caller.may_use(name)]
        return JsonReply({"object": "list", "data": rows})

    async def _show_model(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        name = request.path_params["model"]
        find_model(name, caller, models)
        return JsonReply(_model_row(name))

    async def _ready(self, request: Request) -> Response:
        if self.admission.is_full:
            return JsonReply({"status": "busy"}, 503, {"retry-after": "1"})
        return JsonReply({"status": "ready"})


def _create_inspector(service: Service) -> Inspector:
    from swift_client.server.inspector.routes import Inspector  # needs Jinja2 and the report

    return Inspector(service)


def _model_row(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "swift-client"}


async def _health(request: Request) -> Response:
    return JsonReply({"status": "ok"})


async def _refuse(request: Request, error: Exception) -> Response:
    """Reply to a path or method that does not exist."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "There is no such path.", 405: "The method is not allowed here."}.get(status, "Refused.")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return JsonReply(error_body(status, message, code="not_found" if status == 404 else None), status, headers)
