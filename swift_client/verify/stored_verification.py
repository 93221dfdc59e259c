"""The choice that a verifier would have made, from judgements that were stored beside the samples; sends nothing."""

from __future__ import annotations

import numpy as np

from swift_client.features.segments import F64
from swift_client.models.verifier_term import VerifierTerm
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.choose import Choice
from swift_client.types import Verification
from swift_client.verify.distinct_answers import find_distinct_answers
from swift_client.verify.modes import mode_of
from swift_client.verify.posterior import posterior
from swift_client.verify.verification import VerifiedChoice, choose_again, find_open_answers, should_judge


def verify_stored(
    scored: ScoredCompletions, choice: Choice, judgements: F64, *, term: VerifierTerm, when: str
) -> VerifiedChoice:
    """Choose again as ``verification.verify`` does with the head that learnt ``term``.

    Args:
        scored: the completions.
        choice: the choice without a verifier.
        judgements: (N,) stored judgement of each completion's answer, 0..1, NaN if unknown. An answer has that of its
            best-scored completion, else the mean of its others.
        term: the head's weight of these judgements; it must help.
        when: "doubt" or "always", as of ``Verifier``.
    """
    answers = find_distinct_answers(scored, choice)
    mode = mode_of(term.verifier)
    leader = next(i for i, positions in enumerate(answers.members) if choice.winner in positions)
    leading = float(posterior(answers.weights, rest=answers.rest)[leader])
    by_answer: list[float | None] = [None] * len(answers)
    open_answers = find_open_answers(answers) if should_judge(when, mode, answers, leading) else []
    for i in open_answers:
        own = judgements[answers.representatives[i]]
        by_answer[i] = _mean(judgements[list(answers.members[i])]) if np.isnan(own) else float(own)
    verification = Verification(
        judge=term.verifier.split(" ")[0],
        mode=mode,
        judged=sum(value is not None for value in by_answer),
        cost=0.0,
        confidence=leading,
        verifier=term.verifier,
        when=when,
        answers=len(open_answers),
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


def _mean(values: F64) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
