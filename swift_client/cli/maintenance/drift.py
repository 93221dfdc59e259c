"""``drift``: what moved in stored questions, since when, and how sure that is."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from swift_client.cli import options, output, progress
from swift_client.cli.error_facts import CHANGED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from swift_client.diagnostics.drift.report import Change, ModelDrift, Movement, Place, Trace

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 64  # characters of a course
_LEGEND = (
    "Course: the level from the first question to the last, with the alarm at │. Since: the likeliest first question, "
    "in brackets those that it may be instead (95 %). By chance: without any change, so strong an alarm comes at most "
    "once in so many questions, on average."
)


def drift(
    samples: Annotated[
        Path, typer.Argument(help="A samples file from `best-of --store`, `serve` or `collect`, or Parquet.")
    ],
    head: Annotated[
        str | None,
        typer.Option(
            help="Head (name or file) whose training's questions are the reference. Default: the file's own earliest "
            "questions."
        ),
    ] = None,
    reference: Annotated[
        int | None,
        typer.Option(min=30, help="Without --head: number of earliest questions. Default: a third, from 50 to 400."),
    ] = None,
    questions_per_false_alarm: Annotated[
        float, typer.Option(min=1, help="Without a change, at most one alarm comes in so many questions on average.")
    ] = 10_000,
    svg: options.Svg = None,
    fail: Annotated[
        bool, typer.Option("--fail", help="Exit with code 7 if the latest questions differ from the reference.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Say what moved in a model's answers: which statistic, since which question, and how sure that is."""
    options.require_samples_files([samples])
    from swift_client.diagnostics.drift.examine import examine_drift
    from swift_client.models.resolve_head import load_named

    output.check_output_path(svg)
    loaded = None if head is None else load_named(head).artifact
    with progress.stage_status() as update:
        models = examine_drift(
            samples,
            loaded,
            reference=reference,
            questions_per_false_alarm=questions_per_false_alarm,
            progress=update,
        )
    if svg is not None:
        from swift_client.report.charts.drift import drift_svg

        output.write_svg(svg, lambda: drift_svg(models))
    is_drifted = any(model.is_drifted for model in models)
    if as_json:
        output.print_json({"drifted": is_drifted, "models": [model.to_dict() for model in models]})
    else:
        for model in models:
            output.show(*_render(model))
            output.warn(*model.notes)
    return CHANGED if fail and is_drifted else 0


def _render(model: ModelDrift) -> list[RenderableType]:
    period = ""
    if model.first.time is not None and model.last.time is not None:
        period = f" · {_show_time(model.first.time)} to {_show_time(model.last.time)}"
    origin = "the head's training" if model.reference == "head" else "the file's earliest"
    parts: list[RenderableType] = [
        output.safe(f"{model.name} · {model.questions:,} questions{period}", "bold"),
        output.safe(
            f"{model.tested:,} questions compared with {model.reference_questions:,} of {origin}, by "
            f"{len(model.compared)} statistics of {model.size} {'answer' if model.size == 1 else 'answers'} each.",
            "dim",
        ),
    ]
    if not model.movements:
        return [*parts, output.safe("Nothing moved, as far as these statistics can tell.", "green")]
    parts += [output.safe(_describe(change), "green" if change.is_over else "yellow") for change in model.changes]
    parts += [output.safe(reason) for reason in model.reasons]
    for movement in model.movements:
        parts += ["", *_render_movement(movement, model.traces[movement.statistic])]
    return [*parts, "", output.safe(_LEGEND, "dim")]


def _describe(change: Change) -> str:
    """Say when a change began, and what it moved."""
    state = "Moved and came back" if change.is_over else "Moved"
    if change.start.question == 1:
        return f"{state}, from the first question on: {', '.join(change.labels)}."
    return f"{state} at about {_show_place(change.start)}: {', '.join(change.labels)}."


def _render_movement(movement: Movement, trace: Trace) -> list[RenderableType]:
    since = "the first question"
    if movement.start.question > 1:
        since = f"question {movement.start.question:,} ({movement.earliest.question:,} to {movement.latest.question:,})"
    until = "still so" if movement.end is None else f"until {_show_place(movement.end)}"
    facts = f"  since {since} · {until} · by chance once in {_round(movement.questions_per_false_alarm):,} questions"
    levels = f"{movement.before:.4g} → {movement.after:.4g}"
    title = Text(f"{movement.label}  ", style="bold").append(levels, "not bold")
    return [title, output.safe(f"  {_course(trace, movement)}"), output.safe(facts, "dim")]


def _show_place(place: Place) -> str:
    when = "" if place.time is None else f", {_show_time(place.time)}"
    return f"question {place.question:,}{when}"


def _show_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _round(value: float) -> int:
    """Round down to two digits, since the bound is no more exact than that."""
    power = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 1)
    return int(value // power * power)


def _course(trace: Trace, movement: Movement) -> str:
    """Draw the level with block characters, and the alarm as a vertical line."""
    levels = _resample(trace.levels.tolist())
    finite = [level for level in levels if math.isfinite(level)]
    low, high = min([*finite, movement.before]), max([*finite, movement.before])
    last = float(trace.questions[-1])
    alarm = round((movement.alarm.question - 1) / max(last - 1, 1) * (_WIDTH - 1))
    blocks = ["·" if not math.isfinite(level) else _block(level, low, high) for level in levels]
    blocks[min(alarm, len(blocks) - 1)] = "│"
    return "".join(blocks)


def _resample(levels: Sequence[float]) -> list[float]:
    count = min(_WIDTH, len(levels))
    return [levels[round(place * (len(levels) - 1) / max(count - 1, 1))] for place in range(count)]


def _block(level: float, low: float, high: float) -> str:
    share = (level - low) / (high - low) if high > low else 0.0
    return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]
