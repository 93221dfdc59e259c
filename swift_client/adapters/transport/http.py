"""The only door to the network: a Request goes out, the reply comes back as bytes.

The OpenAI family goes through the openai client, the rest through :mod:`plain_http`. The client's
``post(..., stream=True)`` hands over the raw HTTP response, so its auth, Azure deployments, proxies and hooks all work
while its object building (2 s for a 13 MB reply) never runs. Its own retries are switched off for our requests one by
one; the caller's client is never changed or copied.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from swift_client.adapters.providers.provider import Provider, Request
from swift_client.adapters.transport.api_key import ApiKey, ApiKeySource
from swift_client.adapters.transport.error_responses import error_from_html
from swift_client.adapters.transport.exceptions import error_from_exception
from swift_client.adapters.transport.plain_http import HttpClient
from swift_client.errors import ConfigurationError, ConnectionFailedError, SwiftClientError

if TYPE_CHECKING:
    import openai

    _Client = openai.AsyncOpenAI | openai.OpenAI | HttpClient

logger = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
"""A host that does not pick up in this time will not; the reply itself may take the whole timeout."""


class LocalServer(Protocol):
    """A server that this process starts itself, at the first request."""

    def start(self) -> str:
        """Start it where it does not run yet and return its base URL."""

    def close(self) -> None:
        """Stop it."""


class Transport:
    """Sends requests to one provider. One Transport belongs to one event loop.

    At most ``max_connections`` requests are under way at once; waiting for a slot does not count against the timeout.

    Args:
        provider: the row; its ``base_url`` holds unless another is given here.
        api_key: a key or a function that gives one; default: the row's environment variable, read at the first request.
        base_url: overrides the row's.
        client: the caller's own ``openai`` client of any of the four kinds; it brings its own key and base URL.
            A sync client works in threads, so that the event loop never waits for it.
        timeout: seconds for one whole reply; for a stream, seconds until the next chunk.
        max_connections: how many requests may be under way at once.
        server: a local server to start at the first request instead of a base URL.
        on_headers: called with the headers of each reply, names in lower case, before its body; in any thread.

    Raises:
        ConfigurationError: there is no base URL, or ``client`` is not an openai client or the row is not of its family.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        client: object | None = None,
        timeout: float = 60.0,
        max_connections: int = 16,
        server: LocalServer | None = None,
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> None:
        self.provider = provider
        self._key = ApiKeySource(provider, api_key)
        self._base_url = base_url or provider.base_url
        self._timeout = timeout
        self._max_connections = max_connections
        self._server = server
        self._on_headers = on_headers or _ignore_headers
        if client is not None and not provider.openai_family:
            raise ConfigurationError(
                f"client= has no meaning for provider {provider.name!r}, which no openai client speaks to.",
                hint="Leave it out; api_key= and base_url= do.",
            )
        self._client: _Client | None = None if client is None else _require_openai_client(client)
        self._owns_client = client is None
        if client is not None and (api_key is not None or base_url is not None):
            raise ConfigurationError("client= brings its own key and base URL.", hint="Give them to your client.")
        if client is None and server is None and not self._base_url:
            variable = f", set {provider.base_url_variable}" if provider.base_url_variable else ""
            raise ConfigurationError(
                f"Provider {provider.name!r} needs an address.", hint=f"Pass base_url={variable} or pass client=."
            )
        self._executor = ThreadPoolExecutor(max_connections, thread_name_prefix="swift-client")
        self._slots = asyncio.Semaphore(max_connections)
        self._client_lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"Transport({self.provider.name!r}, max_connections={self._max_connections})"

    async def send(self, request: Request, *, timeout: float | None = None) -> bytes:
        """Send one request and return the whole body of its reply.

        Raises:
            SwiftClientError: and nothing else; a ConnectionFailedError holds what had ``received``.
        """
        limit = self._timeout if timeout is None else timeout
        parts: list[bytes] = []
        problem: SwiftClientError | None = None
        started = time.monotonic()
        async with self._slots:
            try:
                client = await self._get_client()
                async with asyncio.timeout(limit), aclosing(self._chunks(client, request, limit)) as chunks:
                    async for chunk in chunks:
                        parts.append(chunk)  # noqa: PERF401 - a broken reply must leave what came
            except Exception as error:
                problem = self._translate_error(error, sum(map(len, parts)))
        body = b"".join(parts)
        problem = problem or error_from_html(body, self.provider)
        if isinstance(problem, ConnectionFailedError):
            problem.received = body
        logger.debug(
            "%s: n=%d, %d bytes in %.3f s%s",
            self.provider.name, request.n, len(body), time.monotonic() - started,
            f", {type(problem).__name__}" if problem else "",
        )  # fmt: skip
        if problem:
            raise problem
        return body

    def stream(
        self, request: Request, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Send one request and give the reply's bytes as they come; leaving the block closes the connection.

        The connection opens with the first chunk that is asked for. Errors as in :meth:`send`.
        """
        return self._stream(request, self._timeout if timeout is None else timeout)

    async def aclose(self) -> None:
        """Close what this Transport opened: never the caller's client."""
        if self._owns_client and self._client is not None:
            client, self._client = self._client, None
            await client.close()  # type: ignore[misc]  # an own client is always an async one
        if self._server is not None:
            try:
                await asyncio.to_thread(self._server.close)
            except RuntimeError:  # the interpreter is exiting and starts no thread any more
                self._server.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _stream(self, request: Request, limit: float) -> AsyncGenerator[AsyncIterator[bytes]]:
        async with self._slots, aclosing(self._stream_chunks(request, limit)) as chunks:
            yield chunks

    async def _stream_chunks(self, request: Request, limit: float) -> AsyncGenerator[bytes]:
        problem: SwiftClientError | None = None
        arrived = 0
        try:
            client = await self._get_client()
            async with aclosing(self._chunks(client, request, limit)) as chunks:
                while True:
                    async with asyncio.timeout(limit):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    arrived += len(chunk)
                    yield chunk
        except Exception as error:
            problem = self._translate_error(error, arrived)
        if problem:
            raise problem

    def _translate_error(self, error: Exception, bytes_received: int) -> SwiftClientError:
        if headers := getattr(getattr(error, "response", None), "headers", None):  # the openai client's
            self._on_headers(headers)
        return error_from_exception(
            error,
            self.provider,
            bytes_received=bytes_received,
            secrets=[*self._key.recent_keys, str(getattr(self._client, "api_key", ""))],
        )

    async def _chunks(self, client: _Client, request: Request, limit: float) -> AsyncGenerator[bytes]:
        import httpx2

        timeout = httpx2.Timeout(limit, connect=min(limit, _CONNECT_SECONDS))
        if isinstance(client, HttpClient):
            async with aclosing(client.stream_bytes(request, timeout)) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        import openai

        options: Any = {
            "max_retries": 0,  # sampling retries, with its own deadline and rules
            "timeout": timeout,
            "security": {"bearer_auth": True},  # not the administrator's key, which the SDK reads from the environment
        }
        # stream=True with this cast_to is the SDK's way to hand over the HTTP response as it is, unread.
        call: Any = {"options": options, "stream": True, "cast_to": httpx2.Response}
        if request.method == "POST":
            call["body"] = dict(request.body)
        if request.upload:
            call["files"] = {"file": (*request.upload, "application/jsonl")}
            options["headers"] = {"Content-Type": "multipart/form-data"}
        send: Any = client.post if request.method == "POST" else client.get
        if isinstance(client, openai.AsyncOpenAI):
            response = await send(request.path, stream_cls=openai.AsyncStream[Any], **call)
            try:
                self._on_headers(response.headers)
                async for chunk in response.aiter_bytes():
                    yield chunk
            finally:
                await response.aclose()
        else:
            response = await self._run_in_thread(send, request.path, stream_cls=openai.Stream[Any], **call)
            try:
                self._on_headers(response.headers)
                parts = response.iter_bytes()
                while chunk := await self._run_in_thread(next, parts, b""):
                    yield chunk
            finally:
                self._executor.submit(response.close)

    async def _run_in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        job = self._executor.submit(function, *args, **kwargs)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            job.add_done_callback(_close_result)
            raise

    async def _get_client(self) -> _Client:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise ConfigurationError("This Transport belongs to another event loop.", hint="Make one for each loop.")
        if self._client is None:
            async with self._client_lock:
                if self._client is None:
                    # Importing openai and reading the trust store take over a second: not on the loop.
                    self._client = await asyncio.to_thread(self._open_client)
        return self._client

    def _open_client(self) -> openai.AsyncOpenAI | HttpClient:
        import httpx2

        # httpx2 loads it with the first connection, on the loop, which would stand still for 0.1 s. The name is anyio's
        # own business: where it moves, the first call is only slower.
        with suppress(ImportError):
            importlib.import_module("anyio._backends._asyncio")
        base_url = self._server.start() if self._server else str(self._base_url)
        limits = httpx2.Limits(max_connections=self._max_connections, max_keepalive_connections=self._max_connections)
        http = httpx2.AsyncClient(
            limits=limits,
            # A redirect would drop the body or carry the prompt elsewhere; a proxy has no business on loopback.
            follow_redirects=False,
            mounts=dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
        )
        if not self.provider.openai_family:
            return HttpClient(self.provider, base_url, self._key, http, on_headers=self._on_headers)
        import openai

        client = openai.AsyncOpenAI(api_key=self._key.read, base_url=base_url, http_client=http)
        if self.provider.key_variable != "OPENAI_API_KEY":
            # The SDK reads these from the environment; they are nobody's business but OpenAI's.
            client.organization = client.project = None
        return client


def _ignore_headers(headers: Mapping[str, str]) -> None:
    """Nobody wants to know."""


def _require_openai_client(client: object) -> openai.AsyncOpenAI | openai.OpenAI:
    import openai

    if not isinstance(client, (openai.AsyncOpenAI, openai.OpenAI)):
        raise ConfigurationError(
            f"client= takes an openai client (OpenAI, AsyncOpenAI or their Azure kinds), not {type(client).__name__}.",
            hint="An object of your own goes to provider=; see swift_client.adapters.custom.",
        )
    return client


def _close_result(job: Future[Any]) -> None:
    """Close the response that arrived after nobody waited for it."""
    if not job.cancelled() and job.exception() is None and hasattr(job.result(), "close"):
        job.result().close()
