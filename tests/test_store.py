from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from swift_client import answers
from swift_client.errors import ConfigurationError
from swift_client.features import token_features
from swift_client.pocket.questions import questions
from swift_client.reranker import SwiftReranker
from swift_client.scoring.scorers import SCORERS, score
from swift_client.selection import choose
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.store.packing import pack, unpack
from swift_client.types import Completion, Usage
from tests.children import environment
from tests.generated import completion

META = Meta(provider="pocket", model="pocket", top_logprobs=20, sampling={"temperature": 0.8, "stop": ["\n"]})
QUESTION = StoredQuestion(id="q1", messages=({"role": "user", "content": "2 + 2?"},), answer="4", family="arithmetic")


def round_trip(completion: Completion) -> Completion:
    return unpack(
        pack(completion), text=completion.text, index=completion.index, finish_reason=completion.finish_reason
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples.db"


@pytest.fixture
def samples_path(path: Path) -> Path:
    with SampleStore(path, write=True) as store:
        store.begin(META)
        store.add_questions([QUESTION])
        for call in range(3):
            pair = [completion(2 * call + index, tokens=40) for index in range(2)]
            store.add_samples(
                "q1", pair, usage=Usage(prompt_tokens=7, completion_tokens=80, calls=1), cost=0.5, seed=call
            )
    return path


# --- numbers -----------------------------------------------------------------------------------------------------


def test_a_reply_of_400_tokens_takes_less_than_16_kb_and_with_identities_42() -> None:
    plain = [len(pack(completion(seed, ids=False))) for seed in range(10)]
    sizes = [len(pack(completion(seed))) for seed in range(10)]
    assert np.mean(plain) < 16_000
    assert np.mean(sizes) < 42_000


def test_chosen_logprobs_tokens_marks_and_identities_come_back_exactly() -> None:
    before = completion(1)
    after = round_trip(before)
    assert after.tokens == before.tokens
    for name in ("logprobs", "censored", "top_ids"):
        old, new = getattr(before, name), getattr(after, name)
        np.testing.assert_array_equal(new, old)
        assert new.dtype == old.dtype


def test_alternatives_come_back_within_float16() -> None:
    before, after = completion(2), round_trip(completion(2))
    np.testing.assert_allclose(after.top_logprobs, before.top_logprobs, rtol=2**-11, atol=2**-24)
    assert after.top_logprobs.dtype == np.float32
    assert (np.diff(after.top_logprobs, axis=1) <= 0).all()


@given(
    arrays(
        np.float32,
        (6, 4),
        elements=st.one_of(st.floats(-120, 0, width=32), st.just(-np.inf), st.floats(-(2.0**126), 0, width=32)),
    ),
    arrays(np.int64, 6, elements=st.integers(0, 3)),
)
def test_the_rank_of_the_chosen_token_and_what_is_listed_survive_any_rounding(
    values: np.ndarray, rank: np.ndarray
) -> None:
    top = -np.sort(-values, axis=1)
    chosen_logprobs = np.maximum(top[np.arange(6), rank], np.float32(-(2.0**126)))
    before = Completion(
        text="", tokens=tuple("abcdef"), logprobs=chosen_logprobs, top_logprobs=top, censored=np.zeros(6, np.bool_)
    )
    after = round_trip(before)
    above = [
        np.count_nonzero(completion.top_logprobs > completion.logprobs[:, None], axis=1)
        for completion in (before, after)
    ]
    np.testing.assert_array_equal(above[1], above[0])
    np.testing.assert_array_equal(np.isneginf(after.top_logprobs), np.isneginf(top))
    assert not (after.top_logprobs[:, 1:] > after.top_logprobs[:, :-1]).any()


@pytest.mark.parametrize(("tokens", "k"), [(0, 0), (3, 0), (0, 5), (1, 1)])
def test_empty_shapes_come_back_as_they_were(tokens: int, k: int) -> None:
    before = Completion(
        text="x",
        tokens=("a",) * tokens,
        logprobs=np.zeros(tokens, np.float32),
        top_logprobs=np.zeros((tokens, k), np.float32),
        censored=np.zeros(tokens, np.bool_),
    )
    assert round_trip(before).top_logprobs.shape == (tokens, k)


def test_hidden_states_and_projections_are_kept_where_there_are_any() -> None:
    before = replace(
        completion(3, tokens=5), hidden_states=np.ones((5, 8), np.float16), projections=np.ones((5, 2), np.float32)
    )
    after = round_trip(before)
    np.testing.assert_array_equal(after.hidden_states, before.hidden_states)
    np.testing.assert_array_equal(after.projections, before.projections)


def test_float16_alternatives_are_enough_no_feature_moves_by_more_than_2_in_1000() -> None:
    before = [completion(seed) for seed in range(8)]
    old = token_features(before)
    new = token_features([round_trip(completion) for completion in before])
    assert old.names == new.names
    scale = np.maximum(1.0, np.abs(old.values))
    assert float(np.max(np.abs(new.values - old.values) / scale)) < 2e-3


def test_float16_alternatives_are_enough_every_score_stays_and_every_selection_is_the_same() -> None:
    names = [name for name in SCORERS if name not in ("random",)]
    for question in range(12):
        before = [completion(100 * question + index, tokens=120, index=index) for index in range(8)]
        after = [round_trip(completion) for completion in before]
        readings = answers.read([completion.text for completion in before], "auto")
        for name in names:
            old, new = score(before, name), score(after, name)
            np.testing.assert_allclose(new.values, old.values, rtol=1e-3, atol=1e-4, err_msg=name)
            assert (
                choose.choose(after, new.values, answers=readings).winner
                == choose.choose(before, old.values, answers=readings).winner
            ), name


def test_float16_alternatives_are_enough_for_the_packaged_model_too() -> None:
    pytest.importorskip("xllamacpp", reason="the extra 'pocket' is not installed")
    with SwiftReranker("pocket") as reranker:
        for question in questions(6, seed=5):
            candidates = reranker.best_of(question.prompt, 8, seed=1, temperature=0.8).candidates
            before = [candidate.completion for candidate in candidates]
            after = [round_trip(completion) for completion in before]
            readings = answers.read([completion.text for completion in before], "auto")
            for name in ("mean_logprob", "entropy", "self_certainty", "deepconf_lowest"):
                old, new = score(before, name).values, score(after, name).values
                np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-4, err_msg=name)
                winners = [choose.choose(before, scores, answers=readings).winner for scores in (old, new)]
                assert winners[0] == winners[1], name


