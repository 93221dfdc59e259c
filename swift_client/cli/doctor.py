"""``doctor``: a few cheap requests that show how a provider and a model behave."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swift_client.cli import options, output, progress
from swift_client.cli.error_facts import CHANGED

if TYPE_CHECKING:
    from swift_client.diagnostics.doctor import Diagnosis


def doctor(
    provider: options.Provider = "openai",
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    api_key_env: options.ApiKeyEnv = None,
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Sample this many first tokens and test whether they are consistent with the logprobs.",
        ),
    ] = 0,
    canary: Annotated[
        bool,
        typer.Option(
            "--canary",
            help="Instead: ask 12 fixed questions, and compare the answers with those of the last time and the first "
            "time.",
        ),
    ] = False,
    canary_file: Annotated[
        Path | None,
        typer.Option(help="File that keeps the canary's runs. Default: one per model in your state folder."),
    ] = None,
    fail: Annotated[
        bool, typer.Option("--fail", help="With --canary: exit with code 7 if the answers have changed.")
    ] = False,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> int:
    """Test a provider: whether it honours n, how many logprobs it returns, and whether they can be trusted."""
    api_key = options.read_api_key(api_key_env)
    if canary:
        from swift_client.cli.maintenance.canary import run_canary

        has_changed = run_canary(
            provider, model, base_url=base_url, api_key=api_key, timeout=timeout, path=canary_file, as_json=as_json
        )
        return CHANGED if fail and has_changed else 0
    if fail or canary_file is not None:
        raise typer.BadParameter("--fail and --canary-file need --canary.")
    with progress.show_status(f"testing {provider} …"):
        diagnosis = asyncio.run(_examine(provider, model, base_url, api_key, timeout, samples))
    if as_json:
        output.print_json(asdict(diagnosis))
        return 0
    usage = diagnosis.usage
    output.show(
        output.safe(f"{diagnosis.provider} · {diagnosis.model}", "bold"),
        *(output.safe(f"  {finding}") for finding in diagnosis.findings),
        output.safe(
            f"  Used {usage.prompt_tokens} prompt + {usage.completion_tokens} completion tokens "
            f"in {usage.calls} requests.",
            "dim",
        ),
    )
    return 0


async def _examine(
    provider: str, model: str | None, base_url: str | None, api_key: str | None, timeout: float, samples: int
) -> Diagnosis:
    from swift_client.adapters import connect, load_codec, resolve
    from swift_client.adapters.local.model import resolve_local_provider
    from swift_client.diagnostics.doctor import examine

    row, name = resolve(provider, model, base_url)
    transport = connect(resolve_local_provider(provider, row, name), row, api_key=api_key, timeout=timeout)
    try:
        return await examine(transport, load_codec(row), name, samples=samples)
    finally:
        await transport.aclose()
