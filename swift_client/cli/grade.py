"""``grade``: the right answers for questions in a samples file, and how many of its completions agree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from swift_client.cli import options, output
from swift_client.display import escape_unsafe


def grade(
    samples: Annotated[Path, typer.Argument(help="A file from `best-of --store` or `collect`.")],
    questions: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines with answers: {"id", "prompt" or "messages", "answer", "family"}; none: only count.'
        ),
    ] = None,
    grade: options.Grade = "auto",
    as_json: options.Json = False,
) -> None:
    """Give stored questions their right answers by prompt, so that `evaluate`, `simulate` and `train` can use them."""
    from swift_client.dataset.add_answers import add_answers

    found = add_answers(samples, questions or (), grade=grade)
    if as_json:
        output.print_json(found.to_dict())
        return
    gave = f"{found.matched:,} stored questions got their answer. " if questions else ""
    output.show(
        Text(
            escape_unsafe(
                f"{found.path}: {gave}Of {found.questions:,} questions {found.unlabelled:,} cannot be judged. "
                f"Completions: {found.right:,} right, {found.wrong:,} wrong, {found.unknown:,} unknown."
            )
        )
    )
