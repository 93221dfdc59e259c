"""A real redis-server on a free loopback port or a Unix socket, which tests may kill and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import redis

REDIS_SERVER = shutil.which("redis-server")
_START_SECONDS = 10.0


class RedisServer:
    """A server without persistence, so that it forgets everything when it is killed. It never uses port 6379.

    Args:
        folder: where it runs.
        password: of its only user; None without one.
        unix_socket: whether it listens on a socket in ``folder``, whose path must be short, and not on a port.
        tls: certificate and key, both PEM; then the port speaks TLS only.
        settings: further settings, such as ``maxmemory``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str | None = None,
        unix_socket: bool = False,
        tls: tuple[Path, Path] | None = None,
        **settings: str,
    ) -> None:
        self.port = 0 if unix_socket else _free_port()
        self._folder, self._password, self._tls = folder, password, tls
        self._socket = folder / "redis.sock" if unix_socket else None
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL, with the password."""
        login = f":{self._password}@" if self._password else ""
        if self._socket:
            return f"unix://{login}{self._socket}"
        return f"{'rediss' if self._tls else 'redis'}://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, on the same port as before, and wait until it answers."""
        command = [str(REDIS_SERVER), "--dir", str(self._folder), "--save", "", "--appendonly", "no"]
        for name, value in self._options().items():
            command += [f"--{name}", value]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """End the server with SIGKILL; calling it twice is harmless."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a client of the library itself."""
        options: dict[str, Any] = {"ssl_ca_certs": str(self._tls[0])} if self._tls else {}
        return redis.Redis.from_url(self.url, **options)

    def _options(self) -> Mapping[str, str]:
        options = {"bind": "127.0.0.1", "port": str(self.port), **self._settings}
        if self._password:
            options["requirepass"] = self._password
        if self._socket:
            options["unixsocket"] = str(self._socket)
        if self._tls:
            certificate, key = map(str, self._tls)
            options |= {"port": "0", "tls-port": str(self.port), "tls-auth-clients": "no"}
            options |= {"tls-cert-file": certificate, "tls-key-file": key}
        return options

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
