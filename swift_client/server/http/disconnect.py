"""Work that ends when its client hangs up: an answer as one body, and an answer as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class ClientGone(Exception):  # not an error: there is nobody left to tell
    """The client hung up; the work was cancelled."""


async def until_disconnect(receive: Receive) -> None:
    """Return when the client hangs up. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def wait_for(task: asyncio.Task[T], receive: Receive, *, timeout: float | None = None) -> bool:
    """Wait for a task, and cancel it if the client hangs up.

    Args:
        task: the work.
        receive: of the request, whose body has been read.
        timeout: seconds to wait; None: no limit.

    Returns:
        True if the task ended, False if it is still running after ``timeout``.

    Raises:
        ClientGone: the client hung up; the task has ended.
    """
    watcher = asyncio.create_task(until_disconnect(receive))
    try:
        done, _ = await asyncio.wait({task, watcher}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        await end(task)
        raise
    finally:
        await end(watcher)
    if task in done:
        return True
    if watcher in done:
        await end(task)
        raise ClientGone
    return False


async def end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it has ended; its result is dropped."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # marks it as seen


class EventStream(Response):
    """Server-sent events, whose source ends when the client hangs up.

    Args:
        events: the source; closed at the end.
        headers: further headers.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        # Proxies such as nginx hold a stream back without the second header.
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""

        async def send_all() -> None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        task = asyncio.create_task(send_all())
        try:
            await wait_for(task, receive)
        except ClientGone:
            return
        finally:
            await _close(self._events)
        await task


async def _close(events: AsyncIterator[bytes]) -> None:
    closing: Awaitable[None] | None = events.aclose() if hasattr(events, "aclose") else None
    if closing is not None:
        await closing
