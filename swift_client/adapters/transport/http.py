"""The only module that opens connections: sends a Request and returns the bytes of the reply.

Requests go out through httpx2. A caller's own openai client (``client=``) sends them itself, which keeps
its authentication, Azure deployments, proxies and hooks; openai is imported only in this case.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from swift_client.adapters.providers.provider import Provider, Request
from swift_client.adapters.transport.api_key import ApiKey, ApiKeySource
from swift_client.adapters.transport.error_responses import error_from_html, error_from_response
from swift_client.adapters.transport.exceptions import error_from_exception
from swift_client.errors import ConfigurationError, ConnectionFailedError, SwiftClientError

if TYPE_CHECKING:
    import httpx2
    import openai

logger = logging.getLogger(__name__)

HeadersCallback = Callable[[Mapping[str, str]], None]

_CONNECT_TIMEOUT = 10.0  # seconds to connect; the reply itself may take the whole timeout


class LocalServer(Protocol):
    """A server that this process starts itself, at the first request."""

    def start(self) -> str:
        """Start the server unless it is running, and return its base URL."""

    def close(self) -> None:
        """Stop it."""


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
        timeout: seconds for one complete reply; for a stream, seconds until the next chunk.
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
        max_connections: int = 16,
        server: LocalServer | None = None,
        on_headers: HeadersCallback | None = None,
    ) -> None:
        self.provider = provider
        self._key = ApiKeySource(provider, api_key, timeout=timeout)
        self._base_url = base_url or provider.base_url
        self._timeout = timeout
        self._max_connections = max_connections
        self._server = server
        self._on_headers = on_headers or (lambda headers: None)
        self._sender: _HttpSender | _OpenAIClientSender | None = None
        if client is not None:
            self._sender = self._use_client(client, has_settings=api_key is not None or base_url is not None)
        elif server is None and not self._base_url:
            variable = f", set {provider.base_url_variable}" if provider.base_url_variable else ""
            raise ConfigurationError(
                f"Provider {provider.name!r} needs an address.", hint=f"Pass base_url={variable} or pass client=."
            )
        self._slots = asyncio.Semaphore(max_connections)
        self._sender_lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"Transport({self.provider.name!r}, max_connections={self._max_connections})"

    async def send(self, request: Request, *, timeout: float | None = None) -> bytes:
        """Send one request and return the whole body of its reply.

        Raises:
            SwiftClientError: and nothing else; a ConnectionFailedError has the bytes that arrived as ``received``.
        """
        limit = self._timeout if timeout is None else timeout
        parts: list[bytes] = []
        problem: SwiftClientError | None = None
        started = time.monotonic()
        async with self._slots:
            try:
                sender = await self._get_sender()
                async with asyncio.timeout(limit), aclosing(sender.chunks(request, limit)) as chunks:
                    async for chunk in chunks:
                        parts.append(chunk)  # noqa: PERF401 - a broken reply must leave what has arrived
            except Exception as error:
                problem = self._translate_error(error, sum(map(len, parts)))
        body = b"".join(parts)
        if problem is None and body[:64].lstrip().startswith(b"<"):
            problem = error_from_html(body, self.provider)
        if isinstance(problem, ConnectionFailedError):
            problem.received = body
        logger.debug(
            "%s: n=%d, %d bytes in %.3f s%s",
            self.provider.name, request.n, len(body), time.monotonic() - started,
            f", {type(problem).__name__}" if problem else "",
        )  # fmt: skip
        # Raised here and not in the except block: the original exception holds the request, and with it the key.
        if problem:
            raise problem
        return body

    @asynccontextmanager
    async def stream(self, request: Request, *, timeout: float | None = None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Send one request and yield the reply's bytes as they arrive; leaving the block closes the connection.

        The connection opens when the first chunk is read. Errors as in ``send()``.
        """
        limit = self._timeout if timeout is None else timeout
        async with self._slots, aclosing(self._stream_chunks(request, limit)) as chunks:
            yield chunks

    async def aclose(self) -> None:
        """Close everything this Transport opened, but never the caller's client."""
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

    async def _stream_chunks(self, request: Request, limit: float) -> AsyncGenerator[bytes]:
        problem: SwiftClientError | None = None
        bytes_received = 0
        try:
            sender = await self._get_sender()
            async with aclosing(sender.chunks(request, limit)) as chunks:
                while True:
                    async with asyncio.timeout(limit):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    bytes_received += len(chunk)
                    yield chunk
        except Exception as error:
            problem = self._translate_error(error, bytes_received)
        if problem:
            raise problem

    def _translate_error(self, error: Exception, bytes_received: int) -> SwiftClientError:
        if headers := getattr(getattr(error, "response", None), "headers", None):  # raised by an openai client
            self._on_headers(headers)
        secrets = [*self._key.recent_keys]
        if isinstance(self._sender, _OpenAIClientSender):
            secrets.append(self._sender.api_key)
        return error_from_exception(error, self.provider, bytes_received=bytes_received, secrets=secrets)

    def _use_client(self, client: object, *, has_settings: bool) -> _OpenAIClientSender:
        if not self.provider.openai_family:
            raise ConfigurationError(
                f"client= cannot be used with provider {self.provider.name!r}: it does not speak OpenAI's API.",
                hint="Leave client= out and pass api_key= and base_url=.",
            )
        import openai

        if not isinstance(client, (openai.AsyncOpenAI, openai.OpenAI)):
            raise ConfigurationError(
                "client= takes an openai client (OpenAI, AsyncOpenAI or their Azure kinds), not "
                f"{type(client).__name__}.",
                hint="Pass your own object as provider=; see swift_client.adapters.providers.custom.",
            )
        if has_settings:
            raise ConfigurationError("client= brings its own key and base URL.", hint="Give them to your client.")
        return _OpenAIClientSender(client, self._max_connections, self._on_headers)

    async def _get_sender(self) -> _HttpSender | _OpenAIClientSender:
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise ConfigurationError("This Transport belongs to another event loop.", hint="Make one per loop.")
        if self._sender is None:
            async with self._sender_lock:
                if self._sender is None:
                    # Importing httpx2 and reading the trust store take a while: not on the event loop.
                    self._sender = await asyncio.to_thread(self._open_sender)
        return self._sender

    def _open_sender(self) -> _HttpSender:
        import httpx2

        # httpx2 imports this with the first connection, on the event loop, which would block for 0.1 s. The module is
        # internal to anyio: if it moves, the first call is only slower.
        with suppress(ImportError):
            importlib.import_module("anyio._backends._asyncio")
        base_url = self._server.start() if self._server else str(self._base_url)
        limits = httpx2.Limits(max_connections=self._max_connections, max_keepalive_connections=self._max_connections)
        http = httpx2.AsyncClient(
            limits=limits,
            # A redirect could drop the body or send the prompt elsewhere. A proxy is never used for loopback.
            follow_redirects=False,
            mounts=dict.fromkeys(("all://127.0.0.1", "all://localhost", "all://[::1]")),
        )
        return _HttpSender(self.provider, base_url, self._key, http, self._on_headers)


