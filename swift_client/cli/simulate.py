"""``simulate``: the accuracy and cost of each stopping rule, replayed over stored completions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.training import Replayed, Simulation

_BAR_WIDTH = 6  # length of the bar for all tokens of n completions, in characters


def simulate(
    samples: options.SamplesOfModel,
    head: Annotated[
        Path | None, typer.Option(help="A head file; without it, rules that need probabilities are left out.")
    ] = None,
    rules: Annotated[
        str, typer.Option(help="all, or rules with their settings, such as beta,posterior:threshold=0.9,fixed:4.")
    ] = "all",
    n: Annotated[int, typer.Option(min=1, help="Planned number of completions per question.")] = 16,
    orders: Annotated[int, typer.Option(min=1, help="Random orders of each question's completions.")] = 50,
    waves: Annotated[
        str, typer.Option(help="Completions sampled before a rule is checked, such as 2,2,4; the last number repeats.")
    ] = "1",
    sweep: Annotated[bool, typer.Option(help="Also try other values of each rule's main parameter.")] = False,
    split: Annotated[
        str | None,
        typer.Option(
            help="Questions to use: the head's test, validation or train split, or all. Default: test with --head, "
            "otherwise all."
        ),
    ] = None,
    seed: options.Seed = 0,
    answer: options.AnswerAsTrained = options.AS_TRAINED,
    grade: options.Grade = options.AS_ANSWER,
    svg: options.Svg = None,
    as_json: options.Json = False,
) -> None:
    """Replay stopping rules over stored completions and compare accuracy and tokens. No request is sent."""
    from swift_client import training
    from swift_client.report.charts.stopping import savings_svg

    output.check_output_path(svg)  # before the replay, which may take minutes
    with progress.stage_status() as update:
        result = training.simulate(
            samples,
            head,
            rules=rules,
            n=n,
            orders=orders,
            waves=options.parse_numbers("--waves", waves),
            sweep=sweep,
            split=split,
            seed=seed,
            answer=options.parse_answer(answer),
            grade=options.parse_grade(grade),
            progress=update,
        )
    output.write_svg(svg, lambda: savings_svg(result))
    if as_json:
        output.print_json(result.to_dict())
        return
    output.show(*_render(result))
    output.warn(*result.notes)


def _render(result: Simulation) -> list[RenderableType]:
    from swift_client.evaluation.advice import advise_stopping

    waves = "" if result.waves == (1,) else f", checked after waves of {', '.join(map(str, result.waves))}"
    title = (
        f"{result.provider}/{result.model} · {result.questions:,} questions in {result.orders} orders, "
        f"{result.n} completions planned{waves}"
    )
    prompt = "" if result.prompt_tokens is None else f" The prompt adds {result.prompt_tokens:,.0f} tokens per request."
    legend = (
        f"Accuracy in %, then the 95 % interval of its difference to majority over all {result.n}, in points: green is "
        f"better, red is worse. All {result.n} completions take {result.tokens:,.0f} tokens per question.{prompt} "
        "Dimmed: the answer is chosen in another way than the rule's authors do."
    )
    advice = advise_stopping(result)
    return [
        output.safe(title, "bold"),
        "",
        _table(result),
        "",
        Text(legend, style="dim"),
        "",
        output.safe(str(advice), "green" if advice.use else "yellow"),
    ]


def _table(result: Simulation) -> Table:
    table = output.make_table(("Rule", "Choice"), ("Accuracy", "Sampled", "Tokens", ""))
    table.columns[1].no_wrap = True
    table.padding, table.show_edge = (0, 1, 0, 0), False  # so that a rule with its setting fits into 80 columns
    for row in result.rows:
        style = "bold" if row.name == "auto" else "" if row.published else "dim"
        bar_length = round(_BAR_WIDTH * row.token_share.value)
        table.add_row(
            output.safe(row.name, style),
            Text(row.choice, style=style),
            _accuracy_cell(row),
            f"{row.completions.value:.1f}",
            f"{100 * row.token_share.value:.0f} %",
            Text("█" * bar_length + "░" * (_BAR_WIDTH - bar_length), style=style),
        )
    return table


def _accuracy_cell(row: Replayed) -> Text:
    if math.isnan(row.accuracy.value):
        return Text("–", style="dim")
    return output.difference_cell(output.percent(row.accuracy.value), row.minus_majority)
