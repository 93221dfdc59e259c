"""Several HTTP clients for one endpoint, so that none has hundreds of connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

_POOL_SIZE = 50  # connections of one client


class ConnectionPools:
    """The HTTP clients of one endpoint, opened when they are needed.

    A client looks at all of its connections whenever a request begins or ends. With hundreds of them that would take
    most of the event loop's time if many requests end together, such as those of clients that hang up.

    Args:
        open_client: returns a client with so many connections at most.
        max_connections: connections of all clients together; the caller keeps to it.
    """

    def __init__(self, open_client: Callable[[int], httpx2.AsyncClient], max_connections: int) -> None:
        self._open_client = open_client
        self._size = min(_POOL_SIZE, max_connections)
        self._clients = [open_client(self._size)]
        self._n_requests = [0]  # per client

    @contextmanager
    def use(self) -> Iterator[httpx2.AsyncClient]:
        """Yield a client that has a connection left; the first one, so that connections are used again."""
        index = next((i for i, count in enumerate(self._n_requests) if count < self._size), len(self._clients))
        if index == len(self._clients):
            self._clients.append(self._open_client(self._size))
            self._n_requests.append(0)
        self._n_requests[index] += 1
        try:
            yield self._clients[index]
        finally:
            self._n_requests[index] -= 1

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients:
            await client.aclose()
