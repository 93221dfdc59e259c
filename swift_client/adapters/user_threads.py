"""Threads for functions that users pass: judges, external scorers, scorers, and functions that return a key."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 32


class UserThreads:
    """At most ``MAX_THREADS`` threads, in which functions that never end harm nobody else.

    asyncio's own threads are few and shared by the whole process, so a few hung functions would stop everything that
    needs one. A call that is cancelled before its turn never starts. The threads are daemons: the process may end
    while a function hangs.
    """

    def __init__(self) -> None:
        self._pools: dict[int, _Pool] = {}  # by process id, since threads and locks do not survive a fork

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a sync function in a thread; the wait for a free thread is part of the call."""
        pool = self._pools.setdefault(os.getpid(), _Pool())
        context = contextvars.copy_context()
        return await asyncio.wrap_future(pool.submit(partial(context.run, function, *args, **kwargs)))


class _Pool:
    """The threads of one process. Each ends when no call waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._n_threads = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            self._waiting.append((call, future))
            is_new_thread = self._n_threads < MAX_THREADS
            self._n_threads += is_new_thread
        if is_new_thread:
            threading.Thread(target=self._work, name="swift-client-user", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._n_threads -= 1
                    return
                call, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                _run(call, future)


def _run(call: Callable[[], T], future: Future[T]) -> None:
    try:
        result = call()
    except BaseException as error:
        # asyncio cannot pass on StopIteration; the errors that are no Exception would end the event loop or the task.
        is_passed_on = isinstance(error, Exception) and not isinstance(error, StopIteration)
        future.set_exception(error if is_passed_on else RuntimeError(f"{type(error).__name__}: {error}"))
    else:
        future.set_result(result)
