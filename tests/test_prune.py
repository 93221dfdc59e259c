"""``prune``: what goes, what stays, and that no byte of what went is left in the file or beside it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from swift_client import SwiftReranker
from swift_client.errors import ConfigurationError
from swift_client.server.access.client_keys import create_key
from swift_client.server.config import KeyConfig
from swift_client.store import (
    BatchStore,
    Meta,
    ReplyStore,
    SampleStore,
    SelectionStore,
    StateFile,
    StateLayout,
    StoredQuestion,
    prune,
)
from swift_client.store.pruning.criterion import parse_age
from swift_client.store.records import user_digests
from swift_client.types import Completion, Usage
from swift_client.verify.verifier import Verifier
from tests.children import ROOT, command
from tests.erasures import (
    counts,
    leave_traces,
    mark,
    marked,
    packed_pieces,
    request_key,
    require_whole,
    store_reply,
)
from tests.judges import is_verdict, judge_by
from tests.servers import FaultServer, chat
from tests.services import QUESTION, run, service_config

DAY = 86_400.0
NAMES = [f"n{number}" for number in range(12)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


def filled(path: Path) -> dict[str, str]:
    """Write a file: question by question another user, the even ones 40 days ago; return the questions' ids."""
    store, ids = ReplyStore(path), {}
    for number, name in enumerate(NAMES):
        seconds = time.time() - (40 if number % 2 == 0 else 1) * DAY
        user = f"user{number % 3}"
        ids[name] = store_reply(store, name, user=user, client_key=f"key{number % 4}", seconds=seconds).question.id
    leave_traces(path)
    return ids


def numbers(*names: int) -> set[str]:
    return {f"n{number}" for number in names}


# --- what goes


@pytest.mark.parametrize(
    ("criterion", "gone"),
    [
        ({"older_than": "30d"}, numbers(0, 2, 4, 6, 8, 10)),
        ({"older_than": timedelta(days=41)}, numbers()),
        ({"older_than": "12h"}, set(NAMES)),
        ({"user": "user1"}, numbers(1, 4, 7, 10)),
        ({"key": "key3"}, numbers(3, 7, 11)),
        ({"user": "key3"}, numbers()),
        ({"question": "choice n5 0"}, numbers(5)),
    ],
)
def test_what_is_erased_leaves_no_byte_and_all_else_stays(
    path: Path, criterion: dict[str, Any], gone: set[str]
) -> None:
    ids = filled(path)
    pieces, before = packed_pieces(path, ids), counts(path)
    assert marked(path, NAMES) == set(NAMES)

    expected = prune(path, **criterion, dry_run=True)
    assert counts(path) == before
    result = prune(path, **criterion)

    assert {**result.to_dict(), "dry_run": True, "bytes_after": 0} == {**expected.to_dict(), "bytes_after": 0}
    assert marked(path, NAMES) == set(NAMES) - gone
    data = path.read_bytes()
    for name in NAMES:
        assert [piece in data for piece in pieces[name]] == [name not in gone] * 2
        assert (ids[name].encode() in data) == (name not in gone)
    left = {table: before[table] - counts(path)[table] for table in before}
    per_question = {"sample": 2}
    assert left == {table: per_question.get(table, 1) * len(gone) for table in before}
    assert (result.questions, result.completions, result.selections) == (len(gone), 2 * len(gone), len(gone))
    assert [bool(ReplyStore(path).lookup(request_key(name), 9)) for name in NAMES] == [
        name not in gone for name in NAMES
    ]
    require_whole(path)
    assert os.listdir(path.parent) == [path.name]
    assert not prune(path, **criterion).has_erased


def test_a_question_is_named_by_its_own_id_too(path: Path) -> None:
    ids = filled(path)
    assert prune(path, question=ids["n3"]).questions == 1
    assert marked(path, NAMES) == set(NAMES) - {"n3"}
    assert not prune(path, question="no such question").has_erased


