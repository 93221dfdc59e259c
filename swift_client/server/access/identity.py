"""The identity of a caller, and the addresses that a service without keys listens to."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from swift_client.errors import ConfigurationError
from swift_client.server.access.client_keys import ClientKeys
from swift_client.server.config import ServerConfig, ServiceConfig
from swift_client.server.http.error_reply import HttpError

KEY_HEADER = "x-swift-key"  # for clients whose Authorization header carries a key for upstream


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The sender of a request.

    Attributes:
        name: Name of its key; None if the service has no keys.
        bearer: Key in the Authorization header; empty without one.
        models: Models that it may use; None for all.
        tenant: Name of the tenant that its key belongs to; None without keys.
    """

    name: str | None
    bearer: str
    models: tuple[str, ...] | None = None
    tenant: str | None = None

    def may_use(self, model: str) -> bool:
        """Return True if the caller may use a model."""
        return self.models is None or model in self.models


async def identify(headers: Mapping[str, str], keys: ClientKeys, config: ServiceConfig) -> Caller:
    """Return the caller of a request.

    Raises:
        HttpError: 401: the service has keys, and the request has none of them.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    bearer = value.strip() if scheme.lower() == "bearer" else ""
    if not len(keys):
        return Caller(name=None, bearer=bearer)
    key = headers.get(KEY_HEADER, "").strip() or bearer
    name = keys.remembered_name(key) if key else None
    if name is None and key:
        name = await asyncio.to_thread(keys.verify, key)  # scrypt takes its time, on purpose
    if name is None:
        message = "The API key is not valid." if key else "There is no API key: send Authorization: Bearer KEY."
        raise HttpError(401, message, code="invalid_api_key")
    return caller_of_key(name, config, bearer=bearer)


def caller_of_key(name: str, config: ServiceConfig, *, bearer: str = "") -> Caller:
    """Return the caller with a key of the configuration."""
    key = config.keys[name]
    return Caller(name=name, bearer=bearer, models=key.models, tenant=key.tenant or name)


def check_address(config: ServiceConfig) -> None:
    """Raise ConfigurationError if anybody on a network could spend the service's money."""
    if config.server.ui:
        _check_inspector(config)
    if config.keys:
        return
    if "*" in config.server.cors_origins:
        raise ConfigurationError(
            'cors_origins = ["*"] needs client keys: every web page could spend the money of the service.',
            hint="Name the origins, or add keys: swift-client serve --new-key NAME",
        )
    if is_loopback(config.server.host):
        return
    passthrough_key = "caller" if config.passthrough is None else config.passthrough.key
    if {passthrough_key, *(model.key for model in config.models.values())} == {"caller"}:
        return
    raise ConfigurationError(
        f"The host {config.server.host!r} is reachable from other machines, and there are no client keys.",
        hint="Listen on 127.0.0.1, or add keys: swift-client serve --new-key NAME",
    )


def _check_inspector(config: ServiceConfig) -> None:
    """Raise ConfigurationError if anybody on a network could see the inspector, or nobody."""
    if not config.keys and not is_loopback(config.server.host):
        raise ConfigurationError(
            "The inspector (ui = true) on a public address needs client keys: it shows prompts and answers.",
            hint="Listen on 127.0.0.1, or add keys: swift-client serve --new-key NAME",
        )
    if config.keys and not any(key.ui for key in config.keys.values()):
        raise ConfigurationError(
            "The inspector (ui = true) has no key that opens it.", hint="Write ui = true into a table [keys.NAME]."
        )


def check_tls(config: ServerConfig) -> None:
    """Raise ConfigurationError if the files of TLS cannot be used."""
    if config.tls_certificate is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(config.tls_certificate, config.tls_key)
    except OSError as error:  # ssl.SSLError is one too
        raise ConfigurationError(
            f"tls_certificate and tls_key cannot be used: {error}.", hint="They are PEM files that belong together."
        ) from error


def is_loopback(host: str) -> bool:
    """Return True for a name or address that only this machine reaches."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_host_header(value: str, listening_host: str) -> None:
    """Refuse a request to a service without keys that was addressed to another name than this machine's.

    A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then be same-origin here.

    Raises:
        HttpError: 403.
    """
    if not is_loopback(listening_host):
        return
    host = value.rpartition(":")[0] if value.rpartition(":")[2].isdecimal() and not value.endswith("]") else value
    if not is_loopback(host):
        raise HttpError(403, "The Host header does not name this machine.", code="invalid_host")
