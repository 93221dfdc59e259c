"""The messages of one process to one account, sent by a thread of their own."""

from __future__ import annotations

import atexit
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from swift_client.errors import SwiftClientError
from swift_client.shared_limits.backend import LeaseSource
from swift_client.shared_limits.messages import Demand, Lease, LeaseRequest, Refusal

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0  # seconds without a need after which a lease is given back
_KEEPALIVE_SECONDS = 15.0  # seconds between two messages of a member whose requests take long
_END_SECONDS = 10.0  # seconds without a need after which the thread ends
_RETRY_SECONDS = 1.0  # seconds between two attempts to reach a home
_MIN_INTERVAL = 0.005  # seconds between two messages that are not urgent
_MAX_INTERVAL = 5.0  # longest time in seconds for which a home may put a member off
_MAX_MEMBERS = 10**9  # members that a home may count
NO_THREAD = "no thread can be started"  # reason for which a home is not asked
_LEAVE_SECONDS = 1.5  # longest time in seconds that the end of the process waits for the last message


class Report(NamedTuple):
    """The part of a message that its client knows."""

    demands: dict[str, Demand]
    refusal: Refusal | None = None
    is_busy: bool = False  # True while requests run that the lease pays for


class LeaseClient(Protocol):
    """A user of leases, such as a rate limiter or a budget. The thread calls its methods."""

    def report(self, *, gives_back: bool, leaves: bool) -> Report:
        """Return its demands.

        Args:
            gives_back: nothing was needed for a while; what is not in use is returned.
            leaves: this is the last message; what is in use counts as used.
        """

    def accept(self, lease: Lease) -> None:
        """Take the answer to its last report."""

    def lose(self, reason: str) -> None:
        """Go on without the home, which could not be reached; called for each attempt."""

    def wake(self) -> None:
        """Go on with what waited for an answer."""


