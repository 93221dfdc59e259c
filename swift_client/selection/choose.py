"""The choice of one question's winner from scores, answers and similarities, by score, vote or consensus."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from swift_client.answers import Answers
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.voting import best_allowed, total_per_completion
from swift_client.types import F32, Completion, Method, completeness

MIN_TEXTS = 3  # completions from which "auto" seeks a consensus

# Weight of a vote whose own weight is 0 or missing, so that each readable completion counts.
_SMALLEST_WEIGHT = 1e-300


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The winner and the votes; positions and (N,) values are in the order of the completions."""

    winner: int  # position of the winner
    method: Literal["best", "vote", "consensus"]  # the method that was used; "auto" is resolved
    weights: tuple[float, ...]  # (N,) weight of each completion's vote or text; 0 if it did not take part
    consensus: tuple[float | None, ...] | None = None  # (N,) expected similarities; None: no consensus was sought
    notes: tuple[str, ...] = ()  # one sentence per thing that did not go as requested


def check_method(method: object) -> None:
    """Raise ConfigurationError unless ``method`` is a value of ``select=``."""
    if method not in get_args(Method):
        raise ConfigurationError(f'select= must be "auto", "best", "vote" or "consensus", not {method!r}.')


def seeks_consensus(scored: ScoredCompletions, method: Method) -> bool:
    """Return True if the choice will be a consensus of the texts.

    "auto" seeks one among ``MIN_TEXTS`` or more texts without any score, if no answer votes: the first of them
    would win otherwise. With logprobs the best score was measured to be as good (docs/benchmarks.md).
    """
    if method != "auto":
        return method == "consensus"
    if scored.parsed_answers or not np.isnan(scored.scores.values).all():
        return False
    complete = completeness(scored.completions)
    pairs = list(zip(scored.completions, scored.answers.groups, complete, strict=True))
    if any(group is not None and is_complete for _, group, is_complete in pairs):
        return False
    return sum(is_complete and bool(completion.text.strip()) for completion, _, is_complete in pairs) >= MIN_TEXTS


