"""``curve``: accuracy against training questions, against n, and across families of questions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, picture
from swift_client.display import escape_unsafe
from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from swift_client.evaluation.learning_curve.curve import Curve, Point
    from swift_client.evaluation.result import Estimate

_HEAD_COLUMNS = {"head_vote": "vote", "head": "best"}
_BASELINE_COLUMNS = {"majority": "majority", "mean_logprob": "logprob", "first": "one", "oracle": "any"}
_TABLE_LEGEND = (
    "Right, % of the questions: by the head's vote, its best, majority, mean logprob, one answer, any of n. Below the "
    "head's, the 95 % interval of the difference to majority, in points: green is better, red is worse. "
    "AUROC: right above wrong answers to the same question."
)
_FAMILY_LEGEND = (
    "The head's vote less majority, in points, with its 95 % interval: green is better, red is worse; then the AUROC "
    "within a question. Questions are counted in brackets."
)


def curve(
    samples: Annotated[list[Path], typer.Argument(help="Files that `swift-client collect` wrote, of one model.")],
    over: Annotated[
        Literal["questions", "n", "family"],
        typer.Option(
            help="questions: trained on more and more; n: of one head; family: trained on one, tested on all."
        ),
    ] = "questions",
    sizes: Annotated[
        str | None, typer.Option(help="Numbers of questions; default 50,100,200,500,1000,2000,5000 and all.")
    ] = None,
    n: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Completions to choose from; with --over n it may be repeated. Default: 8, or 1 to 64."
        ),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Files of other questions to judge on, instead of the test part.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="With --over n, a head instead of one trained here.")] = None,
    recipe: Annotated[str, typer.Option(help="How heads are trained; see `swift-client train --help`.")] = "default",
    layers: Annotated[str | None, typer.Option(help="Hidden states to read, for recipes that do.")] = None,
    answer: options.Answer = "auto",
    grade: options.Grade = "auto",
    subsets: Annotated[int, typer.Option(min=1, help="Draws of n completions a question.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and samples give the same curve.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Heads a point, each with a seed of its own; means are shown.")] = 1,
    svg: Annotated[Path | None, typer.Option(help="Draw the curve into this file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show how a head's worth grows with questions and with n, and whether it carries over to other families.

    A question's family is what its samples file says; of several files, one without families is a family itself.
    """
    try:
        from swift_client.evaluation.learning_curve.curve import NS
        from swift_client.evaluation.learning_curve.curve import compute_curve as draw
        from swift_client.report.charts.learning_curve import curve_svg
        from swift_client.training.recipes import recipe_of
    except ImportError as error:
        raise MissingExtraError.needs("train", "Drawing curves") from error
    if over != "n" and n is not None and len(n) > 1:
        raise ConfigurationError("--n may be repeated with --over n only.", hint="Give it once.")
    picture.check_svg_path(svg)
    with output.stderr_console().status("training …") as status:
        found = draw(
            samples,
            over,
            sizes=None if sizes is None else options.parse_numbers("--sizes", sizes),
            ns=n or NS,
            n=(n or [8])[0],
            test=test or None,
            head=head,
            recipe=recipe_of(recipe, layers=None if layers is None else options.parse_numbers("--layers", layers)),
            answer=answer,
            grade=grade,
            subsets=subsets,
            seed=seed,
            seeds=seeds,
            progress=_StageReporter(status.update),
        )
    picture.write_svg(svg, lambda: curve_svg(found))
    if as_json:
        output.print_json(found.to_dict())
        return
    _show(found)


class _StageReporter:
    """The line that says which head is at which stage."""

    def __init__(self, update: Callable[[str], None]) -> None:
        self._update, self._head_label = update, ""

    def __call__(self, stage: str, done: int) -> None:
        if stage == "heads":
            self._head_label = f"head {done}: "
        self._update(f"{self._head_label}{done} {stage} …" if stage != "heads" else f"{self._head_label}reading …")


def _show(result: Curve) -> None:
    first, families = result.points[0], result.over == "family"
    counts = f"n = {first.n}" if families else f"{first.tested:,} test questions"
    at = f", n = {first.n}" if result.over == "questions" else ""
    output.show(
        Text(escape_unsafe(f"{result.provider}/{result.model} · {counts}{at}"), style="bold"),
        _family_table(result) if families else _table(result),
        Text(_FAMILY_LEGEND if families else _TABLE_LEGEND, style="dim"),
    )
    if first.heads > 1:
        most = {name: max(point.spread[name] for point in result.points) for name in first.spread}
        words = (
            f"Means over {first.heads} heads, whose seeds alone move the vote by up to {100 * most['head_vote']:.1f} "
            f"points, the best by {100 * most['head']:.1f} and AUROC by {most['within_question_auroc']:.3f} (s.d.)."
        )
        output.show(Text(words, style="dim"))
    for note in result.notes:
        output.stderr_console().print(Text(escape_unsafe(note), style="yellow"))


def _table(result: Curve) -> Table:
    table = Table(box=None)
    table.add_column("n" if result.over == "n" else "questions", justify="right")
    for name in (*_HEAD_COLUMNS.values(), "AUROC", *_BASELINE_COLUMNS.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for point in result.points:
        table.add_row(
            f"{point.n if result.over == 'n' else point.size:,}",
            *(
                _cell(
                    f"{100 * point.accuracy[name].value:.1f}",
                    *_interval_points(point.minus_majority[name]),
                    separator="\n",
                )
                for name in _HEAD_COLUMNS
            ),
            _auroc_cell(point.within_question_auroc, separator="\n"),
            *(f"{100 * point.accuracy[name].value:.1f}" for name in _BASELINE_COLUMNS),
        )
    return table


def _family_table(result: Curve) -> Table:
    counts = {point.tested_on: point.tested for point in result.points}
    table = Table("trained on ↓ tested →", box=None)
    for name, count in counts.items():
        table.add_column(Text(escape_unsafe(f"{name} ({count})")), justify="right")
    rows: dict[str, list[Point]] = {}
    for point in result.points:
        rows.setdefault(point.trained_on, []).append(point)
    for name, points in rows.items():
        cells = []
        for each in points:
            gain = each.minus_majority["head_vote"]
            cell = _cell(f"{100 * gain.value:+.1f}", *_interval_points(gain))
            cells.append(cell.append("\n").append(_auroc_cell(each.within_question_auroc)))
        table.add_row(Text(escape_unsafe(f"{name} ({points[0].size:,})")), *cells)
    counted = next(iter(rows.values()))
    majority = [f"{100 * each.accuracy['majority'].value:.1f}" for each in counted]
    table.add_row(Text("majority, %", style="dim"), *(Text(each, style="dim") for each in majority))
    return table


def _cell(value: str, low: float, high: float, *, separator: str = " ") -> Text:
    """Return a number and the interval of its difference to majority, green where that is better and red where not."""
    style = "green" if low > 0 else "red" if high < 0 else "dim"
    return Text(value).append(separator).append("–" if math.isnan(low) else f"{low:+.1f}…{high:+.1f}", style=style)


def _interval_points(estimate: Estimate) -> tuple[float, float]:
    """Return the interval in points as it is shown; 0.04 points are none."""
    return round(100 * estimate.low, 1) + 0.0, round(100 * estimate.high, 1) + 0.0


def _auroc_cell(estimate: Estimate, *, separator: str = " ") -> Text:
    if math.isnan(estimate.value):
        return Text("–", style="dim")
    return (
        Text(f"{estimate.value:.3f}").append(separator).append(f"{estimate.low:.2f}…{estimate.high:.2f}", style="dim")
    )
