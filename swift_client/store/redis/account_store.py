"""States of shared limits in Redis, which processes of several hosts change in turn."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from swift_client.errors import ConfigurationError
from swift_client.store.packing import replace_surrogates
from swift_client.store.redis.connection import RedisConnection

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

IDLE_SECONDS = 30 * 86_400  # after its last change, an account is forgotten
REPLY_TIMEOUT = 1.0  # seconds; members that wait longer go on without the account
_MAX_SECONDS = 1.0  # for attempts while other processes change the same account
_MAX_WAIT = 0.02  # seconds between two attempts
# More bytes than a state may have; a longer one arrives incomplete, and its reader refuses it.
_MAX_BYTES = 5 * 2**20


class RedisAccountStore:
    """The accounts in a Redis, a home of shared limits (``shared_limits.AccountStore``). Threads may share it.

    A string ``swift:account:NAME`` has the state of an account. A change is a transaction that fails if another process
    has changed the state since it was read; then it is tried again, for at most a second. Time is that of the server.
    Nothing is opened before the first call.

    Args:
        url: such as ``redis://host:6379/0``; not with ``ttl``.

    Raises:
        ConfigurationError: the URL cannot be used.
        MissingExtraError: the extra "redis" is not installed.
    """

    def __init__(self, url: str) -> None:
        self._connection = RedisConnection(url, reply_timeout=REPLY_TIMEOUT)
        if self._connection.address.ttl is not None:
            raise ConfigurationError(
                "A shared limit in Redis has no ttl.", hint="Leave ?ttl= out of the URL, or use it with store=."
            )

    @property
    def place(self) -> str:
        """The address for messages, without user and password."""
        return self._connection.place

    def update(self, name: str, change: Callable[[bytes | None, float], tuple[bytes, T]]) -> T:
        """Replace the state of an account in one transaction; return the other value of ``change``.

        Args:
            name: the account.
            change: gets the bytes of its state, None if there is none, and the server's Unix time. It is called again
                if another process has changed the state meanwhile, or the connection broke, after which the state
                may be that of the first call; if it raises, nothing is written.

        Raises:
            ConfigurationError: the server cannot be reached, refuses a command, or too many processes change the
                account.
        """
        key = f"swift:account:{replace_surrogates(name)}"
        return self._connection.run(lambda client: self._update(client, key, change))

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._connection.close()

    def _update(self, client: redis.Redis, key: str, change: Callable[[bytes | None, float], tuple[bytes, T]]) -> T:
        deadline, longest_wait = time.monotonic() + _MAX_SECONDS, 0.001
        while True:
            with client.pipeline() as transaction:
                transaction.watch(key)  # type: ignore[no-untyped-call]
                data: Any = transaction.getrange(key, 0, _MAX_BYTES)
                seconds, microseconds = transaction.time()
                state, result = change(data or None, seconds + microseconds / 1e6)
                transaction.multi()
                transaction.set(key, state, ex=IDLE_SECONDS)
                if self._connection.commit(transaction):
                    return result
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"Too many processes change one account in {self.place} at the same time.",
                    hint="Let fewer processes share one limit.",
                    retryable=True,
                )
            # At different times, so that they do not meet again.
            time.sleep(random.uniform(0, longest_wait))  # noqa: S311
            longest_wait = min(2 * longest_wait, _MAX_WAIT)

    def __repr__(self) -> str:
        return f"RedisAccountStore({self.place!r})"
