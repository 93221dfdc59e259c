"""Comparison of formulas with math-verify, in a child process that is killed if it hangs.

A thread cannot be stopped, and math-verify's own timeouts work only in the main thread (Math-Verify issues 42, 55, 65).
Therefore one child per process does the work: started at first use, restarted after a kill, shared by all threads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from functools import cache
from pathlib import Path

SECONDS_PER_PAIR = 2.0  # time limit of one comparison; most take 10 ms
# Time limit of the start; importing sympy and math-verify takes 0.3 to 3 s.
_SECONDS_TO_START = 30.0
# Variables that the child gets. It reads untrusted text, so it gets no keys.
_ENVIRONMENT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
    "SYSTEMROOT",
    "TEMP",
)


def is_available() -> bool:
    """Return whether math-verify is installed, without importing it."""
    return bool(sys.executable) and importlib.util.find_spec("math_verify") is not None


class _FairLock:
    """A lock that goes to the waiting question that has used the least time so far."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_held = False
        self._waiting: list[tuple[float, int]] = []  # seconds used, order of arrival
        self._arrivals = itertools.count()

    def acquire(self, *, seconds_used: float = 0.0, timeout: float) -> bool:
        """Wait for the lock; return False if it has not come after ``timeout`` seconds."""
        ticket = (seconds_used, next(self._arrivals))
        with self._condition:
            self._waiting.append(ticket)
            has_come = self._condition.wait_for(
                lambda: not self._is_held and ticket == min(self._waiting), max(0.0, timeout)
            )
            self._waiting.remove(ticket)
            self._is_held = self._is_held or has_come
            if not has_come:  # the next one may go now
                self._condition.notify_all()
        return has_come

    def release(self) -> None:
        """Give the lock to the next question."""
        with self._condition:
            self._is_held = False
            self._condition.notify_all()


class FormulaWorker:
    """Comparisons in a child process. Several threads may use it; they take turns.

    Each turn is one comparison, and the question that has used the least time goes first: one with hostile formulas
    cannot hold up the others for longer than one comparison.
    """

    def __init__(self) -> None:
        self._lock = _FairLock()
        self._child: subprocess.Popen[str] | None = None
        self._is_ready = threading.Event()
        self._is_first_start = True

    def prepare(self, deadline_at: float | None) -> None:
        """Start the first child and wait until it is ready, at most until ``deadline_at`` of ``time.monotonic()``.

        A start that takes longer goes on, and later comparisons find the child ready.
        """
        if not self._is_first_start:  # the child may be at work for another thread: do not wait here
            return
        seconds = _SECONDS_TO_START if deadline_at is None else max(0.0, deadline_at - time.monotonic())
        if self._lock.acquire(timeout=min(seconds, _SECONDS_TO_START)):
            try:
                self._ensure_child()
            finally:
                self._lock.release()
            self._is_first_start = not self._is_ready.wait(min(seconds, _SECONDS_TO_START))

    def are_equal(
        self,
        a: str,
        b: str,
        *,
        seconds: float = SECONDS_PER_PAIR,
        wait_seconds: float = _SECONDS_TO_START,
        seconds_used: float = 0.0,
    ) -> bool | None:
        """Return whether two normalized formulas are equal; None if that is unknown after ``seconds``.

        The waits for other threads and for the start of the child do not count towards ``seconds``, but both and the
        comparison together take at most ``wait_seconds``. ``seconds_used`` is the time of the question's comparisons
        so far.
        """
        end = time.monotonic() + wait_seconds
        if not self._lock.acquire(seconds_used=seconds_used, timeout=wait_seconds):
            return None
        try:
            child = self._ensure_child()
            if not self._is_ready.wait(max(0.0, end - time.monotonic())):
                return None
            reply = _ask(child, json.dumps([a, b, seconds]), min(seconds, end - time.monotonic()))
            if not reply:
                self._finalizer()
                return None
            answer = json.loads(reply)
            return answer if isinstance(answer, bool) else None
        finally:
            self._lock.release()

    def _ensure_child(self) -> subprocess.Popen[str]:
        """Return the child, which may still be starting; start one if it has ended. The lock is held."""
        if self._child is None or self._child.poll() is not None:
            self._is_ready = threading.Event()
            self._child = self._start()
            # A caller with a deadline does not wait for the end of the start.
            arguments = (self._child, self._is_ready)
            threading.Thread(target=_wait_for_start, args=arguments, name="swift-client-math", daemon=True).start()
        return self._child

    def _start(self) -> subprocess.Popen[str]:
        environment = {name: os.environ[name] for name in _ENVIRONMENT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
            [sys.executable, "-P", str(Path(__file__).with_name("math_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._finalizer = weakref.finalize(self, _close_child, child, os.getpid())  # also at exit
        return child


def _wait_for_start(child: subprocess.Popen[str], is_ready: threading.Event) -> None:
    """Set ``is_ready`` once the child has said that it is ready, or has ended."""
    try:
        _ask(child, None, _SECONDS_TO_START)
    finally:
        is_ready.set()


def _ask(child: subprocess.Popen[str], line: str | None, seconds: float) -> str:
    """Send a line and return the reply; empty if the child ended or was killed after ``seconds``."""
    if child.stdin is None or child.stdout is None:
        return ""
    watchdog = threading.Timer(max(0.0, seconds), child.kill)
    watchdog.start()
    try:
        if line is not None:
            child.stdin.write(line + "\n")
            child.stdin.flush()
        return child.stdout.readline()
    except (OSError, ValueError):  # it ended between two requests, or was closed meanwhile
        return ""
    finally:
        watchdog.cancel()


def _close_child(child: subprocess.Popen[str], owner: int) -> None:
    """Kill the child and wait for it; in a fork, only close the inherited pipes."""
    if os.getpid() == owner:
        child.kill()
        child.wait()
    else:
        child.returncode = 0
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


@cache
def get_worker(process_id: int) -> FormulaWorker:
    """Return the worker of the process with this id, so that a fork gets its own worker and lock."""
    return FormulaWorker()
