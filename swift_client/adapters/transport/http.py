"""The module that opens connections: sends a Request and returns the bytes of the reply.

Requests go out through httpx2. A caller's own openai client (``client=``) sends them itself (``openai_client``), which
keeps its authentication, Azure deployments, proxies and hooks; openai is imported only in this case.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from swift_client.adapters.providers.provider import LocalServer, Provider, Request
from swift_client.adapters.transport import error_responses
from swift_client.adapters.transport.api_key import ApiKey, ApiKeySource, build_headers, url_credentials
from swift_client.adapters.transport.exceptions import error_from_exception
from swift_client.adapters.transport.raw_reply import RawReply
from swift_client.adapters.transport.redaction import redact_error
from swift_client.errors import ConfigurationError, ConnectionFailedError, SwiftClientError

if TYPE_CHECKING:
    import httpx2

    from swift_client.adapters.transport.openai_client import OpenAIClientSender

logger = logging.getLogger(__name__)

HeadersCallback = Callable[[Mapping[str, str]], None]

MAX_REPLY_BYTES = 256_000_000
_CONNECT_TIMEOUT = 10.0  # seconds to connect
_POOL_SIZE = 50  # connections of one httpx2 client


class Transport:
    """Sends requests to one provider. One Transport belongs to one event loop.

    At most ``max_connections`` requests run at once; waiting for a slot does not count against the timeout.

    Args:
        provider: the provider; its ``base_url`` is used unless another is given here.
        api_key: a key or a function that returns one; default: the provider's environment variable, read at the first
            request.
        base_url: overrides the provider's.
        client: the caller's own ``openai`` client of any of the four kinds; it brings its own key and base URL.
            A sync client works in threads, so the event loop never waits for it.
        timeout: seconds for one complete reply; for a stream also seconds without an event.
        max_reply_bytes: bytes of one reply, after decompression; of a refusal's body only the start is read.
        max_connections: number of requests that may run at once.
        server: a local server to start at the first request instead of a base URL.
        on_headers: called with the headers of each reply, names in lower case, before its body; in any thread.

    Raises:
        ConfigurationError: there is no base URL, ``client`` is not an openai client, or the provider does not speak
            OpenAI's API.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        client: object | None = None,
        timeout: float = 60.0,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        max_connections: int = 16,
        server: LocalServer | None = None,
        on_headers: HeadersCallback | None = None,
    ) -> None:
        self.provider = replace(provider, base_url=base_url) if base_url else provider
        self._key = ApiKeySource(provider, api_key, timeout=timeout)
        self._base_url = self.provider.base_url
        self._timeout = timeout
        self._max_reply_bytes = max_reply_bytes
        self._max_connections = max_connections
        self._server = server
        self._on_headers = on_headers or (lambda headers: None)
        self._sender: _HttpSender | OpenAIClientSender | None = None
        if client is not None:
            from swift_client.adapters.transport.openai_client import OpenAIClientSender

            self._sender = OpenAIClientSender.create(client, provider, max_connections, self._on_headers)
            if api_key is not None or base_url is not None:
                raise ConfigurationError("client= brings its own key and base URL.", hint="Give them to your client.")
        elif server is None and not self._base_url:
            variable = f", set {provider.base_url_variable}" if provider.base_url_variable else ""
            raise ConfigurationError(
                f"Provider {provider.name!r} needs an address.", hint=f"Pass base_url={variable} or pass client=."
            )
        self._slots = asyncio.Semaphore(max_connections)
        self._sender_lock = asyncio.Lock()
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"Transport({self.provider.name!r}, max_connections={self._max_connections})"

    @property
    def secrets(self) -> list[str]:
        """Keys and passwords to remove from messages."""
        client_keys = [] if self._sender is None else self._sender.keys
        return [*self._key.recent_keys, *url_credentials(self.provider), *client_keys]

    async def send(self, request: Request, *, timeout: float | None = None, parts: list[bytes] | None = None) -> bytes:
        """Send one request and return the whole body of its reply.

        Args:
            request: the request.
            timeout: seconds; default: the Transport's.
            parts: an empty list. If the request fails or is cancelled, it holds what had arrived of the body.

        Raises:
            SwiftClientError: and nothing else; a ConnectionFailedError has the bytes that arrived as ``received``.
        """
        limit = self._timeout if timeout is None else timeout
        parts = [] if parts is None else parts
        n_received = 0
        problem: SwiftClientError | None = None
        started = time.monotonic()
        async with self._slots:
            try:
                sender = await self._get_sender()
                async with asyncio.timeout(limit), aclosing(sender.chunks(request, limit)) as chunks:
                    async for chunk in chunks:
                        parts.append(chunk)
                        n_received += len(chunk)
                        if n_received > self._max_reply_bytes:
                            raise error_responses.too_long_error(self._max_reply_bytes, self.provider)
            except Exception as error:
                problem = self._translate_error(error, n_received)
        body = b"".join(parts) if isinstance(problem, ConnectionFailedError | None) else b""
        if problem is None and body[:64].lstrip().startswith(b"<"):
            problem = error_responses.error_from_html(body, self.provider)
        if isinstance(problem, ConnectionFailedError):
            problem.received = body
        elif problem is None:
            parts.clear()  # it may be large
        ending = f", {type(problem).__name__}" if problem else ""
        seconds = time.monotonic() - started
        logger.debug("%s: n=%d, %d bytes in %.3f s%s", self.provider.name, request.n, len(body), seconds, ending)
        # Raised here and not in the except block: the original exception holds the request, and with it the key.
        if problem:
            redact_error(problem, self.secrets)
            raise problem
        return body

    @asynccontextmanager
    async def stream(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        total_timeout: float | None = None,
        max_bytes: float | None = None,
    ) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Send one request and yield the reply's bytes as they arrive; leaving the block closes the connection.

        The connection opens when the first chunk is read. Errors as in ``send()``. ``timeout`` limits the seconds
        without an event (comments that keep a connection alive are none); ``total_timeout`` (default: ``timeout``)
        and ``max_bytes`` (default: the Transport's) limit the complete reply.
        """
        limit = self._timeout if timeout is None else timeout
        total_limit = limit if total_timeout is None else total_timeout
        most_bytes = self._max_reply_bytes if max_bytes is None else max_bytes
        async with self._slots, aclosing(self._stream_chunks(request, limit, total_limit, most_bytes)) as chunks:
            yield chunks

    @asynccontextmanager
    async def forward(self, path: str, body: bytes) -> AsyncGenerator[RawReply]:
        """Send a JSON body as it is, once, and yield the reply as it arrives, whatever its status.

        The timeout limits the seconds without a byte. Not for a ``client`` of the caller.

        Raises:
            SwiftClientError: there is no reply; it is a redirect, or compressed in an unknown way.
        """
        problem: SwiftClientError | None = None
        async with self._slots, AsyncExitStack() as stack:
            try:
                sender = await self._get_sender()
                if not isinstance(sender, _HttpSender):
                    raise ConfigurationError("client= cannot send a body as it is.", hint="Pass api_key= instead.")
                content = {"content": body, "headers": {"content-type": "application/json"}}
                response = await stack.enter_async_context(sender.open("POST", path, self._timeout, content))
                if response.is_redirect:
                    raise error_responses.error_from_response(
                        response.status_code, dict(response.headers), b"", self.provider
                    )
            except Exception as error:
                problem = self._translate_error(error, 0)
            if problem:
                raise problem
            chunks = await stack.enter_async_context(aclosing(self._raw_chunks(response)))
            yield RawReply(status=response.status_code, headers=response.headers, chunks=chunks, secrets=self.secrets)

    async def aclose(self) -> None:
        """Close everything this Transport opened, but never the caller's client. Running requests fail."""
        self._is_closed = True
        sender = self._sender
        if isinstance(sender, _HttpSender):
            self._sender = None
        if sender is not None:
            await sender.aclose()
        if self._server is not None:
            try:
                await asyncio.to_thread(self._server.close)
            except RuntimeError:  # the interpreter is exiting and starts no more threads
                self._server.close()

    async def _stream_chunks(
        self, request: Request, limit: float, total_limit: float, max_bytes: float
    ) -> AsyncGenerator[bytes]:
        problem: SwiftClientError | None = None
        bytes_received = 0
        clock = asyncio.get_running_loop().time
        event_at = clock()
        ends_at = event_at + total_limit
        try:
            sender = await self._get_sender()
            async with aclosing(sender.chunks(request, limit)) as chunks:
                while True:
                    async with asyncio.timeout_at(min(event_at + limit, ends_at)):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    bytes_received += len(chunk)
                    if bytes_received > max_bytes:
                        raise error_responses.too_long_error(max_bytes, self.provider)
                    yield chunk
                    if not _is_keep_alive(chunk):
                        event_at = clock()
        except Exception as error:
            problem = self._translate_error(error, bytes_received)
        if problem:
            raise problem

    async def _raw_chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes]:
        problem: SwiftClientError | None = None
        n_received = 0
        try:
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    n_received += len(chunk)
                    yield chunk
        except Exception as error:
            problem = self._translate_error(error, n_received)
        if problem:
            raise problem

    def _translate_error(self, error: Exception, bytes_received: int) -> SwiftClientError:
        if headers := getattr(getattr(error, "response", None), "headers", None):  # raised by an openai client
            self._on_headers(headers)
        translated = error_from_exception(error, self.provider, bytes_received=bytes_received, secrets=self.secrets)
        redact_error(translated, self.secrets)
        return translated

    async def _get_sender(self) -> _HttpSender | OpenAIClientSender:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise ConfigurationError("This Transport belongs to another event loop.", hint="Make one per loop.")
        async with self._sender_lock:
            if self._sender is None and not self._is_closed:
                # Importing httpx2 and reading the trust store take a while: not on the event loop.
                self._sender = await asyncio.to_thread(self._open_sender)
            if self._sender is None or self._is_closed:  # a retry would open connections that nobody closes
                await self.aclose()
                raise ConfigurationError("The client was closed while it worked.", hint="Make a new one.")
            return self._sender

    def _open_sender(self) -> _HttpSender:
        import httpx2

        # httpx2 imports this with the first connection, on the event loop, which would block for 0.1 s. The module is
        # internal to anyio: if it moves, the first call is only slower.
        with suppress(ImportError):
            importlib.import_module("anyio._backends._asyncio")
        base_url = self._server.start() if self._server else str(self._base_url)
        ssl_context = httpx2.create_ssl_context()  # shared, since reading the trust store takes a while

        def open_client(size: int) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(
                verify=ssl_context,
                limits=httpx2.Limits(max_connections=size, max_keepalive_connections=size),
                # A redirect could drop the body or send the prompt elsewhere. A proxy is never used for loopback.
                follow_redirects=False,
                mounts=dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
            )

        pools = _ConnectionPools(open_client, self._max_connections)
        return _HttpSender(self.provider, base_url, self._key, pools, self._on_headers)


