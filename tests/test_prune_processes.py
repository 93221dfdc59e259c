"""``prune`` while other processes and threads use the file, and after SIGKILL at any moment."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from swift_client.errors import ConfigurationError
from swift_client.store import FileAccountStore, ReplyStore, prune
from swift_client.store.pruning import file_erasure
from swift_client.store.pruning.file_erasure import FileErasure
from swift_client.types import Usage
from tests.children import environment, python
from tests.erasures import counts, leave_traces, mark, marked, request_key, require_whole, store_reply
from tests.generated import completion
from tests.test_reading_meanwhile import LOCK_HOLDER
from tests.test_store_locks import READ, WRITE, run_child

OLD, NEW = [f"old{number}" for number in range(60)], [f"new{number}" for number in range(20)]
PRUNE = """
import sys
from swift_client.store import prune
prune(sys.argv[1], older_than="30d")
"""
WRITER = """
import os, sys
sys.path.insert(0, sys.argv[2])
from swift_client.store import ReplyStore
from swift_client.types import Usage
from tests.erasures import request_key, store_reply
from tests.generated import completion
store, number = ReplyStore(sys.argv[1]), 0
print("began", flush=True)
while number < 20 or not os.path.exists(sys.argv[3]):
    key = request_key(f"live{number}")
    store.save(key, [completion(number, tokens=5)], first_index=0, usage=Usage(calls=1)).result()
    assert [sample.completion.tokens for sample in store.lookup(key, 9)] == [completion(number, tokens=5).tokens]
    number += 1
    print(number, flush=True)
"""
READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM sample").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose erasure takes some steps: old and new questions, with large answers."""
    path = tmp_path_factory.mktemp("large") / "kept.db"
    store = ReplyStore(path)
    names = [*OLD, *NEW]
    random.Random(0).shuffle(names)
    writes = []
    for name in names:
        texts = [completion(len(writes) + index, tokens=5) for index in range(8)]
        for index, one in enumerate(texts):
            object.__setattr__(one, "text", f"{mark(name)} {index} " + 3_000 * "text ")
        writes += [
            store.save(request_key(name), [one], first_index=index, usage=Usage(calls=1))
            for index, one in enumerate(texts)
        ]
    for write in writes:
        write.result(timeout=60)
    connection = sqlite3.connect(path, isolation_level=None)
    ids = {name: request_key(name).question.id for name in OLD}
    update = "UPDATE reply_origin SET time = 1 WHERE reply IN (SELECT id FROM reply WHERE question = ?)"
    connection.executemany(update, [(question,) for question in ids.values()])
    connection.close()
    return path


def copy(source: Path, target: Path) -> None:
    for file in source.parent.glob(f"{source.name}*"):
        (target.parent / file.name.replace(source.name, target.name)).write_bytes(file.read_bytes())


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    return process.stdout.readline()


