"""A local Ray cluster for tests, and a provider that counts what each completion was asked for."""

from __future__ import annotations

import contextlib
import gc
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

START_ERROR = "timed out during startup"
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

        os.environ["RAY_AUTH_MODE"] = "disabled"  # a token would be written to the home of whoever runs this
        os.environ["RAY_TMPDIR"] = "/tmp"  # sockets lie there, and a path of more than 107 bytes is none for a socket
        _start(ray)
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            yield ray
        finally:
            ray.shutdown()
            # Ids of actors begin anew in each session: a handle of this one, if it is collected during the next, would
            # end the actor that has its id there.
            gc.collect()


def _start(ray: Any, attempts: int = 3) -> None:
    """Start Ray, which gives up after 30 seconds: on busy cores that is too early."""
    try:
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        if START_ERROR not in str(error) or attempts == 1:
            raise
        ray.shutdown()
        _start(ray, attempts - 1)


class CountingServer(FaultServer):
    """Answers each request and notes, per completion, the prompt and the seed that it was asked for, and when."""

    def __init__(self, *, delay: float = 0.0, refuse_every: int = 0) -> None:
        super().__init__()
        self.delay, self.refuse_every = delay, refuse_every
        self.served: list[tuple[float, str, int]] = []
        """Time, prompt and seed of each completion that was answered."""
        self.arrivals: list[float] = []
        """Time of each request, of refused ones too."""
        self.n_refused = 0
        self._numbers = 0
        self._refused: set[tuple[str, int]] = set()
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
            self.arrivals.append(time.time())
            self._numbers += 1
            is_due = self.refuse_every and self._numbers % self.refuse_every == 0
            if is_due and (prompt, seed) not in self._refused:  # once each, so that no call runs out of retries
                self._refused.add((prompt, seed))
                self.n_refused += 1
                return error(429, "slow down", headers={"retry-after": "0.05"})
            self.served += [(time.time(), prompt, seed + index) for index in range(n)]
        choices = [{**BODY["choices"][0], "index": index} for index in range(n)]
        usage = {"prompt_tokens": 7, "completion_tokens": 4 * n, "total_tokens": 7 + 4 * n}
        return Response(**{**vars(json_response({**BODY, "choices": choices, "usage": usage})), "delay": self.delay})


def times_of_storing(out: Path) -> dict[tuple[str, int], float]:
    """Return when each completion was stored, by the number of its question and its index. None is stored twice."""
    from swift_client.ray.committed import read_keys
    from swift_client.ray.folder import Folder
    from swift_client.ray.shards import SAMPLES

    folder, times = Folder(out), dict[tuple[str, int], float]()
    for name in folder.list_files(SAMPLES, ".parquet"):
        stored_at = Path(folder.address(name)).stat().st_mtime
        for question_id, indices in read_keys(folder, name)[1].items():
            for index in indices:
                assert (question_id, index) not in times, "stored twice"
                times[question_id, index] = stored_at
    return times


def times_of_serving(server: CountingServer) -> list[tuple[float, tuple[str, int]]]:
    """Return when the provider answered with each completion of "What is NUMBER?", whose question is "qNUMBER"."""
    first_seeds: dict[str, int] = {}
    for _, prompt, seed in server.served:
        first_seeds[prompt] = min(seed, first_seeds.get(prompt, seed))
    return [
        (served_at, (f"q{prompt.split()[-1].rstrip('?')}", seed - first_seeds[prompt]))
        for served_at, prompt, seed in server.served
    ]


def worker_pids() -> list[int]:
    """Return the processes of collecting actors whose cluster this process has started."""
    return actor_pids("CollectWorker.collect")


def actor_pids(name: str) -> list[int]:
    """Return the processes of actors whose title begins with ``name``, of clusters that this process has started."""
    return [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if _title(path).startswith(b"ray::" + name.encode()) and _parent(_parent(int(path.name))) == os.getpid()
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
