"""Example questions of the report: what the head and majority choose, and the ten that are shown."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.display import FINISH_REASON_LABELS
from swift_client.evaluation.pools import completion_order
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.report.format import MISSING, PERCENT, format_decimal, format_percent, format_prompt
from swift_client.report.token_heatmap import (
    ShownTokens,
    TokenWeights,
    compute_colour_limit,
    question_mean,
    shown_tokens,
    weigh_tokens,
)
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.store import StoredQuestion
from swift_client.types import Candidate, Completion, Selection

# Completions that an example chooses from: few enough to read them all and to add up the vote by hand.
EXAMPLE_N = 4

# Possible outcomes of a question, in the order in which examples are shown.
OUTCOMES: Mapping[str, str] = {
    "gained": "Head right, majority wrong",
    "lost": "Majority right, head wrong",
    "missed": "Both wrong, although one completion is right",
    "both": "Both right",
    "none": "No right answer among them",
}

# Outcome of each example in turn. An outcome without further questions is skipped, and the schedule repeats.
OUTCOME_SCHEDULE = ("gained", "lost", "gained", "lost", "missed", "gained", "lost", "missed", "both", "none")

MAX_PROMPT_CHARS = 2000


@dataclass(frozen=True, eq=False, kw_only=True)
class Example:
    """One question, and what was chosen from its first completions."""

    question_id: str
    outcome: str  # a key of OUTCOMES
    selection: Selection  # the head's
    majority_winner: int  # index of the candidate that majority chooses
    labels: tuple[float, ...]  # one per candidate: 1 right, 0 wrong, NaN unknown


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadComparison:
    """The head's scores and choices on all questions of an evaluation."""

    # (N,) the head's scores of all completions, each among all of its question's; NaN without logprobs.
    scores: F64
    probabilities: F64  # (N,) the head's probabilities of complete completions; NaN for others and without calibration
    labels: F64  # (N,) 1 right, 0 wrong, NaN unknown
    # Number of questions per outcome of choosing from their first completions.
    outcomes: Mapping[str, int]
    examples: tuple[Example, ...]


def compare_with_majority(head: HeadArtifact, groups: Iterable[Group], *, answer: answers.Spec) -> HeadComparison:
    """Let ``head`` and majority choose on every question with a label. Reads the groups once."""
    # The verdict of the head's training matters for best_of, not for a reader: so the facts of training are dropped.
    config = SelectionConfig(scorer=replace(head, training={}), answer=answer, force_head=True)
    scores, probabilities, labels = [np.zeros(0)], [np.zeros(0)], [np.zeros(0)]
    counts: Counter[str] = Counter()
    candidates: dict[str, list[Example]] = {outcome: [] for outcome in OUTCOMES}
    for group in groups:
        if np.isnan(group.labels).all():
            continue
        order = completion_order(group)
        completions, group_labels = [group.completions[position] for position in order], group.labels[order]
        selection = select_best(completions, config)
        scores.append(np.array([_to_float(candidate.score) for candidate in selection.candidates]))
        probabilities.append(
            np.array(
                [
                    _to_float(candidate.probability) if candidate.completion.complete else np.nan
                    for candidate in selection.candidates
                ]
            )
        )
        labels.append(group_labels)
        example = _make_example(group.question_id, completions[:EXAMPLE_N], group_labels[:EXAMPLE_N], config)
        if judgements := _judgements(group, head):
            example = replace(example, selection=_with_judgements(example.selection, judgements, order))
        counts[example.outcome] += 1
        # Of each outcome, only as many are kept as could ever be shown.
        ranked = sorted([*candidates[example.outcome], example], key=lambda example: _hash_key(example.question_id))
        candidates[example.outcome] = ranked[: len(OUTCOME_SCHEDULE)]
    return HeadComparison(
        scores=np.concatenate(scores),
        probabilities=np.concatenate(probabilities),
        labels=np.concatenate(labels),
        outcomes={outcome: counts[outcome] for outcome in OUTCOMES},
        examples=_select_examples(candidates),
    )


def _judgements(group: Group, head: HeadArtifact) -> Sequence[float]:
    """Return the stored judgements of one verifier, by position: of one that helps the head if there is any."""
    helpful = [term.verifier for term in head.verifier_terms if term.helps and term.verifier in group.verifier_scores]
    names = helpful or sorted(group.verifier_scores)
    return group.verifier_scores[names[0]].tolist() if names else ()


def _with_judgements(selection: Selection, judgements: Sequence[float], order: Sequence[int]) -> Selection:
    """Return the selection with stored judgements, which the choice did not use."""
    scores = [None if math.isnan(judgements[position]) else judgements[position] for position in order]
    candidates = [
        replace(candidate, verifier_score=score)
        for candidate, score in zip(selection.candidates, scores, strict=False)  # an example has the first ones only
    ]
    return replace(selection, candidates=tuple(candidates))


