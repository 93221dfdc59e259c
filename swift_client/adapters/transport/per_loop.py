"""One transport for each running event loop, closed with its loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable

from swift_client.adapters import CustomTransport, Transport

AnyTransport = Transport | CustomTransport


class Transports:
    """Gives each running loop its own transport: a pooled connection cannot move to another loop.

    The transport is held by an async generator of that loop. ``asyncio.run`` and every other runner ends those before
    it closes the loop, so that connections are closed while they still can be, also where nobody called ``aclose``.
    """

    def __init__(self, connect: Callable[[], AnyTransport]) -> None:
        self._connect = connect
        self._open_transports: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AnyTransport, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()

    async def get(self) -> AnyTransport:
        """Return the running loop's transport; it opens nothing before its first request."""
        loop = asyncio.get_running_loop()
        for other in [other for other in list(self._open_transports) if other.is_closed()]:
            del self._open_transports[other]
        if loop not in self._open_transports:
            transport = self._connect()
            keeper = _hold_transport(transport)
            self._open_transports[loop] = transport, keeper
            await anext(keeper)
        return self._open_transports[loop][0]

    async def aclose(self) -> None:
        """Close the running loop's transport."""
        held = self._open_transports.pop(asyncio.get_running_loop(), None)
        if held:
            await held[1].aclose()


async def _hold_transport(transport: AnyTransport) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await transport.aclose()
