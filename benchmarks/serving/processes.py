"""The processes of benchmarks/serve.py: the upstream, the library, the service, and its_hub's gateway."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.peer_environments import environment_python

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PEER_PINS = ("its_hub[iaas]==1.2.0",)
PROMPT = "What is 17 * 24? End with: The answer is N."
_START_SECONDS = 60.0


@dataclass
class Service:
    """A service that runs in a process of its own."""

    child: subprocess.Popen[bytes]
    port: int

    @property
    def memory_mb(self) -> float:
        """Resident memory in MB (Linux)."""
        fields = Path(f"/proc/{self.child.pid}/status").read_text().split("VmRSS:")[1].split()
        return int(fields[0]) / 1024

    @property
    def n_descriptors(self) -> int:
        """Number of open files and sockets (Linux)."""
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))


@contextmanager
def run_upstream(n_tokens: int = 30) -> Iterator[int]:
    """Run the upstream, whose completions have so many tokens; yield its port."""
    command = [sys.executable, str(FOLDER / "upstream.py"), str(n_tokens)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        yield int(child.stdout.readline())
        assert child.stdin
        child.stdin.close()


def upstream_counts(port: int) -> dict[str, Any]:
    """Return what the upstream has counted."""
    counts: dict[str, Any] = httpx2.get(f"http://127.0.0.1:{port}/counts").json()
    return counts


class Library:
    """``AsyncSwiftReranker`` in a process of its own."""

    def __init__(self, upstream: int, n: int) -> None:
        command = [sys.executable, str(FOLDER / "library.py"), f"http://127.0.0.1:{upstream}/v1", str(n), PROMPT]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, **job: float) -> Any:
        """Run a loop of ``load``; return its result."""
        assert self.child.stdin
        assert self.child.stdout
        print(json.dumps(job), file=self.child.stdin, flush=True)
        return json.loads(self.child.stdout.readline())

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe
            pipe.close()
        self.child.wait(10)


@contextmanager
def run_service(upstream_url: str, folder: Path, *, settings: str = "", server: str = "") -> Iterator[Service]:
    """Run ``swift-client serve`` with one virtual model, "best"; yield it when it answers.

    Args:
        upstream_url: base URL of the provider.
        folder: for its configuration and its log.
        settings: further lines of the model's table.
        server: further lines of the ``[server]`` table.
    """
    port = free_port()
    config = folder / "swift.toml"
    config.write_text(
        f'[server]\nport = {port}\n{server}\n[models.best]\nprovider = "openai-compatible"\nmodel = "m"\n'
        f'base_url = "{upstream_url}"\nn = 8\n{settings}\n'
    )
    command = [sys.executable, "-m", "swift_client", "serve", "--config", str(config)]
    environment = {**os.environ, "OPENAI_COMPATIBLE_API_KEY": "k", "PYTHONPATH": str(ROOT)}
    with _run_child(command, environment, folder / "service.log") as child:
        _wait_for(f"http://127.0.0.1:{port}/healthz", child)
        yield Service(child, port)


@contextmanager
def run_peer_gateway(upstream: int, folder: Path, cache: Path) -> Iterator[int]:
    """Run its_hub's gateway, which votes over 8; yield its port.

    Raises:
        PeerUnavailableError: it cannot be installed.
    """
    python = environment_python("its_hub_iaas", PEER_PINS, cache)
    port = free_port()
    command = [str(python), "-m", "uvicorn", "its_hub.integration.iaas.app:app", "--port", str(port)]
    command += ["--log-level", "error"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with _run_child(command, environment, folder / "peer.log") as child:
        _wait_for(f"http://127.0.0.1:{port}/v1/models", child)
        settings = {
            "provider": "openai", "endpoint": f"http://127.0.0.1:{upstream}/v1", "api_key": "k", "model": "m",
            "alg": "self-consistency", "budget": 8, "regex_patterns": [r"answer is (\d+)"],
        }  # fmt: skip
        httpx2.post(f"http://127.0.0.1:{port}/configure", json=settings, timeout=_START_SECONDS).raise_for_status()
        yield port


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def _run_child(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_for(url: str, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            httpx2.get(url)
            return
        except httpx2.TransportError:
            if child.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
