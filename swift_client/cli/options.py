"""Options that several commands share, each with its one meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from swift_client.errors import ConfigurationError

Method = Literal["auto", "best", "vote"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Provider = Annotated[str, typer.Option(help="A row of `swift-client providers`.")]
BaseUrl = Annotated[str | None, typer.Option(help="Your own server, such as http://localhost:8000/v1.")]
Model = Annotated[str | None, typer.Option(help="The provider's default model, if not given.")]
Scorer = Annotated[str, typer.Option(help="What scores a completion, such as mean_logprob, self_certainty, random.")]
Head = Annotated[str, typer.Option(help="auto: the head for this provider and model; none; a head's name or file.")]
Answer = Annotated[
    str, typer.Option(help="How answers are read: auto, number, boxed, choice, yes_no, json, text, none, or a regex.")
]
Grade = Annotated[
    str,
    typer.Option(
        help="How completions are compared with the right answer: auto, number, math, boxed, choice, yes_no, json, "
        "text, exact, literal, or a regex. Labels that the file holds come first."
    ),
]
Select = Annotated[Method, typer.Option(help="vote: the answer with most support; best: the highest score.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that one call may take.")]


def parse_numbers(name: str, text: str) -> tuple[int, ...]:
    """Read whole numbers that commas or spaces part. Raises ConfigurationError for anything else."""
    try:
        return tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise ConfigurationError(f"{name} {text!r} is no list of numbers.", hint="Write it as 2,2,4.") from error
