"""Sends what the openai client does not speak: plain HTTP with httpx2, the key in the header that the row names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from swift_client.adapters.providers.provider import Provider, Request
from swift_client.adapters.transport.api_key import ApiKeySource
from swift_client.adapters.transport.error_responses import error_from_response

if TYPE_CHECKING:
    import httpx2


class HttpClient:
    """One provider's connections; belongs to a Transport, which maps the errors that escape from here.

    Args:
        provider: the row.
        base_url: what request paths are relative to.
        key: gives the key for each request.
        http: the client to send with; closed with this object.
        on_headers: called with the headers of each reply.
    """

    def __init__(
        self,
        provider: Provider,
        base_url: str,
        key: ApiKeySource,
        http: httpx2.AsyncClient,
        *,
        on_headers: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._on_headers = on_headers
        self._provider, self._base_url, self._key, self._http = provider, base_url.rstrip("/"), key, http

    async def stream_bytes(self, request: Request, timeout: httpx2.Timeout) -> AsyncGenerator[bytes]:
        """Send one request and yield the bytes of its reply as they come.

        Raises:
            ProviderError: the status is not 2xx.
            httpx2.HTTPError: everything else.
        """
        key = await self._key.read()
        header = self._provider.key_header
        headers = {**self._provider.headers, header: f"Bearer {key}" if header == "authorization" else key}
        sending = self._http.stream(
            request.method,
            self._base_url + request.path,
            json=dict(request.body),
            headers=headers,
            timeout=timeout,
        )
        async with sending as response:
            self._on_headers(response.headers)
            if not response.is_success:
                body = await response.aread()
                raise error_from_response(
                    response.status_code, dict(response.headers), body, self._provider, secrets=self._key.recent_keys
                )
            async with aclosing(response.aiter_bytes()) as parts:
                async for part in parts:
                    yield part

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