@dataclass(eq=False)
class _HttpSender:
    """Sends requests with this Transport's own httpx2 clients."""

    provider: Provider
    base_url: str
    key: ApiKeySource
    pools: _ConnectionPools
    on_headers: HeadersCallback
    keys: tuple[str, ...] = ()  # those that are known to ``key`` are not among them

    async def chunks(self, request: Request, timeout: float) -> AsyncGenerator[bytes]:
        """Send one request and yield the bytes of its reply; raise ProviderError unless the status is 2xx."""
        # The body: a form with a file, JSON, or none for GET.
        content: dict[str, Any] = {}
        if request.upload:
            content = {"data": dict(request.body), "files": {"file": (*request.upload, "application/jsonl")}}
        elif request.method == "POST":
            content = {"json": dict(request.body)}
        async with self.open(request.method, request.path, timeout, content) as response:
            if not response.is_success:
                body = await error_responses.read_start(response.aiter_bytes())
                raise error_responses.error_from_response(
                    response.status_code, dict(response.headers), body, self.provider
                )
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    yield chunk

    @asynccontextmanager
    async def open(
        self, method: str, path: str, timeout: float, content: Mapping[str, Any]
    ) -> AsyncGenerator[httpx2.Response]:
        """Send one request and yield its response before the body; ``content`` has httpx2's arguments for the body."""
        import httpx2

        headers = build_headers(self.provider, await self.key.read()) | content.get("headers", {})
        options = {**content, "headers": headers}
        limits = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT))
        with self.pools.use() as http:
            async with http.stream(method, self.base_url.rstrip("/") + path, timeout=limits, **options) as response:
                self.on_headers(response.headers)
                # Another way, or several in a row, could turn a kilobyte into gigabytes in one step.
                if response.headers.get("content-encoding", "").strip().lower() not in (
                    "",
                    "identity",
                    *error_responses.ENCODINGS,
                ):
                    raise error_responses.encoding_error(response.status_code, self.provider)
                yield response

    async def aclose(self) -> None:
        await self.pools.aclose()


class _ConnectionPools:
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


def _is_keep_alive(chunk: bytes) -> bool:
    """Return True if a chunk of server-sent events has nothing but comments and empty lines."""
    return chunk[:1] in b":\r\n" and all(line[:1] in b":\r" for line in chunk.split(b"\n"))
