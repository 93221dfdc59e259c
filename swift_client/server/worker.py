"""A worker: one of several processes that accept connections from the same socket."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection

import uvicorn
from msgspec.structs import replace

from swift_client.server.app import Service
from swift_client.server.collector import tune_collector
from swift_client.server.config import ServiceConfig
from swift_client.server.reloader import Reloader
from swift_client.server.uvicorn_server import create_server

READY = "ready"  # the message of a worker that accepts connections


def run_worker(listener: socket.socket, config: ServiceConfig, parent: Connection, setup: Callable[[], None]) -> None:
    """Serve until SIGTERM, or until the parent is gone.

    Args:
        listener: the socket.
        config: this worker's share of the configuration.
        parent: gets READY, and brings further configurations.
        setup: called first, such as to configure logging.
    """
    # A terminal sends these to all processes, but the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    setup()
    service = Service(config)
    server = create_server(service, on_start=lambda: parent.send(READY))

    async def serve() -> None:
        _follow(parent, service, server)
        tune_collector()
        await server.serve(sockets=[listener])

    asyncio.run(serve())


def share_config(config: ServiceConfig, index: int) -> ServiceConfig:
    """Return the configuration of one worker: its share of the limits of what runs at once."""
    server, workers = config.server, config.server.workers

    def share(total: int) -> int:
        return total // workers + (index < total % workers)

    def at_least_one(total: int) -> int:
        return max(1, share(total))

    passthrough = config.passthrough
    return replace(
        config,
        passthrough=passthrough and replace(passthrough, max_concurrency=at_least_one(passthrough.max_concurrency)),
        server=replace(
            server,
            max_concurrency=at_least_one(server.max_concurrency),
            max_queue=share(server.max_queue),
            max_connections=at_least_one(server.max_connections),
        ),
        models={
            name: replace(model, max_concurrency=at_least_one(model.max_concurrency))
            for name, model in config.models.items()
        },
    )


def _follow(parent: Connection, service: Service, server: uvicorn.Server) -> None:
    """Apply the configurations that the parent sends; end the server if the parent has ended."""
    loop, reloader = asyncio.get_running_loop(), Reloader(service.reload)

    def on_message() -> None:
        try:
            config: ServiceConfig = parent.recv()
        except (EOFError, OSError):
            loop.remove_reader(parent.fileno())
            server.should_exit = True
        else:
            reloader.start(lambda: config)

    loop.add_reader(parent.fileno(), on_message)
