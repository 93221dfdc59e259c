"""``probe``: how well each layer's hidden states, and the logprobs, separate right from wrong answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.errors import MissingExtraError

if TYPE_CHECKING:
    from swift_client.evaluation.result import Estimate


def probe(
    samples: Annotated[Path, typer.Argument(help="A file from `swift-client collect --capture`.")],
    layers: options.Layers = None,
    grade: options.Grade = "auto",
    components: Annotated[int, typer.Option(min=1, help="Number of principal components to keep.")] = 50,
    seed: options.Seed = 0,
    svg: options.Svg = None,
    as_json: options.Json = False,
) -> None:
    """Measure how well each layer alone separates correct from wrong answers (PCA and LDA, held-out questions)."""
    options.require_samples_files([samples])
    try:
        from swift_client.evaluation.probe import probe as probe_file
        from swift_client.report.charts.probe import probe_svg
    except ImportError as error:
        raise MissingExtraError.needs("train", "Probing") from error
    output.check_output_path(svg)
    with progress.stage_status() as update:
        result = probe_file(
            samples,
            layers=options.parse_layers(layers),
            grade=grade,
            components=components,
            seed=seed,
            progress=update,
        )
    output.write_svg(svg, lambda: probe_svg(result))
    if as_json:
        output.print_json(result.to_dict())
        return
    table = Table("", "accuracy, %", "difference to majority class", "AUROC within a question", box=None)
    for row in result.rows:
        table.add_row(
            row.name,
            _format_percent(row.accuracy),
            _format_percent(row.minus_baseline, sign="+"),
            _format_auroc(row.within_question_auroc),
        )
    right = f"{100 * result.right:.0f} % correct"
    counts = f"{result.completions:,} completions of {result.questions:,} questions, {right}"
    majority = f"Majority class: {_format_percent(result.baseline)}; {counts}; 95 % intervals over questions."
    output.show(
        table,
        Text(majority, style="dim"),
        Text("Only the last column shows what helps to choose among the answers to one question.", style="dim"),
    )
    output.warn(*result.notes)


def _format_percent(estimate: Estimate, sign: str = "") -> str:
    return f"{100 * estimate.value:{sign}.1f} [{100 * estimate.low:{sign}.1f}, {100 * estimate.high:{sign}.1f}]"


def _format_auroc(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