def test_a_question_with_a_younger_reply_keeps_its_prompt_and_loses_the_old_one(path: Path) -> None:
    store = ReplyStore(path)
    old = time.time() - 40 * DAY
    key = store_reply(store, "q", n=2, user="anne", seconds=old)
    store_reply(store, "q", n=1, first=5, user="bob")
    text = f"{mark('q')} answer 1".encode()
    assert text in path.read_bytes()

    result = prune(path, older_than="30d")

    assert (result.questions, result.replies, result.completions, result.selections) == (0, 1, 2, 1)
    assert [sample.index for sample in store.lookup(key, 9)] == [5]
    assert [entry.id for entry in store.read(lambda file: file.selections()) or ()] == ["choice q 5"]
    assert text not in path.read_bytes()
    assert counts(path) == dict.fromkeys(counts(path), 1) | {"verdict": 0}  # each may be about an answer that is gone


def test_a_user_goes_and_those_who_asked_the_same_stay(path: Path) -> None:
    store = ReplyStore(path)
    store_reply(store, "q", n=2, user="anne")
    key = store_reply(store, "q", n=1, first=5, user="bob")
    assert prune(path, user="anne").replies == 1
    assert [sample.index for sample in store.lookup(key, 9)] == [5]
    assert prune(path, user="bob").questions == 1
    assert marked(path, ["q"]) == set()


def test_a_choice_of_completions_of_another_user_goes_with_them(path: Path) -> None:
    store = ReplyStore(path)
    key = store_reply(store, "q", user="anne")
    samples = [sample.completion for sample in store.lookup(key, 9)]
    store.save_selection(
        "reused", {"answer": mark("q"), "winner": 0}, samples, question_id=key.question.id, prompt="", served_as=None,
        users=user_digests({"user": "bob"}),
    ).result()  # fmt: skip
    store_reply(store, "q", n=1, first=5, user="carl")
    assert prune(path, user="anne").selections == 2
    assert [entry.id for entry in store.read(lambda file: file.selections()) or ()] == ["choice q 5"]


@given(
    replies=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["anne", "bob", None]), st.sampled_from([1, 20, 40])),
        min_size=1, max_size=12,
    ),
    criterion=st.sampled_from([{"older_than": "30d"}, {"older_than": "2w"}, {"user": "anne"}, {"user": "bob"}]),
)  # fmt: skip
@hypothesis_settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_replies_are_kept_or_erased_as_a_plain_loop_says(
    tmp_path: Path, replies: list[tuple[str, str | None, int]], criterion: dict[str, str]
) -> None:
    path = tmp_path / f"{time.monotonic_ns()}.db"
    store, kept = ReplyStore(path), {}
    limit = {"30d": 30, "2w": 14}.get(criterion.get("older_than", ""), 1000)
    for number, (name, user, days) in enumerate(replies):
        store_reply(store, name, n=1, first=number, user=user, seconds=time.time() - days * DAY)
        if days < limit and (user is None or user != criterion.get("user")):
            kept.setdefault(name, []).append(number)
    prune(path, **criterion)  # type: ignore[arg-type]
    found = {name: [sample.index for sample in store.lookup(request_key(name), 99)] for name in "abc"}
    assert {name: indices for name, indices in found.items() if indices} == kept
    assert counts(path)["question"] == len(kept)
    assert sorted(entry.id for entry in store.read(lambda file: file.selections()) or ()) == sorted(
        f"choice {name} {number}" for name, indices in kept.items() for number in indices
    )
    assert marked(path, "abc") == set(kept)
    require_whole(path)


# --- who asked


def reranker(server: FaultServer, path: Path, **settings: Any) -> SwiftReranker:
    settings = {"base_url": server.url, "api_key": "k", "max_retries": 0, "store": path, **settings}
    return SwiftReranker("openai-compatible", "m", **settings)


