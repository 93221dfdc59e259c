"""Accounts of shared limits in a real Redis: processes that contend, a server that dies, and foreign values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swift_client.errors import ConfigurationError
from swift_client.shared_limits import Demand, LeaseRequest, StoreLeases
from tests.children import environment

redis_servers = pytest.importorskip("tests.redis_servers", reason="the extra 'redis' is not installed")
if redis_servers.REDIS_SERVER is None:
    pytest.skip("redis-server is not installed", allow_module_level=True)

from swift_client.store.redis import RedisAccountStore  # noqa: E402
from swift_client.store.redis import account_store as accounts  # noqa: E402
from tests.redis_servers import RedisServer  # noqa: E402

Open = Callable[[str], RedisAccountStore]


@pytest.fixture
def server(empty_redis: RedisServer) -> RedisServer:
    return empty_redis


@pytest.fixture
def open_store() -> Iterator[Callable[[str], RedisAccountStore]]:
    """Open stores by URL, and close them."""
    stores = []

    def make(url: str) -> RedisAccountStore:
        stores.append(RedisAccountStore(url))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def count(store: RedisAccountStore, name: str = "a") -> int:
    """Add one to the number in an account and return it."""

    def change(data: bytes | None, now: float) -> tuple[bytes, int]:
        number = 1 + (0 if data is None else json.loads(data))
        return json.dumps(number).encode(), number

    return store.update(name, change)


def test_states_are_kept_with_the_servers_time_and_expire_when_idle(open_store: Open, server: RedisServer) -> None:
    store, times = open_store(server.url), []
    assert [count(store), count(store), count(store, "é/\ud800 b")] == [1, 2, 1]
    store.update("a", lambda data, now: (b"7", times.append(now)))

    assert abs(times[0] - time.time()) < 60
    assert count(open_store(server.url)) == 8
    with server.client() as client:
        assert sorted(client.keys()) == [b"swift:account:a", "swift:account:é/? b".encode()]
        assert 0 < client.ttl("swift:account:a") <= accounts.IDLE_SECONDS


def test_an_error_of_the_change_writes_nothing(open_store: Open, server: RedisServer) -> None:
    store = open_store(server.url)
    count(store)
    with pytest.raises(KeyError):
        store.update("a", lambda data, now: {}["no"])

    assert count(store) == 2


@pytest.mark.parametrize("n_processes", [2, 4])
def test_processes_that_contend_lose_no_change(
    open_store: Open, server: RedisServer, tmp_path: Path, n_processes: int
) -> None:
    program = (
        "import sys; from tests.test_redis_accounts import RedisAccountStore, count\n"
        "store = RedisAccountStore(sys.argv[1]); sys.stdin.read()\n"
        "for _ in range(100): count(store)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, server.url], env=environment(), cwd=tmp_path, stdin=subprocess.PIPE
        )
        for _ in range(n_processes)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()  # they begin

    assert [child.wait(timeout=60) for child in children] == [0] * n_processes
    assert count(open_store(server.url)) == 100 * n_processes + 1


def test_threads_may_share_a_store(open_store: Open, server: RedisServer) -> None:
    store = open_store(server.url)
    threads = [threading.Thread(target=lambda: [count(store) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert count(store) == 101


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_does_not_share_connections(open_store: Open, server: RedisServer, tmp_path: Path) -> None:
    program = (
        "import os, sys, warnings; warnings.simplefilter('ignore')\n"
        "from tests.test_redis_accounts import RedisAccountStore, count\n"
        "store = RedisAccountStore(sys.argv[1]); count(store); child = os.fork()\n"
        "for _ in range(200): count(store)\n"
        "if child: sys.exit(os.waitpid(child, 0)[1])"
    )
    result = subprocess.run([sys.executable, "-c", program, server.url], env=environment(), cwd=tmp_path, timeout=60)

    assert result.returncode == 0
    assert count(open_store(server.url)) == 402


def test_an_account_that_is_always_changed_by_others_is_an_error_in_time(
    open_store: Open, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_MAX_SECONDS", 0.2)
    store, attempts = open_store(server.url), []

    def change(data: bytes | None, now: float) -> tuple[bytes, None]:
        attempts.append(now)
        with server.client() as client:
            client.append("swift:account:a", "x")
        return b"", None

    with pytest.raises(ConfigurationError, match="Too many processes change one account") as caught:
        store.update("a", change)
    assert caught.value.retryable
    assert len(attempts) > 3


def test_a_server_that_restarts_is_used_again(open_store: Open, redis_server: RedisServer) -> None:
    store = open_store(redis_server.url)
    assert count(store) == 1
    redis_server.kill()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="cannot be reached") as caught:
            count(store)
        assert caught.value.retryable
    redis_server.start()  # it has forgotten everything

    assert count(store) == 1
    store.close()
    assert count(store) == 2


def test_a_server_that_dies_within_a_change_writes_it_once_or_not_at_all(
    open_store: Open, redis_server: RedisServer
) -> None:
    store, attempts = open_store(redis_server.url), []

    def change(data: bytes | None, now: float) -> tuple[bytes, int]:
        attempts.append(data)
        if len(attempts) == 1:
            redis_server.kill()
            redis_server.start()
        return b"x", len(attempts)

    assert store.update("a", change) == 2
    assert attempts == [None, None]


@pytest.mark.parametrize("value", [b"x", b"\x80\x04", b"[]", b'{"id": 5}', b"{" * 5000, b" " * 6 * 2**20])
def test_a_state_that_is_none_is_refused_and_not_overwritten(
    open_store: Open, server: RedisServer, value: bytes
) -> None:
    leases = StoreLeases(open_store(server.url))
    request = LeaseRequest(member="m", number=0, demands={"requests": Demand(capacity=5, target=1)})
    assert leases.lease("fresh", request).total_granted == {"requests": 1}
    with server.client() as client:
        client.set("swift:account:a", value)
        with pytest.raises(ConfigurationError, match=r"The account 'a' in redis://127.0.0.1:\d+/0 is damaged"):
            leases.lease("a", request)
        assert client.get("swift:account:a") == value


def test_a_key_of_another_type_is_refused(open_store: Open, server: RedisServer) -> None:
    with server.client() as client:
        client.lpush("swift:account:a", "x")

    with pytest.raises(ConfigurationError, match="refuses a command: WRONGTYPE"):
        count(open_store(server.url))


def test_a_password_is_never_shown(open_store: Open, tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="s3cret") as server:
        store = open_store(server.url.replace("s3cret", "wr0ng"))
        with pytest.raises(ConfigurationError, match="refuses the user or the password") as caught:
            count(store)
        assert "wr0ng" not in f"{caught.value} {store!r} {store.place} {store._connection!r}"
        assert count(open_store(server.url)) == 1


def test_a_time_to_live_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="A shared limit in Redis has no ttl"):
        RedisAccountStore("redis://127.0.0.1:1/0?ttl=5")
