"""Advice on a head or on stopping rules: one sentence, by fixed rules.

A head: its vote must be better than the best label-free rule, mean over n = 2, 4 and 8 with the lower end of the 95 %
interval above 0, on at least 30 questions that did not fit it; and its own training must not have set it aside. The n
is the first one at which doubling the completions brings less than one point.

A stopping rule: the one with the fewest tokens whose accuracy, chosen as ``best_of`` chooses, is at most one point
below majority over all n, by the lower end of the 95 % interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from swift_client.evaluation.gate import MIN_QUESTIONS
from swift_client.evaluation.headline import HEAD_ROW, Headline, headline
from swift_client.evaluation.result import Estimate, Evaluation, Replayed, Simulation
from swift_client.evaluation.simulation.aborts import KEEP_SHARES
from swift_client.models.artifact import SET_ASIDE_VERDICTS, TOO_FEW_VERDICT, describe_verdict

WORTHWHILE_STEP = 0.01  # gain in accuracy for which twice the completions are worth their price
TOLERATED_LOSS = 0.01  # loss of accuracy that a stopping rule may have, by the lower end of its interval


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One sentence: an action and its reason.

    Attributes:
        use: The head, or the stopping rule, is recommended.
        action: The clause before the colon, "Use the head at n = 4".
        reason: The clause after it, without a full stop.
    """

    use: bool
    action: str
    reason: str

    def __str__(self) -> str:
        return f"{self.action}: {self.reason}."


def advise(evaluation: Evaluation) -> Advice:
    """Say if the head should be used, and at which n.

    Without a head, it says if the vote by log-probabilities is better than a majority, and at which n.
    """
    comparison = headline(evaluation)
    has_head = comparison.vote == HEAD_ROW
    if max(row.n for row in comparison.rows) < 2:
        return Advice(use=False, action="Draw more completions", reason="one per question leaves nothing to choose")
    if has_head and evaluation.split in ("train", "validation"):
        reason = f"the head was fitted to these {evaluation.split} questions, so it looks better here than it is"
        return Advice(use=False, action="Do not decide by these numbers", reason=reason)
    if comparison.questions < MIN_QUESTIONS:
        reason = f"{_count(comparison.questions)} cannot tell if it helps; at least {MIN_QUESTIONS} are needed"
        action = "Do not use this head yet" if has_head else "Do not choose a method yet"
        return Advice(use=False, action=action, reason=reason)
    verdict = evaluation.head.get("verdict")
    if verdict == TOO_FEW_VERDICT and comparison.gain.low > 0:
        reason = f"{_gain(comparison)}, but its file counts too few test questions, so best_of does not use it"
        return Advice(use=False, action="Train this head again with these samples as test samples", reason=reason)
    if verdict in SET_ASIDE_VERDICTS:
        reason = f"in its training it {describe_verdict(evaluation.head)}"
        return Advice(use=False, action="Do not use this head", reason=reason)
    if comparison.gain.low > 0:
        n = sufficient_n([(row.n, row.vote) for row in comparison.rows])
        accuracy = next(row.vote for row in comparison.rows if row.n == n)
        reason = f"right on {100 * accuracy:.1f} % of {_count(comparison.questions)}; {_gain(comparison)}"
        action = f"Use the head at n = {n}" if has_head else f"Without a head, vote by log-probabilities at n = {n}"
        return Advice(use=True, action=action, reason=reason)
    is_worse, is_known = comparison.gain.high < 0, not math.isnan(comparison.gain.value)
    if has_head:
        action = "Do not use this head"
    else:
        action = "Do not weigh votes by log-probabilities" if is_worse else "Do not expect more than from a majority"
    return Advice(
        use=False,
        action=action,
        reason=_gain(comparison) + (", which may be chance" if is_known and not is_worse else ""),
    )


def advise_stopping(simulation: Simulation) -> Advice:
    """Name the cheapest stopping rule that is about as accurate as majority over all n."""
    n, refusal = simulation.n, "Do not stop early on this evidence"
    if math.isnan(simulation.majority.value):
        return Advice(use=False, action=refusal, reason="without labels nobody knows what it costs in accuracy")
    if simulation.questions < MIN_QUESTIONS:
        reason = f"{_count(simulation.questions)} are too few to choose a rule by; at least {MIN_QUESTIONS} are needed"
        return Advice(use=False, action=refusal, reason=reason)
    harmless = [
        row
        for row in simulation.rows
        if row.choice == "vote"
        and row.name not in KEEP_SHARES  # of DeepConf's authors; best_of has abort=deepconf
        and row.minus_majority.low >= -TOLERATED_LOSS
        and row.token_share.value < 1
    ]
    if not harmless:
        reason = f"no rule is certain to stay within {100 * TOLERATED_LOSS:.0f} point of a majority of {n}"
        return Advice(use=False, action=refusal, reason=reason)
    row = min(harmless, key=lambda row: row.token_share.value)
    difference, to_vote = row.minus_majority, _points(row.minus_vote.value)
    reason = (
        f"{100 * row.token_share.value:.0f} % of the tokens of all {n}, at {_points(difference.value)} points against "
        f"a majority of {n} ({_interval(difference)}) and {to_vote} against best_of's vote over all"
    )
    return Advice(use=True, action=_use_rule(row), reason=reason)


def sufficient_n(accuracies: Sequence[tuple[int, float]]) -> int:
    """Return the first n of rising (n, accuracy) whose successor is less than one point better."""
    for (n, accuracy), (_, next_accuracy) in pairwise(accuracies):
        if next_accuracy - accuracy < WORTHWHILE_STEP - 1e-9:
            return n
    return accuracies[-1][0]


def _use_rule(row: Replayed) -> str:
    if row.name.startswith("abort_"):
        return f"Use abort={row.name.removeprefix('abort_')}"
    rule, _, setting = row.name.partition(":")
    return f"Use n = {setting} and no stopping rule" if rule == "fixed" else f"Use stopping={row.name}"


def _gain(comparison: Headline) -> str:
    """Return the gate's numbers: "over n = 2, 4, 8 it gains 1.9 points on ..."."""
    gain, ns = comparison.gain, ", ".join(str(row.n) for row in comparison.rows)
    if math.isnan(gain.value):
        return f'its difference to "{comparison.label}" is unknown'
    change = "gains {} points on" if gain.value >= 0 else "loses {} points to"
    points = f"{abs(100 * gain.value):.1f}"
    return f'over n = {ns} it {change.format(points)} "{comparison.label}" ({_interval(gain)})'


def _interval(difference: Estimate) -> str:
    return f"95 % interval {_points(difference.low)} to {_points(difference.high)}"


def _points(share: float) -> str:
    """Format 0.048 as "+4.8"; as many decimals as show on which side of 0 it is, at most three."""
    decimals = next((count for count in (1, 2) if round(100 * share, count) != 0), 3 if round(100 * share, 3) else 1)
    return f"{round(100 * share, decimals) + 0.0:+.{decimals}f}"


def _count(questions: int) -> str:
    return f"{questions:,} question{'s' * (questions != 1)}"
