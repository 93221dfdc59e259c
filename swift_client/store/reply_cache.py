"""ReplyStore: replies are kept as they arrive, and found again when the same is asked."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from swift_client.store.fork_guard import SESSIONS
from swift_client.store.records import Sample
from swift_client.store.request_key import Asked
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

    def recall(self, asked: Asked, n: int) -> list[Sample]:
        """Return up to ``n`` completions that were drawn for the same request, in the order of their indices.

        Raises:
            ConfigurationError: the file is foreign, damaged or in use, or the request is not plain JSON.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        try:
            with SESSIONS.session(), SampleStore(self.path) as store:
                return store.replies(asked, most=n)
        except EmptyFileError:  # another process is just making it
            return []

    def keep(self, asked: Asked, completions: Sequence[Completion], *, first: int, usage: Usage) -> Future[None]:
        """Write down what one call brought, its completions numbered from ``first``; return at once.

        The future ends when they are safe from kill -9, or with what :meth:`SampleStore.add_reply` raises.
        """
        writer = self._writers.get(os.getpid())
        if writer is None:
            writer = self._writers.setdefault(os.getpid(), _Writer(self.path))
        return writer.keep(_Reply(asked, tuple(completions), first, usage))

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r})"


class _Reply(NamedTuple):
    asked: Asked
    completions: tuple[Completion, ...]
    first: int
    usage: Usage


class _Writer:
    """One process's thread that writes; what came while it was busy is written in one go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "swift-client-store")
        self._waiting: deque[tuple[_Reply, Future[None]]] = deque()

    def keep(self, reply: _Reply) -> Future[None]:
        kept: Future[None] = Future()
        self._waiting.append((reply, kept))
        self._thread.submit(self._write)
        return kept

    def _write(self) -> None:
        if not self._waiting:
            return  # an earlier turn took it along
        failed: BaseException | None = None
        try:
            with SESSIONS.session(), SampleStore(self._path, write=True, shared=True) as store:
                while self._waiting:
                    reply, kept = self._waiting.popleft()
                    try:
                        store.add_reply(reply.asked, reply.completions, first=reply.first, usage=reply.usage)
                        kept.set_result(None)
                    except Exception as error:
                        kept.set_exception(error)
        except Exception as error:  # the file cannot be opened; whoever waits is told
            failed = error
        while failed and self._waiting:
            self._waiting.popleft()[1].set_exception(failed)
