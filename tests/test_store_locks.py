"""Locks on a samples file while one process has several connections to it: POSIX drops all when any file is closed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swift_client.bulk.sources.open_source import open_source
from swift_client.bulk.sources.parquet_files import ParquetFiles
from swift_client.dataset.sample_columns.locations import is_parquet
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


FORK_TWICE = """
import os, signal, sys, threading, warnings
warnings.simplefilter("ignore")
stores, begins = [], threading.Event()
def use_file():
    with stores[0]._lock:
        begins.set()
        threading.Event().wait()
def before_fork():  # after swift_client has closed the file, since handlers run in reverse order
    if not begins.is_set():
        threading.Thread(target=use_file, daemon=True).start()
        begins.wait()
os.register_at_fork(before=before_fork)
from swift_client.store import FileAccountStore
stores.append(FileAccountStore(sys.argv[1]))
stores[0].update("parent", lambda state, now: (b"1", None))
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(10)
own = FileAccountStore(sys.argv[1])
own.update("child", lambda state, now: (b"1", None))
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(own._connection, flush=True)
os._exit(0)
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


@pytest.mark.parametrize("look", [is_parquet, lambda path: isinstance(open_source(path, "auto"), ParquetFiles)])
def test_to_look_what_a_file_is_loses_no_commit(look: Callable[[Path], bool], tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    store = FileAccountStore(path)
    store.update("first", lambda state, now: (b"1", None))
    assert not look(path)
    run_child(WRITE, path)
    store.update("first", lambda state, now: (b"2", None))
    assert run_child(READ, path) == "[('child', b'1'), ('first', b'2')]\n"
    store.close()


def test_a_forked_process_may_fork_although_a_thread_of_its_parent_had_a_file_in_use(tmp_path: Path) -> None:
    assert run_child(FORK_TWICE, tmp_path / "limits.db") == "None\n"


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
