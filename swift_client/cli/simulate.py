"""``simulate``: what each stopping rule would have chosen and cost, replayed over stored completions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, picture
from swift_client.cli.evaluate import AS_ANSWER, AS_TRAINED
from swift_client.display import escape_unsafe
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from swift_client.training import Replayed, Simulation

_BAR_WIDTH = 8
"""Characters for all tokens of n."""


def simulate(
    samples: Annotated[list[Path], typer.Argument(help="Files of one model, from `swift-client collect`.")],
    head: Annotated[Path | None, typer.Option(help="A head's file; without, no rule reads probabilities.")] = None,
    rules: Annotated[
        str, typer.Option(help="all, or names and settings, such as beta,posterior:threshold=0.9,fixed:4.")
    ] = "all",
    n: Annotated[int, typer.Option(min=1, help="Completions of a question that are planned.")] = 16,
    orders: Annotated[int, typer.Option(min=1, help="Orders in which each question's completions arrive.")] = 50,
    waves: Annotated[
        str, typer.Option(help="Completions drawn before a rule is asked, such as 2,2,4; the last repeats.")
    ] = "1",
    sweep: Annotated[bool, typer.Option(help="Replay other values of each rule's main parameter too.")] = False,
    split: Annotated[
        str | None,
        typer.Option(help="test, validation or train, as the head knows them; or all. Default: test, or all."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and samples give the same table.")] = 0,
    answer: Annotated[str, typer.Option(help="How answers are read; see `swift-client train --help`.")] = AS_TRAINED,
    grade: options.Grade = AS_ANSWER,
    svg: Annotated[Path | None, typer.Option(help="Draw accuracy against tokens into this file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Replay stopping rules over stored completions: accuracy against tokens, at no cost."""
    from swift_client import training
    from swift_client.report.charts.stopping import savings_svg

    picture.check_svg_path(svg)
    with output.stderr_console().status("reading samples …") as status:
        found = training.simulate(
            samples,
            head,
            rules=rules,
            n=n,
            orders=orders,
            waves=_parse_waves(waves),
            sweep=sweep,
            split=split,
            seed=seed,
            answer=... if answer == AS_TRAINED else None if answer == "none" else answer,
            grade=None if grade == AS_ANSWER else grade,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    picture.write_svg(svg, lambda: savings_svg(found))
    if as_json:
        output.print_json(found.to_dict())
        return
    _show(found)


def _parse_waves(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigurationError(f"--waves {text!r} is no list of numbers.", hint="Write it as 2,2,4.") from error


def _show(result: Simulation) -> None:
    asked = "" if result.waves == (1,) else f", asked after waves of {', '.join(map(str, result.waves))}"
    title = (
        f"{result.provider}/{result.model} · {result.questions:,} questions in {result.orders} orders, "
        f"{result.n} completions planned{asked}"
    )
    prompt = "" if result.prompt_tokens is None else f" A call's prompt has {result.prompt_tokens:,.0f} more."
    output.show(
        Text(escape_unsafe(title), style="bold"),
        _table(result),
        Text(
            f"Right, % of the questions; then the 95 % interval of the difference to majority over all {result.n}, in "
            f"points: green is better, red is worse. All {result.n} take {result.tokens:,.0f} completion tokens a "
            f"question.{prompt} Dimmed: not as a rule's authors choose.",
            style="dim",
        ),
    )
    for note in result.notes:
        output.stderr_console().print(Text(escape_unsafe(note), style="yellow"))


def _table(result: Simulation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Rule", overflow="fold")
    table.add_column("Choice", no_wrap=True)
    for name in ("Right", "Drawn", "Tokens", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        style = "bold" if row.name == "auto" else "" if row.published else "dim"
        full = round(_BAR_WIDTH * row.token_share.value)
        table.add_row(
            Text(escape_unsafe(row.name), style=style),
            Text(row.choice, style=style),
            _accuracy_cell(row),
            f"{row.completions.value:.1f}",
            f"{100 * row.token_share.value:.0f} %",
            Text("█" * full + "░" * (_BAR_WIDTH - full), style=style),
        )
    return table


def _accuracy_cell(row: Replayed) -> Text:
    low, high = (round(100 * each, 1) + 0.0 for each in (row.minus_majority.low, row.minus_majority.high))
    if math.isnan(row.accuracy.value):
        return Text("–", style="dim")
    style = "green" if low > 0 else "red" if high < 0 else "dim"
    return Text(f"{100 * row.accuracy.value:.1f}").append(f" {low:+.1f}…{high:+.1f}", style=style)
