"""URLs of a Redis: ``redis://user:password@host:6379/0?ttl=86400``, ``rediss://`` with TLS, and ``unix:///path``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from swift_client.errors import ConfigurationError

_SCHEMES = ("redis", "rediss", "unix")
_DEFAULT_PORT = 6379
_MAX_SECONDS = 10 * 365 * 86_400  # of a time to live
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PARAMETERS = ("db", "ttl", "prefix", "password_env", *_TLS_FILES)
_HINT = (
    "Write redis://user:password@host:6379/0, rediss:// for TLS or unix:///path/redis.sock, with special characters of "
    "the password percent-encoded; parameters: ?ttl=SECONDS, ?prefix=NAME, ?password_env=VARIABLE."
)


@dataclass(frozen=True)
class RedisAddress:
    """An address and its settings.

    Attributes:
        place: The address without user, password and parameters, for messages.
        options: Arguments of ``redis.Redis``; they include the password.
        ttl: Seconds after which a question's replies are forgotten unless more are stored; None: never.
        prefix: Begin of all keys: "" or a name with a colon.
    """

    place: str
    options: Mapping[str, Any] = field(repr=False)
    ttl: int | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL, and read the variable that ``password_env`` names.

        Raises:
            ConfigurationError: it is not such a URL, or the variable is not set. The message shows nothing of the URL,
                which may contain a password.
        """
        try:
            parts = urlsplit(url)
            parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            if parts.scheme not in _SCHEMES or parts.fragment:
                raise ValueError
            if parameters.keys() - set(_PARAMETERS):
                raise _invalid("a parameter is unknown")  # its name may be a part of a password
            ttl = _parse_number(parameters, "ttl", low=1, high=_MAX_SECONDS)
            if not re.fullmatch(r"[\w.-]{0,100}", prefix := parameters.get("prefix", ""), re.ASCII):
                raise _invalid("prefix has other characters than letters, digits, dots and hyphens")
            server = _socket(parts, parameters) if parts.scheme == "unix" else _server(parts, parameters)
        except ValueError:
            raise _invalid("it is not one") from None  # urllib's messages quote parts of the URL
        login = {"username": unquote(parts.username or "") or None, "password": _password(parts, parameters)}
        return cls(
            place=_describe(parts.scheme, server),
            options={**server, **login},
            ttl=ttl,
            prefix=f"{prefix}:" if prefix else "",
        )


def _invalid(reason: str) -> ConfigurationError:
    return ConfigurationError(f"The URL of a Redis cannot be used: {reason}.", hint=_HINT)


def _server(parts: SplitResult, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments for a server that listens on a port. Raises ValueError."""
    database = parts.path.strip("/")
    if not parts.hostname or (database and "db" in parameters):
        raise ValueError
    numbers = {"db": database} if database else parameters
    options: dict[str, Any] = {
        "host": unquote(parts.hostname),
        "port": _DEFAULT_PORT if parts.port is None else parts.port,
        "db": _parse_number(numbers, "db", low=0, high=2**31) or 0,
    }
    files = {name: parameters[name] for name in _TLS_FILES if name in parameters}
    if files and parts.scheme != "rediss":
        raise _invalid("certificates need rediss://")
    # Before redis-py 6, only the certificate's issuer was checked unless asked.
    return {**options, "ssl": True, "ssl_check_hostname": True, **files} if parts.scheme == "rediss" else options


def _socket(parts: SplitResult, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments for a server that listens on a Unix socket. Raises ValueError."""
    if not parts.path or parts.hostname:
        raise ValueError
    return {"unix_socket_path": unquote(parts.path), "db": _parse_number(parameters, "db", low=0, high=2**31) or 0}


def _password(parts: SplitResult, parameters: Mapping[str, str]) -> str | None:
    """Return the password of the URL, or of the variable that it names. Raises ConfigurationError."""
    variable = parameters.get("password_env")
    if variable is None:
        return unquote(parts.password or "") or None
    if password := os.environ.get(variable):
        return password
    raise ConfigurationError(
        f"The environment variable {variable[:80]!r} with the password of the Redis is not set.",
        hint="Set it, or leave password_env out of the URL.",
    )


def _parse_number(texts: Mapping[str, str], name: str, *, low: int, high: int) -> int | None:
    """Return a whole number; None if it is not given. Raises ConfigurationError."""
    text = texts.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise _invalid(f"{name} is not a whole number from {low} to {high}")
    return int(text)


def _describe(scheme: str, server: Mapping[str, Any]) -> str:
    """Return the address without user, password and parameters."""
    if scheme == "unix":
        return f"unix://{server['unix_socket_path']}?db={server['db']}"
    host = f"[{server['host']}]" if ":" in server["host"] else server["host"]
    return f"{scheme}://{host}:{server['port']}/{server['db']}"
