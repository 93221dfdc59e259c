"""Around every request: its id, one log line without content, a limit on the time that the client takes to read."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swift_client.server.http.error_reply import reply_to_error
from swift_client.server.http.json_reply import JsonReply

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)


class RequestMiddleware:
    """ASGI middleware; ``scope["state"]["request_id"]`` is the id, which every reply has as ``x-request-id``.

    Args:
        app: the application.
        write_timeout: seconds in which the client must take each part of the reply.
    """

    def __init__(self, app: ASGIApp, *, write_timeout: float) -> None:
        self._app, self._write_timeout = app, write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def send_in_time(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            async with asyncio.timeout(self._write_timeout):
                await send(message)

        try:
            await self._app(scope, receive, send_in_time)
        except TimeoutError:
            logger.warning("%s: the client did not take the reply", request_id)
        except Exception as error:
            log_failure(request_id, error)
            if not status:
                await _send_failure(send_in_time, error)
        finally:
            seconds = time.monotonic() - started
            # The path is logged only if it is one of ours: others may hold anything.
            path = scope["path"] if "endpoint" in scope else "-"
            logger.info("%s %s %s %d %.3f s", request_id, scope["method"], path, status, seconds)


def log_failure(request_id: str, error: Exception) -> None:
    """Log a bug by its class and the lines that led to it. Its message could quote a prompt, so it is left out."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", request_id, type(error).__name__, lines)


async def _send_failure(send: Send, error: Exception) -> None:
    reply = reply_to_error(error)
    response = JsonReply(reply.body, reply.status)
    await send({"type": "http.response.start", "status": reply.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})


def _request_id(scope: Scope) -> str:
    """Return the id that a proxy has given the request if it is a plain one, else a new one."""
    for name, value in scope["headers"]:
        text: str = value.decode("latin-1")
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(text):
            return text
    return uuid.uuid4().hex
