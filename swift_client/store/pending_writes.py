"""Writes to a store that an answer waits for, but only so long."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future

from swift_client.errors import SwiftClientError

# Seconds that an answer waits for its writes; after that the writing thread goes on alone.
WRITE_TIMEOUT = 4.0
_MIN_SECONDS = 0.05  # seconds that a write gets even after the deadline


class PendingWrites:
    """The writes of one answer."""

    def __init__(self, place: str, *, deadline_at: float | None) -> None:
        """Begin without any.

        Args:
            place: of the store: its path or address.
            deadline_at: the answer's deadline in the running loop's time; None without one.
        """
        self._place, self._deadline_at = place, deadline_at
        self._writes: list[tuple[str, Future[None]]] = []

    def add(self, subject: str, write: Future[None]) -> None:
        """Add a write of ``subject``, such as "2 completions are"."""
        self._writes.append((subject, write))

    def seconds_left(self, most: float, *, share: float = 1.0) -> float:
        """Return a share of the time until the deadline, at most ``most``."""
        if self._deadline_at is None:
            return most
        return min(most, max(_MIN_SECONDS, share * (self._deadline_at - asyncio.get_running_loop().time())))

    async def problems(self) -> list[str]:
        """Wait until all writes have ended or the time is over; return a sentence for each that is not stored."""
        await self._wait()
        sentences = []
        for subject, write in self._writes:
            if not write.done():
                sentences.append(f"{self._place} is slow: {subject} not yet written to it.")
            elif error := write.exception():
                reason = f"{error.message} {error.hint}" if isinstance(error, SwiftClientError) else repr(error)
                sentences.append(f"{subject} not stored: {reason.rstrip()}")
        return sentences

    async def _wait(self) -> None:
        """Wait until all writes have ended, at most WRITE_TIMEOUT; their errors stay in the futures."""
        loop, all_done = asyncio.get_running_loop(), asyncio.Event()
        remaining = len(self._writes)

        def count_down() -> None:
            nonlocal remaining
            remaining -= 1
            if not remaining:
                all_done.set()

        def on_done(_: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits any more
                loop.call_soon_threadsafe(count_down)

        for _, write in self._writes:
            write.add_done_callback(on_done)
        if self._writes:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(all_done.wait(), self.seconds_left(WRITE_TIMEOUT))