# --- the file ----------------------------------------------------------------------------------------------------


def test_what_was_added_comes_back(samples_path: Path) -> None:
    with SampleStore(samples_path) as store:
        assert store.meta == META
        assert store.questions() == [QUESTION]
        assert store.counts() == {"q1": 6}
        ((question, samples),) = store.questions_with_samples()
        spent = store.totals()
    assert question == QUESTION
    assert [sample.index for sample in samples] == [sample.completion.index for sample in samples] == [0, 1, 2, 3, 4, 5]
    assert [sample.seed for sample in samples] == [0, 0, 1, 1, 2, 2]
    assert [sample.cost for sample in samples] == [0.25] * 6
    assert samples[3].completion.text == completion(3, tokens=40).text
    assert (spent.samples, spent.cost) == (6, 1.5)
    assert spent.usage == Usage(prompt_tokens=21, completion_tokens=240, calls=3)


def test_it_is_one_file_once_it_is_closed(samples_path: Path) -> None:
    assert os.listdir(samples_path.parent) == ["samples.db"]


def test_the_cost_is_unknown_as_soon_as_that_of_one_call_is(samples_path: Path) -> None:
    with SampleStore(samples_path, write=True) as store:
        store.add_samples("q1", [completion(9)], usage=Usage(completion_tokens=400, calls=1))
        assert store.totals().cost is None
        assert store.samples("q1")[6].cost is None


def test_labels_are_set_and_changed_all_or_none(samples_path: Path) -> None:
    with SampleStore(samples_path, write=True) as store:
        store.set_labels({("q1", 0): 1, ("q1", 1): 0.0})
        with pytest.raises(ConfigurationError, match="no sample 'q1', 99"):
            store.set_labels({("q1", 2): 1, ("q1", 99): 1})
        with pytest.raises(ConfigurationError, match=r"label of 'q1', 2 is 0\.5"):
            store.set_labels({("q1", 2): 0.5})
        store.set_labels({("q1", 0): None})
        assert [sample.label for sample in store.samples("q1")] == [None, 0, None, None, None, None]


def test_a_file_never_mixes_models_or_ways_to_sample(samples_path: Path) -> None:
    with SampleStore(samples_path, write=True) as store:
        store.begin(META)
        with pytest.raises(ConfigurationError, match=r"contains samples with model 'pocket' and not 'gpt-4\.1'"):
            store.begin(replace(META, model="gpt-4.1"))
        with pytest.raises(ConfigurationError, match="sampling"):
            store.begin(replace(META, sampling={}))


