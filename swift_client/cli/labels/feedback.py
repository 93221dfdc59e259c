"""``feedback``: say whether a chosen answer was right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swift_client.cli import options, output


def feedback(
    samples: Annotated[Path, typer.Argument(help="A samples file from `best-of --store` or `serve`.")],
    id: Annotated[str, typer.Argument(help="Id of the choice: of `best-of --json`, or x-swift-id.")],
    correct: Annotated[bool, typer.Option("--correct/--wrong", help="Whether the chosen answer was right.")],
    as_json: options.Json = False,
) -> None:
    """Say whether a chosen answer was right; it is stored for later training, and replaces earlier feedback."""
    from swift_client.errors import UnknownSelectionError
    from swift_client.store import ReplyStore, require_samples_file

    require_samples_file(samples)
    store = ReplyStore(samples)
    selection = store.read(lambda file: file.selection(id))
    if selection is None:
        raise UnknownSelectionError.of_file(id, samples)
    store.save_feedback(id, correct).result()
    if as_json:
        output.print_json({"id": id, "question": selection.question_id, "answer": selection.answer, "correct": correct})
        return
    answer = "" if selection.answer is None else f" {selection.answer[:200]!r}"
    output.show(output.safe(f"The answer{answer} is marked as {'correct' if correct else 'wrong'}."))
