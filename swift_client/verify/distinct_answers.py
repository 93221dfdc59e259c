"""The distinct answers of one question: what a verifier judges, once each."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from swift_client.features.segments import F64
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.choose import Choice
from swift_client.selection.voting import answer_odds
from swift_client.types import Completion, completeness

_LOWEST = -sys.float_info.max


@dataclass(frozen=True, eq=False, kw_only=True)
class DistinctAnswers:
    """The A distinct answers that may be chosen, in order of their first completion.

    Attributes:
        members: (A,) positions of the completions that give each answer.
        representatives: (A,) position of the best-scored one, whose text is judged.
        weights: (A,) positive weight of each answer before it is judged.
        rest: Weight of all answers that nobody gave: 1 if weights are odds of being correct, else 0.
    """

    members: tuple[tuple[int, ...], ...]
    representatives: tuple[int, ...]
    weights: F64
    rest: float

    @property
    def have_repeats(self) -> bool:
        """True if any two completions agree."""
        return any(len(positions) > 1 for positions in self.members)

    def __len__(self) -> int:
        return len(self.members)


def find_distinct_answers(scored: ScoredCompletions, choice: Choice) -> DistinctAnswers:
    """Return the distinct answers among which ``choice`` chose.

    After a vote they are the answers that were voted for. Otherwise they are the texts of the eligible completions,
    equal but for white space; equal answers that could be read count as one.

    If the choice is not by the weights alone (a consensus, the votes of fields), the chosen answer counts at least as
    much as the heaviest one, so that a judge that prefers none changes nothing.
    """
    key, weights = _keys_and_weights(scored, choice)
    members: dict[Hashable, list[int]] = {}
    for position in range(len(scored.completions)):
        if weights[position] > 0:
            members.setdefault(key(position), []).append(position)
    positions = tuple(map(tuple, members.values()))
    values = scored.scores.values.tolist()
    # The winner stands for its answer: ties of scores were settled by other means.
    best = tuple(
        choice.winner if choice.winner in group else max(group, key=lambda i: (_number(values[i]), -i))
        for group in positions
    )
    probabilities = scored.scores.probabilities
    if choice.method == "vote" and probabilities is not None:
        groups = np.full((1, len(scored.completions)), -1, np.int64)
        for number, group in enumerate(positions):
            groups[0, list(group)] = number
        return DistinctAnswers(
            members=positions,
            representatives=best,
            weights=answer_odds(groups, probabilities.astype(np.float64)[None, :], scored.beta)[0],
            rest=1.0,
        )
    # Sums for votes; the best of equal texts where the best score wins.
    total = np.sum if choice.method == "vote" else np.max
    by_answer = np.array([total(weights[list(group)]) for group in positions])
    by_answer[best.index(choice.winner)] = by_answer.max()
    return DistinctAnswers(members=positions, representatives=best, weights=by_answer, rest=0.0)


def _keys_and_weights(scored: ScoredCompletions, choice: Choice) -> tuple[Callable[[int], Hashable], F64]:
    """Return what tells the answer of each completion, and its weight; 0 if it cannot win."""
    groups, completions = scored.answers.groups, scored.completions
    if choice.method == "vote":
        return (lambda position: groups[position]), np.array(choice.weights)
    complete = np.array(completeness(completions))
    eligible = complete if complete.any() else np.ones(len(completions), np.bool_)
    if scored.parsed_answers:  # only objects that fit the schema may win, if there are any
        fits = complete & np.array([group is not None for group in groups])
        eligible = fits if fits.any() else eligible
    weights = np.ones(len(completions)) if scored.vote_weights is None else scored.vote_weights
    if choice.consensus is not None:  # how much each text is like the others says more than its own logprobs
        weights = np.array([value or 0.0 for value in choice.consensus])
    texts = [" ".join(completion.text.split()) for completion in completions]
    return (lambda position: texts[position] if groups[position] is None else groups[position]), np.where(
        eligible, np.maximum(weights, 1e-300), 0.0
    )


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else max(value, _LOWEST)


def texts_of(scored: ScoredCompletions, answers: DistinctAnswers) -> Sequence[str]:
    """Return the text that is judged for each answer, (A,)."""
    return [judged_text(scored.completions[position]) for position in answers.representatives]


def judged_text(completion: Completion) -> str:
    """Return what a judge sees of a completion: its text, and its tool calls if the text does not hold them."""
    calls = completion.tool_calls
    if not calls or completion.answer_text is not None:  # the text of a trajectory holds its calls
        return completion.text
    if completion.text.startswith('[{"'):
        with contextlib.suppress(ValueError, RecursionError, TypeError, AttributeError):
            if [call.get("name") for call in json.loads(completion.text)] == [call.name for call in calls]:
                return completion.text  # a completion without words: its text is the calls
    return "\n".join(
        (completion.text, *(f"Calls the tool {call.name} with {call.arguments or '{}'}" for call in calls))
    )
