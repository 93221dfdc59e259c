"""One request on its way to the provider and back, as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from swift_client.adapters.transport.http import MAX_REPLY_BYTES
from swift_client.adapters.transport.raw_reply import RawReply
from swift_client.errors import AuthenticationError, SwiftClientError
from swift_client.server.access.cost_meter import CostMeter
from swift_client.server.http.disconnect import EventStream, wait_for
from swift_client.server.http.error_reply import HttpError, reply_to_error
from swift_client.server.http.json_reply import error_response
from swift_client.server.http.server_events import server_event
from swift_client.server.observability.record import RequestRecord
from swift_client.server.passthrough.token_count import TokenCount
from swift_client.server.passthrough.upstream import Upstream
from swift_client.server.question.body_fields import unsupported_field

_PASSED_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")
_JSON, _EVENTS, _TEXT = "application/json", "text/event-stream", "text/plain"
_MIN_KEY_CHARS = 8  # shorter ones are placeholders


@dataclass(frozen=True, kw_only=True)
class Forwarding:
    """One request to be sent as it is.

    Attributes:
        path: Path below the provider's base URL.
        body: The decoded body.
        callers_key: The key in the caller's Authorization header; empty without one.
        record: Gets the tokens, the cost and the error.
    """

    path: str
    body: Mapping[str, Any]
    callers_key: str
    record: RequestRecord

    @property
    def model(self) -> str:
        """The model that the body names."""
        return str(self.body["model"])


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The head of a reply, with the next bytes of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_stream(self) -> bool:
        """True if further parts follow."""
        return self.headers["content-type"] == _EVENTS


async def forward(
    request: Forwarding, upstream: Upstream, turn: AbstractAsyncContextManager[CostMeter], receive: Receive
) -> Response:
    """Send one request and return the reply of the provider.

    Args:
        request: the request.
        upstream: the provider.
        turn: held while the request runs; it yields the meter that is told its cost.
        receive: of the client's request, to cancel the provider's if the client hangs up.

    Raises:
        HttpError: the request is refused.
        ClientGone: the client hung up.
    """
    if "swift" in request.body:
        raise unsupported_field("swift", f"has no meaning for {request.model[:200]!r}, which is not a virtual model")
    parts = _parts(request, upstream, turn)

    async def read_first() -> _Part:
        return await anext(parts)

    task = asyncio.create_task(read_first())
    await wait_for(task, receive)
    try:
        first = task.result()
    except (HttpError, SwiftClientError) as error:
        request.record.error = error
        return error_response(reply_to_error(error, is_callers_key=upstream.uses_callers_key))
    if first.is_stream:
        return EventStream(_bodies(parts), first.headers)
    await parts.aclose()  # ends the turn
    return Response(first.body, first.status, first.headers)


async def _parts(
    request: Forwarding, upstream: Upstream, turn: AbstractAsyncContextManager[CostMeter]
) -> AsyncGenerator[_Part]:
    """Yield the whole reply, or the head of a stream and then its chunks.

    A generator, so that the turn and the connection end also if its reader does.
    """
    # What has been checked is what is sent: a repeated member, for example, has one value.
    body = msgspec.json.encode(request.body)
    async with turn as meter:
        cost = await upstream.cost_model(request.model)
        async with upstream.open(request.path, body, request.callers_key) as reply:
            part, count = _head(reply), TokenCount(len(body))
            try:
                if part.is_stream:
                    yield part
                    async for chunk in reply.chunks:
                        count.add_chunk(chunk)
                        yield replace(part, body=chunk)
                else:
                    part = replace(part, body=await _read_whole(reply, upstream))
                    count.add_body(part.body)
                    yield part
            except SwiftClientError as error:
                if not part.is_stream:
                    raise
                request.record.error = error  # the status has been sent by now
                yield replace(part, body=b"\n\n" + server_event(reply_to_error(error).body))
            finally:
                if reply.status < 400:
                    usage = count.usage()
                    meter.set(usage, cost.cost(usage))
                    request.record.tokens = usage.prompt_tokens + usage.completion_tokens
                    request.record.cost = cost.cost(usage)


async def _bodies(parts: AsyncGenerator[_Part]) -> AsyncGenerator[bytes]:
    async with aclosing(parts):
        async for part in parts:
            yield part.body


def _head(reply: RawReply) -> _Part:
    """Return the head of a reply; any other type than JSON and events is shown as text, never as a page."""
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _JSON and (kind != _EVENTS or reply.status >= 400):
        kind = _TEXT
    passed = {name: reply.headers[name] for name in _PASSED_HEADERS if name in reply.headers}
    return _Part(status=reply.status, headers={**passed, "content-type": kind, "x-content-type-options": "nosniff"})


async def _read_whole(reply: RawReply, upstream: Upstream) -> bytes:
    """Return the body of a reply that is not streamed, without the service's key if it is an error.

    Raises:
        AuthenticationError: the provider refuses the service's key; its message could show it.
        HttpError: 502: the reply is too long.
    """
    if reply.status in (401, 403) and not upstream.uses_callers_key:
        raise AuthenticationError("The provider refuses the key.", status=reply.status)
    parts, n_bytes = [], 0
    async for chunk in reply.chunks:
        parts.append(chunk)
        n_bytes += len(chunk)
        if n_bytes > MAX_REPLY_BYTES:
            raise HttpError(502, "The reply of the provider is too long.", code="upstream_invalid_reply")
    body = b"".join(parts)
    if reply.status >= 400 and not upstream.uses_callers_key:
        for secret in reply.secrets:
            if len(secret) >= _MIN_KEY_CHARS:
                body = body.replace(secret.encode(), b"***")
    return body
