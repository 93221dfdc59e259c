"""``doctor``: a few cheap requests that show how a provider and a model behave."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from swift_client.cli import options, output, progress

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
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Test a provider: whether it honours n, how many logprobs it returns, and whether they can be trusted."""
    api_key = options.read_api_key(api_key_env)
    with progress.show_status(f"testing {provider} …"):
        diagnosis = asyncio.run(_examine(provider, model, base_url, api_key, timeout, samples))
    if as_json:
        output.print_json(asdict(diagnosis))
        return
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
