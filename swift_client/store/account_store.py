"""States of shared limits in a samples file, which the processes of one machine change in turn."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from swift_client.errors import ConfigurationError
from swift_client.store.fork_guard import FORK_GUARD
from swift_client.store.schema import ACCOUNTS
from swift_client.store.sqlite import connect, not_a_samples_file, open_shared, transaction

T = TypeVar("T")


class FileAccountStore:
    """The accounts in a samples file, a home of shared limits (``shared_limits.AccountStore``). Thread-safe.

    The file is opened by the first call, and again by the call after one that failed, or after a fork. States survive
    kill -9 once ``update()`` returns; a power cut may cost those of the last seconds (``synchronous=NORMAL``).
    ``collect`` may write to the file meanwhile.

    Args:
        path: the samples file; created if it does not exist.
        clock: Unix seconds.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path).absolute()  # the working directory may change before it is opened
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @property
    def place(self) -> str:
        """The path, for messages."""
        return str(self.path)

    def update(self, name: str, change: Callable[[bytes | None, float], tuple[bytes, T]]) -> T:
        """Replace the state of an account in one transaction; return the other value of ``change``.

        Args:
            name: the account.
            change: gets the bytes of its state, None if there is none, and the Unix time; if it raises, nothing is
                written.

        Raises:
            ConfigurationError: the file is not a samples file, damaged, locked for seconds, or cannot be written.
        """
        with FORK_GUARD.block_forks(), self._lock:
            try:
                return self._update(name, change)
            except ConfigurationError:
                self._close()  # the file may be mended or replaced before the next call
                raise

    def check(self) -> None:
        """Raise ConfigurationError if there is a file and it is not a samples file; nothing is written."""
        if self.path.exists() and self.path.stat().st_size:
            connect(self.path, write=False).close()

    def close(self) -> None:
        """Release the file; calling it twice is harmless."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _update(self, name: str, change: Callable[[bytes | None, float], tuple[bytes, T]]) -> T:
        if self._connection is None:
            FORK_GUARD.close_before_forks(self)
            self._connection = open_shared(self.path, ACCOUNTS)
        with transaction(self._connection, self.path) as run:
            row = run("SELECT state FROM account WHERE name = ?", (name,)).fetchone()
            if row is not None and not isinstance(row[0], bytes):
                raise not_a_samples_file(self.path, f"the state of account {name!r} is damaged")
            state, result = change(row and row[0], self._clock())
            run("INSERT OR REPLACE INTO account VALUES (?, ?)", (name, state))
        return result
