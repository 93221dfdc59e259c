"""The report as one page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

from collections.abc import Mapping

from swift_client.evaluation.result import Evaluation
from swift_client.models import HeadArtifact
from swift_client.report import summary, tables
from swift_client.report.charts import accuracy, calibration
from swift_client.report.example_selection import HeadComparison
from swift_client.report.examples import render_examples
from swift_client.report.facts import facts
from swift_client.report.markup import Markup, join, tag
from swift_client.report.style import STYLE
from swift_client.store import StoredQuestion

CONTENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the browser may load for this page: nothing but its own style."""


def render_page(
    evaluation: Evaluation, head: HeadArtifact, comparison: HeadComparison, questions: Mapping[str, StoredQuestion]
) -> Markup:
    """Return the whole document."""
    title = f"{head.name}: report"
    return join(
        Markup("<!doctype html>\n"),
        tag(
            "html",
            tag(
                "head",
                tag("meta", charset="utf-8"),
                tag("meta", http_equiv="Content-Security-Policy", content=CONTENT_POLICY),
                tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
                tag("meta", name="color-scheme", content="light dark"),
                tag("meta", name="referrer", content="no-referrer"),
                tag("title", title),
                tag("style", Markup(STYLE)),
            ),
            tag(
                "body",
                tag(
                    "main",
                    _headline(evaluation, head),
                    _charts(evaluation, comparison),
                    _tables(evaluation),
                    render_examples(head, comparison, questions),
                    facts(head, evaluation),
                    tag("footer", "Made by swift-client report. Text of prompts and completions is shown as it came."),
                ),
            ),
            lang="en",
        ),
        Markup("\n"),
    )


def _headline(evaluation: Evaluation, head: HeadArtifact) -> Markup:
    tiles = [
        tag("li", tag("span", label), tag("b", difference, class_=told or None), tag("small", interval))
        for label, difference, interval, told in summary.tiles(evaluation)
    ]
    notes = [tag("li", note) for note in evaluation.notes]
    return tag(
        "header",
        tag("p", head.name, class_="soft"),
        tag("h1", summary.headline(evaluation)),
        tag("p", summary.summary(evaluation), class_="lead"),
        tag("p", "Points gained by the head’s vote over majority, with 95 % intervals:", class_="soft")
        if tiles
        else None,
        tag("ul", *tiles, class_="tiles") if tiles else None,
        tag("details", tag("summary", f"⚠ {summary.pluralize(len(notes), 'note')}"), tag("ul", *notes), open="")
        if notes
        else None,
    )


def _charts(evaluation: Evaluation, comparison: HeadComparison) -> Markup:
    free = accuracy.best_label_free(evaluation)
    best = f" “{free.label}” is the scorer without labels that does best here." if free is not None else ""
    rows = {row.name: row for row in evaluation.rows}
    drawn = [
        ("More completions", accuracy.accuracy_by_n(evaluation), f"Bands are 95 % intervals.{best}"),
        ("What they cost", accuracy.accuracy_by_tokens(evaluation), accuracy.describe_token_savings(evaluation)),
        (
            "Does it know how sure it may be?",
            calibration.reliability_diagram(evaluation.reliability)
            if evaluation.reliability is not None
            else tag("p", "This head has no calibrated probabilities.", class_="soft"),
            summary.describe_calibration(rows.get("head")),
        ),
        (
            "Scores of right and wrong completions",
            calibration.score_histogram(comparison.scores, comparison.labels),
            "The farther the two are apart, the better the head tells right from wrong.",
        ),
    ]
    return tag(
        "section",
        tag("h2", "In pictures"),
        tag(
            "div",
            *(
                tag("figure", tag("h3", title), chart, tag("figcaption", caption) if caption else None)
                for title, chart, caption in drawn
            ),
            class_="figures",
        ),
    )


def _tables(evaluation: Evaluation) -> Markup:
    return tag(
        "section",
        tag("h2", "Every way to choose"),
        tag(
            "p",
            "Right, % of the questions; beside it the difference to majority in points and its 95 % interval. ",
            tag("b", "better", class_="up"),
            " and ",
            tag("b", "worse", class_="down"),
            " are those whose interval leaves 0 out.",
        ),
        tables.accuracy_table(evaluation),
        tag(
            "details",
            tag("summary", "Intervals of accuracy, and share of the oracle’s gain"),
            tables.interval_table(evaluation),
        ),
        tag("details", tag("summary", "How well scores tell right from wrong"), tables.scorer_table(evaluation)),
    )