def _to_float(value: float | None) -> float:
    return np.nan if value is None else value


def _make_example(question_id: str, completions: Sequence[Completion], labels: F64, config: SelectionConfig) -> Example:
    selection = select_best(completions, config)
    majority_winner = select_best(completions, replace(config, scorer=_score_nothing, select="vote")).winner
    head_right, majority_right = labels[selection.winner] == 1, labels[majority_winner] == 1
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
        majority_winner=majority_winner,
        labels=tuple(labels.tolist()),
    )


def _score_nothing(completions: Sequence[Completion]) -> F64:
    """Score no completion, so every vote counts 1."""
    return np.full(len(completions), np.nan)


def _hash_key(question_id: str) -> bytes:
    """Return a sort key that nobody chose and that is the same in every process."""
    return hashlib.blake2b(question_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _select_examples(examples_by_outcome: Mapping[str, Sequence[Example]]) -> tuple[Example, ...]:
    counts: Counter[str] = Counter()
    for outcome in OUTCOME_SCHEDULE * len(OUTCOME_SCHEDULE):
        if counts.total() < len(OUTCOME_SCHEDULE) and counts[outcome] < len(examples_by_outcome[outcome]):
            counts[outcome] += 1
    return tuple(example for outcome in OUTCOMES for example in examples_by_outcome[outcome][: counts[outcome]])


class ShownCandidate(NamedTuple):
    """One candidate as the page shows it."""

    verdict: str  # "right", "wrong" or "unknown"
    facts: list[tuple[str, str]]  # name and value
    chosen_by: list[str]  # "head", "majority"
    tokens: ShownTokens


class ShownExample(NamedTuple):
    """One example as the page shows it."""

    question_id: str
    outcome: str
    messages: list[tuple[str, str]]  # role and text of the prompt's messages
    expected: str | None
    candidates: list[ShownCandidate]
    token_mean: float | None  # the question's mean reward, which has no colour; None without weights


def shown_examples(
    head: HeadArtifact, comparison: HeadComparison, questions: Mapping[str, StoredQuestion]
) -> tuple[list[ShownExample], float]:
    """Return the examples for the page, and the contribution of a token that has the full colour."""
    weights = [weigh_tokens(head, example.selection) for example in comparison.examples]
    centres = [question_mean(parts) for parts in weights]
    colour_limit = compute_colour_limit(weights, centres)
    examples = []
    for example, parts, centre in zip(comparison.examples, weights, centres, strict=True):
        question = questions.get(example.question_id)
        messages = () if question is None else question.messages
        candidates = zip(example.selection.candidates, parts, strict=True)
        examples.append(
            ShownExample(
                question_id=example.question_id,
                outcome=example.outcome,
                messages=[
                    (str(message.get("role", "?")), format_prompt(message.get("content"), MAX_PROMPT_CHARS))
                    for message in messages
                ],
                expected=_expected_text(question),
                candidates=[
                    _shown_candidate(candidate, example, part, centre=centre or 0.0, colour_limit=colour_limit)
                    for candidate, part in candidates
                ],
                token_mean=centre,
            )
        )
    return examples, colour_limit


def _expected_text(question: StoredQuestion | None) -> str | None:
    answer = None if question is None else question.answer
    return " or ".join(answer) if isinstance(answer, tuple) else answer


def _shown_candidate(
    candidate: Candidate, example: Example, weights: TokenWeights | None, *, centre: float, colour_limit: float
) -> ShownCandidate:
    completion, score, probability = candidate.completion, candidate.score, candidate.probability
    label = example.labels[completion.index]
    facts = [("answer", MISSING if candidate.answer is None else candidate.answer), ("score", format_decimal(score, 2))]
    if score is not None and weights is not None:
        facts.append(("= tokens", format_decimal(weights.gated_mean, 2)))
        facts.append(("+ whole answer", format_decimal(score - weights.gated_mean, 2)))
    facts.append(("probability", MISSING if probability is None else f"{format_percent(probability)}{PERCENT}"))
    if candidate.verifier_score is not None:
        facts.append(("verifier", format_decimal(candidate.verifier_score, 2)))
    facts.append(("weight", format_decimal(candidate.weight, 2)))
    if finish_label := FINISH_REASON_LABELS.get(completion.finish_reason):
        facts.append(("ended", finish_label))
    winners = (("head", example.selection.winner), ("majority", example.majority_winner))
    return ShownCandidate(
        verdict="unknown" if math.isnan(label) else "right" if label == 1 else "wrong",
        facts=facts,
        chosen_by=[name for name, winner in winners if winner == completion.index],
        tokens=shown_tokens(completion, weights, centre=centre, colour_limit=colour_limit),
    )
