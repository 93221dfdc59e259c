"""``evaluate``: a head beside every other way to choose among n answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output
from swift_client.display import escape_unsafe

if TYPE_CHECKING:
    from swift_client.training import Evaluation, Row

AS_TRAINED, AS_ANSWER = "as the head was trained", "as --answer reads"


def evaluate(
    head: Annotated[str, typer.Argument(help="The head's file; none compares the methods that need no head.")],
    samples: Annotated[list[Path], typer.Argument(help="Files of the head's model, from `swift-client collect`.")],
    split: Annotated[str, typer.Option(help="test, validation or train, as the head knows them; or all.")] = "test",
    n: Annotated[list[int] | None, typer.Option(help="Completions to choose from; may be repeated.")] = None,
    subsets: Annotated[int, typer.Option(min=1, help="Draws of n completions a question.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and samples give the same table.")] = 0,
    answer: Annotated[str, typer.Option(help="How answers are read; see `swift-client train --help`.")] = AS_TRAINED,
    grade: options.Grade = AS_ANSWER,
    train_samples: Annotated[
        list[Path] | None,
        typer.Option(help="Files whose training part WEPR, length and SWIFT as published learn from."),
    ] = None,
    trained: Annotated[bool, typer.Option(help="Whether to train these three beside the head.")] = True,
    as_json: options.Json = False,
) -> None:
    """Compare a head with majority and all other methods, on questions that its training never saw."""
    from swift_client import training

    with output.stderr_console().status("reading samples …") as status:
        found = training.evaluate(
            None if head == "none" else head,
            samples,
            split=split,
            ns=n or (1, 2, 4, 8, 16),
            subsets=subsets,
            seed=seed,
            answer=... if answer == AS_TRAINED else None if answer == "none" else answer,
            grade=None if grade == AS_ANSWER else grade,
            train_samples=train_samples or None,
            trained=trained,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    if as_json:
        output.print_json(found.to_dict())
        return
    _show(found)


def _show(result: Evaluation) -> None:
    part = "" if result.split == "all" else f"{result.split} "
    families = (
        ", ".join(f"{count} {name}" for name, count in result.families.items()) if len(result.families) > 1 else ""
    )
    output.show(
        Text(
            escape_unsafe(
                f"{result.provider}/{result.model} · {result.questions:,} {part}questions"
                f"{f' ({families})' if families else ''}, {result.completions:,} completions"
            ),
            style="bold",
        ),
        _table(result),
        Text(
            "Right, % of the questions; then the 95 % interval of the difference to majority, in points: "
            "green is better, red is worse. Bold is the best of its column.",
            style="dim",
        ),
    )
    if verdict := _verdict(result):
        output.show(Text(verdict))
    for note in result.notes:
        output.stderr_console().print(Text(escape_unsafe(note), style="yellow"))


def _table(result: Evaluation) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", overflow="fold")
    shown = [n for n in result.ns if n > 1] or list(result.ns)
    for n in shown:
        table.add_column(f"n = {n}", justify="right")
    table.add_column("AUROC", justify="right", header_style="bold")
    table.add_column("ECE", justify="right")
    best = {n: max(row.accuracy[n].value for row in result.rows if row.kind != "oracle") for n in shown}
    for row, following in zip(result.rows, [*result.rows[1:], None], strict=True):
        auroc = row.within_question_auroc
        table.add_row(
            Text(row.label, style="bold" if row.name.startswith("head") else ""),
            *(_cell(row, n, best=row.accuracy[n].value >= best[n] and row.kind != "oracle") for n in shown),
            "" if auroc is None else f"{auroc.value:.3f}",
            "" if row.ece is None else f"{row.ece:.3f}",
            end_section=following is None or following.kind != row.kind,
        )
    table.add_row(
        Text("Tokens a question", style="dim"), *(Text(f"{result.tokens[n]:,.0f}", style="dim") for n in shown)
    )
    return table


def _cell(row: Row, n: int, *, best: bool) -> Text:
    cell = Text(f"{100 * row.accuracy[n].value:.1f}", style="bold" if best else "")
    if row.name == "majority":
        return cell
    low, high = _interval_points(row, n)
    style = "dim" if row.kind == "oracle" or low <= 0 <= high else "green" if low > 0 else "red"
    return cell.append(f" {low:+.1f}…{high:+.1f}", style=style)


def _interval_points(row: Row, n: int) -> tuple[float, float]:
    """Return the interval of the difference to majority as it is shown; 0.04 points are none."""
    beyond = row.minus_majority[n]
    return round(100 * beyond.low, 1) + 0.0, round(100 * beyond.high, 1) + 0.0


def _verdict(result: Evaluation) -> str:
    """Say in one sentence what a vote with the head is worth."""
    vote = {row.name: row for row in result.rows}.get("head_vote")
    if vote is None:
        return ""
    groups: dict[str, list[str]] = {}
    for n in result.ns:
        low, high = _interval_points(vote, n)
        if n > 1:
            word = "better than" if low > 0 else "worse than" if high < 0 else "not told apart from"
            groups.setdefault(word, []).append(str(n))
    said = "; ".join(f"{word} majority at n = {', '.join(ns)}" for word, ns in groups.items())
    return f"A vote with this head is {said}." if said else ""
