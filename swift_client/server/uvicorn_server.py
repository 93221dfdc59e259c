"""uvicorn's server as this service uses it, and the socket that it listens on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from swift_client.errors import ConfigurationError
from swift_client.server.app import Service
from swift_client.server.config import ServerConfig
from swift_client.server.http.protocol import MAX_HEADER_BYTES, create_protocol_class

_BACKLOG = 2048  # connections that wait to be accepted
_IDLE_TIMEOUT = 75  # seconds of an idle connection: longer than proxies keep theirs, so that they close first


class _Server(uvicorn.Server):
    """uvicorn's server, which ends with exit code 0 after SIGTERM: a drained service has not failed.

    Args:
        config: uvicorn's configuration.
        on_start: called when it accepts connections.
    """

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take note of SIGINT and SIGTERM; a second SIGINT ends at once."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def create_server(service: Service, *, on_start: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return the server of a service, for a listening socket that the caller has.

    Args:
        service: the service.
        on_start: called when the server accepts connections.
    """
    limits = service.limits
    return _Server(
        uvicorn.Config(
            service.create_app(),
            http=create_protocol_class(header_timeout=limits.header_timeout, max_connections=limits.max_connections),
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_IDLE_TIMEOUT,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_graceful_shutdown=round(limits.drain_timeout),
            ssl_certfile=limits.tls_certificate,
            ssl_keyfile=limits.tls_key,
            backlog=_BACKLOG,
        ),
        on_start,
    )


def listen(config: ServerConfig) -> socket.socket:
    """Return a socket that listens on the address. Raises ConfigurationError if it cannot be used."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Connections inherit the protocol, and asyncio sends small writes at once (TCP_NODELAY) only if it is TCP:
        # socket.create_server() leaves it 0, which costs 40 ms per reply.
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it lets two programs share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            f"The address {config.host}:{config.port} cannot be used: {error}.", hint="Choose another --host or --port."
        ) from error


def base_url(config: ServerConfig, listener: socket.socket) -> str:
    """Return the base URL for clients, such as ``http://127.0.0.1:8000/v1``."""
    scheme = "https" if config.tls_certificate else "http"
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{scheme}://{host}:{listener.getsockname()[1]}{config.path_prefix}/v1"