class AccountMember:
    """One process as a member of an account.

    The thread starts when something is needed, and ends ten seconds after the last need. The lease is given back one
    second after it, and at the end of the process. Use it in the process that made it.

    Args:
        name: the account.
        open_home: opens its home, in the thread.
        client: the user of the leases.
    """

    def __init__(self, name: str, open_home: Callable[[], LeaseSource], client: LeaseClient) -> None:
        self.name, self._open_home, self._client = name, open_home, client
        self._id, self._account = secrets.token_hex(8), ""
        self._process = os.getpid()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_asked = self._is_urgent = self._is_closing = False
        self._is_reachable = True
        self._has_given_back = self._is_busy = False
        self._n_begun = self._n_ended = 0  # messages
        self._not_before = self._sent_at = self._asked_at = 0.0  # in seconds of ``time.monotonic()``

    def ask(self, *, is_urgent: bool = False) -> bool:
        """Send a message soon, or at once if it ``is_urgent``; returns immediately.

        It returns False if the system starts no thread, such as at the end of the process; the next call tries again.
        """
        if self._is_asked and not is_urgent:  # the common case, without the lock
            return True
        with self._condition:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="swift-client-limits", daemon=True)
                try:
                    thread.start()  # which waits for this lock
                    atexit.register(self.close)
                except RuntimeError:
                    return False
                self._thread = thread
            self._is_asked, self._is_urgent = True, self._is_urgent or is_urgent
            self._has_given_back = False
            self._asked_at = time.monotonic()
            self._condition.notify_all()
        return True

    def ask_and_wait(self, seconds: float) -> bool:
        """Send a message at once; return True if its answer arrives in time."""
        with self._condition:
            now = time.monotonic()
            if not self._is_reachable and now < self._not_before:
                return False
            if self._n_begun > self._n_ended and now > self._sent_at + seconds:  # the home does not answer
                return False
            message = self._n_begun + 1
        if not self.ask(is_urgent=True):
            self._client.lose(NO_THREAD)
            return False
        with self._condition:
            return self._condition.wait_for(lambda: self._n_ended >= message, seconds) and self._is_reachable

    def seconds_since_message(self) -> float:
        """Return the seconds since the last message."""
        return time.monotonic() - self._sent_at

    def close(self) -> None:
        """Give the lease back; a later need begins with a new one."""
        if self._process != os.getpid():
            return
        with self._condition:
            thread = self._thread
            if thread is None:
                return
            self._is_closing = True
            self._condition.notify_all()
        if thread is not threading.current_thread():
            thread.join(_LEAVE_SECONDS)

    # --- in the thread

    def _run(self) -> None:
        home: LeaseSource | None = None
        try:
            while self._wait():
                home = self._exchange(home)
                self._client.wake()
            if self._account:
                self._exchange(home, leaves=True)
        finally:
            if close := getattr(home, "close", None):
                close()
            with self._condition:
                if self._thread is threading.current_thread():  # an unexpected error: the next need begins anew
                    self._thread, self._is_asked = None, False
                if self._thread is None:  # else a new thread has begun, and needs the handler
                    self._n_ended = self._n_begun  # no message is under way
                    atexit.unregister(self.close)
                self._condition.notify_all()

    def _wait(self) -> bool:
        """Wait until a message is due; return False if the thread should end instead."""
        with self._condition:
            while True:
                now = time.monotonic()
                is_over = not (self._is_asked or self._is_busy) and now >= self._asked_at + _END_SECONDS
                if self._is_closing or is_over:
                    self._thread, self._is_closing = None, False
                    self._is_asked = self._is_urgent = False  # what still waits asks again, in a new thread
                    return False
                due_at = self._due_at()
                if due_at <= now:
                    return True
                self._condition.wait(due_at - now)

    def _due_at(self) -> float:
        """Return when the next message is due, if nothing happens before."""
        if self._is_asked:
            return 0.0 if self._is_urgent and self._is_reachable else self._not_before
        if not self._has_given_back:
            return max(self._asked_at + IDLE_SECONDS, self._not_before)
        return self._sent_at + _KEEPALIVE_SECONDS if self._is_busy else self._asked_at + _END_SECONDS

    def _exchange(self, home: LeaseSource | None, *, leaves: bool = False) -> LeaseSource | None:
        """Send a message and take its answer; return the home, opened if it was not."""
        with self._condition:
            self._n_begun += 1
            number = self._n_begun
            gives_back = leaves or not self._is_asked
            if not leaves:  # else a new thread may have begun, which is asked
                self._is_urgent = False
        report = self._client.report(gives_back=gives_back, leaves=leaves)
        request = LeaseRequest(
            member=self._id,
            number=number,
            account=self._account,
            demands=report.demands,
            refusal=report.refusal,
            leaves=leaves,
        )
        self._sent_at = time.monotonic()
        reason = None
        try:
            home = home or self._open_home()
            lease = _require_lease(home.lease(self.name, request))
            if not leaves:
                self._client.accept(lease)
        except Exception as error:  # a home may be anybody's object
            reason = error.message if isinstance(error, SwiftClientError) else type(error).__name__
            wait_seconds = _RETRY_SECONDS
        else:
            self._account = lease.account
            wait_seconds = min(max(lease.wait_seconds, _MIN_INTERVAL), _MAX_INTERVAL)
        if leaves:
            self._end_message(number)
            return home
        if reason is not None:
            self._client.lose(reason)
        self._log_change(reason)
        with self._condition:
            self._not_before = time.monotonic() + wait_seconds
            # Not before the answer: whatever waits asks again when it wakes.
            self._is_asked = self._is_urgent
            self._is_reachable = reason is None
            self._is_busy, self._has_given_back = report.is_busy, gives_back
            self._end_message(number)
        return home

    def _end_message(self, number: int) -> None:
        with self._condition:
            self._n_ended = max(self._n_ended, number)
            self._condition.notify_all()

    def _log_change(self, reason: str | None) -> None:
        if reason is not None and self._is_reachable:
            logger.warning("The shared limit %r cannot be reached: %s", self.name, reason)
        elif reason is None and not self._is_reachable:
            logger.info("The shared limit %r is reached again.", self.name)


def _require_lease(answer: object) -> Lease:
    """Return the answer of a home, which may be anybody's object.

    Raises:
        TypeError: it is not a lease.
        ValueError: a number is not finite, or a field has another type.
    """
    if not isinstance(answer, Lease):
        raise TypeError("not a Lease")
    lease = msgspec.convert(msgspec.to_builtins(answer), Lease)  # a struct does not check its types when it is made
    refusal = (lease.refusal.age, lease.refusal.pause) if lease.refusal else ()
    numbers = (lease.wait_seconds, *lease.total_granted.values(), *lease.in_use.values(), *refusal)
    if not all(map(math.isfinite, numbers)) or not 0 <= lease.n_members <= _MAX_MEMBERS:
        raise ValueError("a number is not finite")
    return lease