def test_the_user_of_a_call_is_found_again_and_is_not_in_the_file(fault_server: FaultServer, path: Path) -> None:
    with reranker(fault_server, path) as client:
        client.best_of(mark("a"), n=2, user="anne@example.com")
        client.best_of(mark("b"), n=2, extra_body={"safety_identifier": "anne@example.com"})
        client.best_of(mark("c"), n=2, extra_body={"metadata": {"user_id": "anne@example.com"}})
        client.best_of(mark("d"), n=2, user="bob@example.com")
        client.best_of(mark("e"), n=2)
    assert b"example.com" not in path.read_bytes()
    result = prune(path, user="anne@example.com")
    assert (result.questions, result.selections) == (3, 3)
    assert marked(path, "abcde") == {"d", "e"}


@pytest.mark.parametrize("settings", [{"redact": ["mails"]}, {"keep": "arrays"}])
def test_a_file_with_redacted_texts_or_none_finds_its_users_and_choices(
    fault_server: FaultServer, path: Path, settings: dict[str, Any]
) -> None:
    with reranker(fault_server, path, **settings) as client:
        for name in ("anne", "bob", "carl"):
            selection = client.best_of(f"{mark(name)} {name}@example.com", n=2, user=name)
            assert selection.notes == ()
        client.best_of(f"{mark('anne')} again", n=2, user="anne")
    assert b"example.com" not in path.read_bytes()
    assert (prune(path, user="anne").questions, prune(path, user="anne").questions) == (2, 0)
    assert marked(path, ["anne", "bob"]) == ({"bob"} if "redact" in settings else set())
    result = prune(path, question=selection.id)
    assert (result.questions, result.completions, result.selections) == (1, 2, 1)
    assert counts(path)["question"] == 1
    require_whole(path)


def test_the_key_of_a_service_is_found_again(fault_server: FaultServer, path: Path) -> None:
    keys = {name: create_key(name) for name in ("anne", "bob")}
    config = service_config(
        fault_server, store=str(path), keys={name: KeyConfig(hash=key.hash) for name, key in keys.items()}
    )
    with run(config) as service:
        for name, key in keys.items():
            body = {"model": "best", "messages": [{"role": "user", "content": mark(name)}], "user": "someone"}
            assert service.post(body, headers={"authorization": f"Bearer {key.key}"}).status_code == 200
        result = prune(path, key="anne")  # while the service runs
        assert (result.questions, result.selections) == (1, 1)
        body = {"model": "best", "messages": QUESTION}
        assert service.post(body, headers={"authorization": f"Bearer {keys['bob'].key}"}).status_code == 200
    assert marked(path, keys) == {"bob"}
    assert prune(path, user="someone").questions == 1
    assert counts(path)["question"] == 1


def test_verdicts_go_with_their_question(fault_server: FaultServer, path: Path) -> None:
    judge = judge_by(lambda text: 0.9 if "5" in text else 0.2)
    fault_server.serve(
        lambda request: judge(request) if is_verdict(request) else chat(["The answer is 4", "The answer is 5"], k=5)
    )
    with reranker(fault_server, path, verifier=Verifier(mode="p_true", when="always")) as client:
        client.best_of("first", n=2, user="anne")
        client.best_of("second", n=2, user="bob")
    before = counts(path)["verdict"]
    assert before >= 2
    result = prune(path, user="anne")
    assert 0 < result.verdicts < before
    assert prune(path, user="bob").verdicts == before - result.verdicts


# --- what is not resurrected


def test_a_choice_of_a_question_that_was_erased_meanwhile_is_not_stored(path: Path) -> None:
    store = ReplyStore(path)
    key = store_reply(store, "q", user="anne")
    samples = [sample.completion for sample in store.lookup(key, 9)]
    prune(path, user="anne")
    write = store.save_selection(
        "late", {"answer": mark("q"), "winner": 0}, samples, question_id=key.question.id, prompt=mark("q"),
        served_as=None, users=(),
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match="Its question was erased"):
        write.result()
    assert marked(path, ["q"]) == set()


def test_what_is_asked_again_is_new_and_has_its_own_user(path: Path) -> None:
    store = ReplyStore(path)
    store_reply(store, "q", user="anne")
    prune(path, user="anne")
    store_reply(store, "q", user="bob")  # its reply gets the id of the one that is gone
    assert not prune(path, user="anne").has_erased
    assert prune(path, user="bob").questions == 1