def test_a_known_question_may_get_an_answer_but_no_other_prompt(samples_path: Path) -> None:
    with SampleStore(samples_path, write=True) as store:
        store.add_questions([replace(QUESTION, answer="four", family=None)])
        assert store.questions() == [replace(QUESTION, answer="four")]
        new = StoredQuestion(id="q0", messages=QUESTION.messages)
        with pytest.raises(ConfigurationError, match="contains question 'q1' with another prompt"):
            store.add_questions([new, replace(QUESTION, messages=({"role": "user", "content": "3 + 3?"},))])
        assert store.questions() == [replace(QUESTION, answer="four")]


def test_text_that_utf8_cannot_hold_is_kept_with_question_marks(samples_path: Path) -> None:
    odd_completion = replace(completion(1, tokens=1), text="a\ud800\0b", tokens=("\ud800",))
    with SampleStore(samples_path, write=True) as store:
        store.add_samples("q1", [odd_completion], usage=Usage())
        stored_completion = store.samples("q1")[-1].completion
    assert (stored_completion.text, stored_completion.tokens) == ("a?\0b", ("?",))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda store: store.add_samples("nobody", [completion(1)], usage=Usage()), "has no question 'nobody'"),
        (lambda store: store.add_samples("q1", [completion(1)], usage=Usage(), seed=2**64), "cannot store the seed"),
        (lambda store: store.begin(replace(META, sampling={"x": {1, 2}})), "cannot store this"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_sentence(samples_path: Path, act: object, message: str) -> None:
    with SampleStore(samples_path, write=True) as store, pytest.raises(ConfigurationError, match=message):
        act(store)  # type: ignore[operator]
    with SampleStore(samples_path) as store:
        assert store.counts() == {"q1": 6}


# --- kill -9 -----------------------------------------------------------------------------------------------------

WRITER = """
import sys
from tests.generated import completion
from swift_client.store import SampleStore, StoredQuestion
from swift_client.types import Usage
with SampleStore(sys.argv[1], write=True) as store:
    store.add_questions([StoredQuestion(id="q", messages=({"role": "user", "content": "?"},))])
    replies = [completion(seed, tokens=60) for seed in range(4)]
    while True:
        kept = store.add_samples("q", replies, usage=Usage(calls=1))
        sys.stdout.write(f"{kept[-1]}\\n"); sys.stdout.flush()
"""


@pytest.mark.parametrize("lines", [1, 7, 40])
def test_kill_9_loses_nothing_that_add_samples_returned_from(path: Path, lines: int) -> None:
    line = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment()) as child:
        assert child.stdout
        numbers = [int(child.stdout.readline()) for _ in range(lines)]
        child.kill()
        numbers += [int(rest) for rest in child.stdout.read().split(b"\n")[:-1]]
    with SampleStore(path) as store:
        samples = store.samples("q")
    assert [sample.index for sample in samples] == list(range(len(samples)))
    assert len(samples) > numbers[-1]
    assert len(samples) % 4 == 0  # a reply is there whole or not at all


def test_a_second_writer_is_refused_until_the_first_has_ended(samples_path: Path) -> None:
    with SampleStore(samples_path, write=True):
        for shared in (True, False):
            with pytest.raises(ConfigurationError, match="is in use by another process"):
                SampleStore(samples_path, write=True, shared=shared)
    with SampleStore(samples_path, write=True, shared=True) as first:
        with SampleStore(samples_path, write=True, shared=True) as second:
            assert first.counts() == second.counts() == {"q1": 6}
        with pytest.raises(ConfigurationError, match="is in use by another process"):
            SampleStore(samples_path, write=True)
    with SampleStore(samples_path, write=True) as store:
        assert store.counts() == {"q1": 6}
    assert os.listdir(samples_path.parent) == [samples_path.name]


# --- bad files ---------------------------------------------------------------------------------------------------


def assert_refused(path: Path, message: str) -> None:
    """Assert that both ways to open the file raise ``message`` and do not change it."""
    before = path.read_bytes()
    for write in (False, True):
        with pytest.raises(ConfigurationError, match=message), SampleStore(path, write=write) as store:
            list(store.questions_with_samples())
    assert path.read_bytes() == before


