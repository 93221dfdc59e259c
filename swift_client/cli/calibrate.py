"""``calibrate``: above which confidence an answer may be taken without a look, at a stated risk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output
from swift_client.cli.evaluate import AS_TRAINED
from swift_client.display import escape_unsafe
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from swift_client.training import Acceptable


def calibrate(
    head: Annotated[Path, typer.Argument(help="The head's file; the threshold is written into it.")],
    samples: Annotated[list[Path], typer.Argument(help="Graded files of its model, from `swift-client collect`.")],
    risk: Annotated[float, typer.Option(help="Share of the accepted answers that may be wrong, such as 0.05.")],
    confidence: Annotated[float, typer.Option(help="How surely no more of them are.")] = 0.9,
    n: Annotated[int, typer.Option(min=1, max=1024, help="Completions of a question, as you will ask.")] = 16,
    stopping: Annotated[str, typer.Option(help="The stopping rule that you will ask with, such as auto.")] = "none",
    select: options.Select = "auto",
    answer: Annotated[str, typer.Option(help="How answers are read; see `swift-client train --help`.")] = AS_TRAINED,
    split: Annotated[
        str,
        typer.Option(help="unseen: validation and test, as the head knows them; test; or all, for other questions."),
    ] = "unseen",
    out: Annotated[Path | None, typer.Option(help="Where the head goes; without, into its own file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Learn which answers may be taken without a look, so that at most RISK of them are wrong."""
    from swift_client import training

    with output.stderr_console().status("reading samples …") as status:
        found = training.calibrate(
            head,
            samples,
            risk=risk,
            confidence=confidence,
            n=n,
            stopping=None if stopping == "none" else stopping,
            select=select,
            answer=... if answer == AS_TRAINED else None if answer == "none" else answer,
            split=split,
            out=out,
            progress=lambda stage, done: status.update(f"{done} {stage} …"),
        )
    for note in found.notes:
        output.stderr_console().print(Text(escape_unsafe(note), style="yellow"))
    if found.acceptance is None:
        raise ConfigurationError(
            f"Nothing is certified and the head stays as it was: {found.reason}",
            hint="Give more questions, allow a higher --risk, or train a better head.",
        )
    if as_json:
        output.print_json(_facts(found, out or head))
        return
    _show(found, out or head)


def _facts(result: Acceptable, out: Path) -> dict[str, Any]:
    facts = {} if result.acceptance is None else result.acceptance.to_dict()
    return {
        "head": str(out),
        **facts,
        "accepted_share": result.tested.accepted / result.questions,
        "accepted_error": result.tested.errors / result.tested.accepted,
        "p_value": result.tested.p_value,
        "right": result.right,
        "oracle_share": result.oracle,
        "tested": asdict(result.tested),
        "notes": list(result.notes),
    }


def _show(result: Acceptable, out: Path) -> None:
    tested, stored = result.tested, result.acceptance
    if stored is None or tested.threshold is None:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "questions", "accepted", "wrong of these"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(
        Text("at the threshold", style="bold"),
        str(tested.questions),
        f"{tested.accepted} ({100 * tested.accepted / tested.questions:.1f} %)",
        f"{tested.errors} ({100 * tested.errors / tested.accepted:.1f} %)",
    )
    everything = round((1 - result.right) * tested.questions)
    table.add_row(
        "all answers",
        str(tested.questions),
        f"{tested.questions} (100 %)",
        f"{everything} ({100 - 100 * result.right:.1f} %)",
    )
    table.add_row(
        "with the truth known", str(tested.questions), f"({100 * result.oracle:.1f} %)", f"({100 * result.risk:g} %)"
    )
    rule = f", stopping {stored.stopping}" if stored.stopping else ""
    output.show(
        Text(escape_unsafe(f"{out} · accepts answers with log odds of {tested.threshold:.2f} or more"), style="bold"),
        table,
        Text(
            f"With confidence {100 * result.confidence:g} % at most {100 * result.risk:g} % of the accepted answers are "
            f"wrong (p = {tested.p_value:.2g}), for questions like these, n = {stored.n}{rule}, "
            f"select {stored.select}, answer {stored.answer}."
        ),
    )
