"""``probe``: what a linear rule reads of right and wrong in each layer's states, and in the logprobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, picture
from swift_client.display import escape_unsafe
from swift_client.errors import MissingExtraError

if TYPE_CHECKING:
    from swift_client.evaluation.result import Estimate


def probe(
    samples: Annotated[Path, typer.Argument(help="A file that `swift-client collect --capture` wrote.")],
    layers: Annotated[
        str | None, typer.Option(help="Hidden states, such as 0,16,32. Default: all that were captured.")
    ] = None,
    grade: options.Grade = "auto",
    components: Annotated[int, typer.Option(min=1, help="Directions that PCA keeps.")] = 50,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    svg: Annotated[Path | None, typer.Option(help="Draw accuracy by layer into this file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Ask each layer alone whether an answer is right: PCA, LDA, whole questions held out."""
    try:
        from swift_client.evaluation.probe import probe as probe_file
        from swift_client.report.charts.probe import probe_svg
    except ImportError as error:
        raise MissingExtraError.needs("train", "Probing") from error
    picture.check_svg_path(svg)
    with output.stderr_console().status("reading samples …") as status:
        found = probe_file(
            samples,
            layers=None if layers is None else options.parse_numbers("--layers", layers),
            grade=grade,
            components=components,
            seed=seed,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    picture.write_svg(svg, lambda: probe_svg(found))
    if as_json:
        output.print_json(found.to_dict())
        return
    table = Table("", "accuracy, %", "less majority", "AUROC in a question", box=None)
    for row in found.rows:
        less = _format_percent(row.minus_baseline, sign="+")
        table.add_row(row.name, _format_percent(row.accuracy), less, _format_auroc(row.within_question_auroc))
    counts = f"{found.completions:,} completions of {found.questions:,} questions, {100 * found.right:.0f} % right"
    output.show(
        table,
        Text(
            f"majority class: {_format_percent(found.baseline)}; {counts}; 95 % intervals over questions", style="dim"
        ),
        Text("Only the last column says what helps to choose among the answers to one question.", style="dim"),
    )
    for note in found.notes:
        output.stderr_console().print(Text(escape_unsafe(note), style="yellow"))


def _format_percent(estimate: Estimate, sign: str = "") -> str:
    return f"{100 * estimate.value:{sign}.1f} [{100 * estimate.low:{sign}.1f}, {100 * estimate.high:{sign}.1f}]"


def _format_auroc(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
