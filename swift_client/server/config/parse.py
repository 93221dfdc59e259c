"""A configuration from a TOML file, or from the options of the command; checked as a whole."""

from __future__ import annotations

import os
import re
import signal
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from swift_client.errors import ConfigurationError
from swift_client.server.config.strict_convert import convert
from swift_client.server.config.tables import (
    TENANT,
    BudgetConfig,
    CapsConfig,
    KeyConfig,
    LimitsConfig,
    ModelConfig,
    PassthroughConfig,
    ServerConfig,
    ServiceConfig,
    VerifierConfig,
)

_NAME = re.compile(r"[\w][\w./:@-]{0,199}", re.ASCII)
_KEY_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def parse_config(text: str) -> ServiceConfig:
    """Read the text of a configuration file.

    Raises:
        ConfigurationError: it is not TOML, a name is unknown, or a value is wrong; the message names the table.
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"The configuration is not valid TOML: {error}.") from error
    for name in tables.keys() - {"server", "models", "keys", "passthrough"}:
        raise ConfigurationError(
            f"The table [{name}] is unknown.", hint="Known: server, models.NAME, keys.NAME, passthrough."
        )
    models = {name: _model(table, name) for name, table in _tables(tables, "models").items()}
    if not models:
        raise ConfigurationError(
            "The configuration has no virtual model.", hint="Add a table such as [models.best-mini]."
        )
    keys = {name: _key(table, name) for name, table in _tables(tables, "keys").items()}
    passthrough = tables.get("passthrough")
    config = ServiceConfig(
        server=convert(tables.get("server", {}), ServerConfig, "[server]"),
        models=models,
        keys=keys,
        passthrough=None if passthrough is None else convert(passthrough, PassthroughConfig, "[passthrough]"),
    )
    check_config(config)
    return config


def load_config(path: str | os.PathLike[str]) -> ServiceConfig:
    """Read a configuration file. Raises ConfigurationError as ``parse_config()``, and if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The configuration file {os.fspath(path)!r} cannot be read: {error}.") from error
    return parse_config(text)


def single_model(name: str, model: ModelConfig, *, passthrough: bool = False) -> ServiceConfig:
    """Return the configuration of one virtual model, without a file.

    Args:
        name: of the virtual model.
        model: its table.
        passthrough: whether the same provider answers for all other models.
    """
    upstream = PassthroughConfig(provider=model.provider, base_url=model.base_url, api_key_env=model.api_key_env)
    config = ServiceConfig(models={name: model}, passthrough=upstream if passthrough else None)
    check_config(config)
    return config


def _model(table: object, name: str) -> ModelConfig:
    place = f"[models.{name}]"
    if not isinstance(table, dict):
        raise ConfigurationError(f"{place} is not a table.")
    parts: dict[str, type[msgspec.Struct]] = {
        "budget": BudgetConfig,
        "caps": CapsConfig,
        "verifier": VerifierConfig,
        "limits": LimitsConfig,
    }
    for part, struct in parts.items():
        if isinstance(table.get(part), dict):
            convert(table[part], struct, f"[models.{name}.{part}]")  # names the part if it is wrong
    return convert(table, ModelConfig, place)


def _key(table: object, name: str) -> KeyConfig:
    if isinstance(table, dict) and isinstance(table.get("limits"), dict):
        convert(table["limits"], LimitsConfig, f"[keys.{name}.limits]")  # names the part if it is wrong
    return convert(table, KeyConfig, f"[keys.{name}]")


def _tables(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = tables.get(name, {})
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name!r} is not a table.", hint=f"Write [{name}.NAME].")
    return value


def check_config(config: ServiceConfig) -> None:
    """Raise ConfigurationError for values that contradict each other, and names that cannot be used."""
    server = config.server
    if server.path_prefix and not re.fullmatch(r"(/[\w.~-]+)+", server.path_prefix, re.ASCII):
        raise ConfigurationError(f"path_prefix {server.path_prefix!r} is not a path.", hint='Write it as "/llm".')
    if (server.tls_certificate is None) != (server.tls_key is None):
        raise ConfigurationError("TLS needs both tls_certificate and tls_key.")
    _check_workers(config)
    for name, model in config.models.items():
        place = f"[models.{name}]"
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{place}: the name is not a model's name.", hint="Use letters, digits, - and _.")
        if model.caps.n is not None and model.caps.n < model.n:
            raise ConfigurationError(f"{place}: caps.n is {model.caps.n}, below n = {model.n}.")
        if model.store_per_tenant and not config.keys:
            raise ConfigurationError(
                f"{place}: {TENANT} in store needs client keys, which belong to tenants.",
                hint="Add keys: swift-client serve --new-key NAME",
            )
        if model.key == "caller" and (model.api_key_env or model.store):
            part = "api_key_env" if model.api_key_env else "store"
            raise ConfigurationError(
                f'{place}: {part} cannot be combined with key = "caller".',
                hint="Callers with keys of their own share neither a key nor stored replies.",
            )
    if config.passthrough is not None and config.passthrough.key == "caller" and config.passthrough.api_key_env:
        raise ConfigurationError('[passthrough]: api_key_env cannot be combined with key = "caller".')
    for name, key in config.keys.items():
        if not _KEY_NAME.fullmatch(name):
            raise ConfigurationError(f"[keys.{name}]: the name may have letters, digits, - and _ only.")
        if key.tenant is not None and not _KEY_NAME.fullmatch(key.tenant):
            raise ConfigurationError(f"[keys.{name}]: the tenant may have letters, digits, - and _ only.")
        if config.passthrough is not None:  # it may have a model of any name
            continue
        for model_name in set(key.models or ()) - config.models.keys():
            raise ConfigurationError(f"[keys.{name}]: there is no virtual model {model_name!r}.")


def _check_workers(config: ServiceConfig) -> None:
    server = config.server
    if server.workers == 1:
        return
    if not hasattr(signal, "SIGHUP"):
        raise ConfigurationError("Workers need a system with Unix signals.", hint="Leave workers at 1.")
    if config.has_limits and server.usage_store is None:
        raise ConfigurationError(
            f"{server.workers} workers need usage_store to share the limits of keys and models.",
            hint='Name a file in [server], such as usage_store = "usage.db".',
        )
    limits = {"[server]": server.max_concurrency}
    limits |= {f"[models.{name}]": model.max_concurrency for name, model in config.models.items()}
    if config.passthrough is not None:
        limits["[passthrough]"] = config.passthrough.max_concurrency
    for place, limit in limits.items():
        if limit < server.workers:
            raise ConfigurationError(f"{place}: max_concurrency is {limit}, below workers = {server.workers}.")
