"""A local Ray cluster for tests, and a provider that counts what each completion was asked for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.servers import FaultServer, Received, Response, chat_body, error, json_response

BODY = chat_body(["The answer is 4"], k=3)


@contextlib.contextmanager
def local_cluster() -> Iterator[Any]:
    """Start Ray on this machine, with more CPUs than actors: those that hold every CPU leave none to the readers."""
    with warnings.catch_warnings():
        # Ray's own start leaves sockets and log files to the garbage collector, and announces changes of its defaults.
        for category in (ResourceWarning, DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        import ray
        import ray.data

        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield ray
        finally:
            ray.shutdown()


class CountingServer(FaultServer):
    """Answers each request and notes, per completion, the prompt and the seed that it was asked for, and when."""

    def __init__(self, *, delay: float = 0.0, refuse_every: int = 0) -> None:
        super().__init__()
        self.delay, self.refuse_every = delay, refuse_every
        self.served: list[tuple[float, str, int]] = []
        """Time, prompt and seed of each completion that was answered."""
        self.n_refused = 0
        self._numbers = 0
        self._count_lock = threading.Lock()
        self.serve(self._answer)

    def counts(self) -> Counter[tuple[str, int]]:
        """Return how often each completion was answered."""
        return Counter((prompt, seed) for _, prompt, seed in self.served)

    def _answer(self, request: Received) -> Response:
        body = request.json
        prompt, n, seed = body["messages"][-1]["content"], body.get("n", 1), body.get("seed", 0)
        if "broken" in prompt:
            return error(400, "this prompt is broken")
        with self._count_lock:
            self._numbers += 1
            if self.refuse_every and self._numbers % self.refuse_every == 0:
                self.n_refused += 1
                return error(429, "slow down", headers={"retry-after": "0.05"})
            self.served += [(time.time(), prompt, seed + index) for index in range(n)]
        choices = [{**BODY["choices"][0], "index": index} for index in range(n)]
        usage = {"prompt_tokens": 7, "completion_tokens": 4 * n, "total_tokens": 7 + 4 * n}
        return Response(**{**vars(json_response({**BODY, "choices": choices, "usage": usage})), "delay": self.delay})


def worker_pids() -> list[int]:
    """Return the processes of collecting actors whose cluster this process has started."""
    return [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if _title(path).startswith(b"ray::CollectWorker") and _parent(_parent(int(path.name))) == os.getpid()
    ]


def kill(pid: int) -> None:
    """Send SIGKILL, also if the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _title(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return (path / "cmdline").read_bytes()
    return b""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
