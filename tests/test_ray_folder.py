"""The folder of a cluster's run, without a cluster: files that appear whole, what is stored, and what was lost."""

from __future__ import annotations

import asyncio
import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet

from swift_client.errors import ConfigurationError
from swift_client.ray.batch import Batch, ShardWriter, require_current_run
from swift_client.ray.buffer import Rows, SampleBuffer
from swift_client.ray.committed import Committed
from swift_client.ray.folder import Folder
from swift_client.ray.in_flight import BatchJournal, Losses, journal_name, read_losses
from swift_client.ray.questions import parse_row, read_questions
from swift_client.ray.run_folder import begin_folder, end_run, take_over
from swift_client.ray.shards import encode_shard, shard_name
from swift_client.store import Meta, Sample, StoredQuestion
from swift_client.types import Completion, Usage

META = Meta(provider="p", model="m", top_logprobs=1, sampling={"temperature": 0.5})


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder(tmp_path / "run")
    memory = fsspec.filesystem("memory")
    if memory.exists("/run"):
        memory.rm("/run", recursive=True)
    return Folder("memory://run")


def question(name: str) -> StoredQuestion:
    return StoredQuestion(id=name, messages=({"role": "user", "content": f"What is {name}?"},), answer="4")


def sample(name: str, index: int) -> Sample:
    completion = Completion(
        text="4", index=index, finish_reason="stop", tokens=("4",), logprobs=np.array([-0.5], np.float32),
        top_logprobs=np.array([[-0.5]], np.float32), censored=np.zeros(1, np.bool_),
    )  # fmt: skip
    return Sample(question_id=name, index=index, completion=completion, seed=3, cost=0.25)


def store(folder: Folder, number: int, indices: dict[str, list[int]], *, run: str = "a") -> None:
    samples = [(question(name), sample(name, index)) for name, numbers in indices.items() for index in numbers]
    usage = Usage(prompt_tokens=7, completion_tokens=len(samples), calls=1)
    rows = Rows(samples=samples, usage=usage, cost=0.25 * len(samples))
    folder.write(shard_name(run, number, 0), encode_shard(rows, meta=META))


def test_files_are_written_read_listed_and_deleted(folder: Folder) -> None:
    assert folder.read("a/b.json") is None
    assert folder.list_files("a", ".json") == []
    folder.write("a/b.json", b"one")
    folder.write("a/b.json", b"two")
    folder.write("a/.hidden.json", b"")
    assert folder.read("a/b.json") == b"two"
    assert folder.exists("a/b.json")
    assert not folder.exists("a/c.json")
    assert folder.list_files("a", ".json") == ["a/b.json"]
    assert pickle.loads(pickle.dumps(folder)).read("a/b.json") == b"two"
    folder.delete("a/b.json")
    folder.delete("a/b.json")
    assert not folder.exists("a/b.json")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("a.json", b"old")
    with pytest.raises(TypeError):
        folder.write("a.json", "no bytes")
    assert folder.read("a.json") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_passwords_of_a_url_are_never_shown() -> None:
    folder = Folder("s3://key:secret@bucket/run7?region=eu")
    assert (str(folder), repr(folder)) == ("s3://bucket/run7", "Folder('s3://bucket/run7')")
    with pytest.raises(ConfigurationError, match="No file system knows nothing://"):
        Folder("nothing://bucket/run7")


def test_what_is_stored_is_found_by_question_with_its_usage_and_cost(folder: Folder) -> None:
    assert Committed.read(folder).indices(["q1"]) == {}
    store(folder, 0, {"q1": [0, 1], "q2": [0, 1, 9]})
    store(folder, 1, {"q1": [2]})
    committed = Committed.read(folder)
    assert committed.indices(["q1", "unknown", "q2"]) == {"q1": {0, 1, 2}, "q2": {0, 1, 9}}
    assert (committed.samples, committed.cost) == (6, 1.5)
    assert committed.usage == Usage(prompt_tokens=14, completion_tokens=6, calls=2)


