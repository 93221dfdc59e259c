"""Tests of limits of keys and models: windows, reservations, and counts in a file that outlive processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from swift_client.errors import ConfigurationError
from swift_client.server import parse_config
from swift_client.server.access import limit_rules
from swift_client.server.access.client_keys import NewKey, create_key
from swift_client.server.access.cost_meter import ExpectedCost
from swift_client.server.access.limit_rules import Cost, Reservation, Scope
from swift_client.server.access.usage_limits import UsageLimits
from swift_client.server.config import BudgetConfig, KeyConfig, LimitsConfig
from swift_client.server.http.error_reply import HttpError
from swift_client.store import SampleStore, UsageStore, UsageWindow
from tests.children import command
from tests.servers import FaultServer, Received, Response, chat, hang
from tests.services import QUESTION, RunningService, run, service_config, wait_until

DAY = 86_400
BODY = {"model": "best", "messages": QUESTION}


@pytest.fixture
def upstream() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture(scope="module")
def alice() -> NewKey:
    return create_key("alice")


def limited(key: NewKey, **limits: float) -> dict[str, KeyConfig]:
    return {"alice": msgspec.convert({"hash": key.hash, "limits": limits}, KeyConfig)}


def ask(service: RunningService, key: NewKey) -> httpx2.Response:
    return service.post(BODY, headers={"authorization": f"Bearer {key.key}"})


def counts(path: Path, name: str = "key alice") -> UsageWindow:
    """Return the counts of a name's day."""
    return UsageStore(path).update([(name, DAY)], lambda windows: windows[name, DAY])


# --- rules ---------------------------------------------------------------------------------------------------------


class Book:
    """The windows of one key under a clock that the test sets."""

    def __init__(self, **limits: float) -> None:
        self.windows: dict[tuple[str, int], UsageWindow] = {}
        self.scopes = [Scope(kind="key", name="alice", limits=msgspec.convert(limits, LimitsConfig))]
        self.now = 1000.0

    def begin(self, *, tokens: float = 0.0, usd: float = 0.0) -> Reservation:
        return limit_rules.begin(self.windows, self.scopes, Cost(tokens=tokens, usd=usd), self.now)

    def pay(self, reservation: Reservation, *, tokens: float = 0.0, usd: float = 0.0) -> None:
        limit_rules.settle(self.windows, reservation, Cost(tokens=tokens, usd=usd), self.now)

    def refusal(self) -> tuple[str, float | None] | None:
        try:
            self.begin()
        except HttpError as error:
            return error.message, error.retry_after
        return None


def test_limits_count_requests_tokens_and_dollars_per_window() -> None:
    book = Book(requests_per_minute=3, tokens_per_day=1000, usd_per_minute=0.5)

    assert [book.refusal() for _ in range(3)] == [None] * 3
    book.now += 20
    assert book.refusal() == ("The key's limit of 3 requests per minute is reached.", 40.0)
    book.now += 40
    book.pay(book.begin(), tokens=400, usd=0.5)
    book.now += 1
    assert book.refusal() == ("The key's limit of 0.5 usd per minute is reached.", 59.0)
    book.now += 59
    book.pay(book.begin(), tokens=600)
    assert book.refusal() == ("The key's limit of 1000 tokens per day is reached.", DAY - 120.0)
    book.now += DAY
    assert book.refusal() is None


def test_running_requests_reserve_their_expected_cost_until_they_have_paid() -> None:
    book = Book(tokens_per_day=1000)

    running = [book.begin(tokens=400) for _ in range(3)]  # 0, 400 and 800 are below the limit
    assert book.refusal() == ("The key's limit of 1000 tokens per day is reserved for requests that are running.", 5.0)
    for reservation in running:
        book.pay(reservation, tokens=300)
    assert book.windows["key alice", DAY] == UsageWindow(number=1, started=1000.0, requests=3, tokens=900)
    last = book.begin(tokens=400)
    book.now += DAY
    book.pay(last, tokens=50)  # paid for in the next day, whose reservations it does not lower
    assert book.windows["key alice", DAY] == UsageWindow(number=2, started=1000.0 + DAY, tokens=50)


def test_a_clock_that_is_put_back_makes_no_window_longer() -> None:
    book = Book(requests_per_minute=1)
    book.begin()
    book.now -= 500
    assert book.refusal() == ("The key's limit of 1 requests per minute is reached.", 60.0)
    book.now += 60
    assert book.refusal() is None


