"""Connections to one Redis: short timeouts, and its errors as those of this package."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.store.redis.address import RedisAddress

if TYPE_CHECKING:
    import redis

T = TypeVar("T")

CONNECT_TIMEOUT, REPLY_TIMEOUT = 1.0, 2.0  # seconds
# After an attempt that took long and failed, none is made for some seconds: every answer would wait as long.
_LONG_SECONDS, _PAUSE_SECONDS = 0.5, 2.0
_MAX_REASON = 200  # characters of the server's own message that are shown


class RedisConnection:
    """Connections that many threads, and processes after a fork, may use. Nothing is opened before first use.

    Args:
        url: as of ``RedisAddress``.
        reply_timeout: seconds to wait for each part of a reply.

    Raises:
        ConfigurationError: the URL cannot be used.
        MissingExtraError: the library is not installed.
    """

    def __init__(self, url: str, *, reply_timeout: float = REPLY_TIMEOUT) -> None:
        self.address = RedisAddress.parse(url)
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as import_error:
            raise MissingExtraError.needs("redis", "A redis:// URL") from import_error
        self._library = redis
        self._client = redis.Redis(
            **self.address.options,
            protocol=2,
            socket_connect_timeout=CONNECT_TIMEOUT,
            socket_timeout=reply_timeout,
            # Once more if a connection broke: a server that restarted closes those that were idle.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self._paused_until, self._last_error = 0.0, ""

    @property
    def place(self) -> str:
        """The address for messages, without user and password."""
        return self.address.place

    def run(self, action: Callable[[redis.Redis], T]) -> T:
        """Return the result of ``action``, which sends commands and may be repeated if a connection breaks.

        Raises:
            ConfigurationError: the server cannot be reached, does not answer in time, or refuses a command.
        """
        started = time.monotonic()
        if started < self._paused_until:
            raise self._unreachable(self._last_error)
        try:
            return action(self._client)
        except (self._library.RedisError, OSError) as error:
            translation = self._translate(error)
            if translation.retryable and time.monotonic() - started > _LONG_SECONDS:
                self._last_error, self._paused_until = _reason(error), time.monotonic() + _PAUSE_SECONDS
            raise translation from None  # its own errors may quote commands

    def commit(self, transaction: redis.client.Pipeline) -> bool:
        """Execute a transaction; return False if a watched key has changed, or the connection broke."""
        try:
            execute(transaction)
        except self._library.WatchError:
            return False
        return True

    def close(self) -> None:
        """Close the connections that nothing uses at present; the next use opens new ones."""
        self._client.connection_pool.disconnect(inuse_connections=False)

    def _translate(self, error: Exception) -> ConfigurationError:
        if isinstance(error, self._library.AuthenticationError):  # a ConnectionError as well
            return ConfigurationError(
                f"{self.place} refuses the user or the password ({_reason(error)}).",
                hint="Check them in the URL, or the variable of password_env.",
            )
        # A connection that breaks within a transaction is a WatchError.
        unreachable = (self._library.ConnectionError, self._library.TimeoutError, self._library.WatchError, OSError)
        if isinstance(error, unreachable):
            return self._unreachable(_reason(error))
        return ConfigurationError(f"{self.place} refuses a command: {_reason(error)}.", hint="Check the server.")

    def _unreachable(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.place} cannot be reached: {reason}.", hint="Check that the server runs.", retryable=True
        )

    def __repr__(self) -> str:
        return f"RedisConnection({self.place!r})"


def execute(commands: redis.client.Pipeline) -> list[Any]:
    """Send queued commands and return their replies, or raise the first error, which shows no arguments."""
    replies: list[Any] = commands.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _reason(error: Exception) -> str:
    return str(error).rstrip(".")[:_MAX_REASON] or type(error).__name__
