"""The environment of every test: no network but loopback, and neither keys nor the home of the person who runs it."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.servers import FaultServer

if TYPE_CHECKING:
    from tests.redis_servers import RedisServer

# Shared two-core machines stall for seconds: a deadline per example would only measure the neighbours.
# The same examples in every run, so that a change is what makes a test fail; EXPLORE=1 draws new ones.
settings.register_profile("swift", deadline=None, derandomize="EXPLORE" not in os.environ)
settings.load_profile("swift")

# These modules train: without torch (``make test-all``) they are not collected.
_TRAINING = ("accept", "bad_input", "evaluate", "fit", "losses", "probe", "scale", "simulate", "thinking")
collect_ignore = [] if importlib.util.find_spec("torch") else [f"test_{name}.py" for name in _TRAINING]

# A shell starts a job in the background with Ctrl-C ignored, and child processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SECRET_ENDINGS = ("_API_KEY", "_TOKEN", "_AD_TOKEN", "_BASE_URL", "_ENDPOINT", "_HOST", "_PROXY", "_proxy")
_SECRET_STARTS = ("OPENAI_", "AZURE_", "SWIFT_CLIENT_")


class NetworkGuard:
    """Refuses every connection that is not loopback, and remembers it, so that no ``except`` can hide one."""

    def __init__(self) -> None:
        self.attempts: list[str] = []

    def check(self, host: object) -> None:
        """Raise OSError unless ``host`` is this machine."""
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if host in (None, "", "localhost"):
            return
        try:
            if ipaddress.ip_address(str(host).partition("%")[0]).is_loopback:
                return
        except ValueError:
            pass
        self.attempts.append(str(host))
        raise OSError(f"tests may not reach the network: {host!r}")

    def check_address(self, family: int, address: Any) -> None:
        """Check the address of a socket call; unix sockets have none to check."""
        if family in (socket.AF_INET, socket.AF_INET6):
            self.check(address[0])


@pytest.fixture(scope="session", autouse=True)
def network_guard() -> Iterator[NetworkGuard]:
    """Patch the socket layer itself, below every HTTP library, for the whole session and all its threads."""
    guard = NetworkGuard()
    patch = pytest.MonkeyPatch()
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}

    def connect(self: socket.socket, address: Any) -> None:
        guard.check_address(self.family, address)
        real["connect"](self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        guard.check_address(self.family, address)
        return int(real["connect_ex"](self, address))

    def sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        guard.check_address(self.family, rest[-1])
        return int(real["sendto"](self, data, *rest))

    patch.setattr(socket.socket, "connect", connect)
    patch.setattr(socket.socket, "connect_ex", connect_ex)
    patch.setattr(socket.socket, "sendto", sendto)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        lookup = getattr(socket, name)

        def guarded(host: Any, *rest: Any, _lookup: Any = lookup, **named: Any) -> Any:
            guard.check(host)
            return _lookup(host, *rest, **named)

        patch.setattr(socket, name, guarded)
    yield guard
    patch.undo()


@pytest.fixture(autouse=True)
def no_network(network_guard: NetworkGuard) -> Iterator[None]:
    """Fail the test that tried to reach the network, even where the code under test swallowed the refusal."""
    network_guard.attempts.clear()
    yield
    attempts = list(network_guard.attempts)
    network_guard.attempts.clear()
    if attempts:
        pytest.fail(f"this test tried to reach {attempts}", pytrace=False)


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One empty home directory for the session."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, empty_home: Path) -> None:
    """Hide the keys, proxies, endpoints and home of whoever runs the tests."""
    for name in list(os.environ):
        if name.endswith(_SECRET_ENDINGS) or name.startswith(_SECRET_STARTS):
            monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(empty_home))


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """A real HTTP server on loopback that answers what the test scripts; see tests/servers.py."""
    with FaultServer() as server:
        yield server


def create_redis(folder: Path) -> RedisServer:
    """Return a Redis that is not started; skip the test if it or its client is not installed."""
    redis_servers = pytest.importorskip("tests.redis_servers", reason="the extra 'redis' is not installed")
    if redis_servers.REDIS_SERVER is None:
        pytest.skip("redis-server is not installed")
    server: RedisServer = redis_servers.RedisServer(folder)
    return server


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis on loopback; see tests/redis_servers.py."""
    with create_redis(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis on loopback for all tests of a file."""
    with create_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def empty_redis(shared_redis: RedisServer) -> RedisServer:
    """The Redis of this file, empty."""
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis
