"""Locks on a samples file while one process has several connections to it: POSIX drops all when any file is closed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from swift_client.errors import ConfigurationError
from swift_client.store import FileAccountStore
from swift_client.store.sqlite import connect
from swift_client.store.write_lock import WriteLock
from tests.children import environment

WRITE = """
import sys
from swift_client.store import FileAccountStore
store = FileAccountStore(sys.argv[1])
store.update("child", lambda state, now: (b"1", None))
store.close()
"""
READ = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT name, state FROM account ORDER BY name").fetchall())
"""
LOCK = """
import sqlite3, sys
from pathlib import Path
from swift_client.store.write_lock import WriteLock
try:
    WriteLock(Path(sys.argv[1]), shared=False, timeout=0).release()
except sqlite3.OperationalError:
    print("locked")
else:
    print("free")
"""


def run_child(code: str, path: Path) -> str:
    line = [sys.executable, "-c", code, os.fspath(path)]
    return subprocess.run(line, env=environment(), check=True, timeout=60, capture_output=True, text=True).stdout


def test_two_connections_of_one_process_lose_no_commit_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    first, second = FileAccountStore(path), FileAccountStore(path)
    first.update("first", lambda state, now: (b"1", None))
    second.update("second", lambda state, now: (b"1", None))
    run_child(WRITE, path)  # which would merge and delete the -wal file if it believed to be the last
    first.update("first", lambda state, now: (b"2", None))
    assert run_child(READ, path) == "[('child', b'1'), ('first', b'2'), ('second', b'1')]\n"
    first.close()
    second.close()


def test_a_process_that_shares_a_lock_twice_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    locks = [WriteLock(path, shared=True, timeout=0) for _ in range(2)]
    assert run_child(LOCK, path) == "locked\n"
    locks[0].release()
    assert run_child(LOCK, path) == "locked\n"
    locks[1].release()
    assert run_child(LOCK, path) == "free\n"


def test_a_second_attempt_of_a_process_does_not_release_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    lock = WriteLock(path, shared=False, timeout=0)
    with pytest.raises(sqlite3.OperationalError):
        WriteLock(path, shared=True, timeout=0)
    assert run_child(LOCK, path) == "locked\n"
    lock.release()
    assert run_child(LOCK, path) == "free\n"


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"\0" * 4096])
def test_a_parquet_file_is_named_as_one(tmp_path: Path, content: bytes, write: bool) -> None:
    path = tmp_path / "samples.db"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is a Parquet file"):
        connect(path, write=write)
    assert path.read_bytes() == content