def test_no_file_is_one_sentence(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no samples file"):
        SampleStore(path)
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        SampleStore(path.parent / "nowhere" / "samples.db", write=True)
    assert os.listdir(path.parent) == []


def test_an_empty_file_is_not_a_samples_file_but_one_may_begin_there(path: Path) -> None:
    path.touch()
    with pytest.raises(ConfigurationError, match="it is empty"):
        SampleStore(path)
    with SampleStore(path, write=True) as store:
        assert store.questions() == []


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95 a pickle, not a database" * 100)
    assert_refused(path, "it is not a SQLite file")


def test_a_foreign_sqlite_file_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sample (x)")
    other.close()
    assert_refused(path, "of another program")


def edited(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def test_a_newer_format_is_refused_with_what_to_do(samples_path: Path) -> None:
    edited(samples_path, "PRAGMA user_version=9")
    assert_refused(samples_path, "its format is 9 and this swift-client reads 1 to 6. Upgrade swift-client")


def test_triggers_views_and_other_tables_are_refused(samples_path: Path) -> None:
    edited(samples_path, "CREATE TRIGGER t AFTER INSERT ON sample BEGIN DELETE FROM sample; END")
    assert_refused(samples_path, "its tables are not those of this format")


def test_a_damaged_page_is_reported(samples_path: Path) -> None:
    data = bytearray(samples_path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 16] = b"\xff" * 16
    samples_path.write_bytes(data)
    with (
        pytest.raises(ConfigurationError, match="is not a samples file: it is damaged"),
        SampleStore(samples_path) as store,
    ):
        list(store.questions_with_samples())


def test_a_file_cut_in_half_is_reported(samples_path: Path) -> None:
    samples_path.write_bytes(samples_path.read_bytes()[: samples_path.stat().st_size // 8192 * 4096])
    with (
        pytest.raises(ConfigurationError, match="is not a samples file: it is damaged"),
        SampleStore(samples_path) as store,
    ):
        list(store.questions_with_samples())


BLOBS = {
    "not compressed": b"hello",
    "cut": pack(completion(1, tokens=4))[:-9],
    "a bomb": zlib.compress(bytes(200 * 2**20)),
    "other arrays": zlib.compress(msgspec.msgpack.encode([["a"], {"x": [1, b""]}])),
    "too short": zlib.compress(
        msgspec.msgpack.encode([["a"], {name: [1, b""] for name in ("logprobs", "top", "rank", "censored")}])
    ),
    "negative width": zlib.compress(
        msgspec.msgpack.encode([[], {name: [-1, b""] for name in ("logprobs", "top", "rank", "censored")}])
    ),
    "no width": zlib.compress(
        msgspec.msgpack.encode([[], {name: [0, b""] for name in ("logprobs", "top", "rank", "censored")}])
    ),
    "odd widths": zlib.compress(
        msgspec.msgpack.encode(
            [["a"], {"logprobs": [1, b"1234"], "top": [2, b"1234"], "rank": [2, b"1234"], "censored": [1, b"1"]}]
        )
    ),
}


@pytest.mark.parametrize("name", BLOBS)
def test_a_blob_that_is_not_ours_is_reported(samples_path: Path, name: str) -> None:
    edited(samples_path, f"UPDATE sample SET arrays = x'{BLOBS[name].hex()}' WHERE number = 3")  # noqa: S608 - our own
    with (
        pytest.raises(ConfigurationError, match="is not a samples file: it is damaged"),
        SampleStore(samples_path) as store,
    ):
        store.samples("q1")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sample SET finish_reason = 'because'",
        "UPDATE sample SET label = 0.5",
        "UPDATE sample SET text = x'00'",
        "UPDATE sample SET text = cast(x'ff' AS TEXT)",
        "UPDATE sample SET arrays = 'text'",
        "UPDATE question SET messages = '{}'",
        "UPDATE question SET messages = '[[[['",
        f"UPDATE question SET messages = '{'[' * 100_000}'",  # noqa: S608 - our own
        "UPDATE question SET answer = x'00'",
        "UPDATE reply SET seed = 'x'",
    ],
)
def test_a_field_of_another_type_is_reported(samples_path: Path, statement: str) -> None:
    edited(samples_path, statement)
    with pytest.raises(ConfigurationError, match="is not a samples file"), SampleStore(samples_path) as store:
        list(store.questions_with_samples())


@contextmanager
def tiny_disk() -> Iterator[None]:
    """Let no file grow beyond 300 KB: the kernel refuses the write as it does on a full disk, also pytest's own log."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_sentence_and_what_was_kept_is_whole(path: Path) -> None:
    n_kept = 0
    with tiny_disk(), SampleStore(path, write=True) as store:
        store.add_questions([QUESTION])
        error = None
        while error is None:
            try:
                store.add_samples("q1", [completion(n_kept)], usage=Usage(calls=1))
                n_kept += 1
            except ConfigurationError as full:
                error = full
        assert "disk is full" in error.message or "could not be read or written" in error.message
        assert store.counts() == {"q1": n_kept}
    assert n_kept > 0
    with SampleStore(path) as store:
        assert len(store.samples("q1")) == n_kept


OTHER_USER = """
import os, sys
from swift_client.errors import ConfigurationError
from swift_client.store import SampleStore
if os.getuid() == 0:  # root may do anything
    os.setgid(65534); os.setuid(65534)
for write in (False, True):
    try:
        with SampleStore(sys.argv[1], write=write) as store:
            print(store.counts())
    except ConfigurationError as error:
        print(error)
"""


def as_other_user(path: Path) -> list[str]:
    """Open a file as another user, for reading and then for writing."""
    child = subprocess.run(
        [sys.executable, "-c", OTHER_USER, str(path)], capture_output=True, text=True, env=environment(), timeout=60
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.splitlines()


@pytest.fixture
def open_folder(samples_path: Path) -> Iterator[Path]:
    """A copy of the file in a folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())  # other users may not enter pytest's own
    folder.chmod(0o755)
    yield Path(shutil.copy(samples_path, folder / "samples.db"))
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_read_only_file_in_a_read_only_folder_can_be_read_and_not_written(open_folder: Path) -> None:
    open_folder.chmod(0o444)
    open_folder.parent.chmod(0o555)
    reading, written = as_other_user(open_folder)
    assert reading == "{'q1': 6}"
    assert "cannot be opened" in written
    assert "Check that" in written


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_no_permission_is_one_sentence(open_folder: Path) -> None:
    open_folder.chmod(0o000)
    for line in as_other_user(open_folder):
        assert "cannot be opened" in line


def damaged_name(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"messages TEXT", b"m\xb3ssages TEXT", 1))


