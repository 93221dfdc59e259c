"""The lock of a samples file's writers, which leaves its readers free.

SQLite's own exclusive mode would shut readers out for as long as a run of ``collect`` lasts. Instead, the writer locks
an empty SQLite file beside the samples file. SQLite locks it in the same way on every system, and the system itself
releases the lock of a process that is killed; then the empty file is left over, and harmless.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

_ATTEMPTS = 20  # times that the file may be deleted by its last holder while this process waits for it


class WriteLock:
    """A lock on writing that is held until ``release()``.

    Args:
        path: the samples file; its folder exists.
        shared: share the lock with others that share it.
        timeout: seconds to wait for another holder.

    Raises:
        sqlite3.OperationalError: another process or connection holds it, with the code SQLITE_BUSY.
        OSError: the file cannot be created.
    """

    def __init__(self, path: Path, *, shared: bool, timeout: float) -> None:
        self._path = Path(f"{path}-lock")
        for _ in range(_ATTEMPTS):
            # Never a file that exists: to close it would release the locks on it of this process's other connections.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            with suppress(FileNotFoundError):  # deleted meanwhile
                file_id = self._path.stat().st_ino
                self._connection = _lock(self._path, shared=shared, timeout=timeout)
                if self._path.exists() and self._path.stat().st_ino == file_id:
                    return
                self._connection.close()  # the lock of a deleted file keeps nobody out
        raise sqlite3.OperationalError(f"{self._path} is deleted again and again")

    def release(self) -> None:
        """Release the lock, and delete its file if nobody else holds it."""
        with suppress(sqlite3.Error):
            self._connection.execute("ROLLBACK")
            self._connection.execute("PRAGMA busy_timeout=0")
            self._connection.execute("BEGIN EXCLUSIVE")
            with suppress(OSError):  # Windows does not delete open files
                self._path.unlink()
        self._connection.close()


def _lock(path: Path, *, shared: bool, timeout: float) -> sqlite3.Connection:
    # Not "rwc": only the file whose identity is known may be locked.
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=timeout
        )
    except sqlite3.OperationalError as error:
        # Deleted by its last holder, even if another process has made it again by now.
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN and os.access(path.parent, os.W_OK):
            raise FileNotFoundError(path) from error
        raise
    try:
        connection.execute("BEGIN" if shared else "BEGIN EXCLUSIVE")
        if shared:  # a transaction takes its lock when it first reads
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_CANTOPEN and not path.exists():
            raise FileNotFoundError(path) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection
