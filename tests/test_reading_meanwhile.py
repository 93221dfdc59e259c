"""A samples file is readable while ``collect`` writes it, and a run leaves no other files behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from swift_client.errors import ConfigurationError
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.store.sqlite import EmptyFileError
from swift_client.types import Completion, Usage
from tests.children import environment
from tests.servers import FaultServer, after, chat

META = Meta(provider="p", model="m", top_logprobs=5)
QUESTION = StoredQuestion(id="q", messages=({"role": "user", "content": "2 + 2?"},), answer="4")
LOCK_HOLDER = """
import sys
from swift_client.store import SampleStore
with SampleStore(sys.argv[1], write=True):
    print("open", flush=True)
    sys.stdin.read()
"""


def add(store: SampleStore, index: int) -> None:
    completion = Completion(text="4", index=0, finish_reason="stop")
    store.add_samples("q", [completion], numbers=[index], usage=Usage(calls=1))


def start(store: SampleStore) -> None:
    store.begin(META)
    store.add_questions([QUESTION])


def test_another_process_writes_and_this_one_reads(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SampleStore(path, write=True) as store:
        start(store)
        add(store, 0)
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCK_HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == b"open\n"
        with SampleStore(path) as reader:
            assert reader.counts() == {"q": 1}
        for shared in (False, True):
            with pytest.raises(ConfigurationError, match="is in use by another process"):
                SampleStore(path, write=True, shared=shared)
        holder.kill()
    with SampleStore(path, write=True) as store:  # the system has released the lock of the dead process
        add(store, 1)
    assert os.listdir(tmp_path) == ["s.db"]


def test_a_reader_sees_each_reply_once_it_is_stored_and_outlives_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SampleStore(path, write=True) as store:
        start(store)
        with SampleStore(path) as reader:
            for index in range(3):
                add(store, index)
                assert reader.counts() == {"q": index + 1}
            store.close()
            assert reader.totals().samples == 3
    assert os.listdir(tmp_path) == ["s.db"]


def test_questions_that_are_added_while_others_are_read_come_at_the_end_and_none_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    questions = [StoredQuestion(id=f"q{number}", messages=QUESTION.messages) for number in range(600)]
    with SampleStore(path, write=True) as store:
        store.begin(META)
        store.add_questions(questions[:500])
        reader = SampleStore(path)
        reading = reader.iterate_questions()
        names = [next(reading).id for _ in range(300)]
        store.add_questions(questions[400:])
        names += [question.id for question in reading]
        reader.close()
    assert names == [question.id for question in questions]


def test_the_file_can_be_read_from_outside_while_collect_runs(fault_server: FaultServer, tmp_path: Path) -> None:
    questions, out = tmp_path / "q.jsonl", tmp_path / "s.db"
    questions.write_text("".join(f'{{"id": "q{i}", "prompt": "{i} + 1?", "answer": "4"}}\n' for i in range(12)))
    fault_server.serve(lambda request: after(0.1, chat(["4"], k=5)))
    address = ["--provider", "openai-compatible", "--model", "m", "--base-url", fault_server.url]
    limits = ["--n", "1", "--concurrency", "1", "--questions", str(questions), "--out", str(out)]
    code = "from swift_client.cli import main; main()"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "collect", *address, *limits], env=environment(), stdout=subprocess.DEVNULL
    )

    counts = set()
    with run:
        while run.poll() is None:
            if out.exists():
                with suppress(EmptyFileError), SampleStore(out) as reader:  # it may be about to be created
                    counts.add(len(reader.counts()))
            time.sleep(0.03)
    assert run.returncode == 0
    assert len(counts) > 4  # several states between none and all
    assert sorted(os.listdir(tmp_path)) == ["q.jsonl", "s.db"]


def test_a_file_system_without_shared_memory_gets_a_rollback_journal(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for index in range(2):  # a new file, and one that exists
        (tmp_path / "s.db-shm").mkdir()  # SQLite cannot create its shared memory
        with SampleStore(path, write=True) as store:
            start(store)
            add(store, index)
            with SampleStore(path) as reader:
                assert reader.counts() == {"q": index + 1}
        (tmp_path / "s.db-shm").rmdir()
    assert os.listdir(tmp_path) == ["s.db"]
    assert path.read_bytes()[18:20] == b"\x01\x01"  # https://www.sqlite.org/fileformat.html: 1 is a rollback journal
    with SampleStore(path, write=True) as store:  # back on a disk
        add(store, 2)
        assert store.counts() == {"q": 3}


def test_the_lock_is_taken_anew_if_its_file_is_deleted_by_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    for index in range(20):
        with SampleStore(path, write=True) as store:
            start(store)
            add(store, index)
            assert (tmp_path / "s.db-lock").stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "s.db-lock").exists()
