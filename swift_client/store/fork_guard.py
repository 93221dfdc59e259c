"""Files that are not open while the process forks."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Closable(Protocol):
    """A user of a shared file."""

    def close(self) -> None:
        """Close the file; it is opened again when it is used."""


class ForkGuard:
    """Delays forks while a shared file is in use, and closes those that stay open in between.

    SQLite's locks belong to the process, and a child would believe that it holds them, see
    https://www.sqlite.org/howtocorrupt.html, section 2.6. Forking concerns the whole process, hence the module's one
    instance.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._open_count = 0
        self._files: weakref.WeakSet[Closable] = weakref.WeakSet()

    @contextmanager
    def block_forks(self) -> Iterator[None]:
        """Delay forks until this block ends, which must be short and must not fork itself."""
        with self._condition:
            self._open_count += 1
        try:
            yield
        finally:
            with self._condition:
                self._open_count -= 1
                self._condition.notify_all()

    def close_before_forks(self, file: Closable) -> None:
        """Close a file before the next fork; whatever opens or uses it blocks forks meanwhile."""
        with self._condition:
            self._files.add(file)

    def before_fork(self) -> None:
        """Wait until no file is in use, close those that are open, and let no other be opened."""
        self._condition.acquire()
        self._condition.wait_for(lambda: not self._open_count)
        for file in self._files:
            file.close()

    def after_fork(self) -> None:
        """Let files be opened again."""
        self._condition.release()

    def after_fork_in_child(self) -> None:
        """Forget the files of the parent, whose locks its threads may hold, and let files be opened again."""
        self._files = weakref.WeakSet()
        self._condition.release()


FORK_GUARD = ForkGuard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORK_GUARD.before_fork,
        after_in_parent=FORK_GUARD.after_fork,
        after_in_child=FORK_GUARD.after_fork_in_child,
    )
