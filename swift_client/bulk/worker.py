"""A worker process: it ranks the tasks that its parent sends, until the parent is gone."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

# No numpy here: a worker limits its threads before numpy starts them.
if TYPE_CHECKING:
    from swift_client.bulk.row_formats import RowFormat
    from swift_client.bulk.settings import RankSettings
    from swift_client.bulk.sources.source import Source

    Job = tuple[Source, RankSettings, RowFormat]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run_worker(parent: Connection) -> None:
    """Receive a job, then tasks, and send (encoded rows, number of rows, number of errors) for each of them, in order.

    An exception that ends the job is sent in place of a result.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes, but the parent decides
    for name in _THREAD_VARIABLES:  # there is one worker per core
        os.environ[name] = "1"
    try:
        source, settings, row_format = parent.recv()
        with source.open(settings) as rank:
            while True:
                rows = rank(parent.recv())
                parent.send((row_format.encode(rows), len(rows), sum(row.error is not None for row in rows)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has ended, or needs no more
    except Exception as error:
        _send_error(parent, error)


def _send_error(parent: Connection, error: Exception) -> None:
    try:
        parent.send(error)
    except OSError:
        return
    except Exception:  # an exception that pickle refuses
        parent.send(RuntimeError(f"{type(error).__name__}: {error}"))
