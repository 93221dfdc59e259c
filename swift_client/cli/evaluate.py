"""``evaluate``: compare a head with all other ways to choose among n answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.training import Evaluation, Row


def evaluate(
    head: Annotated[str, typer.Argument(help="The head file; none compares the methods that need no head.")],
    samples: options.SamplesOfHead,
    split: options.Split = "test",
    n: options.Ns = None,
    subsets: options.Subsets = 200,
    seed: options.Seed = 0,
    answer: options.AnswerAsTrained = options.AS_TRAINED,
    grade: options.Grade = options.AS_ANSWER,
    train_samples: options.TrainSamples = None,
    trained: options.Trained = True,
    as_json: options.Json = False,
) -> None:
    """Compare a head with majority voting and other methods, on questions it was not trained on."""
    from swift_client import training

    with progress.stage_status() as update:
        result = training.evaluate(
            options.parse_none(head),
            samples,
            split=split,
            ns=n or (1, 2, 4, 8, 16),
            subsets=subsets,
            seed=seed,
            answer=options.parse_answer(answer),
            grade=options.parse_grade(grade),
            train_samples=train_samples or None,
            trained=trained,
            progress=update,
        )
    if as_json:
        output.print_json(result.to_dict())
        return
    output.show(*_render(result))
    output.warn(*result.notes)


def _render(result: Evaluation) -> list[RenderableType]:
    split = "" if result.split == "all" else f"{result.split} "
    families = ", ".join(f"{count} {name}" for name, count in result.families.items())
    counts = f"{result.questions:,} {split}questions{f' ({families})' if len(result.families) > 1 else ''}"
    parts: list[RenderableType] = [
        output.safe(f"{result.provider}/{result.model} · {counts}, {result.completions:,} completions", "bold"),
        _table(result),
        Text(
            f"Accuracy in %, then the 95 % interval of its difference to {_label(result, result.label_free)!r}, the "
            "best rule without labels, in points: green is better, red is worse. The best value of a column is bold.",
            style="dim",
        ),
    ]
    verdict = _verdict(result)
    return [*parts, Text(verdict)] if verdict else parts


def _table(result: Evaluation) -> Table:
    ns = [n for n in result.ns if n > 1] or list(result.ns)
    table = output.make_table(("",), (*(f"n = {n}" for n in ns), "AUROC", "ECE"))
    # The oracle knows the correct answers, so it cannot be the best method.
    best = {n: max(row.accuracy[n].value for row in result.rows if row.kind != "oracle") for n in ns}
    for row, next_row in zip(result.rows, [*result.rows[1:], None], strict=True):
        auroc = row.within_question_auroc
        table.add_row(
            Text(row.label, style="bold" if row.name.startswith("head") else ""),
            *(
                _cell(row, n, result.label_free, best=row.accuracy[n].value >= best[n] and row.kind != "oracle")
                for n in ns
            ),
            "" if auroc is None else f"{auroc.value:.3f}",
            "" if row.ece is None else f"{row.ece:.3f}",
            end_section=next_row is None or next_row.kind != row.kind,
        )
    tokens = [f"{result.tokens[n]:,.0f}" for n in ns]
    table.add_row("Tokens per question", *tokens, style="dim")
    return table


def _cell(row: Row, n: int, label_free: str, *, best: bool) -> Text:
    value, style = output.percent(row.accuracy[n].value), "bold" if best else ""
    if row.name == label_free:
        return Text(value, style=style)
    if row.kind == "oracle":  # better by definition: no colour
        low, high = output.interval_points(row.minus_label_free[n])
        return Text(value, style=style).append(f" {low:+.1f}…{high:+.1f}", style="dim")
    return output.difference_cell(value, row.minus_label_free[n], style=style)


def _label(result: Evaluation, name: str) -> str:
    return result.row(name).label


def _verdict(result: Evaluation) -> str:
    """Return one sentence that compares a vote weighted by the head with the best label-free rule."""
    vote = {row.name: row for row in result.rows}.get("head_vote")
    if vote is None:
        return ""
    ns_by_verdict: dict[str, list[str]] = {}
    for n in result.ns:
        low, high = output.interval_points(vote.minus_label_free[n])
        if n > 1:
            verdict = "better than" if low > 0 else "worse than" if high < 0 else "not distinguishable from"
            ns_by_verdict.setdefault(verdict, []).append(str(n))
    rule = repr(_label(result, result.label_free))
    clauses = "; ".join(f"{verdict} {rule} at n = {', '.join(ns)}" for verdict, ns in ns_by_verdict.items())
    return f"A vote weighted by this head is {clauses}." if clauses else ""
