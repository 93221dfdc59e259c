"""``curve``: accuracy by number of training questions, by n, and across families of questions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.evaluation.result import Curve, Estimate, Point

_HEAD_COLUMNS = {"head_vote": "vote", "head": "best"}
_BASELINE_COLUMNS = {"majority": "majority", "mean_logprob": "logprob", "first": "one", "oracle": "any"}
_TABLE_LEGEND = (
    "Accuracy in %: vote weighted by the head, the head's best, majority, mean logprob, one answer, any of n. Below "
    "the head's values: the 95 % interval of the difference to majority, in points; green is better, red is worse. "
    "AUROC: how well right answers rank above wrong answers to the same question."
)
_FAMILY_LEGEND = (
    "Accuracy of the vote weighted by the head minus majority, in points, with its 95 % interval: green is better, red "
    "is worse. Below: AUROC within a question. Numbers of questions are in brackets."
)


def curve(
    samples: options.SamplesOfModel,
    over: Annotated[
        Literal["questions", "n", "family"],
        typer.Option(
            help="questions: train on more and more questions; n: vary n for one head; family: train on one family, "
            "test on all."
        ),
    ] = "questions",
    sizes: Annotated[
        str | None, typer.Option(help="Numbers of training questions. Default: 50,100,200,500,1000,2000,5000 and all.")
    ] = None,
    n: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Number of completions to choose from; with --over n it may be given more than once. Default: 16, or "
            "1 to 64 with --over n.",
        ),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Files of other questions to test on, instead of the test split.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="With --over n: use this head instead of training one.")] = None,
    recipe: Annotated[str, typer.Option(help="How heads are trained; see `swift-client train --help`.")] = "default",
    layers: options.Layers = None,
    answer: options.Answer = "auto",
    grade: options.Grade = "auto",
    subsets: options.Subsets = 200,
    seed: options.Seed = 0,
    seeds: Annotated[
        int, typer.Option(min=1, help="Heads per point, each trained with its own seed; the table shows their means.")
    ] = 1,
    svg: options.Svg = None,
    as_json: options.Json = False,
) -> None:
    """Show how a head's accuracy grows with questions and with n, and whether it transfers to other families.

    The family of a question is stored in its samples file. If there are several files, a file without families counts
    as one family.
    """
    options.require_samples_files([*samples, *(test or ())])
    try:
        from swift_client.evaluation.learning_curve import NS, compute_curve
        from swift_client.report.charts.learning_curve import curve_svg
        from swift_client.training.recipes import recipe_of
    except ImportError as error:
        raise MissingExtraError.needs("train", "Drawing curves") from error
    if over != "n" and n is not None and len(n) > 1:
        raise ConfigurationError("--n may be repeated only with --over n.", hint="Give it once.")
    output.check_output_path(svg)
    with progress.show_status("training …") as update:
        result = compute_curve(
            samples,
            over,
            sizes=None if sizes is None else options.parse_numbers("--sizes", sizes),
            ns=n or NS,
            n=(n or [16])[0],
            test=test or None,
            head=head,
            recipe=recipe_of(recipe, layers=options.parse_layers(layers)),
            answer=answer,
            grade=grade,
            subsets=subsets,
            seed=seed,
            seeds=seeds,
            progress=_StageReporter(update),
        )
    output.write_svg(svg, lambda: curve_svg(result))
    if as_json:
        output.print_json(result.to_dict())
        return
    output.show(*_render(result))
    output.warn(*result.notes)


class _StageReporter:
    """Status line with the number of the head and its stage."""

    def __init__(self, update: Callable[[str], None]) -> None:
        self._update, self._head_label = update, ""

    def __call__(self, stage: str, done: int) -> None:
        if stage == "heads":
            self._head_label = f"head {done}: "
            self._update(f"{self._head_label}reading …")
        else:
            self._update(f"{self._head_label}{done} {stage} …")


def _render(result: Curve) -> list[RenderableType]:
    first, families = result.points[0], result.over == "family"
    counts = f"n = {first.n}" if families else f"{first.tested:,} test questions"
    n = f", n = {first.n}" if result.over == "questions" else ""
    parts: list[RenderableType] = [
        output.safe(f"{result.provider}/{result.model} · {counts}{n}", "bold"),
        _family_table(result) if families else _table(result),
        Text(_FAMILY_LEGEND if families else _TABLE_LEGEND, style="dim"),
    ]
    if first.heads > 1:
        spread = {name: max(point.spread[name] for point in result.points) for name in first.spread}
        text = (
            f"Means over {first.heads} heads. Standard deviation between seeds, at most: vote "
            f"{output.percent(spread['head_vote'])} points, best {output.percent(spread['head'])} points, "
            f"AUROC {spread['within_question_auroc']:.3f}."
        )
        parts.append(Text(text, style="dim"))
    return parts


def _table(result: Curve) -> Table:
    table = Table(box=None)
    names = ("n" if result.over == "n" else "questions", *_HEAD_COLUMNS.values(), "AUROC", *_BASELINE_COLUMNS.values())
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    # One row per head: the head's columns with their intervals, then the methods that need no head.
    for point in result.points:
        accuracy = {name: output.percent(estimate.value) for name, estimate in point.accuracy.items()}
        table.add_row(
            f"{point.n if result.over == 'n' else point.size:,}",
            *(
                output.difference_cell(accuracy[name], point.minus_majority[name], separator="\n")
                for name in _HEAD_COLUMNS
            ),
            _auroc_cell(point.within_question_auroc, separator="\n"),
            *(accuracy[name] for name in _BASELINE_COLUMNS),
        )
    return table


def _family_table(result: Curve) -> Table:
    """Return the square of families: one row per training family, one column per test family."""
    test_counts = {point.tested_on: point.tested for point in result.points}
    table = Table("trained on ↓ tested →", box=None)
    for name, count in test_counts.items():
        table.add_column(output.safe(f"{name} ({count})"), justify="right")
    rows: dict[str, list[Point]] = {}
    for point in result.points:
        rows.setdefault(point.trained_on, []).append(point)
    for name, points in rows.items():
        table.add_row(output.safe(f"{name} ({points[0].size:,})"), *map(_family_cell, points))
    # Majority needs no training, so every row has the same values.
    majority = [output.percent(point.accuracy["majority"].value) for point in next(iter(rows.values()))]
    table.add_row("majority, %", *majority, style="dim")
    return table


def _family_cell(point: Point) -> Text:
    gain = point.minus_majority["head_vote"]
    cell = output.difference_cell(f"{100 * gain.value:+.1f}", gain)
    return cell.append("\n").append(_auroc_cell(point.within_question_auroc))


def _auroc_cell(estimate: Estimate, *, separator: str = " ") -> Text:
    if math.isnan(estimate.value):
        return Text("–", style="dim")
    return Text(f"{estimate.value:.3f}").append(f"{separator}{estimate.low:.2f}…{estimate.high:.2f}", style="dim")
