"""The homes of shared limits: a samples file, a Redis server, or an object."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from swift_client.errors import ConfigurationError
from swift_client.shared_limits.backend import LeaseSource, StoreLeases
from swift_client.store.account_store import FileAccountStore

SharedHome: TypeAlias = str | os.PathLike[str] | LeaseSource
_MAX_NAME = 128  # characters of a limit's name


def resolve_home(shared: SharedHome) -> Callable[[], LeaseSource]:
    """Return a function that opens the home, once per process.

    Args:
        shared: path of a samples file, address of a Redis server, or an object with a method ``lease()``.

    Raises:
        ConfigurationError: it is none of these, the file is not a samples file, or the address is wrong.
        MissingExtraError: the address needs the extra "redis".
    """
    if not isinstance(shared, (str, os.PathLike)):
        if callable(getattr(shared, "lease", None)):
            return lambda: shared
        raise ConfigurationError(
            f"A shared limit is kept in a samples file, a Redis or an object with lease, not {type(shared).__name__}.",
            hint="Give the path of a file; it is created if it does not exist.",
        )
    if isinstance(shared, str) and "://" in shared:
        from swift_client.store.redis import RedisAccountStore

        RedisAccountStore(shared)  # refuses a wrong URL here, and not in a thread
        return lambda: StoreLeases(RedisAccountStore(shared))
    store = FileAccountStore(shared)
    store.check()
    return lambda: StoreLeases(FileAccountStore(store.path))


def require_name(name: object) -> None:
    """Raise ConfigurationError unless ``name`` is a text of 1 to 128 printable characters."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise ConfigurationError(
            f"The name of a shared limit has 1 to {_MAX_NAME} printable characters, unlike {str(name)[:200]!r}.",
            hint='Give a short one, such as "key 1".',
        )
