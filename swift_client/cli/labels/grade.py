"""``grade``: add the correct answers to stored questions and count the correct completions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swift_client.cli import options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from swift_client.store import StoredQuestion


def grade(
    samples: Annotated[Path, typer.Argument(help="A samples file from `best-of --store` or `collect`.")],
    questions: Annotated[
        Path | None,
        typer.Option(
            help='JSON lines with correct answers: {"id", "prompt" or "messages", "answer" or "answers", "family"}. '
            "Without this option, completions are only counted."
        ),
    ] = None,
    grade: options.Grade = "auto",
    as_json: options.Json = False,
) -> None:
    """Add correct answers to stored questions, matched by prompt, for `evaluate`, `simulate` and `train`."""
    from swift_client.dataset.add_answers import add_answers
    from swift_client.dataset.questions import load_questions

    answered: Sequence[StoredQuestion] = ()
    if questions is not None:
        loaded = load_questions(questions)
        answered = loaded.questions
        output.warn(*loaded.notes)
    result = add_answers(samples, answered, grade=grade)
    if as_json:
        output.print_json(result.to_dict())
        return
    matched = f"{result.matched:,} stored questions received their answer. " if questions else ""
    output.show(
        output.safe(
            f"{result.path}: {matched}{result.unlabelled:,} of {result.questions:,} questions cannot be graded. "
            f"Completions: {result.right:,} correct, {result.wrong:,} wrong, {result.unknown:,} unknown."
        )
    )