def choose(
    completions: Sequence[Completion],
    values: F32,
    *,
    weights: F64 | None = None,
    answers: Answers,
    method: Method = "auto",
    require_answer: bool = False,
    support: Callable[[Sequence[float]], Sequence[float]] | None = None,
    similarities: F64 | None = None,
) -> Choice:
    """Choose among N completions with scores ``values`` (N,), NaN for no signal.

    "best" takes the highest score. "vote" sums one positive weight per completion for each answer, and the best-scored
    completion of the winning answer wins. Weights are summed and never averaged, since a mean would let one lucky
    completion outvote eight (Self-Certainty, arXiv 2502.18581, table 2). Answers of equal weight are told apart by
    their best-scored completion. "consensus" takes the highest of ``similarities``. "auto" votes if any answer could be
    read. Ties go to the higher score, then to the
    lower ``Completion.index``; NaN never wins against a number. If no completion has a score, ties of votes go to the
    shortest text.

    Truncated, filtered and refused completions never vote, and win only if there is no other.

    Args:
        completions: N completions of one question.
        values: (N,) scores.
        weights: (N,) positive weights of the votes; None: each vote counts 1.
        answers: the answers of the completions.
        method: "auto", "best", "vote" or "consensus".
        require_answer: completions without an answer win only if there is no other.
        similarities: (N,) expected similarity of each completion to all, NaN for one that must not win; with them the
            choice is a consensus.
        support: replaces the sums of weights: maps weights (N,) to the support of each completion (N,).

    Raises:
        ConfigurationError: the method is unknown, or there are no completions.
        ValueError: the lengths differ.
    """
    check_method(method)
    count = len(completions)
    if not count:
        raise ConfigurationError("There are no completions to choose from.")
    if {len(values), len(answers.groups), count if weights is None else len(weights)} != {count}:
        raise ValueError(f"{count} completions, {len(values)} scores and {len(answers.groups)} answers do not match.")

    # In index order, the first of equal completions is the one with the lowest index.
    order = np.array(sorted(range(count), key=[completion.index for completion in completions].__getitem__))
    scores = np.asarray(values, np.float64)[order]
    complete = np.array(completeness(completions))[order]
    groups = np.array([-1 if group is None else group for group in answers.groups])[order]
    groups[~complete] = -1
    voters = groups >= 0
    any_voter = voters.any()

    notes = [*([answers.note] if answers.note else []), *_unknown_end_notes(completions)]
    eligible = complete
    if not complete.any():
        eligible = np.ones(count, np.bool_)
        notes.append("No completion ended by itself: the choice is among cut, filtered or refused ones.")
    elif np.isnan(scores[complete]).all():
        is_vote = method != "best" and any_voter and similarities is None
        notes.append(f"No complete answer has a score, so ties go to the {'shortest' if is_vote else 'first'} one.")
        if is_vote:
            scores = -np.array([len(completion.text) for completion in completions], np.float64)[order]
    if require_answer and any_voter:
        eligible = voters

    if similarities is not None:
        highest = similarities == np.nanmax(similarities)
        given = np.ones(count) if weights is None else weights
        return Choice(
            winner=int(order[best_allowed(highest[order], scores)]),
            method="consensus",
            weights=tuple(np.where(np.isnan(similarities), 0.0, given).tolist()),
            consensus=tuple(None if np.isnan(value) else value for value in similarities.tolist()),
            notes=tuple(notes),
        )

    if method == "best" or not any_voter:
        if method == "vote":
            notes.append("No complete answer could be read, so there was no vote: the best score wins.")
        winner = int(order[best_allowed(eligible, scores)])
        return Choice(winner=winner, method="best", weights=(0.0,) * count, notes=tuple(notes))

    cast = voters.astype(np.float64)
    if weights is not None:
        cast = np.where(voters, np.fmax(np.asarray(weights, np.float64)[order], _SMALLEST_WEIGHT), 0.0)
    weights_by_position = np.empty(count)
    weights_by_position[order] = cast
    if support:
        totals = np.where(voters, np.asarray(support(weights_by_position.tolist()), np.float64)[order], -np.inf)
    else:
        # Sums in the order of the weights do not depend on the order of the completions.
        by_weight = cast.argsort(kind="stable")
        totals = np.empty(count)
        totals[by_weight] = total_per_completion(groups[by_weight], cast[by_weight])
    winner = int(order[best_allowed(totals == totals.max(), scores)])
    return Choice(winner=winner, method="vote", weights=tuple(weights_by_position.tolist()), notes=tuple(notes))


def support_by_level(levels: Sequence[Sequence[int | None]], weights: Sequence[float]) -> list[float]:
    """Rank N completions by the summed weights of their groups, the first level first.

    Args:
        levels: (L, N) groups, from the coarsest; None for a completion that does not vote.
        weights: (N,) weights of the votes.

    Returns:
        (N,) ranks from 0, equal for equal sums on all levels; higher is better.
    """
    totals: list[dict[int | None, float]] = []
    for groups in levels:
        members: dict[int | None, list[float]] = {}
        for group, weight in zip(groups, weights, strict=True):
            members.setdefault(group, []).append(weight)
        # fsum does not depend on the order of the completions.
        totals.append({group: math.fsum(votes) for group, votes in members.items()})
    sums = [
        tuple(total[group] for total, group in zip(totals, groups, strict=True)) for groups in zip(*levels, strict=True)
    ]
    ranks = {value: rank for rank, value in enumerate(sorted(set(sums)))}
    return [float(ranks[value]) for value in sums]


def _unknown_end_notes(completions: Sequence[Completion]) -> list[str]:
    """Return a note on completions whose finish reason is an unknown word, if there are any."""
    n_unknown = sum(completion.finish_reason == "unknown" for completion in completions)
    if not n_unknown:
        return []
    if any(completion.complete for completion in completions):
        return [f"{n_unknown} completion(s) ended with an unknown finish reason: they count as incomplete."]
    return ["No completion ended with a known finish reason: the choice is among those with an unknown one."]
