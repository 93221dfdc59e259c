"""The event loop of the sync client, in a daemon thread that starts with the first call.

It works in plain scripts, inside a running loop (Jupyter, a sync handler of FastAPI), from many threads at once and
after a fork, because it never touches the caller's loop. Alternatives that do not: ``asyncio.run`` per call closes the
loop under the connection pool; nest_asyncio is unmaintained and cannot patch uvloop; anyio's BlockingPortal cancels
again at every await of a cleanup, and an interrupted call would leave tasks and connections behind.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from swift_client.errors import ConfigurationError, SwiftClientError

T = TypeVar("T")

_GRACE_SECONDS = 5.0  # seconds for cancelled work to close its connections


class BackgroundLoop:
    """Runs coroutines on its own loop and waits for them. Close it, or let it close itself at exit."""

    def __init__(self) -> None:
        # By process id: after a fork the child starts its own worker and never touches the parent's locks and sockets.
        self._workers: dict[int, _Worker] = {}
        self._closed = False

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``work()`` on the loop and return its result, or raise its error.

        An interrupt (Ctrl-C) cancels the work and waits until its connections are closed.

        Raises:
            ConfigurationError: the loop is closed, or this is called from the loop itself and would wait for ever.
        """
        if self._closed:
            raise ConfigurationError("This reranker is closed.", hint="Make a new one.")
        return self._workers.setdefault(os.getpid(), _Worker()).run(work)

    def close(self) -> None:
        """Cancel running work, close the loop and end the thread. May be called twice."""
        self._closed = True
        worker = self._workers.get(os.getpid())
        if worker:
            worker.close()


class _Worker:
    """The loop and thread of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``work()`` to its end, or until an interrupt; see ``BackgroundLoop.run()``."""
        has_ended = threading.Event()

        async def run_work() -> T:
            try:
                return await work()
            finally:
                has_ended.set()

        with self._lock:  # nothing may be submitted to a loop that is stopping
            loop = self._ensure_loop()
            future = asyncio.run_coroutine_threadsafe(run_work(), loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:  # by close() in another thread
            raise ConfigurationError("This reranker was closed while it worked.", hint="Make a new one.") from error
        except SwiftClientError as error:
            # The message says what to do, which forty frames of the loop, its tasks and retries would hide.
            raise error.with_traceback(None)  # noqa: B904
        except BaseException:  # KeyboardInterrupt: let the work close its connections
            if not future.done():
                future.cancel()
                has_ended.wait(_GRACE_SECONDS)
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._thread:
                self._finalizer()

    def _ensure_loop(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise ConfigurationError("This reranker is closed.", hint="Make a new one.")
        if threading.current_thread() is self._thread:
            raise ConfigurationError(
                "A sync call from the reranker's own callback would wait for itself.",
                hint="Use AsyncSwiftReranker there.",
            )
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="swift-client", daemon=True)
            self._thread.start()
            # Also runs at exit, while other threads still work, so the interpreter has nothing to warn about.
            self._finalizer = weakref.finalize(self, _stop, self._loop, self._thread, os.getpid())
        return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_shut_down(loop))
        loop.close()


async def _shut_down(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    if process == os.getpid():
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():  # the garbage collector runs anywhere
            thread.join(_GRACE_SECONDS)
