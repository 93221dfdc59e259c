"""Running the service until a signal ends it: in this process, or in several workers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from swift_client.server.app import Service
from swift_client.server.collector import tune_collector
from swift_client.server.config import ServiceConfig
from swift_client.server.reloader import Reloader
from swift_client.server.supervisor import Supervisor
from swift_client.server.uvicorn_server import base_url, create_server, listen


def run_service(
    config: ServiceConfig,
    *,
    on_start: Callable[[str], None] = lambda url: None,
    load: Callable[[], ServiceConfig] | None = None,
    setup: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests that are running then have ``drain_timeout`` seconds to end.

    Args:
        config: the configuration.
        on_start: called with the base URL, which clients use, before the first request.
        load: reads the configuration again on SIGHUP; None: the signal is not handled.
        setup: called once in each process that serves, such as to configure logging; a function of a module, since
            workers are new interpreters.

    Raises:
        ConfigurationError: a setting is wrong, the address cannot be used, or a worker could not start.
    """
    service = Service(config)
    service.usage.open()
    listener = listen(config.server)
    setup()
    with listener:

        def announce() -> None:
            on_start(base_url(config.server, listener))

        if config.server.workers > 1:
            asyncio.run(Supervisor(service, listener, setup=setup, on_start=announce).run(load))
        else:
            asyncio.run(_serve(service, listener, announce, load))


async def _serve(
    service: Service,
    listener: socket.socket,
    on_start: Callable[[], None],
    load: Callable[[], ServiceConfig] | None,
) -> None:
    if load is not None:
        Reloader(service.reload).on_signal(load)
    tune_collector()
    await create_server(service, on_start=on_start).serve(sockets=[listener])
