"""``plan``: the requests that would be sent for n answers and for judging them, and their expected cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.pricing import Price
    from swift_client.sampling.call_plan import Plan, PlanChoice
    from swift_client.verify.cost import VerdictPlan
    from swift_client.verify.verifier import Verifier


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
    verifier: options.Judge = None,
    verifier_mode: options.VerifierMode = "auto",
    criteria: options.Criteria = None,
    distinct: Annotated[
        int | None, typer.Option(min=1, help="For the judge: assumed number of distinct answers among the n.")
    ] = None,
    base_url: options.BaseUrl = None,
    as_json: options.Json = False,
) -> None:
    """Show how n answers would be requested and judged, what that costs, and why. No request is sent."""
    from swift_client.adapters import capabilities_of, resolve
    from swift_client.adapters.providers.prompt_caching import PREFIX_CACHES
    from swift_client.sampling import create_sample_request
    from swift_client.sampling.call_plan import estimate_prompt_tokens
    from swift_client.sampling.call_plan import plan as plan_calls

    if (prompt is None) == (prompt_tokens is None):
        raise ConfigurationError("plan needs either a prompt or --prompt-tokens.", hint="Give one of them.")
    judging = options.create_verifier(verifier, mode=verifier_mode, criteria=criteria)
    if distinct is not None and (judging is None or distinct > n):
        raise ConfigurationError(
            f"distinct={distinct} needs verifier=, and n={distinct} or more.", hint="Or leave distinct= out."
        )
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
    judgements = None
    if judging is not None:
        judgements = _plan_judgements(
            judging,
            prompt or "x" * 4 * (tokens or 1),
            asked=f"{row.name}/{name}" if name else row.name,
            base_url=base_url,
            answer_tokens=max_tokens,
            distinct=sorted({min(2, n), (n + 1) // 2, n} if distinct is None else {distinct, n}),
        )
    notes = [text for text in (note, judgements and judgements.note) if text]
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
                "judgements": judgements and judgements.to_dict(),
                "notes": notes,
            }
        )
        return
    about = "about " * (prompt is not None)
    title = f"{row.name}/{name} · {n} answers · {about}{tokens:,} prompt tokens, {max_tokens:,} per answer"
    output.show(output.safe(title, "bold"), *_render(choice, price))
    if judgements:
        output.show(*_render_judgements(judgements))
    output.warn(*notes)


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


class _Judgements(NamedTuple):
    judge: str
    mode: str
    price: Price | None
    note: str | None
    plans: Sequence[VerdictPlan]  # by number of distinct answers, the last one if all differ

    def to_dict(self) -> dict[str, Any]:
        price = None if self.price is None else asdict(self.price)
        return {"judge": self.judge, "mode": self.mode, "price": price, "plans": [asdict(plan) for plan in self.plans]}


def _plan_judgements(
    verifier: Verifier, question: str, *, asked: str, base_url: str | None, answer_tokens: int, distinct: Sequence[int]
) -> _Judgements:
    """Return the expected work of a verifier. ``asked`` is the model that is asked for the answers."""
    from swift_client.reranker import AsyncSwiftReranker
    from swift_client.verify.connect_judge import connect_judge
    from swift_client.verify.cost import find_mode, plan_verdicts

    own = AsyncSwiftReranker(asked, base_url=base_url, head=None).pipeline.model_client
    judge = connect_judge(verifier.judge, own)
    cost = judge.model.cost
    price, note = _price(judge.model.provider.name, judge.model.model, cost.base_url)
    plans = plan_verdicts(verifier, judge, question, answer_tokens=answer_tokens, distinct=distinct, price=price)
    return _Judgements(judge.name, find_mode(verifier, answer_tokens), price, note, plans)


def _render_judgements(judgements: _Judgements) -> list[RenderableType]:
    table = output.make_table(("Distinct answers",), ("Calls", "At most", "Prompt", "Verdicts", "US dollars"))
    for plan in judgements.plans:
        counts = (plan.calls, plan.max_calls, plan.prompt_tokens, plan.completion_tokens)
        usd = "unknown" if plan.usd is None else f"{plan.usd:.4f}"
        name = f"{plan.distinct:,}"
        if plan is judgements.plans[-1]:
            name += " (all differ)"
        table.add_row(name, *(f"{count:,}" for count in counts), usd)
    return [
        output.safe(f"Judged by {judgements.judge}, {judgements.mode}", "bold"),
        table,
        output.safe(
            "Equal answers are judged once. Nothing is sent if the votes leave no doubt (--verifier-when). "
            "Tokens are those of the expected calls, without retries and prompt caches.",
            "dim",
        ),
    ]