@given(st.lists(st.dictionaries(st.text(max_size=3), st.sets(st.integers(0, 30), min_size=1)), max_size=4))
def test_the_table_of_what_is_stored_equals_a_plain_dictionary(shards: list[dict[str, set[int]]]) -> None:
    from swift_client.ray.committed import _sort_masks, digest_id

    expected: dict[str, set[int]] = {}
    digests, masks = [], []
    for shard in shards:
        for name, indices in shard.items():
            expected.setdefault(name, set()).update(indices)
            digests.append(digest_id(name))
            masks.append(sum(1 << index for index in indices))
    committed = Committed(**_sort_masks(digests, masks))
    assert committed.indices([*expected, "unknown"]) == expected


@pytest.mark.parametrize(
    "table",
    [
        pyarrow.table({"other": [1]}),
        pyarrow.table({"question": ["q"], "index": [-1]}),
        pyarrow.table({"question": ["q"], "index": [10**6]}),
        pyarrow.table({"question": pyarrow.array([None], pyarrow.string()), "index": [0]}),
    ],
)
def test_a_file_that_is_no_shard_is_named(folder: Folder, table: Any) -> None:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    folder.write("samples/part-x.parquet", sink.getvalue())
    with pytest.raises(ConfigurationError, match=r"part-x.parquet is not a shard of samples"):
        Committed.read(folder)
    folder.write("samples/part-x.parquet", b"no Parquet")
    with pytest.raises(ConfigurationError, match=r"part-x.parquet is not a shard of samples"):
        Committed.read(folder)


async def test_what_a_killed_worker_may_have_paid_for_is_counted_once(folder: Folder) -> None:
    names = ["q1", "q2", "q3", "q4"]
    journal = BatchJournal(
        folder=folder, name=journal_name("a", 0), missing={name: [0, 1, 2] for name in names},
        max_cost=lambda name: 0.5, ahead=2, losses=Losses(completions=4, cost=1.0), check_run=lambda: None,
    )  # fmt: skip
    await asyncio.gather(journal.announce(question("q1")), journal.announce(question("q2")))
    store(folder, 0, {"q1": [0, 1, 2], "q2": [1]})
    # The worker is killed here: two completions of q2 are not stored, and q3 was never announced.
    committed, losses = take_over(folder, "b")
    assert committed.samples == 4
    assert losses == Losses(completions=4 + 2, cost=1.0 + 2 * 0.5)
    assert folder.list_files("in_flight", ".json") == []
    assert take_over(folder, "c")[1] == losses
    assert end_run(folder, "c", committed, losses) == losses
    assert folder.read("run.json") == b"c"


async def test_a_worker_of_an_earlier_run_requests_nothing_and_what_it_announced_is_counted(folder: Folder) -> None:
    folder.write("run.json", b"a")
    journal = BatchJournal(
        folder=folder, name=journal_name("a", 0), missing={"q1": [0], "q2": [0, 1]}, max_cost=lambda name: 0.5,
        ahead=1, losses=Losses(), check_run=partial(require_current_run, folder, "a"),
    )  # fmt: skip
    await journal.announce(question("q1"))
    committed, losses = take_over(folder, "b")
    assert losses == Losses(completions=1, cost=0.5)
    with pytest.raises(ConfigurationError, match="Another run collects"):
        await journal.announce(question("q2"))
    # Its journal came after the other run had looked: it is read at the end of that one.
    folder.write(journal_name("b", 0), b'{"losses": {"completions": 9, "cost": 9.0}}')
    assert end_run(folder, "b", committed, losses) == Losses(completions=1 + 3, cost=0.5 + 3 * 0.5)
    assert folder.list_files("in_flight", ".json") == []


async def test_the_journal_of_a_batch_goes_with_it_unless_it_tells_of_losses(folder: Folder) -> None:
    for losses in (Losses(), Losses(completions=2, cost=None)):
        journal = BatchJournal(
            folder=folder, name="in_flight/x.json", missing={"q1": [0]}, max_cost=lambda name: None, ahead=1,
            losses=losses, check_run=lambda: None,
        )  # fmt: skip
        await journal.announce(question("q1"))
        assert folder.exists("in_flight/x.json")
        await journal.close()
        assert read_losses(folder, "in_flight/x.json", lambda names: {}) == losses
    folder.write("in_flight/x.json", b'{"entries": [["q", [-1], null]]}')
    with pytest.raises(ConfigurationError, match=r"in_flight/x.json is damaged"):
        read_losses(folder, "in_flight/x.json", lambda names: {})


