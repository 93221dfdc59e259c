"""What the head is, and how the numbers of the report came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from swift_client.evaluation.result import Evaluation
from swift_client.features import RESPONSE_TERMS, column_names
from swift_client.models import HeadArtifact
from swift_client.models.calibration import CALIBRATIONS
from swift_client.report.format import format_decimal
from swift_client.report.markup import Markup, tag
from swift_client.report.summary import pluralize
from swift_client.report.tables import scrolling_table

MAX_SHOWN_TERMS = 16
"""Response terms that are listed, the weightiest first."""


def facts(head: HeadArtifact, evaluation: Evaluation) -> Markup:
    """Return the head's facts, its weights and the method, each in a fold."""
    kind = next((name for name, maker in CALIBRATIONS.items() if isinstance(head.calibration, maker)), "none")
    listed = {
        "provider": head.provider,
        "model": head.model,
        "licence": head.licence,
        "alternatives a token (k)": f"{head.k_min} to {head.k_max}",
        "features": ", ".join(head.features),
        "response terms": ", ".join(head.response_terms) or "none",
        "calibration": kind,
        **dict(_flatten(head.training)),
    }
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in listed.items()]
    return tag(
        "section",
        tag("h2", "The head, and how this was computed"),
        tag("details", tag("summary", "Facts of the head"), tag("table", tag("tbody", *rows), class_="facts-table")),
        tag("details", tag("summary", "What it adds for the answer as a whole"), *_weights(head)),
        tag("details", tag("summary", "How the numbers were computed"), *_method(evaluation)),
    )


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each fact of a nested JSON document with its whole name."""
    for key, value in values.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value))
        else:
            yield name, "–" if value is None else str(value)


def _weights(head: HeadArtifact) -> Iterator[Markup]:
    if not head.response_terms:
        yield tag("p", "Nothing: its score is the gated mean of its tokens alone.")
        return
    names = column_names(RESPONSE_TERMS, head.response_terms, width=head.width)
    weights = head.response.weight
    order = np.argsort(-np.abs(weights), kind="stable")[:MAX_SHOWN_TERMS].tolist()
    yield tag(
        "p",
        "Added to the score for each standard deviation that a term lies above its mean in training"
        + (f"; the {len(order)} weightiest of {len(names)}." if len(order) < len(names) else "."),
    )
    most = float(np.abs(weights).max()) or 1.0
    rows = []
    for at in order:
        weight = float(weights[at])
        rows.append(
            tag(
                "tr",
                tag("th", names[at].replace("_", " "), scope="row"),
                tag("td", f"{'+' if weight > 0 else ''}{format_decimal(weight)}"),
                tag("td", _bar(weight / most)),
            )
        )
    yield scrolling_table(tag("tr", *(tag("th", title, scope="col") for title in ("term", "weight", ""))), rows)


def _bar(share: float) -> Markup:
    """Draw a weight, -1..1, to the left or the right of a middle line."""
    width = 60 * abs(share)
    bar = tag(
        "rect",
        x=60 if share > 0 else 60 - width,
        y=2,
        width=width,
        height=10,
        class_=f"bar {'right' if share > 0 else 'wrong'}",
    )
    return tag("svg", bar, tag("line", x1=60, x2=60, y1=0, y2=14, class_="axis"), viewBox="0 0 120 14", class_="spark")


def _method(evaluation: Evaluation) -> Iterator[Markup]:
    families = ", ".join(f"{name} {number:,}" for name, number in evaluation.families.items())
    yield tag(
        "p",
        f"{pluralize(evaluation.questions, 'question')} ({families}) with {pluralize(evaluation.completions, 'completion')} in all. For "
        f"each n and question up to {evaluation.subsets:,} different draws of n of its completions were made (seed "
        f"{evaluation.seed}), the same for every row, and each row chose one completion of each draw. Accuracy is the share "
        "of draws whose choice is right, averaged over questions.",
    )
    yield tag(
        "p",
        "Intervals hold 95 % of what comes out when the questions are drawn again with replacement (bootstrap). The "
        "same resamples serve all rows, so the interval of a difference to majority is narrower than two intervals "
        "of accuracy would suggest. An interval of the difference that leaves 0 out is marked ▲ or ▼.",
    )
    yield tag(
        "p",
        "AUROC within a question: how often a right completion is scored above a wrong one of the same question. Brier "
        "and ECE judge probabilities: 0 is perfect; ECE has 15 bins of equal mass. Gap closed: the share of the way "
        "from one answer to any of n. The head’s score of a completion is Σ gate × reward / Σ gate over its tokens, "
        "plus the weighted terms of the whole answer; its vote adds up calibrated probabilities for each answer.",
    )
