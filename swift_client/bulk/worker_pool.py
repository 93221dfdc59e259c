"""Tasks on several processes at once, with results in the order of the tasks and in bounded memory.

Processes and not threads: ranking is Python code between short numpy calls, so that threads wait for each other.
``concurrent.futures`` was not used: its workers outlive a parent that is killed, and those that hang cannot be ended.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from swift_client.bulk.sources.source import Task
from swift_client.bulk.worker import run_worker
from swift_client.errors import SwiftClientError

_TASKS_PER_WORKER = 2  # one that runs, and one that waits, so that no worker waits for the parent
_WINDOW = 4  # tasks per worker that may be open at once: results that are ready wait for those before them


class RankedTask(NamedTuple):
    """The result of a task."""

    data: bytes  # encoded rows
    rows: int
    errors: int
    share: float  # of the source up to the end of this task, 0..1


@dataclass
class _Slot:
    """A task, in the order of the source, and its result once there is one."""

    share: float
    result: tuple[bytes, int, int] | None = None


class _Worker:
    def __init__(self, job: Any) -> None:
        # Not a fork: it would copy threads' locks and open files in an unknown state.
        context = multiprocessing.get_context("spawn")
        self.connection, connection = context.Pipe()
        self.process = context.Process(target=run_worker, args=(connection,), name="swift-client-rank", daemon=True)
        self.process.start()
        connection.close()  # so that each end sees the other's death
        self.slots: deque[_Slot] = deque()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died; this is reported when its result is due
            self.connection.send(job)

    def send(self, task: Task, slot: _Slot) -> None:
        self.slots.append(slot)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def receive(self) -> None:
        """Fill in the next result. Raises SwiftClientError: the worker's own, or that it has failed or died."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise _death_error(self.process.exitcode) from None
        if isinstance(message, SwiftClientError):
            raise message
        if isinstance(message, Exception):
            raise SwiftClientError(
                f"A worker process failed: {type(message).__name__}: {message}.",
                hint="A scorer, or another function of yours, has to be in a module that workers can import, not in a "
                "notebook or at Python's prompt. Or use workers=1.",
            ) from message
        self.slots.popleft().result = message

    def end(self) -> None:
        self.process.kill()  # it only reads
        self.process.join()
        self.connection.close()


class WorkerPool:
    """Up to ``size`` worker processes, which start when there is work for them and end with the block.

    Args:
        job: source, settings and format of the rows, as a worker receives them.
        size: most processes at once.
    """

    def __init__(self, job: Any, size: int) -> None:
        self._job, self._size = job, size
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def rank(self, tasks: Iterator[tuple[Task, float]]) -> Iterator[RankedTask]:
        """Yield the result of each task, in the order of the tasks.

        Raises:
            SwiftClientError: a worker died, or an error of ``Source`` that ends the run.
        """
        slots: deque[_Slot] = deque()
        while True:
            while len(slots) < _WINDOW * self._size and (worker := self._free_worker()):
                if (entry := next(tasks, None)) is None:
                    break
                task, share = entry
                slots.append(_Slot(share))
                worker.send(task, slots[-1])
            if not slots:
                return
            if slots[0].result is None:
                self._wait()
            while slots and (result := slots[0].result) is not None:
                yield RankedTask(*result, slots.popleft().share)

    def _free_worker(self) -> _Worker | None:
        """Return the worker with the fewest tasks, or a new one; None if all have enough."""
        worker = min(self._workers, key=lambda worker: len(worker.slots), default=None)
        if worker and (
            not worker.slots or (len(self._workers) == self._size and len(worker.slots) < _TASKS_PER_WORKER)
        ):
            return worker
        if len(self._workers) == self._size:
            return None
        try:
            self._workers.append(_Worker(self._job))
        except OSError as error:
            raise SwiftClientError(
                f"No worker process can be started: {error.strerror or error}.", hint="Use fewer workers."
            ) from error
        return self._workers[-1]

    def _wait(self) -> None:
        """Wait until a worker has a result, or has died: then its end of the connection is closed."""
        by_connection = {worker.connection: worker for worker in self._workers if worker.slots}
        for connection in multiprocessing.connection.wait(list(by_connection)):
            by_connection[connection].receive()  # type: ignore[index]  # one of those that were passed


def _death_error(exit_code: int | None) -> SwiftClientError:
    reason = (
        f"was killed by signal {-exit_code}" if exit_code and exit_code < 0 else f"ended with exit code {exit_code}"
    )
    return SwiftClientError(
        f"A worker process {reason} before it had ranked its questions.",
        hint="Use fewer workers if memory ran out. A script has to start the ranking under "
        'if __name__ == "__main__":, since workers import it.',
    )
