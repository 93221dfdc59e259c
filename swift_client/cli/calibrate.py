"""``calibrate``: the confidence above which answers can be accepted automatically, at a stated risk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.models import Acceptance
    from swift_client.training import Acceptable


def calibrate(
    head: Annotated[Path, typer.Argument(help="The head file; the threshold is written into it.")],
    samples: Annotated[
        list[Path], typer.Argument(help="Graded files from `swift-client collect`, or Parquet, of its model.")
    ],
    risk: Annotated[float, typer.Option(help="Largest share of accepted answers that may be wrong, such as 0.05.")],
    confidence: Annotated[float, typer.Option(help="Confidence level of the guarantee.")] = 0.9,
    n: Annotated[int, typer.Option(min=1, max=1024, help="Completions per question; use the same n later.")] = 16,
    stopping: Annotated[str, typer.Option(help="Stopping rule, such as auto; use the same rule later.")] = "none",
    select: options.Select = "auto",
    answer: options.AnswerAsTrained = options.AS_TRAINED,
    split: Annotated[
        str,
        typer.Option(
            help="Questions to use: unseen (the head's validation and test splits), test, or all (questions that the "
            "head was not trained on)."
        ),
    ] = "unseen",
    verifier: Annotated[
        str,
        typer.Option(
            help="Count the stored judgements of this verifier, which the head weighs: its identity, or auto for the "
            "only one. Use the same verifier later."
        ),
    ] = "none",
    when: Annotated[Literal["doubt", "always"], typer.Option(help="When it judges: doubt or always.")] = "doubt",
    feedback: options.Feedback = False,
    overlook_rate: Annotated[
        float, typer.Option(help="With --feedback: share of the wrong answers that people call right.")
    ] = 0.0,
    out: Annotated[Path | None, typer.Option(help="Write the head to this file instead of changing HEAD.")] = None,
    as_json: options.Json = False,
) -> None:
    """Find the confidence above which at most RISK of the answers are wrong, and store it in the head."""
    from swift_client import training

    with progress.stage_status() as update:
        result = training.calibrate(
            head,
            samples,
            risk=risk,
            confidence=confidence,
            n=n,
            stopping=options.parse_none(stopping),
            select=select,
            answer=options.parse_answer(answer),
            split=split,
            verifier=options.parse_none(verifier),
            when=when,
            feedback=feedback,
            overlook_rate=overlook_rate,
            out=out,
            progress=update,
        )
    output.warn(*result.notes)
    if result.acceptance is None:
        raise ConfigurationError(
            f"No threshold can be certified, and the head was not changed: {result.reason}",
            hint="Use more questions, allow a higher --risk, or train a better head.",
        )
    if as_json:
        output.print_json(_to_dict(result, result.acceptance, out or head))
    else:
        output.show(*_render(result, result.acceptance, out or head))


def _to_dict(result: Acceptable, acceptance: Acceptance, out: Path) -> dict[str, Any]:
    return {
        "head": str(out),
        **acceptance.to_dict(),
        "accepted_share": acceptance.accepted_share,
        "accepted_error": result.tested.errors / result.tested.accepted,
        "p_value": result.tested.p_value,
        "right": result.right,
        "oracle_share": result.oracle,
        "tested": asdict(result.tested),
        "notes": list(result.notes),
    }


def _render(result: Acceptable, acceptance: Acceptance, out: Path) -> list[RenderableType]:
    tested = result.tested
    accepted = f"{tested.accepted} ({output.percent(tested.accepted / tested.questions)} %)"
    wrong = f"{tested.errors} ({output.percent(tested.errors / tested.accepted)} %)"
    wrong_of_all = f"{round((1 - result.right) * tested.questions)} ({output.percent(1 - result.right)} %)"
    best_accepted, best_wrong = f"({output.percent(result.oracle)} %)", f"({100 * result.risk:g} %)"
    table = output.make_table(("",), ("questions", "accepted", "wrong among accepted"))
    table.add_row(Text("at the threshold", style="bold"), str(tested.questions), accepted, wrong)
    table.add_row("all answers", str(tested.questions), f"{tested.questions} (100 %)", wrong_of_all)
    table.add_row("best possible", str(tested.questions), best_accepted, best_wrong)
    rule = f", stopping {acceptance.stopping}" if acceptance.stopping else ""
    judge = f", verifier {acceptance.verifier} ({acceptance.when})" if acceptance.verifier else ""
    assumption = ""
    if result.feedback:
        assumption = (
            " The numbers are those of a part of the feedback that stands for all choices. This holds if people's "
            "feedback on choices that look alike does not depend on whether these are right."
        )
    return [
        output.safe(f"{out} · accepts answers with log odds of at least {tested.threshold:.2f}", "bold"),
        table,
        Text(
            f"With {100 * result.confidence:g} % confidence, at most {100 * result.risk:g} % of the accepted answers "
            f"are wrong (p = {tested.p_value:.2g}), for questions like these, n = {acceptance.n}{rule}, "
            f"select {acceptance.select}, answer {acceptance.answer}{judge}.{assumption}"
        ),
    ]