def test_the_expected_cost_is_the_budget_and_then_the_mean_of_what_was_paid() -> None:
    expected = ExpectedCost(BudgetConfig(tokens=5000))
    assert expected.cost == Cost(tokens=5000)
    for tokens in (100, 0, 200):  # a request that cost nothing was refused upstream
        expected.observe(Cost(tokens=tokens, usd=tokens / 1000))
    assert expected.cost.tokens == pytest.approx(150)
    assert expected.cost.usd == pytest.approx(0.15)
    for _ in range(100):
        expected.observe(Cost(tokens=1000))
    assert expected.cost.tokens == pytest.approx(1000, rel=0.01)


# --- the service -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_file", [False, True])
def test_a_key_over_its_limit_gets_429_and_others_do_not(
    upstream: FaultServer, alice: NewKey, tmp_path: Path, in_file: bool
) -> None:
    bob = create_key("bob")
    keys = {**limited(alice, tokens_per_day=10), "bob": KeyConfig(hash=bob.hash)}
    server = {"usage_store": str(tmp_path / "swift.db")} if in_file else {}

    with run(service_config(upstream, keys=keys, server=server)) as service:
        statuses = [ask(service, key).status_code for key in (alice, alice, bob, bob)]
        refused = ask(service, alice)

    assert statuses == [200, 429, 200, 200]
    assert 86_000 < int(refused.headers["retry-after"]) <= DAY
    assert refused.json()["error"]["type"] == "rate_limit_error"
    if in_file:
        day = counts(tmp_path / "swift.db")
        assert (day.requests, day.tokens, day.reserved_tokens) == (1, 7 + 3 * 4, 0)
        assert (tmp_path / "swift.db").stat().st_mode & 0o777 == 0o600


def test_a_models_limits_hold_for_all_callers_together(upstream: FaultServer, alice: NewKey) -> None:
    bob = create_key("bob")
    keys = {**limited(alice), "bob": KeyConfig(hash=bob.hash)}
    with run(service_config(upstream, keys=keys, limits={"requests_per_day": 2})) as service:
        statuses = [ask(service, key).status_code for key in (alice, bob, alice)]
        refused = ask(service, bob)

    assert statuses == [200, 200, 429]
    assert refused.json()["error"]["message"] == "The model's limit of 2 requests per day is reached."
    assert len(upstream.requests) == 2


def test_two_services_share_a_limit_exactly(upstream: FaultServer, alice: NewKey, tmp_path: Path) -> None:
    config = service_config(
        upstream, n=1, keys=limited(alice, requests_per_day=12), server={"usage_store": str(tmp_path / "swift.db")}
    )
    with run(config) as first, run(config) as second, ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(lambda i: ask((first, second)[i % 2], alice).status_code, range(30)))

    assert (statuses.count(200), statuses.count(429)) == (12, 18)
    assert counts(tmp_path / "swift.db").requests == len(upstream.requests) == 12


def test_a_limit_of_tokens_is_not_exceeded_by_requests_that_run_at_once(
    upstream: FaultServer, alice: NewKey, tmp_path: Path
) -> None:
    # Each costs 11 tokens; the first one makes that known.
    config = service_config(
        upstream, n=1, keys=limited(alice, tokens_per_day=100), server={"usage_store": str(tmp_path / "swift.db")}
    )
    with run(config) as service, ThreadPoolExecutor(16) as threads:
        ask(service, alice)
        list(threads.map(lambda _: ask(service, alice), range(25)))

    assert 100 <= counts(tmp_path / "swift.db").tokens <= 110


def test_a_client_that_hangs_up_has_paid_for_what_arrived_and_it_is_stored(
    upstream: FaultServer, alice: NewKey, tmp_path: Path
) -> None:
    path, replies, store = tmp_path / "swift.db", iter([chat(["The answer is 4"])]), tmp_path / "replies.db"
    upstream.n_max, lock = 1, threading.Lock()

    def answer(received: Received) -> Response:
        with lock:
            return next(replies, hang())

    upstream.serve(answer)
    config = service_config(
        upstream, n=3, keys=limited(alice, tokens_per_day=1000), store=str(store), server={"usage_store": str(path)}
    )
    with run(config) as service:
        caller = openai.OpenAI(base_url=service.url, api_key=alice.key, max_retries=0, timeout=0.7)
        with pytest.raises(openai.APITimeoutError), contextlib.closing(caller):
            caller.chat.completions.create(model="best", messages=QUESTION)  # type: ignore[arg-type]
        wait_until(lambda: counts(path).tokens)

    assert counts(path).tokens == 7 + 4
    with SampleStore(store) as samples:
        assert list(samples.counts().values()) == [1]


