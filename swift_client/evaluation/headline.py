"""The comparison that decides on a head: its vote minus the best label-free rule.

``evaluate``, the report and the demo show the same numbers, and ``gate.judge_head`` stores them in the head's file.
"""

from __future__ import annotations

from dataclasses import dataclass

from swift_client.evaluation.result import Estimate, Evaluation

HEAD_ROW, NO_HEAD_ROW = "head_vote", "default"  # rows of METHODS that ``best_of`` follows with and without a head


@dataclass(frozen=True, kw_only=True)
class HeadlineRow:
    """The comparison at one n. Accuracies are shares of questions, 0..1.

    Attributes:
        vote: Accuracy of the head's vote; without a head, of the default vote.
        rule: Accuracy of the rule that it is compared with.
        majority: Accuracy of a majority vote.
        any_right: Share of questions on which any of the n completions is right.
        gain: ``vote`` - ``rule``, paired by question, -1..1.
    """

    n: int
    vote: float
    rule: float
    majority: float
    any_right: float
    gain: Estimate


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The vote of ``best_of`` against another rule on the same draws.

    Attributes:
        vote: The row of METHODS that votes: "head_vote", or "default" without a head.
        rule: The row that it is compared with: the best label-free rule; "majority" without a head.
        label: Name of that row for people.
        questions: Number of questions.
        gain: The difference, mean over the n of ``rows``; NaN if it was not measured.
        rows: One per n that a head is judged at.
    """

    vote: str
    rule: str
    label: str
    questions: int
    gain: Estimate
    rows: tuple[HeadlineRow, ...]


def headline(evaluation: Evaluation) -> Headline:
    """Return the comparison of the head with the best label-free rule.

    Without a head, it is the comparison of the default with majority.

    Raises KeyError if the evaluation lacks one of the rows.
    """
    has_head = any(row.name == HEAD_ROW for row in evaluation.rows)
    vote = evaluation.row(HEAD_ROW if has_head else NO_HEAD_ROW)
    rule = evaluation.row(evaluation.label_free if has_head else "majority")
    majority, oracle = evaluation.row("majority"), evaluation.row("oracle")
    differences = vote.minus_label_free if has_head else vote.minus_majority
    return Headline(
        vote=vote.name,
        rule=rule.name,
        label=rule.label,
        questions=evaluation.questions,
        gain=(vote.gain if has_head else vote.gain_over_majority) or Estimate(float("nan"), float("nan"), float("nan")),
        rows=tuple(
            HeadlineRow(
                n=n,
                vote=vote.accuracy[n].value,
                rule=rule.accuracy[n].value,
                majority=majority.accuracy[n].value,
                any_right=oracle.accuracy[n].value,
                gain=differences[n],
            )
            for n in evaluation.gain_ns or evaluation.ns
        ),
    )
