"""``prune``: erase what is stored, by age, question, end user or key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from swift_client.cli import options, output

if TYPE_CHECKING:
    from swift_client.store.pruning import PruneResult

_NOUNS = {
    "questions": ("question", "questions"),
    "completions": ("completion", "completions"),
    "replies": ("reply", "replies"),
    "selections": ("choice", "choices"),
    "feedback": ("feedback", "feedbacks"),
    "verdicts": ("verdict", "verdicts"),
    "verifier_scores": ("judgement", "judgements"),
    "batch_requests": ("batch request", "batch requests"),
    "hidden_states": ("completion's hidden states", "completions' hidden states"),
}


def prune(
    samples: Annotated[str, typer.Argument(metavar="FILE", help="A samples file, or the URL of a Redis.")],
    older_than: Annotated[
        str | None, typer.Option(help="Erase what was stored longer ago, such as 30d, 12h or 2w.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="Erase a question: its id, or the id of a choice (x-swift-id of the service).")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(help="Erase what an end user asked: user, safety_identifier or metadata.user_id of the requests."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Erase what was asked with a key of the service: its name.")] = None,
    undated: Annotated[
        bool,
        typer.Option(
            "--undated",
            help="With --older-than, erase what has no stored time too: that of earlier versions, and questions "
            "without replies.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; erase nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Erase stored questions and everything about them, so that no byte of them is left in the file."""
    from swift_client.store.pruning import prune as erase

    result = erase(
        samples, older_than=older_than, question=question, user=user, key=key, undated=undated, dry_run=dry_run
    )
    if as_json:
        output.print_json(result.to_dict())
        return
    output.show(output.safe(_describe(result)))
    if result.undated:
        undated_text = f"{result.undated:,} replies, verdicts or questions have no stored time and were kept"
        output.warn(f"{undated_text}; undated= erases them too.")


def _describe(result: PruneResult) -> str:
    counts = [
        f"{count:,} {one if count == 1 else many}"
        for name, (one, many) in _NOUNS.items()
        if (count := getattr(result, name))
    ]
    if not counts:
        return f"{result.place}: nothing to erase."
    verb = "would be erased" if result.dry_run else "erased"
    text = f"{result.place}: {verb}: {', '.join(counts)}."
    if result.bytes_before and not result.dry_run:
        text += f" The file was rewritten: {result.bytes_before:,} bytes before, {result.bytes_after:,} now."
    return text
