"""The samples file as SQLite: its layout, how it is opened, and what each way to fail is called.

WAL, and ``synchronous=FULL``: one fsync for each reply. NORMAL would do for kill -9, but not for a power cut, and a
reply has been paid for; a provider takes seconds to answer, an fsync milliseconds. `collect` holds the file alone
(``locking_mode=EXCLUSIVE``): two of them on one file would pay for the same samples twice. ``best_of`` shares it, and
holds it for one transaction at a time. While someone writes there is a ``-wal`` file beside the file; it is folded in
at the end, or by whoever opens the file next. The file holds prompts and answers: only its owner may read a new one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swift_client.errors import ConfigurationError

FORMAT = 1
"""Version of the layout, in ``user_version``."""
APPLICATION_ID = 0x73776674
"""What ``application_id`` says: "swft"."""
MAX_VALUE_BYTES = 256 * 2**20
"""Bytes of the largest text or blob that is read."""
LOCK_TIMEOUT = 0.3
"""Seconds that a file in use is waited for; whoever uses it alone will not be done soon."""
SHARED_LOCK_TIMEOUT = 3.0
"""Seconds that those who share a file wait for their turn."""

SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE question (id TEXT PRIMARY KEY, messages TEXT NOT NULL, answer TEXT, family TEXT)",
    "CREATE TABLE reply (id INTEGER PRIMARY KEY, question TEXT NOT NULL, seed INTEGER, prompt_tokens INTEGER NOT NULL, "
    "completion_tokens INTEGER NOT NULL, estimated INTEGER NOT NULL, samples INTEGER NOT NULL, cost REAL)",
    "CREATE TABLE sample (question TEXT NOT NULL, number INTEGER NOT NULL, reply INTEGER NOT NULL, text TEXT NOT NULL, "
    "finish_reason TEXT NOT NULL, arrays BLOB NOT NULL, label REAL, UNIQUE (question, number))",
)
"""Statements that make the file. A file with any other table, view or trigger is not ours and is not read."""


class EmptyFileError(ConfigurationError):
    """The file holds nothing at all: it is being made, or was never written to."""


def connect(path: Path, *, write: bool, shared: bool = False) -> sqlite3.Connection:
    """Open the file, and make it where ``write`` is set and there is none.

    Args:
        path: the file.
        write: append to it.
        shared: let others write as well, between transactions.

    Raises:
        ConfigurationError: it cannot be opened, is no samples file, or is in use; the file is left as it was.
    """
    if not write and not path.is_file():
        raise ConfigurationError(
            f"There is no samples file {path}.", hint="`swift-client collect --out` writes one; check the path."
        )
    with translate_errors(path):
        connection = _open_connection(path, write=write, timeout=SHARED_LOCK_TIMEOUT if shared else LOCK_TIMEOUT)
        try:
            _prepare(connection, path, write=write, shared=shared)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn each error of SQLite's into one sentence on what happened and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain_error(path, error) from error


def not_a_samples_file(
    path: Path, reason: str, hint: str = "Samples files are written by `swift-client collect`."
) -> ConfigurationError:
    """Return the error for a file that is not one of ours, or not sound."""
    return ConfigurationError(f"{path} is no samples file: {reason.rstrip('.')}.", hint=hint)


def _open_connection(path: Path, *, write: bool, timeout: float) -> sqlite3.Connection:
    address = path.absolute().as_uri()
    if write:
        new = not path.exists()
        if not os.access(path.parent if new else path, os.W_OK) or not os.access(path.parent, os.W_OK):
            raise _cannot_open(path, "it or its folder may not be written, or does not exist")
        connection = sqlite3.connect(f"{address}?mode=rwc", uri=True, isolation_level=None, timeout=timeout)
        if new:  # and still without a byte; SQLite gives the files beside it the same mode
            path.chmod(0o600)
        return connection
    # SQLite reads a WAL file only where it may write beside it. Where it may not, and no writer has left anything to
    # fold in, the file does not change and can be read as it is.
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    left_over = Path(f"{path}-wal").exists()
    mode = "mode=rw" if writable else "mode=ro" if left_over else "mode=ro&immutable=1"
    return sqlite3.connect(f"{address}?{mode}", uri=True, isolation_level=None, timeout=LOCK_TIMEOUT)


def _prepare(connection: sqlite3.Connection, path: Path, *, write: bool, shared: bool) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")
    if not write:
        connection.execute("PRAGMA query_only=ON")
        _check(connection, path)
        return
    if not shared:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA synchronous=FULL")
    if _is_empty(connection):
        _enable_wal(connection)
        _create_tables(connection)
    _check(connection, path)
    _enable_wal(connection)
    if not shared:
        connection.execute("BEGIN IMMEDIATE")  # takes the lock, or says at once that another holds it
        connection.execute("COMMIT")


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Put the file into WAL mode, which is done once in its life; SQLite waits for nobody there, so this does."""
    for wait in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, None):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if wait is None or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(wait)


def _create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, unless another process has done so meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    if _is_empty(connection):
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT}")
    connection.execute("COMMIT")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,) and _read_pragma(
        connection, "application_id"
    ) in (0, APPLICATION_ID)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _is_empty(connection):
        raise EmptyFileError(
            f"{path} is no samples file: it is empty.", hint="Samples files are written by `swift-client collect`."
        )
    if _read_pragma(connection, "application_id") != APPLICATION_ID:
        raise not_a_samples_file(path, "it is a SQLite file of another program")
    if (found := _read_pragma(connection, "user_version")) != FORMAT:
        raise not_a_samples_file(
            path, f"its format is {found} and this swift-client reads {FORMAT}", "Upgrade swift-client."
        )
    if {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")} != set(SCHEMA):
        raise not_a_samples_file(path, "its tables are not those of this format")


def _read_pragma(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _cannot_open(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be opened: {reason}.", hint="Check that its folder exists and that you may write there."
    )


def _explain_error(path: Path, error: sqlite3.Error) -> ConfigurationError:
    code = getattr(error, "sqlite_errorcode", None) or 0
    match code & 0xFF:  # extended codes carry the kind in their low byte
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return ConfigurationError(
                f"{path} is in use by another process.",
                hint="Wait until its `swift-client collect` has ended, or give another file.",
            )
        case sqlite3.SQLITE_FULL:
            return ConfigurationError(
                f"There is no room left to write {path}; what it holds is whole.", hint="Make room and run this again."
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return ConfigurationError(f"{path} holds this sample already: {error}.", hint="Each index is kept once.")
        case sqlite3.SQLITE_NOTADB:
            return not_a_samples_file(path, "it is not a SQLite file")
        case sqlite3.SQLITE_CORRUPT:
            return not_a_samples_file(
                path, f"it is damaged ({error})", f"Rescue what is left with: sqlite3 {path} .recover"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return _cannot_open(path, str(error))
        case sqlite3.SQLITE_IOERR:
            return ConfigurationError(
                f"{path} could not be read or written: {error}.", hint="Check the disk, and the room left on it."
            )
    return not_a_samples_file(path, str(error))
