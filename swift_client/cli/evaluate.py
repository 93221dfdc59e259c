"""``evaluate``: compare a head with all other ways to choose among n answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.evaluation.feedback_evaluation import FeedbackEvaluation
    from swift_client.evaluation.headline import Headline
    from swift_client.evaluation.result import HeadDifference
    from swift_client.training import Estimate, Evaluation, Row

_MAX_FAMILIES = 5  # families that are named
_FIRST_BLOCK, _NEXT_BLOCK = 4, 7  # columns of n per table


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
    shadow: Annotated[
        str | None, typer.Option(help="A second head of the same model, to compare with HEAD on the same questions.")
    ] = None,
    feedback: Annotated[
        bool,
        typer.Option(
            "--feedback",
            help="Compare the head with the choices that users got, by their feedback in SAMPLES, weighted to stand "
            "for all choices.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Compare a head with majority voting and other methods, on questions it was not trained on."""
    from swift_client import training

    if feedback:
        if n or train_samples or shadow:
            raise ConfigurationError(
                "--n, --train-samples and --shadow do not go with --feedback, which is on one choice per question."
            )
        with progress.stage_status() as update:
            by_feedback = training.evaluate_feedback(
                options.parse_none(head),
                samples,
                split=split,
                seed=seed,
                answer=options.parse_answer(answer),
                grade=options.parse_grade(grade),
                progress=update,
            )
        if as_json:
            output.print_json(by_feedback.to_dict())
            return
        output.show(*_render_feedback(by_feedback))
        output.warn(*by_feedback.notes)
        return
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
            shadow=shadow,
            progress=update,
        )
    if as_json:
        output.print_json(result.to_dict())
        return
    output.show(*_render(result))
    output.warn(*result.notes)


def _render(result: Evaluation) -> list[RenderableType]:
    from swift_client.evaluation.advice import advise
    from swift_client.evaluation.headline import headline

    split = "" if result.split == "all" else f"{result.split} "
    counts = f"{result.questions:,} {split}questions{_families(result)}"
    comparison, advice = headline(result), advise(result)
    vote, rule = result.row(comparison.vote).label, comparison.label
    shadow = [] if result.shadow is None else ["", *_shadow_lines(result.shadow)]
    parts: list[RenderableType] = [
        output.safe(f"{result.provider}/{result.model} · {counts}, {result.completions:,} completions", "bold"),
        "",
        Text(f'{vote}, against "{rule}"' + ("" if rule == "Majority" else ", the best rule without labels")),
        headline_table(comparison),
        *(_table(result, ns, with_scores=index == 0) for index, ns in enumerate(_blocks(result.ns))),
        "",
        Text(_legend(result), style="dim"),
        *shadow,
        "",
        output.safe(str(advice), "green" if advice.use else "yellow"),
    ]
    return parts


def _render_feedback(result: FeedbackEvaluation) -> list[RenderableType]:
    split = "" if result.split == "all" else f"{result.split} "
    name = "the default without a head" if result.head is None else result.head
    parts: list[RenderableType] = [
        output.safe(
            f"{result.provider}/{result.model} · feedback on {result.known_choices:,} of {result.choices:,} "
            f"{split}choices"
        ),
        output.safe(f"{name} prefers another answer in {_interval(result.changed_share)} % of the choices", "bold"),
    ]
    table = output.make_table(("",), ("in %, with 95 % interval",))
    table.add_row("right answers as chosen", _interval(result.made_accuracy))
    table.add_row("change if unknown answers are wrong", _interval(result.min_change))
    table.add_row("change if unknown answers are right", _interval(result.max_change))
    parts += [table, Text("Nobody knows about other answers to a question whose choice was wrong.", style="dim")]
    if result.brier is not None:
        auroc = "unknown" if result.auroc is None else f"{result.auroc:.3f}"
        stored = ""
        if (change := result.brier_minus_stored) is not None:
            stored = f", {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}] against the stored probabilities"
        parts.append(
            Text(
                f"Its probabilities of the chosen answers: squared error {result.brier.value:.4f}{stored}; AUROC "
                f"{auroc}; off by {100 * (result.ece or 0.0):.1f} points (ECE)."
            )
        )
    return parts


