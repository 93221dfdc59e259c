"""From what the caller passes as provider to a Transport: find the provider, its model and address, and connect."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import os
import re
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

from swift_client.adapters.providers import PROVIDERS, added_provider_names, custom, find_provider
from swift_client.adapters.providers.custom import CustomProvider, CustomTransport
from swift_client.adapters.providers.provider import LocalServer, Provider
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.adapters.transport.http import MAX_REPLY_BYTES, Transport
from swift_client.errors import ConfigurationError, UnknownProviderError

AnyTransport = Transport | CustomTransport

# Providers that this process serves itself → the module of their ``PocketServer``.
_LOCAL_SERVERS: Mapping[str, str] = MappingProxyType(
    {"pocket": "swift_client.pocket.server", "smollm2": "swift_client.pocket.smollm2"}
)

_USER_INFO = re.compile(r"[^/\s]*@")
_API_PATHS = ("/chat/completions", "/completions", "/responses", "/messages")


def resolve(
    provider: str | Provider | CustomProvider, model: str | None = None, base_url: str | None = None
) -> tuple[Provider, str | None]:
    """Find the provider's row and the model. Opens nothing and reads no key.

    Args:
        provider: "openai", "openai/gpt-4.1-mini", "openai:gpt-4.1-mini" (cut at the first slash or colon, so
            "openrouter/meta-llama/x" and "ollama:llama3.2:1b" work), a Provider row, or an object of your own.
        model: default: the row's default model.
        base_url: default: the row's environment variable if it is set, else the row's own. An address without a
            path gets the path of the row's own address ("http://gpu:8000" becomes "http://gpu:8000/v1" for vllm).

    Returns:
        The row with the address to use, and the model (None only for an object of your own, or a row of your own).

    Raises:
        UnknownProviderError: there is no such provider; similar names are listed.
        ConfigurationError: two different models, no model although the row has no default, or an invalid address.
    """
    if isinstance(provider, str):
        row, model = _resolve_name(provider, model)
        if model is None:
            raise ConfigurationError(
                f"Provider {row.name!r} has no default model.",
                hint=f"Pass model=, or '{row.name}/MODEL' as provider.",
                provider=row.name,
            )
    elif isinstance(provider, Provider):
        row, model = provider, model or provider.default_model
    else:
        row = custom.to_provider(provider)
        if row is getattr(provider, "provider", None):  # an object with its own row names its model too
            model = model or getattr(provider, "model", None)
        if base_url is not None:
            raise ConfigurationError("base_url= has no meaning for an object of your own.", hint="Leave it out.")
    address = base_url if base_url is not None else _base_url_from_environment(row)
    return (row if address is None else replace(row, base_url=_normalize_base_url(address, row))), model


def connect(
    provider: object,
    resolved_provider: Provider,
    *,
    api_key: ApiKey | None = None,
    client: object | None = None,
    timeout: float = 60.0,
    max_reply_bytes: int = MAX_REPLY_BYTES,
    max_connections: int = 16,
    on_headers: Callable[[Mapping[str, str]], None] | None = None,
) -> AnyTransport:
    """Return a transport to ``resolved_provider`` (from ``resolve()`` of ``provider``). Opens nothing yet."""
    if not isinstance(provider, (str, Provider)):
        if api_key is not None or client is not None:
            raise ConfigurationError("api_key= and client= have no meaning for an object of your own.")
        return CustomTransport(cast(CustomProvider, provider), timeout=timeout, max_connections=max_connections)
    # A provider without address that this process serves itself: its server starts at the first request.
    server: LocalServer | None = None
    if resolved_provider.base_url is None and client is None and resolved_provider.name in _LOCAL_SERVERS:
        server = importlib.import_module(_LOCAL_SERVERS[resolved_provider.name]).PocketServer()
    return Transport(
        resolved_provider,
        api_key=api_key,
        client=client,
        timeout=timeout,
        max_reply_bytes=max_reply_bytes,
        max_connections=max_connections,
        server=server,
        on_headers=on_headers,
    )


class Transports:
    """One transport per running event loop, since a pooled connection cannot move to another loop.

    An async generator of that loop holds the transport. ``asyncio.run`` and every other runner end such generators
    before they close the loop, so connections are closed in time even if nobody calls ``aclose``.
    """

    def __init__(self, connect: Callable[[], AnyTransport]) -> None:
        self._connect = connect
        self._open_transports: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[AnyTransport, AsyncGenerator[None]]
        ] = weakref.WeakKeyDictionary()

    async def get(self) -> AnyTransport:
        """Return the running loop's transport. It opens nothing before its first request."""
        loop = asyncio.get_running_loop()
        for closed_loop in [other for other in list(self._open_transports) if other.is_closed()]:
            del self._open_transports[closed_loop]
        if loop not in self._open_transports:
            transport = self._connect()
            holder = _hold_transport(transport)
            self._open_transports[loop] = transport, holder
            await anext(holder)
        return self._open_transports[loop][0]

    async def aclose(self) -> None:
        """Close the running loop's transport."""
        if entry := self._open_transports.pop(asyncio.get_running_loop(), None):
            await entry[1].aclose()