# --- earlier formats


@pytest.mark.parametrize("number", range(1, 6))
def test_a_file_of_an_earlier_format_says_what_has_no_time(tmp_path: Path, number: int) -> None:
    path = Path(shutil.copy(ROOT / "tests" / "formats" / f"samples-{number}.db", tmp_path / "old.db"))
    result = prune(path, older_than="30d")
    assert (result.replies, result.undated) == (0, 2 + (number >= 2))
    assert prune(path, older_than="30d", dry_run=True, undated=True).replies == 2
    with SampleStore(path) as store:
        assert store.counts() == {"q0": 2, "q1": 2}
    result = prune(path, older_than="30d", undated=True)
    assert (result.questions, result.completions, result.undated) == (2, 4, 0)
    assert (result.verdicts, result.selections) == (int(number >= 2), int(number >= 4))
    assert sum(counts(path).values()) == 0


@pytest.mark.parametrize("number", range(1, 6))
def test_a_question_of_an_earlier_format_is_erased(tmp_path: Path, number: int) -> None:
    path = Path(shutil.copy(ROOT / "tests" / "formats" / f"samples-{number}.db", tmp_path / "old.db"))
    assert prune(path, question="q0").completions == 2
    data = path.read_bytes()
    assert b"q0: 2 + 2?" not in data
    assert b"q1: 2 + 2?" in data


# --- beside the samples


def test_hidden_states_go_with_their_samples(path: Path) -> None:
    layout = StateLayout(layers=(1,), width=3)
    states = {name: np.full((4, 3), number, np.float16) for number, name in enumerate(("q0", "q1", "q2"), 1)}
    with StateFile(path, write_layout=layout) as file, SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=5))
        for name, array in states.items():
            store.add_questions([StoredQuestion(id=name, messages=({"role": "user", "content": name},))])
            file.append(name, [0], [Completion(text="x", hidden_states=array[:2] + 9)])  # of a killed run
            kept = file.append(name, [0, 1], [Completion(text="x", hidden_states=array)] * 2)
            store.add_samples(name, kept, usage=Usage())
    before = Path(f"{path}.states").read_bytes()
    assert prune(path, question="q1", dry_run=True).hidden_states == 2
    assert Path(f"{path}.states").read_bytes() == before
    assert prune(path, question="q1").hidden_states == 2
    with StateFile(path) as file:
        assert list(file.keys()) == [("q0", 0), ("q0", 1), ("q2", 0), ("q2", 1)]
        for name in ("q0", "q2"):
            assert np.array_equal(file.states(name, 1, layout), states[name])
    assert b"q1" not in Path(f"{path}.states").read_bytes()
    assert prune(path, question="q0").hidden_states == 2
    assert b"q0" not in Path(f"{path}.states").read_bytes()
    assert os.stat(f"{path}.states").st_mode & 0o777 == 0o600


def test_open_batches_forget_a_question_and_age_keeps_its_prompt(path: Path) -> None:
    with BatchStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=5))
        for name in ("q0", "q1"):
            store.add_questions([StoredQuestion(id=name, messages=({"role": "user", "content": mark(name)},))])
            store.add_samples(name, [Completion(text="x")], usage=Usage())
        store.save_batch("t", json.dumps({"token": "t", "wishes": [["q0", 1, 2], ["q1", 1, 2]]}))
    assert prune(path, older_than="0h").replies == 2
    assert marked(path, ["q0", "q1"]) == {"q0", "q1"}
    assert prune(path, question="q0").batch_requests == 1
    with BatchStore(path) as store:
        assert json.loads(store.batches()["t"]) == {"token": "t", "wishes": [["q1", 1, 2]]}
    assert prune(path, question="q1").batch_requests == 1
    with BatchStore(path) as store:
        assert store.batches() == {}
    assert marked(path, ["q0", "q1"]) == set()


