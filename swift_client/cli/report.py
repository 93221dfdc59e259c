"""``report``: an evaluation as one page for people, with the head's eye on every token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.cli.evaluate import AS_TRAINED
from swift_client.display import escape_unsafe


def report(
    head: Annotated[Path, typer.Argument(help="The head's file, from `swift-client train`.")],
    samples: Annotated[list[Path], typer.Argument(help="Files of the head's model, from `swift-client collect`.")],
    out: Annotated[Path, typer.Option(help="Where the page goes, such as report.html.")],
    split: Annotated[str, typer.Option(help="test, validation or train, as the head knows them; or all.")] = "test",
    n: Annotated[list[int] | None, typer.Option(help="Completions to choose from; may be repeated.")] = None,
    subsets: Annotated[int, typer.Option(min=1, help="Draws of n completions a question.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and samples give the same page.")] = 0,
    answer: Annotated[str, typer.Option(help="How answers are read; see `swift-client train --help`.")] = AS_TRAINED,
    train_samples: Annotated[
        list[Path] | None,
        typer.Option(help="Files whose training part WEPR, length and SWIFT as published learn from."),
    ] = None,
    trained: Annotated[bool, typer.Option(help="Whether to train these three beside the head.")] = True,
    as_json: options.Json = False,
) -> None:
    """Write one HTML page that says what a head is worth, and shows what it looks at. It quotes your samples."""
    from swift_client import training
    from swift_client.report.summary import headline, summary

    with output.stderr_console().status("reading samples …") as status:
        found = training.report(
            head,
            samples,
            out=out,
            split=split,
            ns=n or (1, 2, 4, 8, 16),
            subsets=subsets,
            seed=seed,
            answer=... if answer == AS_TRAINED else None if answer == "none" else answer,
            train_samples=train_samples or None,
            trained=trained,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    if as_json:
        output.print_json({"report": str(out), "evaluation": found.to_dict()})
        return
    output.show(Text(escape_unsafe(headline(found)), style="bold"), Text(escape_unsafe(summary(found))))
    for note in found.notes:
        output.stderr_console().print(Text(escape_unsafe(note), style="yellow"))
    output.show(Text(escape_unsafe(str(out))), wrap=False)
