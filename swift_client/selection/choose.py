"""The choice: from scores and answers to one winner, by the best score or by a vote.

``best`` takes the highest score. ``vote`` adds up one positive weight per completion for each answer; weights are
summed and never averaged, since a mean would let one lucky completion outvote eight (Self-Certainty, arXiv 2502.18581,
table 2). Ties go to the higher score, then to the lower ``Completion.index``; a NaN score never wins against a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from swift_client.answers import Answers
from swift_client.errors import ConfigurationError
from swift_client.types import F32, Completion

Method = Literal["auto", "best", "vote"]

MIN_WEIGHT = 1e-3
"""Weight of a vote whose probability is lower, zero or NaN: each readable completion counts for something."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Who won and why; all positions and (N,) values have the order of the completions."""

    winner: int
    """Position of the winner."""
    method: Literal["best", "vote"]
    """How it was found; "auto" is resolved."""
    weights: tuple[float, ...]
    """(N,) what each completion added to its answer; 0 where it did not vote."""
    notes: tuple[str, ...] = ()
    """What did not go as asked, one sentence each."""


def choose(
    completions: Sequence[Completion],
    values: F32,
    *,
    probabilities: F32 | None = None,
    answers: Answers,
    method: Method = "auto",
    require_answer: bool = False,
    support: Callable[[Sequence[float]], Sequence[float]] | None = None,
) -> Choice:
    """Choose among N completions with scores ``values`` (N,), NaN where there is no signal.

    "vote" weighs each vote by its calibrated probability (N,), 0..1, where ``probabilities`` are given, else by 1; the
    winning answer's best-scored completion wins. Answers of equal weight are told apart by their best-scored
    completion, so that with two different answers a vote is the best score. "auto" votes where any answer was read.
    Completions that were cut, filtered or refused never vote, and win only when there is nothing else; with
    ``answered_only`` so do those without an answer. ``support`` replaces the sums of weights under vote: from (N,)
    weights it makes what each completion has behind it.
    Raises ConfigurationError for an unknown method or no completions, ValueError for lengths that differ.
    """
    if method not in ("auto", "best", "vote"):
        raise ConfigurationError(f"select={method!r} is not a way to choose.", hint='Use "auto", "best" or "vote".')
    count = len(completions)
    if not count:
        raise ConfigurationError("There are no completions to choose from.")
    if {len(values), len(answers.groups), count if probabilities is None else len(probabilities)} != {count}:
        raise ValueError(f"{count} completions, {len(values)} scores and {len(answers.groups)} answers do not match.")

    notes = [answers.note] if answers.note else []
    rank = [(*_sort_key(float(value)), -each.index) for value, each in zip(values, completions, strict=True)]
    pool = [at for at in range(count) if completions[at].complete]
    if not pool:
        pool = list(range(count))
        notes.append("No completion ended by itself: the choice is among cut, filtered or refused ones.")
    elif all(math.isnan(values[at]) for at in pool):
        notes.append("No complete answer has a score, so ties go to the first one.")

    voters = [at for at in pool if completions[at].complete and answers.groups[at] is not None]
    if require_answer:
        pool = voters or pool
    if method == "vote" and not voters:
        notes.append("No complete answer could be read, so there was no vote: the best score wins.")
    weights = [0.0] * count
    if method == "best" or not voters:
        winner = max(pool, key=rank.__getitem__)
        return Choice(winner=winner, method="best", weights=tuple(weights), notes=tuple(notes))

    ballots: dict[int | None, list[int]] = {}
    for at in voters:
        probability = 1.0 if probabilities is None else float(probabilities[at])
        weights[at] = probability if probability > MIN_WEIGHT else MIN_WEIGHT  # NaN too
        ballots.setdefault(answers.groups[at], []).append(at)
    if support:
        behind = support(weights)
        winner = max(voters, key=lambda at: (behind[at], rank[at]))
        return Choice(winner=winner, method="vote", weights=tuple(weights), notes=tuple(notes))
    # fsum is exact, so the sum does not depend on the order of the completions
    winner = max(
        (max(members, key=rank.__getitem__) for members in ballots.values()),
        key=lambda at: (math.fsum(weights[member] for member in ballots[answers.groups[at]]), rank[at]),
    )
    return Choice(winner=winner, method="vote", weights=tuple(weights), notes=tuple(notes))


def _sort_key(value: float) -> tuple[bool, float]:
    """NaN sorts below every number, -inf included."""
    return (False, 0.0) if math.isnan(value) else (True, value)
