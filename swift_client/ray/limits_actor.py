"""The home of shared limits on a cluster: one named actor, whose journal outlives it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from swift_client.errors import ConnectionFailedError
from swift_client.ray.cluster import NAMESPACE, import_ray
from swift_client.ray.folder import Folder
from swift_client.shared_limits import Lease, LeaseRequest, StoreLeases

T = TypeVar("T")
LIMITS = "limits"  # the folder of the journals
_LEASE_SECONDS = 1.0  # longest wait for an answer; meanwhile a member goes on with its own share of a rate
_START_SECONDS = 60.0  # longest wait for the actor to start
_REMOTE_SECONDS = 1.0  # time between two journals on a file system that is not local


class RayLeases:
    """Leases of an account whose home is a named actor of the cluster; ``shared=`` of RateLimit and Budget takes it.

    The actor starts with the first lease, and again if it is killed. It ends with the driver that started it; then the
    next lease starts another one, which continues by the journal.

    Args:
        actor: name of the actor; all drivers and workers that give this name share the limits.
        journal: folder of the run, for a journal in ``limits/``; without it a killed actor forgets what it granted,
            and learns from its members what they have spent.
    """

    def __init__(self, actor: str, journal: Folder | None = None) -> None:
        self.actor, self.journal = actor, journal
        self._handle: Any = None

    def __getstate__(self) -> tuple[str, Folder | None]:
        return self.actor, self.journal

    def __setstate__(self, state: tuple[str, Folder | None]) -> None:
        self.actor, self.journal = state
        self._handle = None

    def start(self) -> Any:
        """Start the actor, or find it; return its handle. It ends with the handle of the process that started it."""
        if self._handle is not None:
            return self._handle
        ray = import_ray()
        actor = ray.remote(LimitsActor).options(
            name=f"limits {self.actor}",
            namespace=NAMESPACE,
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
        )
        self._handle = actor.remote(self.journal)
        return self._handle

    def connect(self) -> None:
        """Wait until the actor answers. Raises ConnectionFailedError if it does not within a minute."""
        self._call(self.start().pid.remote(), _START_SECONDS)

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        """Return the account's answer.

        Raises:
            ConnectionFailedError: the actor does not answer within a second.
        """
        lease: Lease = self._call(self.start().lease.remote(name, request), _LEASE_SECONDS)
        return lease

    def _call(self, reference: Any, seconds: float) -> Any:
        ray = import_ray()
        try:
            return ray.get(reference, timeout=seconds)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            if isinstance(error, ray.exceptions.ActorDiedError):  # it ended with its starter: start another one
                self._handle = None
            raise ConnectionFailedError(
                f"The actor of the limits {self.actor!r} does not answer ({type(error).__name__}).", retryable=True
            ) from error


class LimitsActor:
    """Grants leases of any number of accounts."""

    def __init__(self, journal: Folder | None) -> None:
        self._leases = StoreLeases(JournalStore(journal))

    def pid(self) -> int:
        """Return the process of the actor; the answer says that it runs."""
        return os.getpid()

    def lease(self, name: str, request: LeaseRequest) -> Lease:
        """Return the account's answer."""
        return self._leases.lease(name, request)


class JournalStore:
    """States of accounts in memory, each with a journal file that a new process continues.

    Args:
        folder: the folder of ``limits/``; None: there is no journal.
    """

    def __init__(self, folder: Folder | None) -> None:
        self._folder = folder
        self._states: dict[str, bytes] = {}
        self._written_at: dict[str, float] = {}

    @property
    def place(self) -> str:
        """Name of the place for messages."""
        return "the actor of the limits" if self._folder is None else f"{self._folder}/{LIMITS}"

    def update(self, name: str, change: Callable[[bytes | None, float], tuple[bytes, T]]) -> T:
        """Replace the state of ``name`` by that which ``change`` returns; return its other value.

        A journal on a file system that is not local is written once per second at most: a killed actor may then grant
        the leases of its last second again.

        Raises:
            ConfigurationError: the journal cannot be read or written.
        """
        data = self._states.get(name)
        if data is None and self._folder is not None:
            data = self._folder.read(self._journal(name))
        state, value = change(data, time.time())
        self._write(name, state)
        self._states[name] = state
        return value

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _write(self, name: str, state: bytes) -> None:
        if self._folder is None:
            return
        now = time.monotonic()
        is_due = now - self._written_at.get(name, -_REMOTE_SECONDS) >= _REMOTE_SECONDS
        if self._folder.local_path or is_due:
            self._folder.write(self._journal(name), state)
            self._written_at[name] = now

    def _journal(self, name: str) -> str:
        return f"{LIMITS}/{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"  # a name may be no file name
