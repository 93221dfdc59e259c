"""A samples file in use: replies, verdicts and selections are stored as they arrive, and found again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from swift_client.errors import UnknownSelectionError
from swift_client.store.fork_guard import FORK_GUARD
from swift_client.store.records import RequestKey, Sample, StoredVerdict
from swift_client.store.selection_store import SelectionStore
from swift_client.store.sqlite import EmptyFileError, translate_errors
from swift_client.store.writer_thread import WriterThread
from swift_client.types import Completion, Usage

if TYPE_CHECKING:
    from swift_client.redaction.policy import StoragePolicy

T = TypeVar("T")

# For which the writing thread waits for another writer: ``prune`` rewrites a large file in one transaction. An answer
# waits less long for it (``PendingWrites``).
_WRITER_SECONDS = 60.0


class ReplyStore:
    """A samples file that many threads and processes read and append to at the same time.

    Nothing is opened before first use. A writer thread stores each reply in one transaction, so the file is locked for
    milliseconds only. At the end of the process that thread finishes its queue.

    The file contains prompts and answers in plain text unless ``policy`` says otherwise; a new one is readable by its
    owner only.
    """

    def __init__(self, path: str | os.PathLike[str], *, policy: StoragePolicy | None = None) -> None:
        self.path = Path(path)
        self.policy = policy
        self._writer = WriterThread(self._open_for_writing)

    @property
    def place(self) -> str:
        """The path, for messages."""
        return str(self.path)

    @property
    def selections(self) -> ReplyStore:
        """This file, which also records choices and feedback."""
        return self

    def lookup(self, request_key: RequestKey, n: int) -> list[Sample]:
        """Return up to ``n`` stored completions of the same request, in the order of their indices.

        Raises:
            ConfigurationError: not a samples file, damaged or in use, or the request is not plain JSON.
        """
        return self.read(lambda store: store.samples_for_request(request_key, limit=n)) or []

    def lookup_verdicts(self, keys: Sequence[str]) -> dict[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key. Raises ConfigurationError as ``lookup()``."""
        return self.read(lambda store: store.verdicts(keys)) or {}

    def save(
        self, request_key: RequestKey, completions: Sequence[Completion], *, first_index: int, usage: Usage
    ) -> Future[None]:
        """Queue one reply for storage, its completions numbered from ``first_index``, and return at once.

        The future ends when they survive kill -9, or with an error of ``SampleStore.add_reply()``.
        """
        reply = tuple(completions)
        return self._writer.submit(
            lambda store: store.add_reply(request_key, reply, first_index=first_index, usage=usage)
        )

    def save_verdict(self, key: str, verdict: StoredVerdict, *, question_id: str | None = None) -> Future[None]:
        """Queue one verdict of a judge on a question, and return at once; the future as of ``save()``."""
        return self._writer.submit(lambda store: store.add_verdict(key, verdict, question_id=question_id))

    def save_selection(
        self,
        selection_id: str,
        facts: Mapping[str, Any],
        completions: Sequence[Completion],
        *,
        question_id: str,
        prompt: str,
        served_as: str | None,
        users: Sequence[bytes],
    ) -> Future[None]:
        """Queue a selection for storage, as of ``SelectionStore.add_selection()``, and return at once."""
        return self._writer.submit(
            lambda store: store.add_selection(
                selection_id,
                facts,
                completions,
                question_id=question_id,
                prompt=prompt,
                served_as=served_as,
                users=users,
            )
        )

    def save_feedback(self, selection_id: str, correct: bool | None) -> Future[None]:
        """Queue feedback, as of ``SelectionStore.set_feedback()``. Raises UnknownSelectionError if there is no file."""
        with translate_errors(self.path):
            if not self.path.exists():
                raise UnknownSelectionError.of_file(selection_id, self.path)
        return self._writer.submit(lambda store: store.set_feedback(selection_id, correct))

    def close(self) -> None:
        """Do nothing: the file is open only while it is read or written."""

    def read(self, read: Callable[[SelectionStore], T]) -> T | None:
        """Return what ``read`` finds in the file; None if there is no file yet.

        Raises:
            ConfigurationError: not a samples file, damaged or in use.
        """
        with translate_errors(self.path):
            if not self.path.exists() or not self.path.stat().st_size:
                return None
        try:
            with FORK_GUARD.block_forks(), SelectionStore(self.path) as store:
                return read(store)
        except EmptyFileError:  # another process is creating it
            return None

    @contextmanager
    def _open_for_writing(self) -> Iterator[SelectionStore]:
        with (
            FORK_GUARD.block_forks(),
            SelectionStore(self.path, write=True, shared=True, timeout=_WRITER_SECONDS, policy=self.policy) as store,
        ):
            yield store

    def __repr__(self) -> str:
        return f"ReplyStore({str(self.path)!r})"