def test_an_erasure_that_is_killed_leaves_a_whole_file_and_the_next_one_finishes_it(large: Path, path: Path) -> None:
    copy(large, path)
    began = time.monotonic()
    assert python("-c", PRUNE, str(path), cwd=path.parent).returncode == 0
    seconds = time.monotonic() - began
    unfinished = 0
    for attempt in range(8):
        copy(large, path)
        process = start(PRUNE, path)
        time.sleep(seconds * (0.3 + 0.7 * attempt / 8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        require_whole(path)
        left = counts(path)
        assert left["question"] >= len(NEW)
        assert left["sample"] == left["reply"] >= 8 * len(NEW)
        unfinished += bool(marked(path, OLD))
        prune(path, older_than="30d")
        require_whole(path)
        assert counts(path)["sample"] == 8 * len(NEW)
        assert marked(path, [*OLD, *NEW]) == set(NEW)
    assert unfinished  # some were killed before the end


def test_no_reply_of_a_live_writer_is_lost_and_none_comes_back(large: Path, path: Path, tmp_path: Path) -> None:
    copy(large, path)
    stop = tmp_path / "stop"
    with start(WRITER, path, os.getcwd(), stop) as writer:
        assert first_line(writer) == b"began\n"
        for number in range(3):
            store_reply(ReplyStore(path), f"again{number}", user="anne")
            result = prune(path, older_than="30d") if not number else prune(path, user="anne")
            assert result.has_erased
        stop.touch()
        assert writer.stdout
        lines = writer.stdout.read().split()
    assert writer.returncode == 0
    written = int(lines[-1])
    assert written >= 20
    store = ReplyStore(path)
    assert [len(store.lookup(request_key(f"live{number}"), 9)) for number in range(written)] == [1] * written
    assert marked(path, [*OLD, *NEW, "again0", "again1", "again2"]) == set(NEW)
    require_whole(path)


def test_the_log_beside_the_file_has_nothing_while_another_process_has_it_open(path: Path) -> None:
    store_reply(ReplyStore(path), "stays", user="bob")
    holder = start("import sys; from swift_client.store import SampleStore\nstore = SampleStore(sys.argv[1])\n"
                   "print(store.counts() and 'open', flush=True)\nsys.stdin.read()", path)  # fmt: skip
    with holder:
        assert first_line(holder) == b"open\n"
        store_reply(ReplyStore(path), "gone", user="anne")
        assert mark("gone").encode() in Path(f"{path}-wal").read_bytes()
        assert prune(path, user="anne").questions == 1
        assert sorted(os.listdir(path.parent)) == ["kept.db", "kept.db-shm", "kept.db-wal"]
        assert marked(path, ["gone", "stays"]) == {"stays"}


def test_a_reader_of_what_was_deleted_is_named_and_the_next_erasure_finishes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_erasure, "_READER_SECONDS", 0.3)
    store_reply(ReplyStore(path), "gone", user="anne")
    with start(READER, path) as reader:
        assert first_line(reader) == b"reads\n"
        with pytest.raises(ConfigurationError, match=r"The rows are deleted.*End the process that reads the file"):
            prune(path, user="anne")
        assert counts(path)["question"] == 0
        assert marked(path, ["gone"]) == {"gone"}
    result = prune(path, user="somebody else")
    assert result.questions == 0
    assert marked(path, ["gone"]) == set()


def test_an_erasure_leaves_the_note_of_another_that_deletes_meanwhile_and_is_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        store_reply(ReplyStore(path), name, user=name)
    leave_traces(path)
    empty_log, rewrite = FileErasure._empty_log, FileErasure._rewrite
    has_begun = threading.Event()

    def delete_and_end(erasure: FileErasure) -> None:
        if not has_begun.is_set():
            has_begun.set()
            monkeypatch.setattr(FileErasure, "_rewrite", lambda erasure, notes: None)
            assert prune(path, user="second").questions == 1
        empty_log(erasure)

    monkeypatch.setattr(FileErasure, "_empty_log", delete_and_end)
    assert prune(path, user="first").questions == 1
    monkeypatch.setattr(FileErasure, "_empty_log", empty_log)
    monkeypatch.setattr(FileErasure, "_rewrite", rewrite)
    assert len(notes(path)) == 1
    prune(path, user="somebody else")
    assert notes(path) == []
    assert marked(path, ["first", "second"]) == set()


def notes(path: Path) -> list[object]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT name FROM meta WHERE name LIKE 'erasure %'").fetchall()
    finally:
        connection.close()


def test_collect_keeps_an_erasure_out(path: Path) -> None:
    store_reply(ReplyStore(path), "gone", user="anne")
    with start(LOCK_HOLDER, path) as holder:
        assert first_line(holder) == b"open\n"
        with pytest.raises(ConfigurationError, match=r"in use by another process.*`swift-client collect`"):
            prune(path, user="anne")
    assert prune(path, user="anne").questions == 1


def test_an_erasure_in_a_process_that_has_the_file_open_loses_no_commit(path: Path) -> None:
    accounts = FileAccountStore(path)
    accounts.update("first", lambda state, now: (b"1", None))
    store_reply(ReplyStore(path), "gone", user="anne")
    assert prune(path, user="anne").questions == 1
    run_child(WRITE, path)
    accounts.update("first", lambda state, now: (b"2", None))
    assert run_child(READ, path) == "[('child', b'1'), ('first', b'2')]\n"
    accounts.close()


def test_threads_of_one_process_store_and_erase(path: Path) -> None:
    store, errors, stop = ReplyStore(path), [], threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            try:
                key = request_key(f"live{number}", user="bob")
                store.save(key, [completion(number, tokens=3)], first_index=0, usage=Usage(calls=1)).result(timeout=20)
            except Exception as error:
                errors.append(error)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(5):
        store_reply(store, "gone", user="anne")
        assert prune(path, user="anne").questions == 1
    stop.set()
    thread.join()
    assert errors == []
    require_whole(path)
    assert marked(path, ["gone"]) == set()
