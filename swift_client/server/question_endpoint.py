"""The endpoints that answer a question: read the request, sample and choose while the client waits, and reply."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from swift_client.errors import RejectedError, SwiftClientError
from swift_client.server.access.admission import Admission
from swift_client.server.access.cost_meter import CostMeter, ExpectedCost
from swift_client.server.access.identity import Caller
from swift_client.server.access.limit_rules import Scope
from swift_client.server.access.usage_limits import UsageLimits
from swift_client.server.config import ServerConfig
from swift_client.server.http.body import read_body
from swift_client.server.http.disconnect import EventStream, end, wait_for
from swift_client.server.http.error_reply import ErrorReply, HttpError, reply_to_error
from swift_client.server.http.json_reply import JsonReply, error_response
from swift_client.server.http.server_events import KEEP_ALIVE
from swift_client.server.observability.observers import log_failure
from swift_client.server.observability.record import LoggedContent, RequestRecord
from swift_client.server.passthrough.forward import Forwarding, forward
from swift_client.server.passthrough.upstream import Upstream
from swift_client.server.question.body_fields import decode_object
from swift_client.server.question.call import ChatCall
from swift_client.server.question.reply_parts import ReplyFacts, swift_headers, swift_object
from swift_client.server.virtual_model import ModelSet, VirtualModel
from swift_client.server.wire_format import WireFormat
from swift_client.types import Selection

_KNOWN = (HttpError, SwiftClientError)


class ServiceState(Protocol):
    """The parts of a running service that an endpoint uses."""

    @property
    def admission(self) -> Admission:
        """The queue before the work."""

    @property
    def limits(self) -> ServerConfig:
        """The table ``[server]``."""

    @property
    def usage(self) -> UsageLimits:
        """The counts behind the limits of keys and models."""


class QuestionEndpoint:
    """Answers questions that come in one wire format."""

    def __init__(self, service: ServiceState, wire: WireFormat) -> None:
        self._service, self._wire = service, wire

    async def __call__(self, request: Request, caller: Caller, models: ModelSet) -> Response:
        """Answer one question.

        Raises:
            HttpError: the request is refused.
            ClientGone, ClientDisconnect: the client hung up.
        """
        limits = self._service.limits
        body = decode_object(await read_body(request, max_bytes=limits.max_body_bytes, timeout=limits.body_timeout))
        name = body.get("model")
        if models.passthrough is not None and isinstance(name, str) and name not in models.models:
            return await self._pass_on(request, body, caller, models, models.passthrough)
        call = self._wire.parse(body)
        model = find_model(call.model, caller, models)
        facts = ReplyFacts(id=uuid.uuid4().hex, created=int(time.time()), call=call)
        record: RequestRecord = request.scope["state"]["record"]
        if model.policy is not None:
            record.content = LoggedContent()
        record.model, record.is_stream, record.messages = call.model, call.stream, call.messages
        record.selection_id = facts.id
        task = asyncio.create_task(self._select(call, model, caller, models, record))
        if call.stream:
            # An error within the first seconds still has a status of its own; after that it is an event.
            has_ended = await wait_for(task, request.receive, timeout=limits.keep_alive)
            if not has_ended or task.exception() is None:
                headers = swift_headers(task.result()) if has_ended else {}
                return EventStream(self._events(task, facts, model, record), {**headers, "x-swift-id": facts.id})
        else:
            await wait_for(task, request.receive)
        try:
            selection = task.result()
        except _KNOWN as error:
            record.error = error
            return error_response(_reply_to_failure(error, model, facts))
        return JsonReply(
            self._wire.reply(selection, facts), headers={**swift_headers(selection), "x-swift-id": facts.id}
        )

    async def _pass_on(
        self, request: Request, body: Mapping[str, Any], caller: Caller, models: ModelSet, upstream: Upstream
    ) -> Response:
        """Send a request for a model that is not a virtual one to the provider, as it is."""
        require_permission(body["model"], caller)
        record: RequestRecord = request.scope["state"]["record"]
        record.is_stream = body.get("stream") is True
        forwarding = Forwarding(path=self._wire.path, body=body, callers_key=caller.bearer, record=record)
        turn = self._turn(_key_scopes(caller, models), upstream.expected_cost, models)
        return await forward(forwarding, upstream, turn, request.receive)

    async def _select(
        self, call: ChatCall, model: VirtualModel, caller: Caller, models: ModelSet, record: RequestRecord
    ) -> Selection:
        scopes = [Scope(kind="model", name=call.model, limits=model.config.limits), *_key_scopes(caller, models)]
        async with self._turn(scopes, model.expected_cost, models) as meter:
            try:
                return await model.answer(call, caller, meter, record)
            finally:
                await self._redact_content(record, model)

    async def _redact_content(self, record: RequestRecord, model: VirtualModel) -> None:
        """Redact what is logged of a request, in a thread: a long prompt takes a second."""
        limits, task = self._service.limits, asyncio.current_task()
        is_cancelled = task is not None and task.cancelling()
        if model.policy is not None and (limits.log_content or limits.trace_content) and not is_cancelled:
            record.content = await asyncio.to_thread(record.redact, model.policy)

    @asynccontextmanager
    async def _turn(
        self, scopes: Sequence[Scope], expected: ExpectedCost, models: ModelSet
    ) -> AsyncGenerator[CostMeter]:
        """Hold a turn of the queue, within the limits of the scopes; the meter's cost at the end is counted."""
        async with (
            self._service.usage.request(scopes, expected.cost) as meter,
            models.use(),
            self._service.admission.turn(),
        ):
            try:
                yield meter
            finally:
                expected.observe(meter.cost)

    async def _events(
        self, task: asyncio.Task[Selection], facts: ReplyFacts, model: VirtualModel, record: RequestRecord
    ) -> AsyncGenerator[bytes]:
        """Yield comments until the answer is chosen, then the answer or the error."""
        try:
            if opening := self._wire.opening(facts):
                yield opening
            while not task.done():
                yield KEEP_ALIVE
                await asyncio.wait({task}, timeout=self._service.limits.keep_alive)
            try:
                reply = self._wire.reply(task.result(), facts)
                record.first_byte_seconds = record.seconds_so_far()
                for event in self._wire.events(reply, facts):
                    yield event
            except Exception as error:
                record.error = error
                if not isinstance(error, _KNOWN):
                    log_failure(record.id, error)
                yield self._wire.failure(_reply_to_failure(error, model, facts), facts)
        finally:
            await end(task)