def _interval(share: Estimate) -> str:
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _shadow_lines(difference: HeadDifference) -> list[RenderableType]:
    label = f"Votes of both heads on {difference.questions:,} questions that neither was trained on"
    table = output.difference_table(difference, "This head", "Shadow head")
    return [Text(f"{label}, in %; the difference in points"), table]


def _families(result: Evaluation) -> str:
    if len(result.families) > _MAX_FAMILIES:
        return f" of {len(result.families)} families"
    counts = ", ".join(f"{count} {name}" for name, count in result.families.items())
    return f" ({counts})" if len(result.families) > 1 else ""


def headline_table(comparison: Headline) -> Table:
    """Return the comparison that decides on a head, one row per n and the mean gain."""
    rule = "Majority" if comparison.rule == "majority" else "Best label-free"
    table = output.make_table(("",), ("Vote", rule, "Gain in points, 95 %", "Majority", "Any of n"))
    last = comparison.rows[-1]
    for row in comparison.rows:
        table.add_row(
            f"n = {row.n}",
            Text(output.percent(row.vote), style="bold"),
            output.percent(row.rule),
            output.gain_cell(row.gain),
            output.percent(row.majority),
            output.percent(row.any_right),
            end_section=row is last,
        )
    if len(comparison.rows) > 1:
        table.add_row("mean", "", "", output.gain_cell(comparison.gain), "", "")
    return table


def _blocks(ns: Sequence[int]) -> list[list[int]]:
    """Split the n into tables of 80 columns."""
    ns = [n for n in ns if n > 1] or list(ns)
    return [ns[:_FIRST_BLOCK], *(ns[i : i + _NEXT_BLOCK] for i in range(_FIRST_BLOCK, len(ns), _NEXT_BLOCK))]


def _table(result: Evaluation, ns: Sequence[int], *, with_scores: bool) -> Table:
    table = output.make_table(("",), (*(f"n={n}" for n in ns), *(("Mean gain", "AUROC") if with_scores else ())))
    table.padding, table.show_edge = (0, 1, 0, 0), False  # so that four n fit into 80 columns
    # The oracle knows the correct answers, so it cannot be the best method.
    best = {n: max(row.accuracy[n].value for row in result.rows if row.kind != "oracle") for n in ns}
    for row, next_row in zip(result.rows, [*result.rows[1:], None], strict=True):
        cells = [
            Text(
                output.percent(row.accuracy[n].value),
                style="bold" if row.accuracy[n].value >= best[n] and row.kind != "oracle" else "",
            )
            for n in ns
        ]
        if with_scores:
            auroc = row.within_question_auroc
            shown_auroc = "" if auroc is None else "–" if math.isnan(auroc.value) else f"{auroc.value:.3f}"
            cells += [_mean_gain(row, result.label_free), Text(shown_auroc)]
        table.add_row(
            Text(row.label, style="bold" if row.name.startswith("head") else ""),
            *cells,
            end_section=next_row is None or next_row.kind != row.kind,
        )
    table.add_row("Tokens per question", *(_tokens(result.tokens[n]) for n in ns), style="dim")
    return table


def _tokens(count: float) -> str:
    """Return a count in at most five characters: "8,000", "32.0k"."""
    return (
        f"{count:,.0f}" if not count >= 9999.5 else f"{count / 1000:.1f}k" if count < 99_950 else f"{count / 1000:.0f}k"
    )


def _mean_gain(row: Row, label_free: str) -> Text:
    if row.gain is None or row.name == label_free:
        return Text("–", style="dim")
    cell = output.gain_cell(row.gain)
    return Text(cell.plain, style="dim") if row.kind == "oracle" else cell  # better by definition: no colour


def _legend(result: Evaluation) -> str:
    ns = ", ".join(map(str, result.gain_ns))
    sentences = [
        f'Right answers in %. The mean gain is the difference to "{result.row(result.label_free).label}" in points, '
        f"mean over n = {ns}, then its 95 % interval: green is better, red is worse. The best of a column is bold."
    ]
    errors = [row.ece for row in result.rows if row.name == "head" and row.ece is not None]
    sentences += [f"The head's probabilities are off by {100 * error:.1f} points (ECE)." for error in errors]
    return " ".join(sentences)
