"""The service on a free loopback port, in a thread of this process or in processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx2
import msgspec
import openai
import uvicorn

from swift_client.server.app import Service
from swift_client.server.config import ModelConfig, ServerConfig, ServiceConfig
from swift_client.server.uvicorn_server import base_url, create_server, listen
from tests.children import environment
from tests.servers import FaultServer

FOUR_WINS = ("The answer is 4", "The answer is 5", "The answer is 4")  # of an upstream: the vote is for 4
QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]


class RunningService:
    """A service that runs; ``url`` is the base URL of OpenAI's clients."""

    def __init__(self, service: Service, server: uvicorn.Server, listener: socket.socket) -> None:
        self.service, self.server = service, server
        self.url = base_url(service.limits, listener)
        self.root = self.url.removesuffix("/v1")
        self.port = listener.getsockname()[1]
        self.loop: asyncio.AbstractEventLoop | None = None
        self._clients: list[openai.OpenAI] = []

    def openai(self) -> openai.OpenAI:  # type: ignore[valid-type]
        """Return OpenAI's own client, closed at the end of the test."""
        self._clients.append(openai.OpenAI(base_url=self.url, api_key="unused", max_retries=0, timeout=20))
        return self._clients[-1]

    def close_clients(self) -> None:
        """Close all that ``openai()`` returned."""
        for client in self._clients:
            client.close()

    def post(
        self,
        body: object,
        path: str = "/chat/completions",
        *,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx2.Response:
        """Send a body to a path below ``/v1``."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with httpx2.Client(timeout=20) as client:
            return client.post(
                f"{self.url}{path}",
                content=data,
                headers={"content-type": "application/json", **(headers or {})},
                **options,
            )

    def get(self, path: str, **headers: str) -> httpx2.Response:
        """Get a path below the root."""
        with httpx2.Client(timeout=20) as client:
            return client.get(f"{self.root}{path}", headers=headers)

    def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """Send bytes and return all that comes until the service closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            received = b""
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    received += part
            return received


def model_config(upstream: FaultServer, **settings: Any) -> ModelConfig:
    """Return a virtual model in front of ``upstream``."""
    defaults = {"provider": "openai-compatible", "model": "m", "n": 3, "base_url": upstream.url, "max_retries": 0}
    return msgspec.convert({**defaults, **settings}, ModelConfig)


def service_config(
    upstream: FaultServer,
    *,
    server: Mapping[str, Any] | None = None,
    keys: Mapping[str, Any] | None = None,
    **settings: Any,
) -> ServiceConfig:
    """Return a configuration with one virtual model, "best"."""
    return ServiceConfig(
        server=msgspec.convert({"port": 0, **(server or {})}, ServerConfig),
        models={"best": model_config(upstream, **settings)},
        keys=dict(keys or {}),
    )


@contextlib.contextmanager
def run(config: ServiceConfig) -> Iterator[RunningService]:
    """Run a service until the end of the block."""
    service = Service(config)
    listener = listen(config.server)
    server = create_server(service)
    running = RunningService(service, server, listener)

    async def serve() -> None:
        running.loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield running
    finally:
        running.close_clients()
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()
        assert not thread.is_alive()


def wait_until(condition: Any, *, seconds: float = 10.0) -> None:
    """Wait until ``condition()`` is true; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class ServiceProcess:
    """``swift-client serve`` as a process of its own, in ``folder``; ``url`` is the base URL of OpenAI's clients.

    Args:
        folder: its working directory, in which ``swift.toml`` is written.
        text: the configuration, without a port.
        arguments: further arguments.
    """

    def __init__(self, folder: Path, text: str, *arguments: str) -> None:
        self._file = folder / "swift.toml"
        self.write(text)
        start = "from swift_client.cli import main; main()"
        line = [sys.executable, "-c", start, "serve", "--config", "swift.toml", "--port", "0", "--json", *arguments]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            line, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self.process.stdout is not None
        document = ""
        while not document.rstrip().endswith("}"):
            part = self.process.stdout.readline()
            assert part, self.log
            document += part
        self.url = json.loads(document)["url"]
        self.port = int(self.url.rpartition(":")[2].partition("/")[0])

    def write(self, text: str) -> None:
        """Replace the configuration file."""
        self._file.write_text(text)

    @property
    def log(self) -> str:
        """All that it wrote to stderr so far."""
        self._log.seek(0)
        return self._log.read()

    def workers(self) -> list[int]:
        """Return the ids of its worker processes; on Linux."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def answers(self) -> bool:
        """Return True if it answers."""
        try:
            return httpx2.get(self.url.replace("/v1", "/healthz")).status_code == 200
        except httpx2.TransportError:
            return False

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
