"""An evaluation in sentences that need no statistics."""

from __future__ import annotations

from swift_client.evaluation.result import Evaluation, Row
from swift_client.report.format import (
    PERCENT,
    format_decimal,
    format_percent,
    format_points,
    is_finite,
    pluralize,
)
from swift_client.training.metrics import Reliability

BEST_RULE = "the best label-free rule"  # ``Evaluation.label_free``

PREFERRED_N = 4  # the n of the summary, if it was measured


def headline_n(evaluation: Evaluation) -> int:
    """Return the n of the summary: 4, else the middle one above 1, whatever the results are."""
    ns = [n for n in evaluation.ns if n > 1] or list(evaluation.ns)
    return PREFERRED_N if PREFERRED_N in ns else ns[(len(ns) - 1) // 2]


def summary(evaluation: Evaluation) -> str:
    """Say the same in numbers at one n, with the interval and the questions behind it."""
    rows, n = _rows_by_name(evaluation), headline_n(evaluation)
    vote, majority, first, oracle = (rows.get(name) for name in ("head_vote", "majority", "first", "oracle"))
    if vote is None or not is_finite(vote.accuracy[n].value):
        return ""
    comparisons = []
    if majority is not None:
        comparisons.append(f"majority vote on {format_percent(majority.accuracy[n].value)}{PERCENT}")
    if first is not None:
        # At n = 1 every completion is drawn equally often, which measures one answer best.
        single = first.accuracy[1 if 1 in evaluation.ns else n]
        comparisons.append(f"one answer alone on {format_percent(single.value)}{PERCENT}")
    right = format_percent(vote.accuracy[n].value)
    sentences = [
        f"Choosing from n = {n} completions, the head’s vote is right on {right}{PERCENT} of "
        + describe_questions(evaluation)
        + (f"; {', '.join(comparisons)}." if comparisons else ".")
    ]
    difference, rule = vote.minus_label_free.get(n), rows.get(evaluation.label_free)
    if rule is not None and difference is not None and is_finite(difference.value):
        sentences.append(
            f"That is {_describe_difference(difference.value)} {BEST_RULE}, “{rule.label}” "
            f"(95{PERCENT} interval {format_points(difference.low)} to {format_points(difference.high)})."
        )
    if oracle is not None and is_finite(oracle.accuracy[n].value):
        sentences.append(
            f"On {format_percent(oracle.accuracy[n].value)}{PERCENT} any of the {n} is right: "
            "no way to choose can beat that."
        )
    return " ".join(sentences)


def describe_questions(evaluation: Evaluation) -> str:
    """Say how many questions there are, and whether training saw them."""
    questions = pluralize(evaluation.questions, "question")
    match evaluation.split:
        case "test":
            return f"{questions} that training never saw"
        case "all":
            return f"all {questions} of the files given"
        case part:
            return f"{questions} of the {part} part, which the head was fitted on"


def describe_calibration(row: Row | None, reliability: Reliability | None) -> str:
    """Say how far the probabilities are off, and how many completions each point has."""
    if row is None or row.ece is None or not is_finite(row.ece):
        return ""
    text = (
        f"On average the head’s probability is {format_percent(row.ece)} points off (expected calibration error "
        f"{format_decimal(row.ece)}; Brier score {format_decimal(row.brier)})."
    )
    if reliability is None:
        return text
    low, high = int(reliability.counts.min()), int(reliability.counts.max())
    size = f"{low:,}" if low == high else f"{low:,} or {high:,}"
    return f"{text} Each point stands for {size} completions; the bars count the completions per tenth."


def _rows_by_name(evaluation: Evaluation) -> dict[str, Row]:
    return {row.name: row for row in evaluation.rows}


def _describe_difference(difference: float) -> str:
    points = format_points(abs(difference)).lstrip("+")
    return "as often as" if points == "0.0" else f"{points} points {'more' if difference > 0 else 'less'} than"
