"""The Starlette application: routes, and the way from a request to its reply."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from swift_client.errors import BudgetExceededError, RejectedError, SwiftClientError, VerificationError
from swift_client.server import chat_stream
from swift_client.server.access import Caller, check_address, check_host_header, check_tls, identify
from swift_client.server.admission import Admission
from swift_client.server.body import read_body
from swift_client.server.chat_reply import ReplyFacts, chat_completion, swift_headers, swift_object
from swift_client.server.chat_request import ChatCall, parse_chat_call
from swift_client.server.config import ServiceConfig
from swift_client.server.disconnect import ClientGone, EventStream, end, wait_for
from swift_client.server.error_reply import ErrorReply, HttpError, error_body, reply_to_error
from swift_client.server.json_reply import JsonReply
from swift_client.server.key_limits import KeyUsage
from swift_client.server.middleware import RequestMiddleware, log_failure
from swift_client.server.virtual_model import ModelSet, VirtualModel
from swift_client.types import Selection

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
_KNOWN = (HttpError, SwiftClientError)
_NOBODY = 499  # nginx's status of a request whose client hung up


class Service:
    """The state of one running service: its models, its queue, its configuration.

    Raises:
        ConfigurationError: a setting is wrong, or anybody on a network could use it; nothing was sent.
    """

    def __init__(self, config: ServiceConfig) -> None:
        check_address(config)
        check_tls(config.server)
        self.models = ModelSet(config)
        limits = config.server
        self.admission = Admission(running=limits.max_concurrency, queue=limits.max_queue, timeout=limits.queue_timeout)
        self.limits = limits
        self._usage = {name: KeyUsage(key.limits) for name, key in config.keys.items()}

    async def reload(self, config: ServiceConfig) -> None:
        """Serve new requests by another configuration; running ones end by theirs. The ``[server]`` table stays.

        Raises:
            ConfigurationError: it is wrong; nothing has changed.
        """
        check_address(ServiceConfig(server=self.limits, models=config.models, keys=config.keys))
        models = ModelSet(config)
        self._usage = {
            name: KeyUsage(key.limits) if (usage := self._usage.get(name)) is None else usage.with_limits(key.limits)
            for name, key in config.keys.items()
        }
        self.models, retired = models, self.models
        await retired.retire()

    def create_app(self) -> Starlette:
        """Return the ASGI application."""
        prefix = self.limits.path_prefix
        routes = [
            Route(f"{prefix}/v1/chat/completions", self._endpoint(self._chat), methods=["POST"]),
            Route(f"{prefix}/v1/models", self._endpoint(self._list_models), methods=["GET"]),
            Route(f"{prefix}/v1/models/{{model:path}}", self._endpoint(self._show_model), methods=["GET"]),
            Route(f"{prefix}/healthz", _health, methods=["GET"]),
            Route(f"{prefix}/readyz", self._ready, methods=["GET"]),
        ]
        middleware = [Middleware(RequestMiddleware, write_timeout=self.limits.write_timeout)]
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
        yield
        await self.models.retire()

    def _endpoint(self, handler: Callable[[Request, Caller, ModelSet], Awaitable[Response]]) -> Endpoint:
        """Return a handler with the caller identified, and every error as a reply."""

        async def endpoint(request: Request) -> Response:
            models = self.models
            try:
                if not models.config.keys:
                    check_host_header(request.headers.get("host", ""), self.limits.host)
                caller = await identify(request.headers, models.keys, models.config)
                return await handler(request, caller, models)
            except (ClientGone, ClientDisconnect):
                return Response(status_code=_NOBODY)
            except _KNOWN as error:
                return _error_response(reply_to_error(error))

        return endpoint

    async def _list_models(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        rows = [_model_row(name) for name in models.models if caller.may_use(name)]
        return JsonReply({"object": "list", "data": rows})

    async def _show_model(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        name = request.path_params["model"]
        _find_model(name, caller, models)
        return JsonReply(_model_row(name))

    async def _ready(self, request: Request) -> Response:
        if self.admission.is_full:
            return JsonReply({"status": "busy"}, 503, {"retry-after": "1"})
        return JsonReply({"status": "ready"})

    async def _chat(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        """Answer one question: read it, sample and choose while the client waits, and reply."""
        body = await read_body(request, max_bytes=self.limits.max_body_bytes, timeout=self.limits.body_timeout)
        call = parse_chat_call(body)
        model = _find_model(call.model, caller, models)
        facts = ReplyFacts(id=uuid.uuid4().hex, created=int(time.time()), call=call)
        usage = self._usage.get(caller.name) if caller.name is not None else None
        if usage is not None:
            usage.begin()
        task = asyncio.create_task(self._select(call, model, caller, models, usage))
        if call.stream:
            # An error within the first seconds still has a status of its own; after that it is an event.
            has_ended = await wait_for(task, request.receive, timeout=self.limits.keep_alive)
            if not has_ended or task.exception() is None:
                headers = swift_headers(task.result()) if has_ended else {}
                return EventStream(self._events(task, facts, model), {**headers, "x-swift-id": facts.id})
        else:
            await wait_for(task, request.receive)
        try:
            selection = task.result()
        except _KNOWN as error:
            return _error_response(_reply_to_failure(error, model, facts))
        return JsonReply(
            chat_completion(selection, facts), headers={**swift_headers(selection), "x-swift-id": facts.id}
        )

    async def _select(
        self, call: ChatCall, model: VirtualModel, caller: Caller, models: ModelSet, usage: KeyUsage | None
    ) -> Selection:
        async with models.use(), self.admission.turn():
            selection: Selection | None = None
            try:
                selection = await model.answer(call, caller.bearer)
            except (RejectedError, VerificationError) as error:
                selection = error.selection  # paid for, though it is not the reply
                raise
            except BudgetExceededError as error:
                selection = error.best
                raise
            finally:
                if usage is not None and selection is not None:
                    tokens = selection.usage.prompt_tokens + selection.usage.completion_tokens
                    usage.pay(tokens=tokens, usd=selection.cost)
            return selection

    async def _events(
        self, task: asyncio.Task[Selection], facts: ReplyFacts, model: VirtualModel
    ) -> AsyncGenerator[bytes]:
        """Yield comments until the answer is chosen, then the answer or the error."""
        try:
            while not task.done():
                yield chat_stream.KEEP_ALIVE
                await asyncio.wait({task}, timeout=self.limits.keep_alive)
            try:
                selection = task.result()
                events = chat_stream.reply_events(
                    chat_completion(selection, facts), include_usage=facts.call.include_usage
                )
                for event in events:
                    yield event
            except Exception as error:
                if not isinstance(error, _KNOWN):
                    log_failure(facts.id, error)
                yield chat_stream.error_event(_reply_to_failure(error, model, facts))
        finally:
            await end(task)


def _reply_to_failure(error: Exception, model: VirtualModel, facts: ReplyFacts) -> ErrorReply:
    """Return the reply to an error of ``best_of``; an answer that was rejected is described, since it is paid for."""
    reply = reply_to_error(error, is_callers_key=model.uses_callers_key)
    if isinstance(error, RejectedError):
        reply.body["swift"] = swift_object(error.selection, facts)
    return reply


def _find_model(name: str, caller: Caller, models: ModelSet) -> VirtualModel:
    model = models.models.get(name)
    if model is None or not caller.may_use(name):
        raise HttpError(
            404, f"The model {name[:200]!r} does not exist, or you may not use it.", code="model_not_found",
            param="model",
        )  # fmt: skip
    return model


def _model_row(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "swift-client"}


def _error_response(reply: ErrorReply) -> Response:
    return JsonReply(reply.body, reply.status, reply.headers)


async def _health(request: Request) -> Response:
    return JsonReply({"status": "ok"})


async def _refuse(request: Request, error: Exception) -> Response:
    """Reply to a path or method that does not exist."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = {404: "There is no such path.", 405: "The method is not allowed here."}.get(status, "Refused.")
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return JsonReply(error_body(status, message, code="not_found" if status == 404 else None), status, headers)
