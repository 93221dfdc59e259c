"""``prune`` of a Redis: replies by user, key, question and age, and the verdicts about them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from swift_client.errors import ConfigurationError
from swift_client.store import RequestKey, StoredVerdict, prune
from swift_client.types import Usage
from tests.erasures import request_key
from tests.generated import completion

redis_servers = pytest.importorskip("tests.redis_servers", reason="the extra 'redis' is not installed")
if redis_servers.REDIS_SERVER is None:
    pytest.skip("redis-server is not installed", allow_module_level=True)

from swift_client.store.redis import RedisAccountStore, RedisReplyStore  # noqa: E402
from tests.redis_servers import RedisServer  # noqa: E402

VERDICT = StoredVerdict(value=0.5, confidence=0.9, from_text=False, prompt_tokens=7, completion_tokens=1, cost=None)


@pytest.fixture
def server(empty_redis: RedisServer) -> RedisServer:
    return empty_redis


def save(server: RedisServer, key: RequestKey, *, first: int = 0, n: int = 2) -> None:
    store = RedisReplyStore(server.url)
    reply = [completion(first + index, tokens=3) for index in range(n)]
    store.save(key, reply, first_index=first, usage=Usage(calls=1)).result(timeout=10)
    store.save_verdict(f"{key.question.id} {first}", VERDICT, question_id=key.question.id).result(timeout=10)


def indices(server: RedisServer, key: RequestKey) -> list[int]:
    return [sample.index for sample in RedisReplyStore(server.url).lookup(key, 99)]


def filled(server: RedisServer) -> list[RequestKey]:
    """Store four questions of two users and two keys, a common question, and what is not ours."""
    keys = [request_key(f"q{n}", user=f"user{n % 2}", client_key=f"key{n // 2}") for n in range(4)]
    for key in keys:
        save(server, key)
    RedisAccountStore(server.url).update("rate", lambda state, now: (b"{}", None))
    with server.client() as client:
        client.set("other:program", "value")
    return keys


@pytest.mark.parametrize(
    ("criterion", "gone"),
    [({"user": "user1"}, {1, 3}), ({"key": "key0"}, {0, 1}), ({"older_than": "0h"}, {0, 1, 2, 3}),
     ({"older_than": "1h"}, set()), ({"user": "key0"}, set())],
)  # fmt: skip
def test_what_is_erased_is_gone_and_all_else_stays(
    server: RedisServer, criterion: dict[str, Any], gone: set[int]
) -> None:
    keys = filled(server)
    expected = prune(server.url, **criterion, dry_run=True)
    assert [indices(server, key) for key in keys] == [[0, 1]] * 4
    result = prune(server.url, **criterion)
    assert {**result.to_dict(), "dry_run": True} == expected.to_dict()
    assert (result.questions, result.replies, result.completions) == (len(gone), len(gone), 2 * len(gone))
    assert result.verdicts == len(gone)
    assert [bool(indices(server, key)) for key in keys] == [number not in gone for number in range(4)]
    with server.client() as client:
        assert client.get("other:program") == b"value"
        assert client.get("swift:account:rate") == b"{}"
        assert len(client.keys("swift:verdict:*")) == 4 - len(gone)
    assert not prune(server.url, **criterion).has_erased


def test_a_question_is_erased_by_its_id(server: RedisServer) -> None:
    keys = filled(server)
    assert prune(server.url, question=keys[2].question.id).completions == 2
    assert [bool(indices(server, key)) for key in keys] == [True, True, False, True]


def test_those_who_asked_the_same_keep_their_replies(server: RedisServer) -> None:
    anne, bob = request_key("q", user="anne"), request_key("q", user="bob")
    save(server, anne)
    save(server, bob, first=2)
    result = prune(server.url, user="anne")
    assert (result.questions, result.replies, result.completions) == (0, 1, 2)
    assert indices(server, bob) == [2, 3]


def test_what_an_earlier_version_stored_has_no_time(server: RedisServer) -> None:
    key = request_key("q", user="anne")
    save(server, key)
    with server.client() as client:  # as before users and times were stored
        name = f"swift:reply:{key.question.id}"
        for number, value in client.hgetall(name).items():
            client.hset(name, number, msgspec.msgpack.encode(msgspec.msgpack.decode(value)[:5]))
        name = f"swift:verdict:{key.question.id} 0"
        client.set(name, msgspec.msgpack.encode(msgspec.msgpack.decode(client.get(name))[:6]))
    assert indices(server, key) == [0, 1]
    assert RedisReplyStore(server.url).lookup_verdicts([f"{key.question.id} 0"]) == {f"{key.question.id} 0": VERDICT}
    result = prune(server.url, older_than="0h")
    assert (result.completions, result.undated) == (0, 3)
    assert not prune(server.url, user="anne").has_erased
    assert prune(server.url, older_than="30d", undated=True).completions == 2


def test_damaged_values_go_with_their_question_only(server: RedisServer) -> None:
    key = request_key("q", user="anne")
    with server.client() as client:
        client.hset(f"swift:reply:{key.question.id}", "0", b"\xc1")
    assert not prune(server.url, user="anne").has_erased
    assert prune(server.url, older_than="30d").undated == 1
    assert prune(server.url, question=key.question.id).completions == 1


def test_more_than_one_message_of_keys_is_erased(server: RedisServer) -> None:
    key = request_key("big", user="anne")
    save(server, key, n=1200)
    for number in range(600):
        RedisReplyStore(server.url).save_verdict(f"v{number}", VERDICT, question_id=key.question.id).result(timeout=10)
    result = prune(server.url, user="anne")
    assert (result.completions, result.verdicts) == (1200, 601)
    with server.client() as client:
        assert client.keys("swift:*") == []


def test_a_server_that_is_down_is_an_error(server: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        prune("redis://127.0.0.1:1/0", user="anne")
