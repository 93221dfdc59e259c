"""The verification of one choice: decide if there is doubt, ask the judge, and choose by votes and judgements."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from swift_client.errors import VerificationError
from swift_client.features.segments import F64
from swift_client.models import AnyHead
from swift_client.models.verifier_term import VerifierTerm
from swift_client.pricing import add_costs
from swift_client.sampling import BudgetTracker
from swift_client.scoring.result import ScoredCompletions
from swift_client.selection.choose import Choice
from swift_client.types import Message, Selection, Verification
from swift_client.verify.distinct_answers import DistinctAnswers, find_distinct_answers, texts_of
from swift_client.verify.judge import Judge, JudgeSession
from swift_client.verify.modes import MODES, JudgingTask
from swift_client.verify.posterior import DOUBT_BELOW, MAX_ODDS_RATIO, judgement_log_odds, next_to_judge, posterior
from swift_client.verify.prompts import PROMPT_VERSION, parse_criteria
from swift_client.verify.verdict_cache import VerdictCache
from swift_client.verify.verifier import Verifier

# Characters of the median answer above which "auto" compares answers in pairs.
LONG_ANSWER = 600


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedQuestion:
    """The question of a choice, and what its verification may spend."""

    messages: Sequence[Message]
    reference: str | None = None
    budget: BudgetTracker | None = None
    deadline: float | None = None  # seconds that the whole question has
    deadline_at: float | None = None  # its end in the running loop's time
    cache: VerdictCache | None = None  # stored verdicts


@dataclass(frozen=True, eq=False, kw_only=True)
class VerifiedChoice:
    """A choice by votes and judgements.

    Attributes:
        choice: The choice; its notes are those of the choice before.
        verification: The verifier's work.
        verifier_scores: (N,) judgement of each completion's answer, None if it was not judged.
        answer_probabilities: (N,) probability that each completion's answer is correct, by a head that was trained with
            this verifier; None otherwise.
        notes: One sentence per thing that did not go as requested.
    """

    choice: Choice
    verification: Verification
    verifier_scores: tuple[float | None, ...]
    answer_probabilities: tuple[float | None, ...] | None
    notes: tuple[str, ...]


def identity(verifier: Verifier, judge_name: str, mode: str) -> str:
    """Return the identity of judgements: equal for those that may be mixed, such as "openai/gpt-4.1-nano p_true v1"."""
    words = [judge_name, mode, f"v{PROMPT_VERSION}"]
    parts = {"criteria": parse_criteria(verifier.criteria), "reference": verifier.reference}
    words += [f"{name}={hashlib.sha256(repr(part).encode()).hexdigest()[:8]}" for name, part in parts.items() if part]
    return " ".join(words)


def learnt_terms(scorer: object, scored: ScoredCompletions) -> tuple[VerifierTerm, ...]:
    """Return what the head that scored has learnt about verifiers; () without a head."""
    return scorer.verifier_terms if isinstance(scorer, AnyHead) and scored.scores.name == scorer.name else ()


async def verify(
    verifier: Verifier,
    judge: Judge,
    scored: ScoredCompletions,
    choice: Choice,
    question: JudgedQuestion,
    *,
    terms: Sequence[VerifierTerm] = (),
) -> VerifiedChoice:
    """Judge the distinct answers if the choice is in doubt, and choose again.

    Args:
        verifier: its settings.
        judge: the model that judges.
        scored: the completions.
        choice: the choice without a verifier.
        question: the question, and the limits on spending.
        terms: what the head that scored has learnt about verifiers; empty without a head.

    Raises:
        VerificationError: all judgements failed and ``verifier.require`` is set.
        ConfigurationError: the budget is in dollars and the judge's price is unknown; nothing was sent.
    """
    answers = find_distinct_answers(scored, choice)
    texts = texts_of(scored, answers)
    mode, term = _choose_mode(verifier, judge.name, texts, terms)
    prior = posterior(answers.weights, rest=answers.rest)
    leader = answers.representatives.index(choice.winner)
    unjudged = VerifiedChoice(
        choice=choice,
        verification=Verification(
            judge=judge.name,
            mode=mode,
            cost=0.0,
            confidence=float(prior[leader]),
            verifier=identity(verifier, judge.name, mode),
            when=verifier.when,
        ),
        verifier_scores=(None,) * len(scored.completions),
        answer_probabilities=None,
        notes=(),
    )
    if term is not None and not term.helps:
        note = f"The verifier {term.verifier} was set aside: it did not help on {term.questions} held-out questions."
        return replace(unjudged, notes=(note,))
    # Doubt is about which of these answers is the best one, so that the answers that nobody gave do not count.
    if not should_judge(verifier, answers, leading=float(posterior(answers.weights).max())):
        return unjudged

    task = JudgingTask(
        question=question.messages,
        answers=texts,
        log_weights=np.log(answers.weights),
        criteria=verifier.criteria,
        reference=question.reference or verifier.reference,
    )
    session = JudgeSession(
        judge,
        budget=question.budget,
        deadline=question.deadline,
        deadline_at=question.deadline_at,
        cache=question.cache,
    )
    if term is not None and verifier.when == "doubt":
        judgements, tried = await _judge_in_rounds(session, task, mode, answers.weights, term)
    else:
        tried = near_answers(answers.weights)
        judgements = await _judge_some(session, task, mode, np.flatnonzero(tried).tolist())
    verification = replace(
        unjudged.verification,
        answers=sum(tried),
        judged=sum(value is not None for value in judgements),
        calls=session.usage.calls,
        usage=session.usage,
        cost=session.cost,
        failures=tuple(session.failures),
    )
    store_notes = await question.cache.collect_notes(n_reused=session.n_reused) if question.cache else ()
    notes = (*store_notes, *_session_notes(session, verification))
    if not verification.judged:
        if verifier.require:
            raise VerificationError(
                f"{judge.name} brought no judgement. {notes[-1]}",
                causes=[failure.error for failure in session.failures],
                hint="Check the judge, or do not require it: the votes then choose alone.",
            )
        return replace(unjudged, verification=verification, notes=notes)
    return choose_again(
        scored, choice, answers, judgements, verification, notes, term=term, holds_votes=MODES[mode].holds_votes
    )


def near_answers(weights: F64) -> list[bool]:
    """Return which answers are judged without rounds, (A,): all but those too far behind to win."""
    near: list[bool] = (weights * MAX_ODDS_RATIO >= weights.max()).tolist()
    return near


async def _judge_in_rounds(
    session: JudgeSession, task: JudgingTask, mode: str, weights: F64, term: VerifierTerm
) -> tuple[list[float | None], list[bool]]:
    """Judge the leading answer, then twice as many per round, until the leading one is sure.

    Returns the judgements, (A,), None for those without one, and True for the answers that were to be judged, (A,).
    """
    judgements: list[float | None] = [None] * len(task.answers)
    tried = [False] * len(task.answers)
    size = 1
    while positions := next_to_judge(weights, judgements, tried, term=term, size=size):
        for i, value in enumerate(await _judge_some(session, task, mode, positions)):
            judgements[i] = judgements[i] if value is None else value
        for i in positions:
            tried[i] = True
        size *= 2
    return judgements, tried


async def _judge_some(
    session: JudgeSession, task: JudgingTask, mode: str, positions: Sequence[int]
) -> list[float | None]:
    """Return the judgements of the answers at these positions, (A,); None for the others."""
    part = replace(task, answers=[task.answers[i] for i in positions], log_weights=task.log_weights[list(positions)])
    judgements: list[float | None] = [None] * len(task.answers)
    for i, value in zip(positions, await MODES[mode].judge(session, part), strict=True):
        judgements[i] = value
    return judgements


def _choose_mode(
    verifier: Verifier, judge_name: str, texts: Sequence[str], terms: Sequence[VerifierTerm]
) -> tuple[str, VerifierTerm | None]:
    """Return the mode, with "auto" resolved, and what the head has learnt about the verifier; None if nothing."""
    by_identity = {term.verifier: term for term in terms}
    names = [verifier.mode] if verifier.mode != "auto" else list(MODES)
    for name in names:
        if term := by_identity.get(identity(verifier, judge_name, name)):
            return name, term
    if verifier.mode != "auto":
        return verifier.mode, None
    is_long = statistics.median(map(len, texts)) > LONG_ANSWER
    return ("pairwise" if is_long and len(texts) > 1 else "p_true"), None


def should_judge(verifier: Verifier, answers: DistinctAnswers, *, leading: float) -> bool:
    """Return True if answers are to be judged; ``leading`` is the share of the leading one."""
    if verifier.when == "always":
        return verifier.mode != "pairwise" or len(answers) > 1
    if len(answers) < 2:
        return False
    return not answers.have_repeats or leading < DOUBT_BELOW


def choose_again(
    scored: ScoredCompletions,
    choice: Choice,
    answers: DistinctAnswers,
    judgements: Sequence[float | None],
    verification: Verification,
    notes: tuple[str, ...],
    *,
    term: VerifierTerm | None,
    holds_votes: bool,
) -> VerifiedChoice:
    """Return the choice by the posterior of votes and judgements."""
    if holds_votes:
        shares = np.array([0.0 if value is None else value for value in judgements])
    else:
        exponent = 1.0 if term is None else term.exponent
        log_odds = judgement_log_odds(judgements, missing=None if term is None else term.mean_log_odds)
        shares = posterior(answers.weights, log_odds, exponent=exponent, rest=answers.rest)
    if term is None:
        notes = (*notes, "The verifier was not validated: no head has learnt from labels how much it helps.")
    # Equal posteriors keep the order of the votes.
    current = answers.representatives.index(choice.winner)
    winner = current if shares[current] == shares.max() else int(shares.argmax())
    scores: list[float | None] = [None] * len(scored.completions)
    probabilities: list[float | None] = [None] * len(scored.completions)
    for positions, judgement, share in zip(answers.members, judgements, shares.tolist(), strict=True):
        for position in positions:
            scores[position], probabilities[position] = judgement, share
    return VerifiedChoice(
        choice=replace(choice, winner=answers.representatives[winner]),
        verification=replace(verification, confidence=float(shares[winner])),
        verifier_scores=tuple(scores),
        answer_probabilities=tuple(probabilities) if term is not None and answers.rest else None,
        notes=notes,
    )


def _session_notes(session: JudgeSession, verification: Verification) -> tuple[str, ...]:
    """Return one sentence per thing that did not go as requested."""
    notes = []
    name = session.judge.name
    if session.has_text_verdicts:
        notes.append(f"{name} lists no logprobs for its verdicts, so the words of its verdicts count.")
    if count := len(session.failures):
        verdicts = "1 verdict" if count == 1 else f"{count} verdicts"
        notes.append(f"{verdicts} of {name} failed; the first cause: {session.failures[0].error.message}")
    if session.budget_reason:
        notes.append(f"The budget kept verdicts of {name} back. {session.budget_reason}")
    notes += session.budget_notes
    if not verification.judged:
        notes.append(f"{name} brought no judgement, so the choice is the one without it.")
    elif session.failures or session.budget_reason:
        judged = verification.judged
        judged_ones = "the judged one" if judged == 1 else f"the mean of the {judged} judged ones"
        notes.append(f"Answers without a judgement count as {judged_ones}.")
    return tuple(notes)


def apply_verification(selection: Selection, verified: VerifiedChoice) -> Selection:
    """Return the selection of ``verified.choice`` with the judgements, their cost and notes."""
    verification = verified.verification
    probabilities = verified.answer_probabilities or [c.answer_probability for c in selection.candidates]
    candidates = tuple(
        replace(candidate, verifier_score=score, answer_probability=probability)
        for candidate, score, probability in zip(
            selection.candidates, verified.verifier_scores, probabilities, strict=True
        )
    )
    return replace(
        selection,
        candidates=candidates,
        usage=selection.usage + verification.usage,
        cost=add_costs(selection.cost, verification.cost),
        notes=tuple(dict.fromkeys((*selection.notes, *verified.notes))),
        verification=verification,
    )