async def test_a_file_system_that_fails_for_a_moment_loses_no_sample(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("run.json", b"a")
    questions = {"q1": question("q1")}
    buffer = SampleBuffer(path="x", questions=questions, existing={})
    journal = BatchJournal(
        folder=folder, name=journal_name("a", 0), missing={"q1": [0]}, max_cost=lambda name: 0.5, ahead=1,
        losses=Losses(), check_run=lambda: None,
    )  # fmt: skip
    batch = Batch(run="a", number=0, questions=tuple(questions.values()), existing={})
    writer = ShardWriter(
        folder=folder, batch=batch, buffer=buffer, journal=journal, meta=META, next_shard=0, seconds=60.0
    )
    await writer.begin(questions["q1"])
    assert writer.running == {"q1"}
    completion = sample("q1", 0).completion
    buffer.add_samples("q1", [completion], usage=Usage(), numbers=[0], cost=0.25, seed=None, grade=lambda _: [None])
    (tmp_path / "samples").write_bytes(b"no folder")
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0.2)
    assert not closing.done()
    (tmp_path / "samples").unlink()
    await closing
    assert Committed.read(folder).indices(["q1"]) == {"q1": {0}}


async def test_a_batch_that_is_stopped_tells_what_was_under_way(folder: Folder) -> None:
    journal = BatchJournal(
        folder=folder, name="in_flight/x.json", missing={"q1": [0], "q2": [0, 1], "q3": [0]},
        max_cost=lambda name: 0.5, ahead=3, losses=Losses(), check_run=lambda: None,
    )  # fmt: skip
    await journal.announce(question("q1"))
    await journal.close({"q2"})
    assert read_losses(folder, "in_flight/x.json", lambda names: {}) == Losses(completions=2, cost=1.0)
    await journal.close()
    assert not folder.exists("in_flight/x.json")


def test_other_settings_are_refused_once_there_are_samples(folder: Folder) -> None:
    other = Meta(provider="p", model="other", top_logprobs=1)
    begin_folder(folder, other)
    begin_folder(folder, META)
    store(folder, 0, {"q1": [0]})
    begin_folder(folder, META)
    with pytest.raises(ConfigurationError, match="contains samples with model 'm' and not 'other'"):
        begin_folder(folder, other)
    assert json.loads(folder.read("settings.json") or b"")["model"] == "m"
    folder.write("settings.json", b"[]")
    with pytest.raises(ConfigurationError, match=r"settings.json is damaged"):
        begin_folder(folder, META)


def test_rows_are_questions_whatever_arrow_adds_to_their_messages() -> None:
    rows = [
        {"id": 1, "prompt": "What is 2 + 3?", "messages": None, "answer": "5", "family": None},
        {"id": "b", "prompt": None, "messages": [{"role": "user", "content": "Hi", "name": None}], "answer": None},
        {"id": "c", "prompt": None, "messages": '[{"role": "user", "content": "Hi"}]', "answer": None},
    ]
    assert [parse_row(row).id for row in rows] == ["1", "b", "c"]
    assert parse_row(rows[1]).messages == parse_row(rows[2]).messages == ({"role": "user", "content": "Hi"},)
    prompts = pyarrow.table({"prompt": ["What is 2 + 3?", "What is 9 - 4?"]})
    without_ids = list(read_questions([prompts]))
    assert len({question.id for question in without_ids}) == 2  # type: ignore[union-attr]
    assert without_ids == list(read_questions([prompts])), "ids are the same in every run"
    table = pyarrow.table({"id": ["a", None], "messages": ["{", "[5]"]})
    wrong = list(read_questions([table]))
    assert [name for name, _ in wrong] == ["a", "row 2"]  # type: ignore[misc]
    with pytest.raises(ConfigurationError, match="The dataset has the columns name"):
        list(read_questions([pyarrow.table({"name": ["a"]})]))
