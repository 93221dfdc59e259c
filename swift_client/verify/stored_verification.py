"""The choice that a verifier would have made, from judgements that were stored beside the samples; sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from swift_client.features.segments import F64
from swift_client.models.verifier_term import VerifierTerm
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.choose import Choice
from swift_client.types import Verification
from swift_client.verify.distinct_answers import DistinctAnswers, find_distinct_answers
from swift_client.verify.modes import mode_of
from swift_client.verify.posterior import next_to_judge, posterior
from swift_client.verify.verification import VerifiedChoice, choose_again, near_answers, should_judge
from swift_client.verify.verifier import ModeName, Verifier, When


def verify_stored(
    scored: ScoredCompletions, choice: Choice, judgements: F64, *, term: VerifierTerm, when: When
) -> VerifiedChoice:
    """Choose again as ``verification.verify`` does with the head that learnt ``term``.

    Args:
        scored: the completions.
        choice: the choice without a verifier.
        judgements: (N,) stored judgement of each completion's answer, 0..1, NaN if unknown.
        term: the head's weight of these judgements; it must help.
        when: "doubt" or "always", as of ``Verifier``.
    """
    answers = find_distinct_answers(scored, choice)
    mode = mode_of(term.verifier)
    leader = answers.representatives.index(choice.winner)
    stored = [_judgement(judgements, answers, i) for i in range(len(answers))]
    tried = [False] * len(answers)
    if should_judge(
        Verifier(mode=cast("ModeName", mode), when=when), answers, leading=float(posterior(answers.weights).max())
    ):
        tried = _judge_in_rounds(answers.weights, stored, term) if when == "doubt" else near_answers(answers.weights)
    by_answer = [value if is_tried else None for value, is_tried in zip(stored, tried, strict=True)]
    verification = Verification(
        judge=term.verifier.split(" ")[0],
        mode=mode,
        judged=sum(value is not None for value in by_answer),
        cost=0.0,
        confidence=float(posterior(answers.weights, rest=answers.rest)[leader]),
        verifier=term.verifier,
        when=when,
        answers=sum(tried),
    )
    if not verification.judged:
        return VerifiedChoice(
            choice=choice,
            verification=verification,
            verifier_scores=(None,) * len(scored.completions),
            answer_probabilities=None,
            notes=(),
        )
    return choose_again(scored, choice, answers, by_answer, verification, (), term=term, holds_votes=False)


def _judgement(judgements: F64, answers: DistinctAnswers, i: int) -> float | None:
    """Return the judgement of an answer: that of the text which would be judged, else the mean of the others."""
    own_value, members = judgements[answers.representatives[i]], judgements[list(answers.members[i])]
    values = members[~np.isnan(members)]
    return float(own_value) if not np.isnan(own_value) else float(values.mean()) if len(values) else None


def _judge_in_rounds(weights: F64, stored: Sequence[float | None], term: VerifierTerm) -> list[bool]:
    """Return the answers that rounds of judgements would have asked for, (A,)."""
    tried = [False] * len(stored)
    size = 1
    while positions := next_to_judge(
        weights,
        [value if is_tried else None for value, is_tried in zip(stored, tried, strict=True)],
        tried,
        term=term,
        size=size,
    ):
        for i in positions:
            tried[i] = True
        size *= 2
    return tried
