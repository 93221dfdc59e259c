"""What a head and majority choose on each question, and the ten questions that a reader is shown."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.types import Completion, Selection

EXAMPLE_N = 4
"""Completions that an example chooses from: few enough to read them all and to add up the vote by hand."""

OUTCOMES: Mapping[str, str] = {
    "gained": "Head right, majority wrong",
    "lost": "Majority right, head wrong",
    "missed": "Both wrong, though a right answer was there",
    "both": "Both right",
    "none": "No right answer among them",
}
"""How a question can end, in the order in which examples are shown."""

OUTCOME_SCHEDULE = ("gained", "lost", "gained", "lost", "missed", "gained", "lost", "missed", "both", "none")
"""Whose turn it is to give an example; a kind that has no more question is passed over, and so on in turn."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One question and what was chosen from its first completions."""

    question_id: str
    outcome: str
    """A key of OUTCOMES."""
    selection: Selection
    """The head's."""
    majority_winner: int
    """Index of the candidate that majority chooses."""
    labels: tuple[float, ...]
    """1 right, 0 wrong, NaN unknown, one a candidate."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadComparison:
    """All questions of an evaluation, seen through the head."""

    scores: F64
    """(N,) the head's scores of all completions, each among all of its question's; NaN for no signal."""
    labels: F64
    """(N,) 1 right, 0 wrong, NaN unknown."""
    outcomes: Mapping[str, int]
    """Questions of each outcome among their first completions."""
    examples: tuple[Example, ...]


def compare_with_majority(head: HeadArtifact, groups: Iterable[Group], *, answer: answers.Spec) -> HeadComparison:
    """Let ``head`` and majority choose on every question that has a label, read once, one at a time."""
    # What its own training thought of the head decides about best_of, not about what a reader may see.
    rules = SelectionConfig(scorer=replace(head, training={}), answer=answer, force_head=True)
    scores, labels = [np.zeros(0)], [np.zeros(0)]
    counts: Counter[str] = Counter()
    kept: dict[str, list[Example]] = {outcome: [] for outcome in OUTCOMES}
    for group in groups:
        if np.isnan(group.labels).all():
            continue
        completions, right = _sort_completions(group)
        judged = select_best(completions, rules)
        scores.append(np.array([np.nan if each.score is None else each.score for each in judged.candidates]))
        labels.append(right)
        choice = _make_example(group.question_id, completions[:EXAMPLE_N], right[:EXAMPLE_N], rules)
        counts[choice.outcome] += 1
        # Of each outcome only as many are kept as could ever be shown.
        held = sorted([*kept[choice.outcome], choice], key=lambda each: _hash_key(each.question_id))
        kept[choice.outcome] = held[: len(OUTCOME_SCHEDULE)]
    return HeadComparison(
        scores=np.concatenate(scores),
        labels=np.concatenate(labels),
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        examples=_select_examples(kept),
    )


def _sort_completions(group: Group) -> tuple[list[Completion], F64]:
    """Order completions by index, where indices differ, as ``judge`` numbers them."""
    indices = [completion.index for completion in group.completions]
    order = np.argsort(indices, kind="stable") if len(set(indices)) == len(indices) else np.arange(len(indices))
    return [group.completions[at] for at in order], group.labels[order]


def _make_example(question_id: str, completions: Sequence[Completion], labels: F64, config: SelectionConfig) -> Example:
    selection = select_best(completions, config)
    majority = select_best(completions, replace(config, scorer=_score_nothing, select="vote")).winner
    head_right, majority_right = labels[selection.winner] == 1, labels[majority] == 1
    if head_right:
        outcome = "both" if majority_right else "gained"
    elif majority_right:
        outcome = "lost"
    else:
        outcome = "missed" if (labels == 1).any() else "none"
    return Example(
        question_id=question_id,
        outcome=outcome,
        selection=selection,
        majority_winner=majority,
        labels=tuple(labels.tolist()),
    )


def _score_nothing(completions: Sequence[Completion]) -> F64:
    """Score no completion, so that every vote counts 1."""
    return np.full(len(completions), np.nan)


def _hash_key(question_id: str) -> bytes:
    """Return what questions are sorted by: nothing that anyone chose, and the same in every process."""
    return hashlib.blake2b(question_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _select_examples(examples_by_outcome: Mapping[str, Sequence[Example]]) -> tuple[Example, ...]:
    taken: Counter[str] = Counter()
    for turn in OUTCOME_SCHEDULE * len(OUTCOME_SCHEDULE):
        if taken.total() < len(OUTCOME_SCHEDULE) and taken[turn] < len(examples_by_outcome[turn]):
            taken[turn] += 1
    return tuple(choice for outcome in OUTCOMES for choice in examples_by_outcome[outcome][: taken[outcome]])
