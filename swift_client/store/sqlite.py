"""The samples file as SQLite: schema, connections and error messages.

WAL with ``synchronous=FULL``: one fsync per reply. NORMAL would survive kill -9 but not a power cut, and a reply is
paid for; a provider takes seconds to answer, an fsync milliseconds. `collect` keeps other writers out (``WriteLock``),
since two runs on one file would pay for the same samples twice; ``best_of`` shares that lock. Readers are never kept
out. While a file is being written there are a ``-wal`` and a ``-shm`` file next to it, which are merged and deleted at
the end or when the file is next opened. A file system without shared memory, such as that of some networks, gets a
rollback journal: readers then wait for one transaction at a time. The file contains prompts and answers, so a new one
is readable by its owner only.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from swift_client.errors import ConfigurationError
from swift_client.store.schema import ADDED_TABLES
from swift_client.store.write_lock import WriteLock

APPLICATION_ID = 0x73776674  # value of ``application_id``: "swft"
MAX_VALUE_BYTES = 256 * 2**20  # bytes of the largest text or blob that may be read
LOCK_TIMEOUT = 0.3  # seconds for which a run waits for other writers, which will not finish soon
SHARED_LOCK_TIMEOUT = 3.0  # seconds for which a writer that shares the file, or a reader, waits for a transaction
# Codes of a WAL file whose shared memory cannot be created or locked.
_NO_SHARED_MEMORY = frozenset(
    (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY)
)

SQLITE_MAGIC = b"SQLite format 3\0"  # the first bytes of its files
_COLLECT_HINT = "Samples files are written by `swift-client collect`."
_IN_USE = (
    "{path} is in use by another process.",
    "Wait until its `swift-client collect` or `swift-client prune` has ended, or give another file.",
)
_NOT_OPENED = ("{path} cannot be opened: {reason}.", "Check that its folder exists and is writable.")
# Message and hint per primary error code of SQLite.
_EXPLANATIONS: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_FULL: (
        "The disk is full, so {path} cannot be written; its content is intact.",
        "Free disk space and run this again.",
    ),
    sqlite3.SQLITE_CONSTRAINT: ("{path} already contains this sample: {reason}.", "Each index can be stored once."),
    sqlite3.SQLITE_NOTADB: ("{path} is not a samples file: it is not a SQLite file.", _COLLECT_HINT),
    sqlite3.SQLITE_CORRUPT: (
        "{path} is not a samples file: it is damaged ({reason}).",
        "Recover what is left with: sqlite3 {path} .recover",
    ),
    sqlite3.SQLITE_READONLY: _NOT_OPENED,
    sqlite3.SQLITE_CANTOPEN: _NOT_OPENED,
    sqlite3.SQLITE_PERM: _NOT_OPENED,
    sqlite3.SQLITE_AUTH: _NOT_OPENED,
    sqlite3.SQLITE_IOERR: ("{path} could not be read or written: {reason}.", "Check the disk and its free space."),
}


class EmptyFileError(ConfigurationError):
    """The file is empty: it is being created, or was never written to."""


def connect(
    path: Path, *, write: bool, shared: bool = False, timeout: float = SHARED_LOCK_TIMEOUT
) -> sqlite3.Connection:
    """Open the file; with ``write``, create it if missing.

    Args:
        path: the file.
        write: append to it.
        shared: let others write between transactions.
        timeout: seconds for which one that shares the file, or a reader, waits for a transaction of another.

    Raises:
        ConfigurationError: it cannot be opened, is not a samples file, or is in use; the file is not changed.
    """
    with translate_errors(path):
        if not write:
            require_samples_file(path)
        try:
            return _open_prepared(path, write=write, shared=shared, timeout=timeout)
        except sqlite3.DatabaseError as error:
            code = _primary_code(error)
            if code == sqlite3.SQLITE_NOTADB:
                _refuse_parquet(path)
            if not write or code not in _NO_SHARED_MEMORY:
                raise
            return _open_prepared(path, write=write, shared=shared, timeout=timeout, has_shared_memory=False)


def open_shared(path: Path, format_number: int) -> sqlite3.Connection:
    """Open the file for short transactions of many processes, with the tables of a format.

    A power cut may cost the transactions of the last seconds (``synchronous=NORMAL``). Raises ConfigurationError as
    ``connect()``.
    """
    connection = connect(path, write=True, shared=True)
    try:
        with translate_errors(path):
            connection.execute("PRAGMA synchronous=NORMAL")
        with transaction(connection, path):
            add_tables(connection, format_number)
    except BaseException:
        connection.close()
        raise
    return connection


def write_lock(path: Path, *, shared: bool) -> WriteLock:
    """Return the lock of the file's writers, which keeps out all others, or all that do not share it.

    Raises:
        ConfigurationError: the file is in use by another writer, or its folder does not exist or is not writable.
    """
    with translate_errors(path):
        _require_writable(path)
        return WriteLock(path, shared=shared, timeout=SHARED_LOCK_TIMEOUT if shared else LOCK_TIMEOUT)


def _open_prepared(
    path: Path, *, write: bool, shared: bool, timeout: float, has_shared_memory: bool = True
) -> sqlite3.Connection:
    connection = _open_connection(path, write=write, shared=shared, timeout=timeout)
    try:
        _prepare(connection, path, write=write, has_shared_memory=has_shared_memory)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of SQLite, and those that a damaged file or text causes in Python, as ConfigurationError."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{path} cannot store this text: it contains half a surrogate pair.",
            hint="Remove the character, or replace it.",
        ) from error
    except (UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise not_a_samples_file(path, f"it is damaged ({type(error).__name__})") from error
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise _explain_error(path, sqlite3.SQLITE_CANTOPEN, reason) from error
    except sqlite3.Error as error:
        code = _primary_code(error)
        if code not in _EXPLANATIONS:
            raise not_a_samples_file(path, str(error)) from error
        raise _explain_error(path, code, str(error)) from error


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[Callable[..., sqlite3.Cursor]]:
    """Run one transaction: all of it is stored, or nothing. Raises ConfigurationError as ``translate_errors()``."""
    with translate_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection.execute
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back on a full disk
                connection.execute("ROLLBACK")
            raise


def _refuse_parquet(path: Path) -> None:
    """Raise ConfigurationError for a Parquet file, which others read in place of a samples file.

    For files that SQLite has refused only: to close any file releases all locks that this process has on it, also those
    of its connections to it (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            raise ConfigurationError(
                f"{path} is a Parquet file, which is only read, and not by everything.",
                hint="Give the samples file (.db) that it was exported from, and export that again if it changes.",
            )


def read_magic(path: str | os.PathLike[str]) -> bytes:
    """Return the first bytes of a file, by which SQLite's and others are told apart.

    A samples file in use is not opened: to close it would release all locks that this process has on it, also those of
    its connections to it (https://www.sqlite.org/howtocorrupt.html, section 2.2).

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: no file can have this name.
    """
    if os.path.exists(f"{os.fspath(path)}-wal"):
        return SQLITE_MAGIC
    with open(path, "rb") as file:
        return file.read(len(SQLITE_MAGIC))


def require_samples_file(path: Path) -> None:
    """Raise ConfigurationError if there is no such file; it is not opened."""
    if path.is_dir():
        raise ConfigurationError(
            f"{path} is a folder, and not a samples file.",
            hint="Give a samples file (.db). Folders hold Parquet files, which are only read, and not by everything.",
        )
    if not path.is_file():
        raise ConfigurationError(
            f"There is no samples file {path}.", hint="Check the path. `swift-client collect --out` writes one."
        )


def not_a_samples_file(path: Path, reason: str, hint: str = _COLLECT_HINT) -> ConfigurationError:
    """Return the error for a file that is not a samples file, or a damaged one."""
    return ConfigurationError(f"{path} is not a samples file: {reason.rstrip('.')}.", hint=hint)


def _open_connection(path: Path, *, write: bool, shared: bool, timeout: float) -> sqlite3.Connection:
    is_new = write and not path.exists()
    if write:
        _require_writable(path)
    # SQLite reads a WAL file only if it may write next to it. If not, and there is no -wal file left to merge, the file
    # does not change and can be read as it is.
    has_wal = Path(f"{path}-wal").exists()
    mode = "rwc" if write else "rw" if _is_writable(path) else "ro" if has_wal else "ro&immutable=1"
    address = f"{path.absolute().as_uri()}?mode={mode}"
    timeout = LOCK_TIMEOUT if write and not shared else timeout
    # A thread that forks closes the connections of others first.
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=timeout, check_same_thread=not shared)
    if is_new:  # still empty; SQLite creates the files next to it with the same mode
        path.chmod(0o600)
    return connection


