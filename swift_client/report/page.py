"""The report as one HTML page without scripts, fonts or addresses: values for the template page.html.j2."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from swift_client.display import escape_unsafe
from swift_client.errors import MissingExtraError
from swift_client.evaluation.advice import advise
from swift_client.evaluation.headline import headline
from swift_client.evaluation.methods import format_beta
from swift_client.evaluation.result import Evaluation
from swift_client.features import RESPONSE_TERMS, column_names
from swift_client.models import HeadArtifact
from swift_client.models.calibration import CALIBRATIONS
from swift_client.report import summary
from swift_client.report.charts import accuracy, calibration
from swift_client.report.charts.chart import Markup, element, load_style
from swift_client.report.charts.forest import forest
from swift_client.report.examples import EXAMPLE_N, OUTCOMES, HeadComparison, shown_examples
from swift_client.report.format import (
    MISSING,
    format_count,
    format_decimal,
    format_percent,
    format_points,
    interval_direction,
    is_finite,
    pluralize,
)
from swift_client.report.token_heatmap import COLOUR_LEVELS
from swift_client.store import StoredQuestion

if TYPE_CHECKING:
    from jinja2 import Template

MAX_SHOWN_TERMS = 16  # response terms that are listed, those with the largest weights


class _Figure(NamedTuple):
    title: str
    chart: Markup
    caption: str


class SampleFacts(NamedTuple):
    """The samples behind a page, and the day on which it was written."""

    files: tuple[str, ...] = ()  # names without folders
    temperature: str = "not recorded"
    date: str = MISSING


class _TermWeight(NamedTuple):
    name: str
    weight: float
    share: float  # of the largest weight, -1..1


def load_template() -> Template:
    """Load the page's template. Raises MissingExtraError without Jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtraError.needs("cli", "A report") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "count": format_count,
        "decimal": format_decimal,
        "percent": format_percent,
        "plural": pluralize,
        "points": format_points,
        "typeset": _typeset,
    }
    environment.tests["finite"] = is_finite
    source = resources.files("swift_client.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _typeset(sentence: str) -> str:
    """Give a sentence true minus signs, and keep "n = 8" and "95 %" on one line."""
    sentence = re.sub(r"-(?=[0-9])", "\N{MINUS SIGN}", sentence)
    return re.sub(r" (?=[=%])|(?<=n =) ", "\N{NO-BREAK SPACE}", sentence)


def render_page(
    evaluation: Evaluation,
    head: HeadArtifact,
    comparison: HeadComparison,
    questions: Mapping[str, StoredQuestion],
    samples: SampleFacts | None = None,
) -> str:
    """Return the document. Text cannot become markup in it, nor move a cursor or reverse the reading order."""
    examples, colour_limit = shown_examples(head, comparison, questions)
    document = load_template().render(
        advice=advise(evaluation),
        beta=format_beta(head.beta),
        calibration=next((name for name, kind in CALIBRATIONS.items() if isinstance(head.calibration, kind)), "none"),
        colour_levels=COLOUR_LEVELS,
        colour_limit=colour_limit,
        evaluation=evaluation,
        example_n=EXAMPLE_N,
        examples=examples,
        facts=_facts(evaluation, samples or SampleFacts()),
        figures=_figures(evaluation, comparison),
        head=head,
        headline=headline(evaluation),
        interval_direction=interval_direction,
        kind_labels={"single": "One completion is picked", "vote": "Answers are voted on", "oracle": "The bound"},
        lead=summary.summary(evaluation),
        missing=MISSING,
        n_headings=[f"n = {n}" for n in evaluation.ns],
        n_terms=len(column_names(RESPONSE_TERMS, head.response_terms, width=head.width)) if head.response_terms else 0,
        outcome_counts=comparison.outcomes,
        outcomes=OUTCOMES,
        style=Markup(load_style()),
        term_weights=_term_weights(head),
        training_facts=list(_flatten(head.training)),
    )
    # Jinja2 has escaped markup; control characters and reversed text remain.
    return escape_unsafe(document)


def _facts(evaluation: Evaluation, samples: SampleFacts) -> list[tuple[str, str]]:
    """Return the facts that stand at the top of the page, names and values."""
    ns = ", ".join(map(str, evaluation.ns))
    per_question = format_decimal(evaluation.completions / evaluation.questions, 1).removesuffix(".0")
    model = "/".join(part for part in (evaluation.provider, evaluation.model) if part)
    return [
        ("Model", model or MISSING),
        ("Questions", summary.describe_questions(evaluation)),
        ("n", f"{ns}, drawn from {per_question} stored completions per question"),
        ("Temperature", samples.temperature),
        ("Samples", ", ".join(samples.files) or MISSING),
        ("Date", samples.date),
    ]


def _figures(evaluation: Evaluation, comparison: HeadComparison) -> list[_Figure]:
    head_row = next((row for row in evaluation.rows if row.name == "head"), None)
    reliability = evaluation.reliability
    if reliability is None:
        calibrated = element("p", "This head has no calibrated probabilities.", class_="soft")
    else:
        charts = (
            calibration.reliability_diagram(reliability),
            calibration.probability_counts(comparison.probabilities),
        )
        calibrated = Markup("".join(charts))
    return [
        _Figure(
            "Gain over the best label-free rule",
            forest(evaluation),
            "Points more or less than that rule on the same draws, with 95 % intervals. To the right of 0 is a gain, "
            "to the left a loss; what contains 0 may be chance.",
        ),
        _Figure(
            "What more completions cost", accuracy.accuracy_by_tokens(evaluation), accuracy.describe_cost(evaluation)
        ),
        _Figure("Calibration of the head", calibrated, summary.describe_calibration(head_row, reliability)),
        _Figure(
            "Scores of right and wrong completions",
            calibration.score_histogram(comparison.scores, comparison.labels),
            "The farther apart the two are, the better the head tells right from wrong.",
        ),
    ]


def _term_weights(head: HeadArtifact) -> list[_TermWeight]:
    """Return the response terms with the largest weights."""
    if not head.response_terms:
        return []
    names = column_names(RESPONSE_TERMS, head.response_terms, width=head.width)
    weights = head.response.weight
    scale = float(np.abs(weights).max()) or 1.0
    order = np.argsort(-np.abs(weights), kind="stable")[:MAX_SHOWN_TERMS].tolist()
    return [
        _TermWeight(names[column].replace("_", " "), float(weights[column]), float(weights[column]) / scale)
        for column in order
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each fact of a nested JSON document with its full name."""
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        else:
            yield name, MISSING if value is None else str(value)
