"""Options that several commands share, each with one meaning."""

from __future__ import annotations

from pathlib import Path
from types import EllipsisType
from typing import Annotated, Any, Literal

import typer

from swift_client.errors import ConfigurationError

AS_TRAINED, AS_ANSWER = "as the head was trained", "as --answer reads"
"""Defaults of --answer and --grade, as `--help` shows them."""

Method = Literal["auto", "best", "vote"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Provider = Annotated[str, typer.Option(help="A provider from `swift-client providers`.")]
BaseUrl = Annotated[str | None, typer.Option(help="URL of your own server, such as http://localhost:8000/v1.")]
Model = Annotated[str | None, typer.Option(help="Model name. Default: the provider's default model.")]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature. Default: the provider's.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Maximum length of one answer, in tokens.")]
Scorer = Annotated[
    str, typer.Option(help="How completions are scored, for example mean_logprob, self_certainty or random.")
]
Head = Annotated[
    str,
    typer.Option(
        help="Trained scorer (head): auto (one for this provider and model), none, or the name or file of a head."
    ),
]
Answer = Annotated[
    str, typer.Option(help="How answers are read: auto, number, boxed, choice, yes_no, json, text, none, or a regex.")
]
AnswerAsTrained = Annotated[str, typer.Option(help="How answers are read; see `swift-client train --help`.")]
Grade = Annotated[
    str,
    typer.Option(
        help="How completions are compared with the correct answer: auto, number, math, boxed, choice, yes_no, json, "
        "text, exact, literal, or a regex. Labels stored in the file take precedence."
    ),
]
Select = Annotated[Method, typer.Option(help="vote: the answer with the most support; best: the highest score.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Timeout of one request, in seconds.")]
Seed = Annotated[int, typer.Option(min=0, help="Random seed: the same seed and samples give the same result.")]

SamplesOfHead = Annotated[
    list[Path], typer.Argument(help="Samples files from `swift-client collect`, of the head's model.")
]
SamplesOfModel = Annotated[list[Path], typer.Argument(help="Samples files from `swift-client collect`, of one model.")]
Split = Annotated[
    str, typer.Option(help="Questions to use: the head's test, validation or train split, or all questions.")
]
Ns = Annotated[
    list[int] | None, typer.Option(help="Number of completions to choose from; may be given more than once.")
]
Subsets = Annotated[int, typer.Option(min=1, help="Random subsets of n completions per question.")]
TrainSamples = Annotated[
    list[Path] | None,
    typer.Option(help="Samples files whose training split is used to train the baselines WEPR, length and SWIFT."),
]
Trained = Annotated[bool, typer.Option(help="Train these three baselines and compare the head with them.")]
Layers = Annotated[
    str | None, typer.Option(help="Hidden states to read, such as 16,24,28,32. Default: all that were captured.")
]
Svg = Annotated[Path | None, typer.Option(help="Draw the result as a chart into this SVG file.")]


def drop_none(**values: Any) -> dict[str, Any]:
    """Return the values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def parse_numbers(name: str, text: str) -> tuple[int, ...]:
    """Parse whole numbers, separated by commas or spaces. Raises ConfigurationError for anything else."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigurationError(f"{name} {text!r} is not a list of numbers.", hint="Write it as 2,2,4.") from error


def parse_layers(text: str | None) -> tuple[int, ...] | None:
    """Parse ``--layers``; None if it was not given."""
    return None if text is None else parse_numbers("--layers", text)


def parse_none(text: str) -> str | None:
    """Return an option's text, or None for "none"."""
    return None if text == "none" else text


def parse_answer(text: str) -> str | EllipsisType | None:
    """Parse ``--answer`` of commands that take a head; ``...`` stands for the head's own reader."""
    return ... if text == AS_TRAINED else parse_none(text)


def parse_grade(text: str) -> str | None:
    """Parse ``--grade``; None means that the answers are read as ``--answer`` says."""
    return None if text == AS_ANSWER else text
