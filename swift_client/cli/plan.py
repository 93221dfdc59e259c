"""``plan``: how n completions would be asked for, and what each way is expected to cost. Nothing is sent."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swift_client.cli import options, output
from swift_client.display import escape_unsafe
from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from swift_client.pricing import Price
    from swift_client.sampling.call_plan import Plan, PlanChoice


def plan(
    prompt: Annotated[str | None, typer.Argument(help="A question; or give --prompt-tokens.")] = None,
    provider: options.Provider = "openai",
    model: options.Model = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1024, help="Answers to draw.")] = 16,
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of the prompt.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens that one answer is reckoned with.")] = 500,
    cache_control: Annotated[
        bool, typer.Option("--cache-control", help="The request marks its prompt for caching (Anthropic).")
    ] = False,
    base_url: options.BaseUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show how n answers would be asked for, what that and the other ways cost, and why. Nothing is sent."""
    from swift_client.adapters import capabilities_of, resolve
    from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES
    from swift_client.sampling import create_sample_request
    from swift_client.sampling.call_plan import estimate_prompt_tokens
    from swift_client.sampling.call_plan import plan as planned

    if (prompt is None) == (prompt_tokens is None):
        raise ConfigurationError("plan takes a prompt, or --prompt-tokens.", hint="Give one of them.")
    row, name = resolve(provider, model, base_url)
    tokens = prompt_tokens if prompt is None else estimate_prompt_tokens(create_sample_request(prompt, n))
    price, doubt = _price(row.name, name, row.base_url)
    found = planned(
        n,
        n_max=capabilities_of(row, name).n_max,
        prompt_tokens=tokens or 1,
        completion_tokens=max_tokens,
        price=price,
        cache=PREFIX_CACHES.get(row.name),
        has_cache_control=cache_control,
    )
    if as_json:
        output.print_json(
            {
                "provider": row.name,
                "model": name,
                "n": n,
                "prompt_tokens": tokens,
                "prompt_tokens_estimated": prompt is not None,
                "max_tokens": max_tokens,
                "price": None if price is None else asdict(price),
                **asdict(found),
                "notes": [doubt] if doubt else [],
            }
        )
        return
    about = "about " * (prompt is not None)
    _show(found, f"{row.name}/{name} · {n} answers · {about}{tokens:,} prompt tokens, {max_tokens:,} an answer", price)
    if doubt:
        output.stderr_console().print(escape_unsafe(doubt), style="yellow")


def _price(provider: str, model: str | None, base_url: str | None) -> tuple[Price | None, str | None]:
    """Return the price, and where there is none, why."""
    from swift_client.pricing import find_price

    try:
        price = find_price(provider, model, base_url)
    except MissingExtraError as error:
        return None, str(error)
    return price, None if price else f"No price is known for {model!r}: costs are shown in tokens alone."


def _show(result: PlanChoice, title: str, price: Price | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("Way", overflow="fold", min_width=24)
    for name in ("Calls", "Prompt", "Cached", "Answers", "US dollars"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in (result.chosen, *result.alternatives):
        chosen = each is result.chosen
        table.add_row(Text("►" if chosen else "", "bold green"), *_cells(each), style="bold" if chosen else "dim")
    lines: list[Any] = [Text(escape_unsafe(title), style="bold"), table, Text(escape_unsafe(result.reason))]
    if price is not None:
        discount = "" if price.cached_input is None else f", cached {price.cached_input:g}"
        lines.append(
            Text(
                f"For a million tokens: prompt {price.input:g}{discount}, answers {price.output:g} US dollars "
                f"({price.source}). Answers are reckoned at their longest.",
                style="dim",
            )
        )
    output.show(*lines)


def _cells(option: Plan) -> tuple[str, ...]:
    usd = "unknown" if option.usd is None else f"{option.usd:.4f}"
    counts = (len(option.calls), option.prompt_tokens, option.cached_tokens, option.completion_tokens)
    return (option.name, *(f"{count:,}" for count in counts), usd)
