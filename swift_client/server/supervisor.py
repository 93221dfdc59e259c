"""The parent of several workers: it starts them, replaces those that die, and ends them."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from msgspec.structs import replace

from swift_client.errors import ConfigurationError
from swift_client.server.app import Service
from swift_client.server.config import ServiceConfig, check_config
from swift_client.server.observability.worker_metrics import forget_worker, shared_metrics
from swift_client.server.reloader import Reloader
from swift_client.server.worker import run_worker, share_config

logger = logging.getLogger(__name__)

_FIRST_WAIT, _LAST_WAIT = 0.1, 10.0  # seconds before a worker that died is replaced, doubled if the next one dies soon
_LONG_LIFE = 30.0  # seconds after which a worker's death says nothing about the next one
_KILL_AFTER = 10.0  # seconds after the drain timeout


class _Worker:
    """A process that serves."""

    def __init__(
        self, listener: socket.socket, config: ServiceConfig, setup: Callable[[], None], on_ready: Callable[[], None]
    ) -> None:
        # Not a fork: it would copy threads' locks and open files in an unknown state.
        context = multiprocessing.get_context("spawn")
        self._connection, connection = context.Pipe()
        self.process = context.Process(target=run_worker, args=(listener, config, connection, setup))
        self.process.start()
        self.pid = cast(int, self.process.pid)
        connection.close()  # so that the worker's end is the only one, and each sees the other's death
        self.ended = asyncio.Event()
        self._on_ready = on_ready
        loop = asyncio.get_running_loop()
        loop.add_reader(self.process.sentinel, self._on_end)
        loop.add_reader(self._connection.fileno(), self._on_message)

    def send(self, config: ServiceConfig) -> None:
        """Send a configuration, unless the worker has ended."""
        try:
            self._connection.send(config)
        except OSError:
            logger.warning("A worker ended before it had the configuration.")

    def _on_message(self) -> None:
        try:
            self._connection.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
        else:
            self._on_ready()

    def _on_end(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.process.sentinel)
        loop.remove_reader(self._connection.fileno())
        self._connection.close()
        self.process.join()
        self.ended.set()


class Supervisor:
    """The parent process.

    SIGTERM and SIGINT end all workers when their requests have ended, a second SIGINT at once.

    Args:
        service: the service, which checks configurations and serves nothing here.
        listener: the socket, which is closed when the workers are to end.
        setup: called first in each worker.
        on_start: called when all workers accept connections.
    """

    def __init__(
        self, service: Service, listener: socket.socket, *, setup: Callable[[], None], on_start: Callable[[], None]
    ) -> None:
        self._service, self._listener, self._setup, self._on_start = service, listener, setup, on_start
        self._config = service.models.config
        self._workers: dict[int, _Worker] = {}
        self._n_ready = 0  # workers that began to serve, dead ones included
        self._stops, self._has_failed = asyncio.Event(), False

    async def run(self, load: Callable[[], ServiceConfig] | None) -> None:
        """Serve until a signal comes; ``load`` reads the configuration again on SIGHUP.

        Raises:
            ConfigurationError: a worker could not start.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
        if load is not None:
            Reloader(self._reload).on_signal(load)
        with shared_metrics():
            try:
                await asyncio.gather(*(self._keep_alive(index) for index in range(self._config.server.workers)))
            finally:
                self._kill()
        if self._has_failed:
            raise ConfigurationError("A worker could not start.", hint="The log has its error.")

    async def _keep_alive(self, index: int) -> None:
        """Start a worker, and another one whenever it dies."""
        loop, wait = asyncio.get_running_loop(), _FIRST_WAIT
        while not self._stops.is_set():
            started = loop.time()
            worker = _Worker(self._listener, share_config(self._config, index), self._setup, self._on_ready)
            self._workers[index] = worker
            await worker.ended.wait()
            forget_worker(worker.pid)
            if self._stops.is_set():
                return
            if self._n_ready < self._config.server.workers:  # the next one would meet the same error
                self._has_failed = True
                self._stop()
                return
            if loop.time() - started > _LONG_LIFE:
                wait = _FIRST_WAIT
            code = worker.process.exitcode
            logger.error("Worker %d ended (%s); another one starts in %g s.", worker.pid, code, wait)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stops.wait(), wait)
            wait = min(2 * wait, _LAST_WAIT)

    async def _reload(self, config: ServiceConfig) -> None:
        """Let all workers, and those that replace them, serve new requests by another configuration."""
        config = replace(config, server=self._config.server)
        check_config(config)
        await self._service.reload(config)
        self._config = config
        for index, worker in self._workers.items():
            worker.send(share_config(config, index))

    def _on_ready(self) -> None:
        self._n_ready += 1
        if self._n_ready == self._config.server.workers and not self._stops.is_set():
            self._on_start()

    def _on_interrupt(self) -> None:
        if self._stops.is_set():
            self._kill()
        self._stop()

    def _stop(self) -> None:
        """Let the workers end when their requests have ended; kill those that take much longer than they may."""
        if self._stops.is_set():
            return
        self._stops.set()
        self._listener.close()
        for worker in self._workers.values():
            worker.process.terminate()
        seconds = self._config.server.drain_timeout + _KILL_AFTER
        asyncio.get_running_loop().call_later(seconds, self._kill)

    def _kill(self) -> None:
        for worker in self._workers.values():
            worker.process.kill()
