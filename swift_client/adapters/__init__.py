"""How a provider is found and reached: a provider is a row, a wire format is a codec, sending is one file.

To add an OpenAI-compatible provider, add one row to ``providers/`` and one fixture to the tests. Importing this
package loads neither openai nor httpx2 and opens nothing.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import cast
from urllib.parse import urlsplit

from swift_client.adapters.codecs import CODECS, Codec, load_codec
from swift_client.adapters.providers import custom, entry_points
from swift_client.adapters.providers.custom import CustomProvider, CustomTransport
from swift_client.adapters.providers.provider import Capabilities, Provider, Reply, Request, capabilities_of
from swift_client.adapters.providers.registry import PROVIDERS
from swift_client.adapters.transport.api_key import ApiKey
from swift_client.adapters.transport.http import LocalServer, Transport
from swift_client.errors import ConfigurationError, UnknownProviderError

__all__ = [
    "CODECS",
    "PROVIDERS",
    "Capabilities",
    "Codec",
    "CustomProvider",
    "CustomTransport",
    "Provider",
    "Reply",
    "Request",
    "Transport",
    "capabilities_of",
    "connect",
    "load_codec",
    "resolve",
]

_LOCAL_SERVERS: Mapping[str, str] = MappingProxyType({"pocket": "swift_client.pocket.server"})
"""Providers that this process serves itself → the module whose ``PocketServer`` does."""


def resolve(
    provider: str | Provider | CustomProvider, model: str | None = None, base_url: str | None = None
) -> tuple[Provider, str | None]:
    """Find the row and the model. Nothing is opened and no key is read.

    Args:
        provider: "openai", "openai/gpt-4.1-mini", "openai:gpt-4.1-mini" (cut at the first slash or colon, so that
            "openrouter/meta-llama/x" and "ollama:llama3.2:1b" work), a Provider row, or an object of your own.
        model: default: the row's default model.
        base_url: default: the row's environment variable where it is set, else the row's own. An address without a
            path gets the path of the row's own address ("http://gpu:8000" becomes "http://gpu:8000/v1" for vllm).

    Returns:
        The row with the address that holds, and the model (None only for an object of your own, or a row of your own).

    Raises:
        UnknownProviderError: no such row; near names are listed.
        ConfigurationError: two different models, no model where the row has no default, or an address that is no URL.
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
        if row is getattr(provider, "provider", None):  # then it names its model too
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
    max_connections: int = 16,
    on_headers: Callable[[Mapping[str, str]], None] | None = None,
) -> Transport | CustomTransport:
    """Make what sends requests to ``row`` (from :func:`resolve` of the same ``provider``); nothing is opened yet."""
    if not isinstance(provider, (str, Provider)):
        if api_key is not None or client is not None:
            raise ConfigurationError("api_key= and client= have no meaning for an object of your own.")
        return CustomTransport(cast(CustomProvider, provider), timeout=timeout, max_connections=max_connections)
    server: LocalServer | None = None
    if resolved_provider.base_url is None and client is None and resolved_provider.name in _LOCAL_SERVERS:
        server = importlib.import_module(_LOCAL_SERVERS[resolved_provider.name]).PocketServer()
    return Transport(
        resolved_provider,
        api_key=api_key,
        client=client,
        timeout=timeout,
        max_connections=max_connections,
        server=server,
        on_headers=on_headers,
    )


def _resolve_name(name: str, model: str | None) -> tuple[Provider, str | None]:
    if "://" in name:
        raise ConfigurationError(
            f"{name!r} is an address, not a provider.", hint="Pass provider='openai-compatible' and base_url=."
        )
    cut = min((at for at in (name.find("/"), name.find(":")) if at >= 0), default=len(name))
    head, tail = name[:cut], name[cut + 1 :]
    row = PROVIDERS.get(head) or entry_points.load_provider(head)
    if row is None:
        near = difflib.get_close_matches(head.lower(), [*PROVIDERS, *entry_points.provider_names()], n=3, cutoff=0.5)
        meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownProviderError(
            f"There is no provider {head!r}.{meant}",
            hint="`swift-client providers` lists them; 'openai-compatible' with base_url= reaches any other server.",
        )
    if tail and model and tail != model:
        raise ConfigurationError(f"Two models: {tail!r} in provider= and {model!r} in model=.", hint="Give one.")
    return row, model or tail or row.default_model


def _base_url_from_environment(provider: Provider) -> str | None:
    if provider.sign_in == "google" and (project := os.environ.get("GOOGLE_CLOUD_PROJECT", "").strip()):
        place = os.environ.get("GOOGLE_CLOUD_LOCATION", "").strip() or "global"
        host = "aiplatform.googleapis.com" if place == "global" else f"{place}-aiplatform.googleapis.com"
        return f"https://{host}/v1/projects/{project}/locations/{place}/publishers/google"
    value = os.environ.get(provider.base_url_variable or "", "").strip()
    if not value:
        return None
    if provider.base_url_variable == "OLLAMA_HOST":
        # What `ollama serve` itself accepts: "host", "host:port", and 0.0.0.0 for "all of mine".
        if "://" not in value:
            value = f"http://{value}" if ":" in value else f"http://{value}:11434"
        value = value.replace("//0.0.0.0", "//127.0.0.1")
    return value


def _normalize_base_url(address: str, provider: Provider) -> str:
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{address!r} is not an address.",
            hint="base_url= looks like http://localhost:8000/v1.",
            provider=provider.name,
        )
    path = parts.path.rstrip("/")
    for door in ("/chat/completions", "/completions", "/responses", "/messages"):
        path = path.removesuffix(door)
    if not path:
        path = provider.base_path or urlsplit(provider.base_url or "").path
    return parts._replace(path=path).geturl()