@dataclass(eq=False)
class _HttpSender:
    """Sends requests with this Transport's own httpx2 client."""

    provider: Provider
    base_url: str
    key: ApiKeySource
    http: httpx2.AsyncClient
    on_headers: HeadersCallback

    async def chunks(self, request: Request, timeout: float) -> AsyncGenerator[bytes]:
        """Send one request and yield the bytes of its reply; raise ProviderError unless the status is 2xx."""
        import httpx2

        # The body: a form with a file, JSON, or none for GET.
        content: dict[str, Any] = {}
        if request.upload:
            content = {"data": dict(request.body), "files": {"file": (*request.upload, "application/jsonl")}}
        elif request.method == "POST":
            content = {"json": dict(request.body)}
        response_context = self.http.stream(
            request.method,
            self.base_url.rstrip("/") + request.path,
            headers=_build_headers(self.provider, await self.key.read()),
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
            **content,
        )
        async with response_context as response:
            self.on_headers(response.headers)
            if not response.is_success:
                status, headers, body = response.status_code, dict(response.headers), await response.aread()
                raise error_from_response(status, headers, body, self.provider, secrets=self.key.recent_keys)
            async with aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def aclose(self) -> None:
        """Close the connections."""
        await self.http.aclose()


class _OpenAIClientSender:
    """Sends requests with the caller's openai client, which is never changed, copied or closed."""

    def __init__(
        self, client: openai.AsyncOpenAI | openai.OpenAI, max_connections: int, on_headers: HeadersCallback
    ) -> None:
        self._client, self._on_headers = client, on_headers
        self._executor = ThreadPoolExecutor(max_connections, thread_name_prefix="swift-client")

    @property
    def api_key(self) -> str:
        """The client's key, to remove it from messages."""
        return str(self._client.api_key)

    async def chunks(self, request: Request, timeout: float) -> AsyncGenerator[bytes]:
        """Send one request and yield the bytes of its reply. Raises whatever the client raises."""
        import openai

        options: Any = {
            "max_retries": 0,  # sampling/retry.py retries, with its own deadline and rules
            "timeout": openai.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
            "security": {"bearer_auth": True},  # not the administrator's key, which openai 3 reads from the environment
        }
        # With stream=True and this cast_to the client returns the HTTP response as it is, unread: building its own
        # objects would take 2 s for a reply of 13 MB.
        call: Any = {"options": options, "stream": True, "cast_to": _http_response_type()}
        if request.method == "POST":
            call["body"] = dict(request.body)
        if request.upload:
            call["files"] = {"file": (*request.upload, "application/jsonl")}
            options["headers"] = {"Content-Type": "multipart/form-data"}
        send: Any = self._client.post if request.method == "POST" else self._client.get
        # An async client runs on this loop; a sync one in threads, chunk by chunk.
        if isinstance(self._client, openai.AsyncOpenAI):
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
                chunks = response.iter_bytes()
                while chunk := await self._run_in_thread(next, chunks, b""):
                    yield chunk
            finally:
                self._executor.submit(response.close)

    async def aclose(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run_in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        job = self._executor.submit(function, *args, **kwargs)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            job.add_done_callback(_close_result)
            raise


def _build_headers(provider: Provider, key: str) -> dict[str, str]:
    headers = {"accept": "application/json", **provider.headers}
    headers[provider.key_header] = f"Bearer {key}" if provider.key_header == "authorization" else key
    if provider.key_variable == "OPENAI_API_KEY":
        # OpenAI's client reads these variables too; they are not sent to any other vendor.
        variables = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}
        headers |= {name: value for name, variable in variables.items() if (value := os.environ.get(variable))}
    return headers


def _http_response_type() -> type[Any]:
    """Return the response class of the HTTP library under openai: httpx2 since openai 3, httpx before."""
    import openai

    library = "httpx2" if int(openai.__version__.partition(".")[0]) >= 3 else "httpx"
    response_type: type[Any] = importlib.import_module(library).Response
    return response_type


def _close_result(job: Future[Any]) -> None:
    """Close a response that arrived after its request was cancelled."""
    if not job.cancelled() and job.exception() is None and hasattr(job.result(), "close"):
        job.result().close()
