"""ReplyStore: replies are kept as they arrive, and found again when the same is asked."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from swift_client.store.records import RequestKey, Sample
from swift_client.store.sample_store import SampleStore
from swift_client.store.sqlite import EmptyFileError
from swift_client.types import Completion, Usage


class ReplyStore:
    """A samples file that many threads and processes read and add to while they ask.

    Nothing is opened before its first use. Each reply is one transaction, in a thread of its own: the file is in use
    for milliseconds, and one file between them. At the end of the process that thread finishes what it was given.

    The file holds prompts and answers as they were sent, in plain text; only its owner may read a new one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._writers: dict[int, _Writer] = {}
        """By process: after a fork the parent's thread is not there."""

    def lookup(self, request_key: RequestKey, n: int) -> list[Sample]:
        """Return up to ``n`` completions that were drawn for the same request, in the order of their indices.

        Raises:
            ConfigurationError: the file is foreign, damaged or in use, or the request is not plain JSON.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        try:
            with FORK_GUARD.block_forks(), SampleStore(self.path) as store:
                return store.samples_for_request(request_key, limit=n)
        except EmptyFileError:  # another process is just making it
            return []

    def save(
        self, request_key: RequestKey, completions: Sequence[Completion], *, first_index: int, usage: Usage
    ) -> Future[None]:
        """Write down what one call brought, its completions numbered from ``first``; return at once.

        The future ends when they are safe from kill -9, or with what :meth:`SampleStore.add_reply` raises.
        """
        writer = self._writers.get(os.getpid())
        if writer is None:
            writer = self._writers.setdefault(os.getpid(), _Writer(self.path))
        return writer.save(_Reply(request_key, tuple(completions), first_index, usage))

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r})"


class _Reply(NamedTuple):
    request_key: RequestKey
    completions: tuple[Completion, ...]
    first_index: int
    usage: Usage


class _Writer:
    """One process's thread that writes; what came while it was busy is written in one go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "swift-client-store")
        self._queue: deque[tuple[_Reply, Future[None]]] = deque()

    def save(self, reply: _Reply) -> Future[None]:
        kept: Future[None] = Future()
        self._queue.append((reply, kept))
        self._thread.submit(self._write)
        return kept

    def _write(self) -> None:
        if not self._queue:
            return  # an earlier turn took it along
        failed: BaseException | None = None
        try:
            with FORK_GUARD.block_forks(), SampleStore(self._path, write=True, shared=True) as store:
                while self._queue:
                    reply, kept = self._queue.popleft()
                    try:
                        store.add_reply(
                            reply.request_key, reply.completions, first_index=reply.first_index, usage=reply.usage
                        )
                        kept.set_result(None)
                    except Exception as error:
                        kept.set_exception(error)
        except Exception as error:  # the file cannot be opened; whoever waits is told
            failed = error
        while failed and self._queue:
            self._queue.popleft()[1].set_exception(failed)


class ForkGuard:
    """Counts who has a file open; a fork waits until nobody has."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._open_count = 0

    @contextmanager
    def block_forks(self) -> Iterator[None]:
        """Put forks off until this block ends, which must be soon and must not fork itself."""
        with self._condition:
            self._open_count += 1
        try:
            yield
        finally:
            with self._condition:
                self._open_count -= 1
                self._condition.notify_all()

    def before_fork(self) -> None:
        """Wait until nothing is open, and let nobody begin."""
        self._condition.acquire()
        self._condition.wait_for(lambda: not self._open_count)

    def after_fork(self) -> None:
        """Go on, in parent and child."""
        self._condition.release()


FORK_GUARD = ForkGuard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORK_GUARD.before_fork, after_in_parent=FORK_GUARD.after_fork, after_in_child=FORK_GUARD.after_fork
    )
