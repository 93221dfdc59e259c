"""A thread that stores what is queued for it, so that nobody waits for a disk or a network."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

S = TypeVar("S")


class WriterThread(Generic[S]):
    """One writer thread per process, which begins with the first write and finishes its queue as the process ends."""

    def __init__(self, open_store: Callable[[], AbstractContextManager[S]]) -> None:
        """Begin without a thread. ``open_store`` opens what is written to, each time the thread has work."""
        self._open_store = open_store
        # Queue per process id, since threads do not survive a fork.
        self._queues: dict[int, _Queue[S]] = {}

    def submit(self, write: Callable[[S], None]) -> Future[None]:
        """Queue a write and return its future, which may end with any error of it or of opening."""
        queue = self._queues.get(os.getpid())
        if queue is None:
            queue = self._queues.setdefault(os.getpid(), _Queue(self._open_store))
        return queue.submit(write)


class _Queue(Generic[S]):
    """The writes of a process. Those that arrive while the thread is busy are done together."""

    def __init__(self, open_store: Callable[[], AbstractContextManager[S]]) -> None:
        self._open_store = open_store
        self._thread = ThreadPoolExecutor(1, "swift-client-store")
        self._writes: deque[tuple[Callable[[S], None], Future[None]]] = deque()

    def submit(self, write: Callable[[S], None]) -> Future[None]:
        future: Future[None] = Future()
        self._writes.append((write, future))
        self._thread.submit(self._write_all)
        return future

    def _write_all(self) -> None:
        if not self._writes:
            return  # an earlier call did it
        try:
            # Do all queued writes while the store is open.
            with self._open_store() as store:
                while self._writes:
                    write, future = self._writes.popleft()
                    try:
                        future.set_result(write(store))
                    except Exception as error:
                        future.set_exception(error)
        except Exception as error:  # it cannot be opened: nothing that is queued can be stored
            while self._writes:
                self._writes.popleft()[1].set_exception(error)
