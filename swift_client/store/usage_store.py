"""Counts of requests, tokens and US dollars in a samples file, which several processes add to at the same time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TypeVar

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.store.schema import USAGE
from swift_client.store.sqlite import connect, not_a_samples_file, open_shared, transaction

T = TypeVar("T")
WindowKey = tuple[str, int]  # a name, and the length of the window in seconds
_SELECT = (
    "SELECT number, started, requests, tokens, usd, reserved_tokens, reserved_usd FROM key_usage "
    "WHERE name = ? AND seconds = ?"
)
_MAX_COUNT = 2**62  # SQLite's integers end at 2**63


@dataclass
class UsageWindow:
    """The counts of one name in one window of time.

    Attributes:
        number: Number of the window; the one after it has the next.
        started: Its begin, Unix seconds.
        requests: Requests that began.
        tokens: Tokens that were paid for.
        usd: US dollars that were paid.
        reserved_tokens: Tokens that running requests are expected to cost.
        reserved_usd: US dollars that running requests are expected to cost.
    """

    number: int
    started: float
    requests: int = 0
    tokens: int = 0
    usd: float = 0.0
    reserved_tokens: float = 0.0
    reserved_usd: float = 0.0


class UsageStore:
    """The counts in a samples file. Use it from one thread.

    The file is opened by the first call, and again by the call after one that failed. Counts survive kill -9 once
    ``update()`` returns; a power cut may cost those of the last seconds (``synchronous=NORMAL``). ``collect`` may write
    to the file meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None

    def update(self, keys: Iterable[WindowKey], change: Callable[[dict[WindowKey, UsageWindow]], T]) -> T:
        """Read windows, change them, and write them, in one transaction; return what ``change`` returns.

        Args:
            keys: the windows.
            change: gets those that exist and changes them, adds or replaces some; if it raises, nothing is written.

        Raises:
            ConfigurationError: the file is not a samples file, damaged, locked for seconds, or cannot be written.
        """
        try:
            connection = self._open()
            with transaction(connection, self.path) as run:
                windows = self._read(connection, keys)
                result = change(windows)
                for key, window in windows.items():
                    run("INSERT OR REPLACE INTO key_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, *_row(window)))
            return result
        except ConfigurationError:
            self.close()  # the next call opens the file anew, which may have been mended or replaced
            raise

    def check(self) -> None:
        """Raise ConfigurationError if there is a file and it is not a samples file; nothing is written."""
        if self.path.exists() and self.path.stat().st_size:
            connect(self.path, write=False).close()

    def close(self) -> None:
        """Release the file; calling it twice is harmless."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_shared(self.path, USAGE)
        return self._connection

    def _read(self, connection: sqlite3.Connection, keys: Iterable[WindowKey]) -> dict[WindowKey, UsageWindow]:
        names, windows = [field.name for field in fields(UsageWindow)], {}
        for key in keys:
            row = connection.execute(_SELECT, key).fetchone()
            if row is not None:
                try:
                    windows[key] = msgspec.convert(dict(zip(names, row, strict=True)), UsageWindow)
                except msgspec.ValidationError as error:
                    raise not_a_samples_file(self.path, f"it is damaged: {error}") from error
        return windows


def _row(window: UsageWindow) -> tuple[float, ...]:
    return tuple(min(value, _MAX_COUNT) for value in astuple(window))