def _is_writable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def _require_writable(path: Path) -> None:
    if not _is_writable(path):
        raise _explain_error(path, sqlite3.SQLITE_CANTOPEN, "it or its folder is not writable, or does not exist")


def _prepare(connection: sqlite3.Connection, path: Path, *, write: bool, has_shared_memory: bool) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    # The file may come from a stranger: https://www.sqlite.org/security.html
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
        connection.execute(f"PRAGMA {pragma}")
    if not write:
        connection.execute("PRAGMA query_only=ON")
        _check(connection, path)
        return
    if not has_shared_memory:
        _disable_wal(connection)  # before anything is read
    connection.execute("PRAGMA synchronous=FULL")
    if _is_empty(connection):
        if has_shared_memory:
            _enable_wal(connection)
        _create_tables(connection)
    _check(connection, path)
    if has_shared_memory:
        _enable_wal(connection)
        connection.execute("BEGIN IMMEDIATE")  # fails without shared memory
        connection.execute("COMMIT")


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL mode, with retries while it is in use: SQLite itself does not wait here."""
    for wait in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, None):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if wait is None or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(wait)


def _disable_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to a rollback journal; an exclusive connection needs no shared memory for that."""
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA locking_mode=NORMAL")
    _read_pragma(connection, "application_id")  # releases the lock


