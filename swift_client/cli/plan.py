"""``plan``: the requests that would be sent for n answers, and their expected cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.pricing import Price
    from swift_client.sampling.call_plan import Plan, PlanChoice


def plan(
    prompt: Annotated[str | None, typer.Argument(help="A question; or give --prompt-tokens.")] = None,
    provider: options.Provider = "openai",
    model: options.Model = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, max=1024, help="Number of answers to sample.")] = 16,
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="Length of the prompt, in tokens.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Assumed length of one answer, in tokens.")] = 500,
    cache_control: Annotated[
        bool, typer.Option("--cache-control", help="Assume that the request marks its prompt for caching (Anthropic).")
    ] = False,
    base_url: options.BaseUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show how n answers would be requested, what that and the alternatives cost, and why. No request is sent."""
    from swift_client.adapters import capabilities_of, resolve
    from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES
    from swift_client.sampling import create_sample_request
    from swift_client.sampling.call_plan import estimate_prompt_tokens
    from swift_client.sampling.call_plan import plan as plan_calls

    if (prompt is None) == (prompt_tokens is None):
        raise ConfigurationError("plan needs either a prompt or --prompt-tokens.", hint="Give one of them.")
    row, name = resolve(provider, model, base_url)
    tokens = prompt_tokens if prompt is None else estimate_prompt_tokens(create_sample_request(prompt, n))
    price, note = _price(row.name, name, row.base_url)
    choice = plan_calls(
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
                **asdict(choice),
                "notes": [note] if note else [],
            }
        )
        return
    about = "about " * (prompt is not None)
    title = f"{row.name}/{name} · {n} answers · {about}{tokens:,} prompt tokens, {max_tokens:,} per answer"
    output.show(output.safe(title, "bold"), *_render(choice, price))
    output.warn(*([note] if note else []))


def _price(provider: str, model: str | None, base_url: str | None) -> tuple[Price | None, str | None]:
    """Return the price, or None and the reason."""
    from swift_client.pricing import find_price

    try:
        price = find_price(provider, model, base_url)
    except MissingExtraError as error:
        return None, str(error)
    return price, None if price else f"No price is known for {model!r}: costs are shown in tokens only."


def _render(choice: PlanChoice, price: Price | None) -> list[RenderableType]:
    table = output.make_table(("", "Plan"), ("Calls", "Prompt", "Cached", "Answers", "US dollars"))
    table.columns[1].min_width = 24
    table.add_row(Text("►", "bold green"), *_cells(choice.chosen), style="bold")
    for alternative in choice.alternatives:
        table.add_row("", *_cells(alternative), style="dim")
    parts: list[RenderableType] = [table, output.safe(choice.reason)]
    if price is not None:
        cached = "" if price.cached_input is None else f", cached {price.cached_input:g}"
        parts.append(
            Text(
                f"Per million tokens: prompt {price.input:g}{cached}, answers {price.output:g} US dollars "
                f"({price.source}). All answers are assumed to have their maximum length.",
                style="dim",
            )
        )
    return parts


def _cells(option: Plan) -> tuple[str, ...]:
    usd = "unknown" if option.usd is None else f"{option.usd:.4f}"
    counts = (len(option.calls), option.prompt_tokens, option.cached_tokens, option.completion_tokens)
    return (option.name, *(f"{count:,}" for count in counts), usd)