async def _hold_transport(transport: AnyTransport) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await transport.aclose()


def _resolve_name(name: str, model: str | None) -> tuple[Provider, str | None]:
    if "://" in name:
        raise ConfigurationError(
            f"{_USER_INFO.sub('***@', name)!r} is an address, not a provider.",
            hint="Pass provider='openai-compatible' and base_url=.",
        )
    end = min((index for index in (name.find("/"), name.find(":")) if index >= 0), default=len(name))
    head, tail = name[:end], name[end + 1 :]
    row = find_provider(head)
    if row is None:
        similar = difflib.get_close_matches(head.lower(), [*PROVIDERS, *added_provider_names()], n=3, cutoff=0.5)
        suggestion = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
        raise UnknownProviderError(
            f"There is no provider {head!r}.{suggestion}",
            hint="`swift-client providers` lists them; 'openai-compatible' with base_url= reaches any other server.",
        )
    if tail and model and tail != model:
        raise ConfigurationError(f"Two models: {tail!r} in provider= and {model!r} in model=.", hint="Give one.")
    return row, model or tail or row.default_model


def _base_url_from_environment(provider: Provider) -> str | None:
    if provider.sign_in == "google" and (project := os.environ.get("GOOGLE_CLOUD_PROJECT", "").strip()):
        location = os.environ.get("GOOGLE_CLOUD_LOCATION", "").strip() or "global"
        host = "aiplatform.googleapis.com" if location == "global" else f"{location}-aiplatform.googleapis.com"
        return f"https://{host}/v1/projects/{project}/locations/{location}/publishers/google"
    value = os.environ.get(provider.base_url_variable or "", "").strip()
    if not value:
        return None
    if provider.base_url_variable == "OLLAMA_HOST":
        # `ollama serve` accepts "host", "host:port", and 0.0.0.0 for all of the machine's addresses.
        if "://" not in value:
            value = f"http://{value}" if ":" in value else f"http://{value}:11434"
        value = value.replace("//0.0.0.0", "//127.0.0.1")
    return value


def _normalize_base_url(address: str, provider: Provider) -> str:
    try:
        parts = urlsplit(address.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (AttributeError, TypeError, ValueError):  # not a str, a broken IPv6 address, or a port that is not a number
        is_address = False
    if not is_address:
        shown = _USER_INFO.sub("***@", address) if isinstance(address, str) else type(address).__name__
        raise ConfigurationError(
            f"{shown!r} is not an address.",
            hint="base_url= looks like http://localhost:8000/v1.",
            provider=provider.name,
        )
    path = parts.path.rstrip("/")
    for api_path in _API_PATHS:  # people paste the full URL of a call
        path = path.removesuffix(api_path)
    if not path:
        path = provider.base_path or urlsplit(provider.base_url or "").path
    return parts._replace(path=path).geturl()
