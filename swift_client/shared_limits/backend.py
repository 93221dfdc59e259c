"""Homes of accounts: anything that grants leases, or changes a stored state atomically."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.shared_limits.account import AccountState, grant
from swift_client.shared_limits.messages import Lease, LeaseRequest

T = TypeVar("T")
MAX_STATE_BYTES = 4 * 2**20  # bytes of the largest state that is read; about 10,000 members


class AccountStore(Protocol):
    """A place that stores bytes by name and changes them atomically."""

    @property
    def place(self) -> str:
        """Name of the place for messages, without passwords."""

    def update(self, name: str, change: Callable[[bytes | None, float], tuple[bytes, T]]) -> T:
        """Replace the bytes of ``name`` by those that ``change`` returns; return its other value.

        Args:
            name: the account.
            change: gets the bytes, None if there are none, and the place's Unix time. It may be called again if
                another process changed them meanwhile; if it raises, nothing is written.

        Raises:
            SwiftClientError: the place cannot be used.
        """

    def close(self) -> None:
        """Release connections and files; the next ``update()`` opens them again."""


class LeaseSource(Protocol):
    """An account's home as its members see it."""

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        """Return the account's answer, within about a second. Any error means that the home cannot be reached."""


class StoreLeases:
    """Leases of the accounts in a store."""

    def __init__(self, store: AccountStore) -> None:
        self.store = store

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        """Return the account's answer.

        Raises:
            SwiftClientError: the store cannot be used, or holds something else under this name.
        """

        def change(data: bytes | None, now: float) -> tuple[bytes, Lease]:
            state, lease = grant(_decode_state(data, name, self.store.place), request, now)
            return msgspec.json.encode(state), lease

        return self.store.update(name, change)

    def close(self) -> None:
        """Release connections and files."""
        self.store.close()


def _decode_state(data: bytes | None, name: str, place: str) -> AccountState | None:
    if data is None:
        return None
    try:
        if len(data) > MAX_STATE_BYTES:
            raise msgspec.DecodeError(f"it has {len(data):,} bytes")
        return msgspec.json.decode(data, type=AccountState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The account {name!r} in {place} is damaged: {str(error)[:200]}.",
            hint="Use another name for the limit, or delete this account.",
        ) from error