def test_a_locked_or_damaged_file_refuses_keys_with_limits_and_no_others(
    upstream: FaultServer, alice: NewKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, bob = tmp_path / "swift.db", create_key("bob")
    keys = {**limited(alice, requests_per_day=3), "bob": KeyConfig(hash=bob.hash)}
    with run(service_config(upstream, keys=keys, server={"usage_store": str(path)})) as service:
        assert ask(service, alice).status_code == 200
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = ask(service, alice)  # after SQLite's wait of three seconds
            started = time.monotonic()
            assert ask(service, alice).status_code == 503
            assert time.monotonic() - started < 2  # the next ones do not wait for it again
            other.execute("ROLLBACK")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
        assert refused.headers["retry-after"] == "5"
        assert str(path) not in refused.text
        assert "is in use" in caplog.text
        wait_until(lambda: ask(service, alice).status_code == 200)

        saved = counts(path)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("UPDATE key_usage SET tokens = 'many'")
        assert [ask(service, key).status_code for key in (alice, bob)] == [503, 200]
        assert "it is damaged" in caplog.text
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("UPDATE key_usage SET tokens = ?", (saved.tokens,))
        wait_until(lambda: ask(service, alice).status_code == 200)
        assert ask(service, alice).status_code == 429


def test_a_cost_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "swift.db"
    scopes = [Scope(kind="key", name="alice", limits=LimitsConfig(tokens_per_day=100))]

    async def use() -> None:
        limits = UsageLimits(str(path))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            async with limits.request(scopes, Cost(tokens=9)) as meter:
                meter.cost = Cost(tokens=70)
                other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        assert counts(path).reserved_tokens == 9
        await asyncio.sleep(1.1)  # the file is left alone for a second
        async with limits.request(scopes, Cost()):
            assert counts(path).tokens == 70
        await limits.aclose()

    asyncio.run(use())
    assert counts(path).reserved_tokens == 0


def test_wrong_settings_are_named_and_counts_in_memory_are_announced(tmp_path: Path) -> None:
    table = '[models.m]\nprovider = "openai-compatible"\nmodel = "m"\nbase_url = "http://localhost:1/v1"\n'
    with pytest.raises(ConfigurationError, match=r"\[models.m.limits\]: 'tokens_per_hour' is unknown"):
        parse_config(f"{table}limits = {{ tokens_per_hour = 5 }}")

    def check(text: str) -> Any:
        (tmp_path / "swift.toml").write_text(text)
        return command("serve", "--config", "swift.toml", "--check", cwd=tmp_path)

    assert b"counted in memory" in check(f"{table}limits = {{ tokens_per_day = 5 }}").stderr
    in_file = check(f'[server]\nusage_store = "swift.db"\n{table}limits = {{ tokens_per_day = 5 }}')
    assert (in_file.returncode, b"memory" in in_file.stderr, (tmp_path / "swift.db").exists()) == (0, False, False)
    (tmp_path / "swift.db").write_text("no database")
    assert check(f'[server]\nusage_store = "swift.db"\n{table}').returncode == 3


# --- many clients that hang up -------------------------------------------------------------------------------------


class SilentUpstream:
    """A server that reads requests and never answers; ``n_open`` is the number of its connections."""

    def __init__(self) -> None:
        self.n_open = 0
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._hold, "127.0.0.1", 0, backlog=1024))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_open += 1
        with contextlib.suppress(OSError):
            await reader.read(-1)
        writer.close()
        self.n_open -= 1

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


def test_500_clients_that_hang_up_cancel_their_upstream_calls_and_reserve_nothing(
    alice: NewKey, tmp_path: Path
) -> None:
    path = tmp_path / "swift.db"
    with contextlib.closing(SilentUpstream()) as upstream:
        config = service_config(
            upstream,  # type: ignore[arg-type]
            n=1,
            budget={"tokens": 1000},
            max_concurrency=500,
            keys=limited(alice, tokens_per_day=10**9),
            server={"usage_store": str(path), "max_concurrency": 500},
        )
        with run(config) as service:
            body = json.dumps(BODY).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {alice.key}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            clients = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(500)]
            for client in clients:
                client.sendall(head.encode() + body)
            wait_until(lambda: upstream.n_open == 500)
            assert counts(path).reserved_tokens == 500_000

            started = time.monotonic()
            for client in clients:
                client.close()
            wait_until(lambda: upstream.n_open == 0)
            seconds = time.monotonic() - started
            wait_until(lambda: counts(path).reserved_tokens == 0)

    assert seconds < 5  # .2 s of work; see docs/log.md
    assert (counts(path).requests, counts(path).tokens) == (500, 0)
