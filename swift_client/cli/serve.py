"""``serve``: best of N for any client that speaks OpenAI's API."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from swift_client.cli import options, output
from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from swift_client.server import ServiceConfig


def serve(
    provider: Annotated[
        str | None,
        typer.Option(
            help="A provider from `swift-client providers`. Default: openai.", autocompletion=options.complete_provider
        ),
    ] = None,
    model: options.Model = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1024, help="Number of answers to choose from.")] = 8,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with virtual models, keys and limits; SIGHUP reads it again.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings and exit.")] = False,
    new_key: Annotated[
        str | None, typer.Option(help="Make a key for a client of this name, print it with its hash, and exit.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1. Others need keys in the file.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one. Default: 8000.")
    ] = None,
    passthrough: Annotated[
        bool, typer.Option("--passthrough", help="Send requests for other models to the provider as they are.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Number of processes that serve. Default: 1.")
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="Format of log lines: text (the default) or json.")
    ] = None,
    head: options.Head = "auto",
    answer: options.Answer = "auto",
    select: options.Select = "auto",
    stopping: Annotated[
        str | None, typer.Option(help='Sample in waves and stop early: auto, or a rule such as "beta:threshold=0.9".')
    ] = None,
    verifier: options.Judge = None,
    deadline: Annotated[
        float | None, typer.Option(help="After this many seconds, choose among the answers that have arrived.")
    ] = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Serve best of n to any client that speaks OpenAI's API, until SIGTERM."""
    _require_server()
    from swift_client.server import load_config, run_service
    from swift_client.server.app import Service
    from swift_client.server.observability.log_format import set_up_logging

    if new_key is not None:
        _show_new_key(new_key, as_json=as_json)
        return
    named = (provider, model, base_url, api_key_env, passthrough or None)
    if config is not None and any(value is not None for value in named):
        raise ConfigurationError(
            "config= names the models, so provider=, model=, base_url=, api_key_env= and passthrough= have no meaning.",
            hint="Give either a file or a provider.",
        )

    server = {"host": host, "port": port, "workers": workers, "log_format": log_format}

    def load() -> ServiceConfig:
        if config is None:
            settings: dict[str, Any] = {"head": head, "answer": answer, "select": select, "stopping": stopping}
            settings |= {"verifier": verifier, "deadline": deadline, "base_url": base_url, "timeout": timeout}
            settings |= {"api_key_env": api_key_env}
            single = _single_model(provider or "openai", model, n, passthrough=passthrough, **settings)
            return _with_server(single, **server)
        return _with_server(load_config(config), **server)

    service_config = load()
    names = list(service_config.models)
    if service_config.has_limits and service_config.server.usage_store is None:
        output.print_lines("Limits are counted in memory, so they begin anew with every start.")
        output.print_lines('To keep them: usage_store = "FILE" in [server].')
    if check:
        Service(service_config).usage.check()
        output.print_lines(f"The settings are valid. Models: {', '.join(names)}.")
        if as_json:
            output.print_json({"models": names})
        return

    def announce(url: str) -> None:
        output.print_lines(f"Serving {', '.join(names)} at {url}")
        if as_json:
            output.print_json({"url": url, "models": names})

    run_service(
        service_config,
        on_start=announce,
        load=None if config is None else load,
        setup=partial(set_up_logging, service_config.server.log_format),
    )


def _require_server() -> None:
    if not all(importlib.util.find_spec(name) for name in ("prometheus_client", "starlette", "uvicorn")):
        raise MissingExtraError.needs("server", "serve")


def _single_model(provider: str, model: str | None, n: int, *, passthrough: bool, **settings: Any) -> ServiceConfig:
    """Return the configuration of one virtual model with the upstream model's name."""
    from swift_client.adapters import resolve
    from swift_client.server import single_model
    from swift_client.server.config import ModelConfig

    row, name = resolve(provider, model, settings["base_url"])
    table = ModelConfig(provider=row.name, model=name, n=n, **settings)
    return single_model(name or row.name, table, passthrough=passthrough)


def _with_server(config: ServiceConfig, **settings: object) -> ServiceConfig:
    """Return a configuration with those settings of ``[server]`` that the command line gives."""
    from msgspec.structs import replace

    from swift_client.server.config import check_config

    config = replace(config, server=replace(config.server, **options.drop_none(**settings)))
    check_config(config)
    return config


def _show_new_key(name: str, *, as_json: bool) -> None:
    from swift_client.server.access.client_keys import create_key

    key = create_key(name)
    if as_json:
        output.print_json({"name": name, "key": key.key, "hash": key.hash})
        return
    output.print_lines("The client's key, shown only now, and its hash for the configuration file:")
    typer.echo(f'{key.key}\n\n[keys.{name}]\nhash = "{key.hash}"')
