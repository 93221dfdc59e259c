"""``store="redis://..."`` against a real Redis: the meaning of a samples file, and a server that fails or lies."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from swift_client import AsyncSwiftReranker, SwiftReranker
from swift_client.errors import ConfigurationError
from swift_client.server.app import Service
from swift_client.store import AnswerStore, ReplyStore, RequestKey, Sample, StoredVerdict
from swift_client.types import Usage
from swift_client.verify.verifier import Verifier
from tests.children import environment, python
from tests.generated import completion
from tests.judges import is_verdict, judge_by
from tests.servers import FaultServer, chat
from tests.services import QUESTION, service_config
from tests.services import run as run_service

redis_servers = pytest.importorskip("tests.redis_servers", reason="the extra 'redis' is not installed")
if redis_servers.REDIS_SERVER is None:
    pytest.skip("redis-server is not installed", allow_module_level=True)

from swift_client.store.redis import RedisReplyStore  # noqa: E402
from swift_client.store.redis.address import RedisAddress  # noqa: E402
from tests.redis_servers import RedisServer  # noqa: E402

Make = Callable[..., AsyncSwiftReranker]
PLAIN = RequestKey(
    provider="p", model="m", base_url=None, messages=({"role": "user", "content": "q"},), top_logprobs=20
)
SEEDED = dataclasses.replace(PLAIN, seed=5)
VERDICT = StoredVerdict(value=0.5, confidence=0.9, from_text=False, prompt_tokens=7, completion_tokens=1, cost=None)


@pytest.fixture
def server(empty_redis: RedisServer) -> RedisServer:
    return empty_redis


@pytest.fixture
async def reranker(fault_server: FaultServer) -> AsyncIterator[Make]:
    instances = []

    def make(url: str, **options: Any) -> AsyncSwiftReranker:
        named = {"base_url": fault_server.url, "api_key": "k", "max_retries": 0, "store": url, **options}
        instances.append(AsyncSwiftReranker("openai-compatible", "m", **named))
        return instances[-1]

    yield make
    for client in instances:
        await client.aclose()


def save(store: AnswerStore, key: RequestKey, texts: list[int], *, first: int = 0) -> None:
    reply = [completion(text, tokens=3) for text in texts]
    store.save(key, reply, first_index=first, usage=Usage(calls=1)).result(timeout=10)


def indexed_texts(store: AnswerStore, key: RequestKey, n: int = 99) -> list[tuple[int, int | None, str]]:
    return [(sample.index, sample.seed, sample.completion.text) for sample in store.lookup(key, n)]


# The same as a samples file


async def test_replies_are_reused_by_another_process_of_another_host(
    server: RedisServer, fault_server: FaultServer, reranker: Make
) -> None:
    first = await reranker(server.url).best_of("q", n=4)
    more = await reranker(server.url).best_of("q", n=10)
    again = await reranker(server.url).best_of("q", n=10)

    assert [request.json["n"] for request in fault_server.requests] == [4, 6]
    assert (first.reused, more.reused, again.reused) == (0, 4, 10)
    assert first.notes == ()
    assert again.notes == (f"10 of 10 completions were reused from {server.url}.",)
    assert again.usage == Usage()
    assert (again.text, again.signal) == (more.text, more.signal)


def test_every_array_comes_back_as_from_a_file(server: RedisServer, tmp_path: Path) -> None:
    reply = [completion(number, tokens=50) for number in range(3)]
    samples: list[list[Sample]] = []
    for store in (RedisReplyStore(server.url), ReplyStore(tmp_path / "samples.db")):
        store.save(SEEDED, reply, first_index=0, usage=Usage(calls=1)).result(timeout=10)
        samples.append(store.lookup(SEEDED, 9))

    assert len(samples[0]) == 3
    for ours, theirs in zip(*samples, strict=True):
        assert (ours.question_id, ours.index, ours.seed) == (theirs.question_id, theirs.index, theirs.seed)
        for part in dataclasses.fields(ours.completion):
            one, other = getattr(ours.completion, part.name), getattr(theirs.completion, part.name)
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
            else:
                assert one == other


@hypothesis_settings(max_examples=15)
@given(
    replies=st.lists(
        st.tuples(st.booleans(), st.integers(0, 4), st.lists(st.integers(0, 50), min_size=1, max_size=3)), max_size=5
    )
)
def test_any_replies_get_the_numbers_that_a_file_gives_them(
    shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory, replies: list[tuple[bool, int, list[int]]]
) -> None:
    with shared_redis.client() as client:
        client.flushall()
    stores: list[AnswerStore] = [
        RedisReplyStore(shared_redis.url), ReplyStore(tmp_path_factory.mktemp("file") / "samples.db"),
    ]  # fmt: skip
    for is_seeded, first, texts in replies:
        for store in stores:
            save(store, SEEDED if is_seeded else PLAIN, texts, first=first)

    for key in (SEEDED, PLAIN):
        for n in (1, 3, 99):
            assert indexed_texts(stores[0], key, n) == indexed_texts(stores[1], key, n)


def test_completions_beyond_a_hole_are_found(server: RedisServer) -> None:
    store = RedisReplyStore(server.url)
    save(store, SEEDED, [1], first=1)
    save(store, SEEDED, [7], first=7)

    assert [index for index, *_ in indexed_texts(store, SEEDED, 3)] == [1, 7]
    assert [index for index, *_ in indexed_texts(store, SEEDED, 1)] == [1]


def test_a_write_that_is_repeated_after_a_lost_connection_is_stored_once(server: RedisServer) -> None:
    store = RedisReplyStore(server.url)
    save(store, PLAIN, [1, 2])
    with server.client() as client:
        (key,) = client.keys("swift:reply:*")
        values = {int(number): value for number, value in client.hgetall(key).items()}
        store._add_values(client, key.decode(), values)
        assert client.hgetall(key) == {str(number).encode(): value for number, value in values.items()}


def test_processes_that_save_at_once_lose_nothing(server: RedisServer, tmp_path: Path) -> None:
    program = (
        "import sys; from swift_client.store.redis import RedisReplyStore; from tests.generated import completion\n"
        "from swift_client.store import RequestKey; from swift_client.types import Usage\n"
        "message = {'role': 'user', 'content': 'q'}\n"
        "key = RequestKey(provider='p', model='m', base_url=None, messages=(message,), top_logprobs=20)\n"
        "store, own = RedisReplyStore(sys.argv[1]), int(sys.argv[2])\n"
        "for at in range(30): store.save(key, [completion(100 * own + at, tokens=3)], first_index=at, usage=Usage())\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, server.url, str(own)], env=environment(), cwd=tmp_path)
        for own in range(3)
    ]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]

    samples = RedisReplyStore(server.url).lookup(PLAIN, 999)
    assert [sample.index for sample in samples] == list(range(90))
    assert len({sample.completion.text for sample in samples}) == 90


async def test_verdicts_are_not_paid_for_twice(server: RedisServer, fault_server: FaultServer, reranker: Make) -> None:
    judge = judge_by(lambda text: 0.9 if "4" in text else 0.1)
    drawn = ["The answer is 4", "The answer is 5"]
    fault_server.serve(lambda request: judge(request) if is_verdict(request) else chat(drawn, k=5))
    verifier = Verifier("openai-compatible/judge", mode="p_true")
    first = await reranker(server.url, verifier=verifier).best_of("q", n=2)
    n_requests = len(fault_server.requests)
    second = await reranker(server.url, verifier=verifier).best_of("q", n=2)

    assert first.verification is not None
    assert second.verification is not None
    assert first.verification.judged == second.verification.judged == 2
    assert first.verification.confidence == second.verification.confidence
    assert len(fault_server.requests) == n_requests > 1
    assert second.verification.usage == Usage()
    assert any(note.endswith(f"reused from {server.url}.") and "verdict" in note for note in second.notes)


def test_the_first_of_two_equal_verdicts_is_kept(server: RedisServer) -> None:
    store = RedisReplyStore(server.url)
    for value in (0.5, 0.7):
        store.save_verdict("k", dataclasses.replace(VERDICT, value=value)).result(timeout=10)

    assert store.lookup_verdicts(["k", "other"]) == {"k": VERDICT}
    assert store.lookup_verdicts([]) == {}


def test_feedback_needs_a_samples_file(server: RedisServer, fault_server: FaultServer) -> None:
    with SwiftReranker("openai-compatible", "m", base_url=fault_server.url, api_key="k", store=server.url) as best:
        selection = best.best_of("q", n=2)
        with pytest.raises(ConfigurationError, match="Feedback needs a samples file"):
            best.feedback(selection.id, correct=True)


async def test_services_on_several_hosts_reuse_replies_and_take_no_feedback(
    server: RedisServer, fault_server: FaultServer
) -> None:
    config = service_config(fault_server, store=server.url)
    for n_reused in (0, 3):  # a service is asked once and ended
        with run_service(config) as service:
            reply = service.post({"model": "best", "messages": QUESTION}).json()
            body = {"id": reply["swift"]["id"], "correct": True}
            assert service.post(body, "/feedback").status_code == 404
        assert reply["swift"]["reused"] == n_reused
    assert len(fault_server.requests) == 1


def test_a_service_refuses_a_wrong_url_at_its_start(fault_server: FaultServer) -> None:
    with pytest.raises(ConfigurationError, match="The URL of a Redis cannot be used"):
        Service(service_config(fault_server, store="redis://:secret@h/x"))


# Time to live


def test_a_time_to_live_begins_with_the_last_reply(server: RedisServer) -> None:
    forever, short = RedisReplyStore(server.url), RedisReplyStore(f"{server.url}?ttl=100")
    save(forever, PLAIN, [1])
    short.save_verdict("k", VERDICT).result(timeout=10)
    with server.client() as client:
        (key,) = client.keys("swift:reply:*")
        assert client.ttl(key) == -1
        save(short, PLAIN, [2], first=1)
        assert 90 < client.ttl(key) <= 100
        assert 90 < client.ttl("swift:verdict:k") <= 100


# URLs


@pytest.mark.parametrize(
    ("url", "place", "options"),
    [
        ("redis://h", "redis://h:6379/0", {"host": "h", "port": 6379, "db": 0}),
        ("redis://u:p%40%2F@h:1/3", "redis://h:1/3", {"host": "h", "port": 1, "db": 3, "username": "u"}),
        ("redis://h?db=2", "redis://h:6379/2", {"db": 2}),
        ("rediss://[::1]:7", "rediss://[::1]:7/0", {"host": "::1", "ssl": True, "ssl_check_hostname": True}),
        ("rediss://h?ssl_ca_certs=/c.pem", "rediss://h:6379/0", {"ssl_ca_certs": "/c.pem"}),
        ("unix:///run/r.sock?db=1", "unix:///run/r.sock?db=1", {"unix_socket_path": "/run/r.sock", "db": 1}),
    ],
)
def test_urls_name_a_server_and_hide_the_login(url: str, place: str, options: dict[str, Any]) -> None:
    address = RedisAddress.parse(url)

    assert address.place == place
    assert {key: value for key, value in address.options.items() if key in options} == options
    assert "p@/" not in repr(address)
    if "p%40" in url:
        assert address.options["password"] == "p@/"


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "http://secret@h",
        "redis://:secret/word@h",
        "redis://:secret@h:99999",
        "redis://:secret@h/zero",
        "redis://:secret@h/0?ttl=0",
        "redis://:secret@h/0?ttl=1.5",
        "redis://:secret@h/0?db=1",
        "redis://:secret@h/0?timeout=1",
        "redis://:secret@h/0?ssl_ca_certs=c.pem",
        "redis://:secret@h/0#x",
        "redis://:secret@[h",
        "unix://secret@h/path",
        "unix://",
        "rediss://:secret@h?ssl_cert_reqs=none",
        "redis://:secret@h?ttl",
    ],
)
def test_a_wrong_url_is_refused_at_once_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="The URL of a Redis cannot be used") as caught:
        SwiftReranker("ollama", "m", store=url)

    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # urllib quotes the URL


def test_a_password_comes_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_PASSWORD", raising=False)
    with RedisServer(tmp_path, password="s3cret") as server:
        url = f"redis://127.0.0.1:{server.port}/0?password_env=REDIS_PASSWORD"
        with pytest.raises(ConfigurationError, match="'REDIS_PASSWORD' with the password of the Redis is not set"):
            RedisReplyStore(url)
        monkeypatch.setenv("REDIS_PASSWORD", "s3cret")
        save(RedisReplyStore(url), PLAIN, [1])
        assert len(RedisReplyStore(server.url).lookup(PLAIN, 1)) == 1


@pytest.mark.parametrize("login", ["", ":wr0ng@", "nobody:wr0ng@"])
async def test_a_wrong_password_costs_no_answer_and_is_not_shown(
    tmp_path: Path, reranker: Make, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(tmp_path, password="s3cret") as server:
        best = reranker(server.url.replace(":s3cret@", login))
        selection = await best.best_of("q", n=2)

    assert len(selection.candidates) == 2
    assert any("refuses the user or the password" in note for note in selection.notes), selection.notes
    assert "wr0ng" not in f"{selection.notes} {caplog.text} {best!r} {best.pipeline.config}"


def test_a_unix_socket_will_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, RedisServer(Path(folder), unix_socket=True) as server:
        store = RedisReplyStore(server.url)
        save(store, PLAIN, [1])
        assert len(store.lookup(PLAIN, 1)) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_checks_the_certificate(tmp_path: Path) -> None:
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    line += ["-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(line, cwd=tmp_path, check=True, capture_output=True)
    with RedisServer(tmp_path, tls=(tmp_path / "cert.pem", tmp_path / "key.pem")) as server:
        store = RedisReplyStore(f"{server.url}?ssl_ca_certs={tmp_path / 'cert.pem'}")
        save(store, PLAIN, [1])
        assert len(store.lookup(PLAIN, 1)) == 1
        with pytest.raises(ConfigurationError, match=r"(?i)cannot be reached.*certificate"):
            RedisReplyStore(server.url).lookup(PLAIN, 1)


# A server that fails


async def test_a_server_that_is_down_costs_no_answer_and_one_that_is_back_is_used(
    redis_server: RedisServer, fault_server: FaultServer, reranker: Make
) -> None:
    best = reranker(redis_server.url)
    await best.best_of("q", n=2)
    redis_server.kill()
    alone = await best.best_of("q", n=2)

    assert (len(alone.candidates), alone.reused) == (2, 0)
    assert any("Nothing was reused" in note and "cannot be reached" in note for note in alone.notes)
    assert any("2 completions are not stored" in note for note in alone.notes)

    redis_server.start()  # it has forgotten everything
    assert (await best.best_of("q", n=2)).notes == ()
    assert (await best.best_of("q", n=2)).reused == 2
    assert len(fault_server.requests) == 3


async def test_a_server_that_dies_during_the_answers_costs_none(
    redis_server: RedisServer, fault_server: FaultServer, reranker: Make
) -> None:
    best = reranker(redis_server.url)
    tasks = [asyncio.create_task(best.best_of(f"q{number}", n=3)) for number in range(30)]
    await asyncio.sleep(0.05)
    redis_server.kill()
    selections = await asyncio.gather(*tasks)

    assert [len(selection.candidates) for selection in selections] == [3] * 30
    assert any("cannot be reached" in str(selection.notes) for selection in selections)


async def test_a_server_that_hangs_delays_one_answer_and_not_every_one(
    fault_server: FaultServer, reranker: Make
) -> None:
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        best = reranker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.monotonic()
        first = await best.best_of("q", n=2)
        between = time.monotonic()
        second = await best.best_of("q", n=2)
        seconds = between - started, time.monotonic() - between

    assert len(first.candidates) == len(second.candidates) == 2
    assert any("cannot be reached: Timeout" in note for note in second.notes), second.notes
    assert seconds[0] < 6
    assert seconds[1] < 1.5


async def test_a_slow_server_does_not_hold_up_the_loop_or_the_deadline(reranker: Make) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        best = reranker(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        last, longest = time.perf_counter(), 0.0
        answer = asyncio.create_task(best.best_of("q", n=2, deadline=2.0))
        started = last
        while not answer.done():
            await asyncio.sleep(0.01)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    assert len(answer.result().candidates) == 2
    assert last - started < 4
    assert longest < 0.5


async def test_a_full_server_costs_no_answer(tmp_path: Path, reranker: Make) -> None:
    with RedisServer(tmp_path, maxmemory="100kb", **{"maxmemory-policy": "noeviction"}) as server:
        selection = await reranker(server.url).best_of("q", n=2)

    assert len(selection.candidates) == 2
    assert any("refuses a command" in note and "memory" in note for note in selection.notes), selection.notes


# Values that something else wrote


def spoiled(**changes: Any) -> bytes:
    """Return a stored completion with other fields."""
    from swift_client.store.packing import pack

    fields = {
        "text": "t",
        "finish_reason": "stop",
        "seed": None,
        "write": b"w",
        "arrays": pack(completion(0, tokens=2)),
    }
    return msgspec.msgpack.encode(list((fields | changes).values()))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x80\x04\x95",  # the begin of a pickle
        b"\xc1",
        msgspec.msgpack.encode({"text": "t"}),
        msgspec.msgpack.encode([]),
        b"\x91" * 5000,
        spoiled(text=5),
        spoiled(finish_reason="won"),
        spoiled(seed="1"),
        spoiled(arrays=b"no"),
    ],
    ids=range(10),
)
async def test_a_value_that_is_no_completion_is_not_used_and_the_note_says_so(
    server: RedisServer, reranker: Make, value: bytes
) -> None:
    best = reranker(server.url)
    await best.best_of("q", n=2)
    with server.client() as client:
        (key,) = client.keys("swift:reply:*")
        client.hset(key, "1", value)
        client.set("swift:verdict:k", value)
    selection = await best.best_of("q", n=2)

    assert (len(selection.candidates), selection.reused) == (2, 0)
    assert any("Nothing was reused" in note and "damaged" in note for note in selection.notes), selection.notes
    with pytest.raises(ConfigurationError, match="a verdict that is damaged"):
        RedisReplyStore(server.url).lookup_verdicts(["k"])


@pytest.mark.parametrize("field", [b"x", b"-1", b"1e3", b"\xff", b"9" * 30])
def test_a_field_that_is_no_index_is_refused(server: RedisServer, field: bytes) -> None:
    store = RedisReplyStore(server.url)
    save(store, PLAIN, [1])
    with server.client() as client:
        (key,) = client.keys("swift:reply:*")
        client.hset(key, field, b"")

    with pytest.raises(ConfigurationError, match="a field that is not an index"):
        store.lookup(PLAIN, 5)
    assert len(store.lookup(PLAIN, 1)) == 1  # is not even looked at


def test_a_key_of_another_type_is_refused(server: RedisServer) -> None:
    store = RedisReplyStore(server.url)
    with server.client() as client:
        client.set(f"swift:reply:{PLAIN.question.id}", "x")

    with pytest.raises(ConfigurationError, match="refuses a command: WRONGTYPE"):
        store.lookup(PLAIN, 5)
    with pytest.raises(ConfigurationError, match="WRONGTYPE"):
        save(store, PLAIN, [1])


# Without the extra


def test_without_the_library_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from swift_client import SwiftReranker\n"
        "try: SwiftReranker('ollama', 'm', store='redis://127.0.0.1:1/0')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    result = python("-c", code, cwd=tmp_path)

    assert result.stdout.decode().strip() == (
        "MissingExtraError A redis:// URL needs the optional dependencies 'redis'. pip install 'swift-client[redis]'"
    )


def test_a_samples_file_does_not_load_the_library(tmp_path: Path) -> None:
    code = (
        "import sys; from swift_client import SwiftReranker; SwiftReranker('ollama', 'm', store='s.db')\n"
        "print([name for name in sys.modules if 'redis' in name])"
    )
    assert python("-c", code, cwd=tmp_path).stdout.decode().strip() == "[]"
