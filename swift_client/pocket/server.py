"""llama.cpp's server on loopback, for the packaged model or for your own GGUF file.

It needs the extra ``pocket`` (xllamacpp). Its defaults sample plainly: no top-k, no nucleus, no min-p, so only
``temperature`` decides how tokens are drawn; a request may set any of them.

The server runs in a separate process: llama.cpp's global threads do not survive a fork, and a crash there must not end
the caller (``docs/decisions/0005-the-pocket-server-is-a-process.md``).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.pocket.weights import find_weights, missing_weights

# The packaged model: llama architecture, 2.85 M parameters, float16. The file is missing if nothing brought it.
PACKAGED_MODEL = find_weights()

MODEL_NAME = "pocket"

_SERVER_SCRIPT = Path(__file__).with_name("server_process.py")


class PocketServer:
    """An OpenAI-compatible llama.cpp server on a free loopback port, started at the first ``start()``.

    Thread-safe. After a fork the child starts its own server. The server stops at ``close()``, with the last
    reference to this object, at exit, and when this process dies; ``start()`` may follow ``close()``. It writes
    nothing to standard output or error.

    Args:
        model: a GGUF file; default: the packaged model.
        slots: completions decoded at once, 1 to 64; also the largest ``n`` of a request.
        context: most tokens of one completion and its prompt together.
        threads: CPU threads. One is best for a model this small: more only wait for each other.
        exact: KV cache in float32 and flash attention off, for logprobs as precise as the weights.

    Raises:
        MissingExtraError: at ``start()``, if xllamacpp or the weights of the packaged model are not installed.
        ConfigurationError: ``slots`` is out of range; at ``start()``, if the file is missing or cannot be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        slots: int = 16,
        context: int = 512,
        threads: int = 1,
        exact: bool = True,
    ) -> None:
        if not 1 <= slots <= 64:
            raise ConfigurationError(f"slots is {slots}.", hint="Use 1 to 64.")
        self.model = find_weights() if model is None else Path(model)
        self._options = {"slots": slots, "context": context, "threads": threads, "exact": exact}
        self._lock = threading.Lock()
        self._owner_pid = os.getpid()
        self._process_and_url: tuple[subprocess.Popen[str], str] | None = None
        self._finalizer: weakref.finalize[..., PocketServer] | None = None

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:PORT/v1``; starts the server unless it is running."""
        return self.start()

    def start(self) -> str:
        """Start the server unless it is running, and return its base URL."""
        if self._owner_pid != os.getpid():
            # In a forked child: the server belongs to the parent, and its lock may have been locked during the fork.
            self._owner_pid, self._lock, self._process_and_url = os.getpid(), threading.Lock(), None
        with self._lock:
            if self._process_and_url is None or self._process_and_url[0].poll() is not None:
                self._process_and_url = self._launch()
                self._finalizer = weakref.finalize(self, _stop_process, self._process_and_url[0], os.getpid())
            return self._process_and_url[1]

    def close(self) -> None:
        """Stop the server; calling it twice is harmless."""
        if self._owner_pid != os.getpid():
            return
        with self._lock:
            if self._finalizer is not None:
                self._finalizer()
            self._process_and_url = None

    def __enter__(self) -> PocketServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _launch(self) -> tuple[subprocess.Popen[str], str]:
        if not _is_installed("xllamacpp"):
            raise MissingExtraError.needs("pocket", "The local llama.cpp server")
        is_packaged = self.model == find_weights()
        if not self.model.is_file():
            if is_packaged:
                raise missing_weights()
            raise ConfigurationError(f"There is no model file {self.model}.", hint="Pass the path of a GGUF file.")
        name = MODEL_NAME if is_packaged else self.model.stem
        options = self._options | {"model": str(self.model.resolve()), "name": name, "path": sys.path}
        process = subprocess.Popen(  # noqa: S603 - this interpreter and a file beside this one
            [sys.executable, "-P", str(_SERVER_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C in a terminal is the caller's to handle
        )
        try:
            reply = _handshake(process, options)
        except BaseException as error:
            _stop_process(process, os.getpid())
            if not isinstance(error, (OSError, ValueError)):
                raise
            reply = {"error": str(error)}
        if "error" in reply:
            _stop_process(process, os.getpid())
            raise ConfigurationError(
                f"llama.cpp cannot serve {self.model}: {reply['error']}.",
                hint="Pass a GGUF file that llama.cpp can read.",
            )
        return process, f"{reply['address']}/v1"


def _handshake(process: subprocess.Popen[str], options: Mapping[str, object]) -> dict[str, str]:
    """Send ``options`` to ``process`` and return its answer: an address or an error."""
    if process.stdin is None or process.stdout is None:
        return {"error": "the process has no pipes"}
    process.stdin.write(json.dumps(options) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    reply: dict[str, str] = json.loads(line) if line else {"error": "the process ended before it answered"}
    return reply


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # in sys.modules without a spec: blocked
        return False


def _stop_process(process: subprocess.Popen[str], owner_pid: int) -> None:
    """End ``process`` by closing its input. A forked child only closes its copies of the pipes."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    if owner_pid != os.getpid():
        process.returncode = 0  # only the parent can wait for it
        return
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
