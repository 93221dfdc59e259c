"""Around every request: its id and its record, and a limit on the time that the client takes to read."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swift_client.server.http.error_reply import reply_to_error
from swift_client.server.http.json_reply import JsonReply
from swift_client.server.observability.observers import Observers, log_failure
from swift_client.server.observability.record import NOT_KNOWN, RequestRecord

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_TRACE_HEADERS = (b"traceparent", b"tracestate")
_MAX_TRACE_HEADER = 1024  # characters; longer ones are not passed on


class RequestMiddleware:
    """ASGI middleware; ``scope["state"]["record"]`` is the record, whose id every reply has as ``x-request-id``.

    Args:
        app: the application.
        observers: told of every request.
        paths: path of each endpoint; the paths of requests are not shown, as they may hold anything.
        write_timeout: seconds in which the client must take each part of the reply.
    """

    def __init__(
        self, app: ASGIApp, *, observers: Observers, paths: Mapping[object, str], write_timeout: float
    ) -> None:
        self._app, self._observers, self._paths, self._write_timeout = app, observers, paths, write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _create_record(scope)
        scope.setdefault("state", {})["record"] = record
        self._observers.begin(record)

        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", record.id.encode())]
            elif record.first_byte_seconds is None and not record.is_stream:
                record.first_byte_seconds = record.seconds_so_far()
            async with asyncio.timeout(self._write_timeout):
                await send(message)

        try:
            await self._app(scope, receive, send_in_time)
        except TimeoutError:
            logger.warning("%s: the client did not take the reply", record.id)
        except Exception as error:
            record.error = error
            log_failure(record.id, error)
            if not record.status:
                await _send_failure(send_in_time, error)
        finally:
            record.seconds = record.seconds_so_far()
            record.endpoint = self._paths.get(scope.get("endpoint"), NOT_KNOWN)
            self._observers.end(record)


async def _send_failure(send: Send, error: Exception) -> None:
    reply = reply_to_error(error)
    response = JsonReply(reply.body, reply.status)
    await send({"type": "http.response.start", "status": reply.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})


def _create_record(scope: Scope) -> RequestRecord:
    """Return the record of a request; its id is the one that a proxy has given it if that is a plain one."""
    request_id, trace_headers = "", {}
    for name, value in scope["headers"]:
        if name == b"x-request-id" and not request_id:
            text: str = value.decode("latin-1")
            request_id = text if _REQUEST_ID.fullmatch(text) else ""
        elif name in _TRACE_HEADERS and len(value) <= _MAX_TRACE_HEADER:
            trace_headers[name.decode()] = value.decode("latin-1")
    method = scope["method"] if scope["method"] in _METHODS else NOT_KNOWN
    return RequestRecord(id=request_id or uuid.uuid4().hex, method=method, trace_headers=trace_headers)
