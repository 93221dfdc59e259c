"""``doctor``: a few cheap calls that show what a provider and a model really do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swift_client.cli import options, screen
from swift_client.render import plain

if TYPE_CHECKING:
    from swift_client.adapters.doctor import Diagnosis


def doctor(
    provider: options.Provider = "openai",
    model: options.Model = None,
    base_url: options.BaseUrl = None,
    samples: Annotated[int, typer.Option(min=0, max=1000, help="Hold so many first tokens against their lists.")] = 0,
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Probe a provider: is n honoured, how many logprobs come, are they real, before or after temperature."""
    with screen.progress().status(f"examining {provider} …"):
        diagnosis = asyncio.run(_examine(provider, model, base_url, timeout, samples))
    if as_json:
        screen.document(asdict(diagnosis))
        return
    screen.show(Text(plain(f"{diagnosis.provider} · {diagnosis.model}"), style="bold"))
    for finding in diagnosis.findings:
        screen.show(Text(f"  {plain(finding)}"))
    usage = diagnosis.usage
    cost = f"It cost {usage.prompt_tokens} + {usage.completion_tokens} tokens in {usage.calls} calls."
    screen.show(Text(f"  {cost}", style="dim"))


async def _examine(provider: str, model: str | None, base_url: str | None, timeout: float, samples: int) -> Diagnosis:
    from swift_client.adapters import codec, connect, resolve
    from swift_client.adapters.doctor import examine
    from swift_client.reranker.serving import serving

    row, name = resolve(provider, model, base_url)
    transport = connect(serving(provider, row, name), row, timeout=timeout)
    try:
        return await examine(transport, codec(row), name, samples=samples)
    finally:
        await transport.aclose()
