"""Stored comparisons of trained heads with the best label-free rule, which the demo prints.

A few live questions cannot tell two rules apart, so the numbers come from hundreds of stored test questions.
``python -m tools.demo_results`` writes them to ``results.json`` beside this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import msgspec
from rich.text import Text

from swift_client.cli import output
from swift_client.evaluation.headline import Headline

if TYPE_CHECKING:
    from rich.console import RenderableType

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class StoredComparison:
    """The evaluation of one head on test questions that nothing was chosen by.

    Attributes:
        model: The model for people, "the packaged model".
        provider: Name of its provider; at most one comparison per provider is stored.
        trained_on: Number of questions that the head was trained and validated on; None if its file does not say.
        rule_chosen_on: Validation questions that the rule was chosen on; 0 for the default without a head.
        completions: Stored completions per question, of which subsets were drawn.
        temperature: Of the completions; None if unknown.
        date: Day of the evaluation, as YYYY-MM-DD.
        command: The command that wrote this, with names of files only.
        headline: The comparison.
        advice: The sentence that ``evaluate`` ends with.
    """

    model: str
    provider: str
    trained_on: int | None
    rule_chosen_on: int
    completions: int
    temperature: float | None
    date: str
    command: str
    headline: Headline
    advice: str


def read_results() -> tuple[StoredComparison, ...]:
    """Return the stored comparisons."""
    data = resources.files("swift_client.cli.demo").joinpath(RESULTS).read_bytes()
    return decode(data)


def decode(data: bytes) -> tuple[StoredComparison, ...]:
    """Return the comparisons in a JSON document. Raises msgspec.ValidationError if it has another form."""
    return msgspec.json.decode(data, type=tuple[StoredComparison, ...])


def encode(comparisons: tuple[StoredComparison, ...]) -> bytes:
    """Return the comparisons as a JSON document, indented."""
    return msgspec.json.format(msgspec.json.encode(comparisons), indent=1) + b"\n"


def render(comparison: StoredComparison) -> list[RenderableType]:
    """Return one comparison as text and a table."""
    from swift_client.cli.evaluate import headline_table

    facts = [f"{comparison.headline.questions:,} test questions × {comparison.completions} answers"]
    if comparison.temperature is not None:
        facts.append(f"temperature {comparison.temperature:g}")
    if comparison.trained_on is not None:
        facts.append(f"head trained on {comparison.trained_on:,} others")
    chosen_on = comparison.rule_chosen_on
    choice = f"chosen on {chosen_on:,} other questions" if chosen_on else "which runs without a head"
    return [
        output.safe(f"{comparison.model[0].upper()}{comparison.model[1:]}: {', '.join(facts)}", "bold"),
        headline_table(comparison.headline),
        Text(
            "Right answers in %. Vote: weighted by the head. Best label-free: "
            f'"{comparison.headline.label}", {choice}. Measured on {comparison.date} by `{comparison.command}`.',
            style="dim",
        ),
        output.safe(comparison.advice),
        "",
    ]