def _create_tables(connection: sqlite3.Connection) -> None:
    """Create the tables, unless another process has done so meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    if _is_empty(connection):
        for statement in ADDED_TABLES[1]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")
    connection.execute("COMMIT")


def has_tables(connection: sqlite3.Connection, format_number: int) -> bool:
    """Return True if the file has the tables of a format; another process may add them at any time."""
    return _read_pragma(connection, "user_version") >= format_number


def add_tables(connection: sqlite3.Connection, format_number: int) -> None:
    """Bring the file to a format, within the caller's transaction."""
    for number in range(_read_pragma(connection, "user_version") + 1, format_number + 1):
        for statement in ADDED_TABLES[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={number}")


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,) and _read_pragma(
        connection, "application_id"
    ) in (0, APPLICATION_ID)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _is_empty(connection):
        raise EmptyFileError(f"{path} is not a samples file: it is empty.", hint=_COLLECT_HINT)
    if _read_pragma(connection, "application_id") != APPLICATION_ID:
        raise not_a_samples_file(path, "it is a SQLite file of another program")
    # A transaction reads one state of the file, also while another process adds tables.
    connection.execute("BEGIN")
    version = _read_pragma(connection, "user_version")
    if version not in ADDED_TABLES:
        formats = f"{min(ADDED_TABLES)} to {max(ADDED_TABLES)}"
        raise not_a_samples_file(
            path, f"its format is {version} and this swift-client reads {formats}", "Upgrade swift-client."
        )
    # ANALYZE adds tables of statistics, whose contents the query planner alone reads.
    statements = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT IN ('sqlite_stat1', 'sqlite_stat4')"
    )
    expected = {sql for number in range(1, version + 1) for sql in ADDED_TABLES[number]}
    if {sql for (sql,) in statements} != expected:
        raise not_a_samples_file(path, "its tables are not those of this format")
    connection.execute("COMMIT")


def _read_pragma(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _primary_code(error: sqlite3.Error) -> int:
    """Return the primary code, which is the low byte of an extended code; 0 if there is none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _explain_error(path: Path, code: int, reason: str) -> ConfigurationError:
    message, hint = (text.format(path=path, reason=reason) for text in _EXPLANATIONS[code])
    return ConfigurationError(message, hint=hint)
