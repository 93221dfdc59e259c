"""Erasure from a samples file: rows are deleted in short transactions, then the file is rewritten without their bytes.

Others may use the file meanwhile, so nothing keeps them out for long but the last step. A killed erasure is harmless: a
deletion notes in the same transaction that its bytes may still be there, and the next erasure removes them. Each
erasure has a note of its own, so that none takes that of another which deletes at the same time.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from swift_client.errors import ConfigurationError
from swift_client.redaction.file_texts import FileTexts
from swift_client.store.hidden_states import delete_states
from swift_client.store.pruning.criterion import Criterion
from swift_client.store.pruning.result import PruneResult
from swift_client.store.pruning.row_erasure import RowErasure
from swift_client.store.question_ranges import ERASURE_PREFIX
from swift_client.store.schema import ORIGINS
from swift_client.store.sqlite import (
    add_tables,
    connect,
    require_samples_file,
    transaction,
    translate_errors,
    write_lock,
)

_PAUSE = 0.03  # shortest time between two transactions, in which other writers get their turn; seconds
_LOCK_SECONDS = 60.0  # for which other writers are waited for
_READER_SECONDS = 30.0  # for which readers are waited for that still see what was deleted


class FileErasure:
    """One erasure from a file. Arguments and errors as of ``prune()``."""

    def __init__(self, path: Path, criterion: Criterion, *, dry_run: bool) -> None:
        self._path, self._criterion = path, criterion
        self._result = PruneResult(place=str(path), dry_run=dry_run)
        self._connection: sqlite3.Connection
        self._note = f"{ERASURE_PREFIX}{secrets.token_hex(8)}"

    def run(self) -> PruneResult:
        """Erase, and return the counts."""
        require_samples_file(self._path)
        lock = write_lock(self._path, shared=True)  # keeps ``collect`` out
        try:
            self._connection = connect(self._path, write=True, shared=True, timeout=_LOCK_SECONDS)
            try:
                with translate_errors(self._path):
                    self._run()
            finally:
                self._connection.close()
        finally:
            lock.release()
        return self._result

    def _run(self) -> None:
        for pragma in ("secure_delete=ON", "temp_store=MEMORY"):  # no temporary file gets what is deleted
            self._connection.execute(f"PRAGMA {pragma}")
        if (user := self._criterion.user) is not None:
            (stored_user,) = FileTexts(self._path, None).stored_users(self._connection.execute, [user])
            self._criterion = replace(self._criterion, user=stored_user)
        self._result.bytes_before = self._result.bytes_after = self._size()
        if self._result.dry_run:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._delete()
            finally:
                if self._connection.in_transaction:  # SQLite itself rolls back on a full disk
                    self._connection.execute("ROLLBACK")
            return
        self._delete()
        select = "SELECT name FROM meta WHERE name LIKE ?"
        if notes := self._connection.execute(select, (f"{ERASURE_PREFIX}%",)).fetchall():
            self._rewrite(notes)
        self._result.bytes_after = self._size()

    def _delete(self) -> None:
        """Delete rows, and the hidden states beside the file whose samples are gone."""
        with self._step():
            add_tables(self._connection, ORIGINS)
        RowErasure(self._path, self._connection, self._criterion, self._result, self._step).run()
        select = "SELECT question, number FROM sample"
        self._result.hidden_states = delete_states(
            self._path, lambda: set(self._connection.execute(select)), dry_run=self._result.dry_run
        )

    @contextmanager
    def _step(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """Run a transaction; if it has deleted, note that in the file and let others write. A dry run has only one."""
        if self._result.dry_run:
            yield self._connection.execute
            return
        started, changes = time.monotonic(), self._connection.total_changes
        with transaction(self._connection, self._path) as run:
            yield run
            has_deleted = self._connection.total_changes > changes
            if has_deleted:
                run("INSERT OR REPLACE INTO meta VALUES (?, 'unfinished')", (self._note,))
        if has_deleted:
            time.sleep(max(_PAUSE, time.monotonic() - started))

    def _rewrite(self, notes: Sequence[tuple[str]]) -> None:
        """Rewrite the file from its rows, and empty the log beside it; then nothing of the noted erasures is left.

        To overwrite deleted rows is not enough: earlier changes left copies of parts of them in free places of pages.
        """
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat4'").fetchone():
            self._connection.execute("DELETE FROM sqlite_stat4")  # the samples of ANALYZE repeat ids
        self._connection.execute("PRAGMA temp_store=FILE")  # a copy of what is left
        self._connection.execute("VACUUM")
        self._empty_log()
        with transaction(self._connection, self._path) as run:
            for note in notes:
                run("DELETE FROM meta WHERE name = ?", note)
        self._empty_log()

    def _empty_log(self) -> None:
        """Bring all of the log into the file and cut it to nothing, once nobody reads what was before."""
        deadline = time.monotonic() + _READER_SECONDS
        self._set_timeout(_PAUSE)
        while self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"The rows are deleted, but {self._path}-wal still has their texts, since it is being read.",
                    hint="End the process that reads the file, and run the same command again, which removes them.",
                )
            time.sleep(_PAUSE)  # for the writers
        self._set_timeout(_LOCK_SECONDS)

    def _set_timeout(self, seconds: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout={round(1000 * seconds)}")

    def _size(self) -> int:
        pages, size = (self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * size)
