"""``doctor --canary``: fixed questions to a model, compared with its answers last time and the first time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from swift_client.cli import output, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.diagnostics.canary.compare import Movement
    from swift_client.diagnostics.canary.run import CanaryPrice, CanaryResult, Comparison


def run_canary(
    provider: str,
    model: str | None,
    *,
    base_url: str | None,
    api_key: str | None,
    timeout: float,
    path: Path | None,
    as_json: bool,
) -> bool:
    """Run the canary and show what moved. Returns True if something did."""
    result = asyncio.run(_run(provider, model, base_url, api_key, timeout, path))
    if as_json:
        output.print_json(result.to_dict())
    else:
        output.show(*_render(result))
        output.show(output.safe(f"Kept in {result.path}", "dim"), wrap=False)
        output.warn(*result.failures[:3])
    return result.moved


async def _run(
    provider: str, model: str | None, base_url: str | None, api_key: str | None, timeout: float, path: Path | None
) -> CanaryResult:
    from swift_client.diagnostics.canary.run import Canary
    from swift_client.reranker import AsyncSwiftReranker

    async with AsyncSwiftReranker(
        provider, model, head=None, base_url=base_url, api_key=api_key, timeout=timeout
    ) as reranker:
        canary = Canary(reranker, base_url=base_url, path=path)
        output.warn(_describe_price(canary.price()))
        with progress.show_status(f"asking {provider} …"):
            return await canary.run()


def _describe_price(price: CanaryPrice) -> str:
    usd = "price unknown" if price.usd is None else f"at most {price.usd:.4f} US dollars"
    return (
        f"The canary sends {price.requests} requests: about {price.prompt_tokens:,} prompt tokens and at most "
        f"{price.completion_tokens:,} tokens of answers; {usd}."
    )


def _render(result: CanaryResult) -> list[RenderableType]:
    parts: list[RenderableType] = [output.safe(f"{result.provider}/{result.model} · run {result.count}", "bold")]
    if result.since_last is None:
        parts.append(output.safe("This is the first run: the next one is compared with it."))
    else:
        parts += _render_comparison("the run before", result.since_last, result.identities)
    if result.since_first is not None:
        parts += _render_comparison("the first run", result.since_first, result.identities)
    usage = result.usage
    cost = "" if result.cost is None else f", {result.cost:.4f} US dollars"
    work = f"{usage.prompt_tokens:,} prompt + {usage.completion_tokens:,} completion tokens{cost}"
    parts.append(output.safe(f"{result.answers} answers · {work}", "dim"))
    return parts


def _render_comparison(name: str, comparison: Comparison, identities: tuple[str, ...]) -> list[RenderableType]:
    since = f"Since {name}, {time.strftime('%Y-%m-%d %H:%M', time.localtime(comparison.time))}"
    parts: list[RenderableType] = []
    if comparison.moved:
        parts.append(output.safe(f"{since}, the answers have changed:", "yellow"))
        parts += [output.safe(f"  {_describe(movement)}") for movement in comparison.moved]
    else:
        parts.append(output.safe(f"{since}, the answers have not changed as far as this test can see.", "green"))
    if comparison.is_renamed:
        before, after = (", ".join(names) for names in (comparison.identities_before, identities))
        parts.append(output.safe(f"  The replies name another model or system: {before} → {after}", "yellow"))
    return parts


def _describe(movement: Movement) -> str:
    from swift_client.diagnostics.canary.run import label_of

    chance = "" if movement.p_value is None else f" (p = {movement.p_value:.1g})"
    if movement.before is None or movement.after is None:
        return f"{label_of(movement.name)}: {'no longer there' if movement.after is None else 'new'}"
    if movement.before == 0 and movement.name == "first_token":
        return f"{label_of(movement.name)}: {100 * movement.after:.0f} % of the probability moved{chance}"
    return f"{label_of(movement.name)}: {movement.before:.3g} → {movement.after:.3g}{chance}"
