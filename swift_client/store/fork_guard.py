"""No fork while a shared file is open: SQLite's locks are the process's, and its child would believe to hold them.

See https://www.sqlite.org/howtocorrupt.html, section 2.6. What this counts is the process's own, as forking is; so it
stands in the module.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Sessions:
    """Counts who has a file open; a fork waits until nobody has."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._open = 0

    @contextmanager
    def session(self) -> Iterator[None]:
        """Put forks off until this block ends, which must be soon and must not fork itself."""
        with self._changed:
            self._open += 1
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until nothing is open, and let nobody begin."""
        self._changed.acquire()
        self._changed.wait_for(lambda: not self._open)

    def after_fork(self) -> None:
        """Go on, in parent and child."""
        self._changed.release()


SESSIONS = Sessions()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=SESSIONS.before_fork, after_in_parent=SESSIONS.after_fork, after_in_child=SESSIONS.after_fork
    )