def wide_blob(width: int) -> Callable[[Path], None]:
    arrays = {"logprobs": (1, b""), "top": (width, b""), "rank": (1, b""), "censored": (1, b"")}

    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE sample SET arrays = ?", (zlib.compress(msgspec.msgpack.encode([[], arrays])),))

    return damage


@pytest.mark.parametrize(
    "damage",
    [damaged_name, wide_blob(2**40), wide_blob(10**8), wide_blob(2**63 - 1)],
    ids=["column name", "2**40 wide", "10**8 wide", "2**63-1 wide"],
)
def test_damage_that_fails_outside_sqlite_is_a_typed_error(samples_path: Path, damage: Callable[[Path], None]) -> None:
    damage(samples_path)
    with pytest.raises(ConfigurationError, match="is not a samples file"), SampleStore(samples_path) as store:
        list(store.questions_with_samples())


def test_random_damage_is_a_typed_error_or_readable(samples_path: Path, tmp_path: Path) -> None:
    whole, rng = samples_path.read_bytes(), random.Random(1)
    copy = tmp_path / "damaged.db"
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 5, 50])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        copy.write_bytes(bytes(data))
        with contextlib.suppress(ConfigurationError), SampleStore(copy) as store:
            list(store.questions_with_samples())
            store.totals()
            store.models()
            store.indices()


def test_a_file_that_sqlite_analyzed_is_still_a_samples_file(samples_path: Path) -> None:
    edited(samples_path, "ANALYZE")
    with SampleStore(samples_path) as store:
        assert len(store.samples("q1")) == 6


@pytest.mark.parametrize("write", [False, True])
def test_a_name_that_no_file_system_takes_is_a_typed_error(tmp_path: Path, write: bool) -> None:
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        SampleStore(tmp_path / ("a" * 300), write=write)


def test_half_a_surrogate_pair_in_a_question_is_refused(path: Path) -> None:
    with SampleStore(path, write=True) as store:
        store.begin(META)
        with pytest.raises(ConfigurationError, match="half a surrogate pair"):
            store.add_questions([replace(QUESTION, id="a\ud800")])
        with pytest.raises(ConfigurationError, match="half a surrogate pair"):
            store.add_questions([replace(QUESTION, answer="\udfff")])


@pytest.mark.parametrize("count", [2**63, 10**30, -1])
def test_no_count_of_tokens_loses_a_reply(path: Path, count: int) -> None:
    with SampleStore(path, write=True) as store:
        store.begin(META)
        store.add_questions([QUESTION])
        for _ in range(3):
            store.add_samples("q1", [completion(0)], usage=Usage(prompt_tokens=count, completion_tokens=count, calls=1))
        assert len(store.samples("q1")) == 3
        assert store.totals().usage.prompt_tokens >= 0
