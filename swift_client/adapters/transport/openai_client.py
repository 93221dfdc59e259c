"""Sending with the caller's own openai client."""

from __future__ import annotations

import asyncio
import importlib
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from swift_client.adapters.providers.provider import Provider, Request
from swift_client.adapters.transport import error_responses
from swift_client.errors import ConfigurationError, MissingExtraError, ResponseDecodeError

if TYPE_CHECKING:
    import openai

_CONNECT_TIMEOUT = 10.0  # seconds to connect
_PIECE_BYTES = 1 << 20  # most bytes of one decompressed piece


class OpenAIClientSender:
    """Sends requests with the caller's openai client, which is never changed, copied or closed."""

    def __init__(
        self,
        client: openai.AsyncOpenAI | openai.OpenAI,
        provider: Provider,
        max_connections: int,
        on_headers: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._client, self._provider, self._on_headers = client, provider, on_headers
        # A thread whose request was cancelled is busy until the client's timeout; live requests need others.
        self._executor = ThreadPoolExecutor(4 * max_connections, thread_name_prefix="swift-client")

    @classmethod
    def create(
        cls,
        client: object,
        provider: Provider,
        max_connections: int,
        on_headers: Callable[[Mapping[str, str]], None],
    ) -> OpenAIClientSender:
        """Return a sender.

        Raises:
            ConfigurationError: it is another object, or the provider has another API.
            MissingExtraError: openai is not installed, so it cannot be one of its clients.
        """
        if not provider.openai_family:
            raise ConfigurationError(
                f"client= cannot be used with provider {provider.name!r}: it does not speak OpenAI's API.",
                hint="Leave client= out and pass api_key= and base_url=.",
            )
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError.needs("openai", "client=") from error

        if not isinstance(client, (openai.AsyncOpenAI, openai.OpenAI)):
            raise ConfigurationError(
                "client= takes an openai client (OpenAI, AsyncOpenAI or their Azure kinds), not "
                f"{type(client).__name__}.",
                hint="Pass your own object as provider=; see swift_client.adapters.providers.custom.",
            )
        return cls(client, provider, max_connections, on_headers)

    @property
    def keys(self) -> tuple[str, ...]:
        """The client's key, to remove it from messages."""
        return (str(self._client.api_key),)

    async def chunks(self, request: Request, timeout: float) -> AsyncGenerator[bytes]:
        """Send one request and yield the bytes of its reply. Raises whatever the client raises."""
        import openai

        options: Any = {
            "max_retries": 0,  # sampling/retry.py retries, with its own deadline and rules
            "timeout": openai.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT)),
            "headers": {"Accept-Encoding": ", ".join(error_responses.ENCODINGS)},
            "security": {"bearer_auth": True},  # not the administrator's key, which openai 3 reads from the environment
        }
        # With stream=True and this cast_to the client returns the HTTP response as it is, unread: building its own
        # objects would take 2 s for a reply of 13 MB.
        call: Any = {"options": options, "stream": True, "cast_to": _http_response_type()}
        if request.method == "POST":
            call["body"] = dict(request.body)
        if request.upload:
            call["files"] = {"file": (*request.upload, "application/jsonl")}
            options["headers"]["Content-Type"] = "multipart/form-data"
        send: Any = self._client.post if request.method == "POST" else self._client.get
        # An async client runs on this loop; a sync one in threads, chunk by chunk.
        if isinstance(self._client, openai.AsyncOpenAI):
            response = await send(request.path, stream_cls=openai.AsyncStream[Any], **call)
            try:
                decompress = self._start(response)
                async for data in response.aiter_raw():
                    for chunk in decompress(data):
                        yield chunk
            finally:
                await response.aclose()
        else:
            response = await self._run_in_thread(send, request.path, stream_cls=openai.Stream[Any], **call)
            try:
                decompress = self._start(response)
                chunks = response.iter_raw()
                while data := await self._run_in_thread(next, chunks, b""):
                    for chunk in decompress(data):
                        yield chunk
            finally:
                self._executor.submit(response.close)

    def _start(self, response: Any) -> Callable[[bytes], Iterator[bytes]]:
        """Report the headers, and return the function that decompresses the body."""
        self._on_headers(response.headers)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding in ("", "identity"):
            return lambda data: iter((data,))
        if encoding not in error_responses.ENCODINGS:
            raise error_responses.encoding_error(response.status_code, self._provider)
        return _Inflater(self._provider)

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


class _Inflater:
    """Decompresses gzip or deflate in pieces of at most a megabyte.

    The HTTP library under the client may decompress everything that arrived at once: 64 kB become 64 MB.
    """

    def __init__(self, provider: Provider) -> None:
        self._decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # with a header of gzip or zlib
        self._provider = provider
        self._is_first = True

    def __call__(self, data: bytes) -> Iterator[bytes]:
        """Take the next compressed bytes and yield what they contain."""
        if self._is_first and data and not _has_header(data):  # some servers send deflate without one
            self._decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        self._is_first = self._is_first and not data
        while data and not self._decompressor.eof:
            try:
                piece = self._decompressor.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise ResponseDecodeError(
                    f"The reply could not be decompressed or read: {error}.", provider=self._provider.name
                ) from None
            data = self._decompressor.unconsumed_tail
            if piece:
                yield piece
            elif not data:
                return


def _has_header(data: bytes) -> bool:
    """Return whether compressed bytes begin as gzip or zlib does."""
    is_zlib = len(data) > 1 and data[0] & 15 == 8 and (data[0] * 256 + data[1]) % 31 == 0
    return data.startswith(b"\x1f") or is_zlib or len(data) == 1


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