def _key_scopes(caller: Caller, models: ModelSet) -> list[Scope]:
    """Return the limits of a caller's key; none without keys."""
    if caller.name is None:
        return []
    return [Scope(kind="key", name=caller.name, limits=models.config.keys[caller.name].limits)]


def find_model(name: str, caller: Caller, models: ModelSet) -> VirtualModel:
    """Return a virtual model that the caller may use. Raises HttpError with status 404 for any other name."""
    model = models.models.get(name)
    if model is None:
        raise _model_not_found(name)
    require_permission(name, caller)
    return model


def require_permission(name: str, caller: Caller) -> None:
    """Raise HttpError with status 404 unless the caller may use a model: for others it does not exist."""
    if not caller.may_use(name):
        raise _model_not_found(name)


def _model_not_found(name: str) -> HttpError:
    message = f"The model {name[:200]!r} does not exist, or you may not use it."
    return HttpError(404, message, code="model_not_found", param="model")


def _reply_to_failure(error: Exception, model: VirtualModel, facts: ReplyFacts) -> ErrorReply:
    """Return the reply to an error of ``best_of``; an answer that was rejected is described, since it is paid for."""
    reply = reply_to_error(error, is_callers_key=model.uses_callers_key)
    if isinstance(error, RejectedError):
        reply.body["swift"] = swift_object(error.selection, facts)
    return reply
