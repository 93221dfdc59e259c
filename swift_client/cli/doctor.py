"""``doctor``: a few cheap calls that show what a provider and a model really do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from swift_client.diagnostics.doctor import Diagnosis


def doctor(
    provider: options.Provider = "openai",
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    samples: Annotated[int, typer.Option(min=0, max=1000, help="Hold so many first tokens against their lists.")] = 0,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Probe a provider: is n honoured, how many logprobs come, are they real, before or after temperature."""
    with output.stderr_console().status(f"examining {provider} …"):
        diagnosis = asyncio.run(_examine(provider, model, base_url, timeout, samples))
    if as_json:
        output.print_json(asdict(diagnosis))
        return
    output.show(Text(escape_unsafe(f"{diagnosis.provider} · {diagnosis.model}"), style="bold"))
    for finding in diagnosis.findings:
        output.show(Text(f"  {escape_unsafe(finding)}"))
    usage = diagnosis.usage
    cost = f"It cost {usage.prompt_tokens} + {usage.completion_tokens} tokens in {usage.calls} calls."
    output.show(Text(f"  {cost}", style="dim"))


async def _examine(provider: str, model: str | None, base_url: str | None, timeout: float, samples: int) -> Diagnosis:
    from swift_client.adapters import connect, load_codec, resolve
    from swift_client.adapters.local.attach import resolve_local_provider
    from swift_client.diagnostics.doctor import examine

    row, name = resolve(provider, model, base_url)
    transport = connect(resolve_local_provider(provider, row, name), row, timeout=timeout)
    try:
        return await examine(transport, load_codec(row), name, samples=samples)
    finally:
        await transport.aclose()
