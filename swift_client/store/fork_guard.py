"""No fork while a shared file is open: SQLite's locks are the process's, and its child would believe to hold them.

See https://www.sqlite.org/howtocorrupt.html, section 2.6. What this counts is the process's own, as forking is; so it
stands in the module.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ForkGuard:
    """Counts who has a file open; a fork waits until nobody has."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._open_count = 0

    @contextmanager
    def block_forks(self) -> Iterator[None]:
        """Put forks off until this block ends, which must be soon and must not fork itself."""
        with self._condition:
            self._open_count += 1
        try:
            yield
        finally:
            with self._condition:
                self._open_count -= 1
                self._condition.notify_all()

    def before_fork(self) -> None:
        """Wait until nothing is open, and let nobody begin."""
        self._condition.acquire()
        self._condition.wait_for(lambda: not self._open_count)

    def after_fork(self) -> None:
        """Go on, in parent and child."""
        self._condition.release()


FORK_GUARD = ForkGuard()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=FORK_GUARD.before_fork, after_in_parent=FORK_GUARD.after_fork, after_in_child=FORK_GUARD.after_fork
    )