def test_ids_in_the_statistics_of_the_file_go_too(path: Path) -> None:
    ids = filled(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE copy(tbl, idx, neq, nlt, ndlt, sample)")
    connection.execute("INSERT INTO copy VALUES ('question', '', '', '', '', ?)", (f"sampled {ids['n3']}".encode(),))
    connection.execute("PRAGMA writable_schema=ON")  # as a SQLite makes it that keeps samples of ids
    name = "'sqlite_stat4', sql = 'CREATE TABLE sqlite_stat4(tbl, idx, neq, nlt, ndlt, sample)'"
    connection.execute(f"UPDATE sqlite_master SET tbl_name = 'sqlite_stat4', name = {name} WHERE name = 'copy'")  # noqa: S608
    connection.close()
    assert b"sampled" in path.read_bytes()
    assert prune(path, question=ids["n3"]).questions == 1
    assert b"sampled" not in path.read_bytes()


def test_settings_of_an_emptied_file_may_change(path: Path) -> None:
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="m", top_logprobs=5))
        store.add_questions([StoredQuestion(id="q", messages=({"role": "user", "content": "q"},))])
        store.add_samples("q", [Completion(text="x")], usage=Usage())
    prune(path, older_than="0h")
    with SampleStore(path, write=True) as store:
        store.begin(Meta(provider="p", model="other", top_logprobs=5))


# --- arguments and the command


@pytest.mark.parametrize(
    ("age", "seconds"),
    [
        ("12h", 43_200),
        ("30d", 30 * DAY),
        ("2w", 14 * DAY),
        ("0.5d", 43_200),
        (" 1 d ", DAY),
        (timedelta(hours=1), 3600),
    ],
)
def test_an_age_is_read(age: str | timedelta, seconds: float) -> None:
    assert parse_age(age) == seconds


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1y", "30 days", "1e9d", "٣d", 30, timedelta(days=-1)])
def test_another_age_is_refused(age: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not an age"):
        parse_age(age)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one criterion"),
        ({"user": "a", "question": "b"}, "exactly one criterion"),
        ({"user": ""}, "user= must be an id"),
        ({"user": "a", "undated": True}, "undated= needs older_than="),
    ],
)
def test_unclear_arguments_are_refused(path: Path, arguments: dict[str, Any], message: str) -> None:
    filled_size = path.write_bytes(b"")
    with pytest.raises(ConfigurationError, match=message):
        prune(path, **arguments)
    assert path.stat().st_size == filled_size


def test_a_file_that_does_not_exist_is_not_made(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="There is no samples file"):
        prune(path, user="anne")
    assert not path.exists()


def test_a_file_of_another_program_stays_as_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE question (id)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is not a samples file"):
        prune(path, user="anne")
    assert path.read_bytes() == before


def test_the_command_says_what_it_erases(path: Path) -> None:
    filled(path)
    counted = command("prune", path.name, "--older-than", "30d", "--dry-run", cwd=path.parent)
    assert counted.stdout.decode().split(":")[1].strip() == "would be erased"
    assert counted.returncode == 0
    done = command("prune", path.name, "--older-than", "30d", "--json", cwd=path.parent)
    facts = json.loads(done.stdout)
    assert (facts["questions"], facts["completions"], facts["dry_run"]) == (6, 12, False)
    again = command("prune", path.name, "--older-than", "30d", cwd=path.parent)
    assert again.stdout.decode() == "kept.db: nothing to erase.\n"
    refused = command("prune", path.name, cwd=path.parent)
    assert refused.returncode == 3
    assert b"--older-than" in refused.stderr


def test_the_command_says_what_has_no_time(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "formats" / "samples-1.db", tmp_path)
    done = command("prune", "samples-1.db", "--older-than", "30d", cwd=tmp_path)
    assert b"2 replies, verdicts or questions have no stored time and were kept; --undated erases" in done.stderr


def test_selections_of_a_file_are_read_after_an_erasure(path: Path) -> None:
    filled(path)
    prune(path, older_than="30d")
    with SelectionStore(path) as store:
        assert len(list(store.feedback())) == len(store.shown_selections()) == 6
