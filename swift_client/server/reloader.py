"""New configurations of a running service."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from swift_client.errors import SwiftClientError
from swift_client.server.config import ServiceConfig

logger = logging.getLogger(__name__)


class Reloader:
    """Applies configurations, one after another; a wrong one is logged and changes nothing.

    Args:
        apply: makes a configuration the one of new requests.
    """

    def __init__(self, apply: Callable[[ServiceConfig], Awaitable[None]]) -> None:
        self._apply = apply
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio holds tasks by weak references only

    def on_signal(self, load: Callable[[], ServiceConfig]) -> None:
        """Load and apply a configuration on every SIGHUP from now on, on systems that have it."""
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.start, load)

    def start(self, load: Callable[[], ServiceConfig]) -> None:
        """Load and apply a configuration in the background."""
        task = asyncio.get_running_loop().create_task(self._run(load))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, load: Callable[[], ServiceConfig]) -> None:
        async with self._lock:
            try:
                await self._apply(await asyncio.to_thread(load))
            except SwiftClientError as error:
                logger.error("The configuration was not reloaded. %s", error)
            else:
                logger.info("The configuration was reloaded.")
