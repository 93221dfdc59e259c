"""``retrain``: train a new head with feedback, and replace the one in use only if it is better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swift_client.cli import options, output, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.retraining import Retraining


def retrain(
    samples: Annotated[
        list[Path],
        typer.Argument(help="Samples files with feedback on choices, and graded ones, of the head's model."),
    ],
    head: Annotated[str, typer.Option(help="The head in use: its file, or the name of one in your folder of heads.")],
    out: Annotated[Path | None, typer.Option(help="Write the new head to this file, if it is better.")] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Replace HEAD if the new head is better; `rollback` puts HEAD back.")
    ] = False,
    answer: options.AnswerAsTrained = options.AS_TRAINED,
    grade: options.Grade = options.AS_ANSWER,
    recipe: Annotated[str | None, typer.Option(help="How it is trained. Default: as the head in use.")] = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto (a GPU if there is one).")] = "auto",
    as_json: options.Json = False,
) -> None:
    """Train a new head on samples and feedback, and propose it if held-out choices show that it is better."""
    from swift_client import training

    options.require_samples_files(samples)
    output.check_output_path(out)
    with progress.stage_status() as update:
        result = training.retrain(
            samples,
            head,
            out=out,
            install=install,
            answer=options.parse_answer(answer),
            grade=options.parse_grade(grade),
            recipe=recipe,
            seed=seed,
            device=device,
            progress=update,
        )
    if as_json:
        output.print_json(result.to_dict())
        return
    output.show(*_render(result))
    output.warn(*result.notes)


def _render(result: Retraining) -> list[RenderableType]:
    counts = ", ".join(f"{count:,} {part}" for part, count in result.trained_on.items())
    worth = "" if result.effective > 0.95 * result.known else f", worth {result.effective:,.0f} of equal weight"
    parts: list[RenderableType] = [
        output.safe(f"{result.head} · new head trained on {counts} questions", "bold"),
        Text(f"Right choices of both heads on {result.known:,} held-out questions{worth}, in %"),
        output.difference_table(result.difference, "In use", "New head"),
        output.safe(result.reason, "green" if result.is_better else "yellow"),
    ]
    if result.is_installed:
        parts.append(output.safe(f"{result.head} is the new head now; `swift-client rollback` puts the old one back."))
        parts.append(Text("A running service reads it after SIGHUP, a reranker when it is made again.", style="dim"))
    if result.out is not None:
        parts.append(output.safe(f"The new head is in {result.out}."))
    elif result.is_better and not result.is_installed:
        parts.append(Text("Nothing was written: --install replaces the head in use, --out FILE writes the new one."))
    if result.is_better:
        parts += [output.safe(f"Calibrate it: {line}") for line in result.commands]
    return parts
