"""Calibration of a head's acceptance threshold at a stated risk, on replayed choices of ``best_of``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType
from typing import NamedTuple, get_args

import numpy as np

from swift_client import answers
from swift_client.dataset.feedback import FeedbackGroups
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.stored import FilePath
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback, check_questions, check_split, get_split, open_samples
from swift_client.evaluation.pools import completion_order
from swift_client.evaluation.risk.feedback_threshold import FeedbackCoverage, certify_from_feedback
from swift_client.evaluation.risk.threshold import ThresholdTest, acceptance_counts, certify, min_accepted
from swift_client.features.segments import F64, I64
from swift_client.models import Acceptance, AnyHead, HeadArtifact, save
from swift_client.models.artifact import describe_verdict
from swift_client.models.resolve_head import load_any_head
from swift_client.models.verifier_term import VerifierTerm
from swift_client.reranker.acceptance import answer_log_odds, kind_problem
from swift_client.selection.select import SelectionConfig, build_selection, score_completions, select_best
from swift_client.selection.select import select as choose
from swift_client.stopping import StoppingRule, stopping_rule
from swift_client.stopping.monitor import build_votes
from swift_client.types import Bool, Completion, Method, Selection
from swift_client.verify.stored_verification import verify_stored
from swift_client.verify.verification import apply_verification, learnt_terms
from swift_client.verify.verifier import When

HINT = "Train another one, on more questions."
# Parts that no weight of a head was fitted on; validation chose its epoch and its calibration.
UNSEEN_PARTS = ("validation", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class Acceptable:
    """Result of a calibration.

    Attributes:
        head: The head, with the acceptance if one could be certified.
        acceptance: None if no threshold could be certified.
        tested: The last threshold that passed; if none did, the first that was tested.
        right: Share of all questions whose answer was right, 0..1.
        oracle: Share of the questions that could be accepted at this risk if the truth were known, 0..1.
        feedback: Whether the labels are feedback; ``tested`` then counts a part of it that stands for all choices.
    """

    head: AnyHead
    acceptance: Acceptance | None
    tested: ThresholdTest
    risk: float
    confidence: float
    questions: int
    right: float
    oracle: float
    notes: tuple[str, ...] = ()
    feedback: bool = False

    @property
    def reason(self) -> str:
        """Reason why nothing could be certified, in one sentence with its numbers; otherwise empty."""
        if self.acceptance is not None:
            return ""
        target = f"a risk of {100 * self.risk:g} % at confidence {100 * self.confidence:g} %"
        min_right = min_accepted(0, risk=self.risk, confidence=self.confidence)
        if self.questions < min_right:
            return (
                f"There are {self.questions} questions, and {target} takes {min_right} right answers at the very least."
            )
        if not self.tested.accepted and self.feedback:
            return (
                f"Too few choices remain: feedback on confident ones is too rare, or they are of another kind than the "
                f"head's. Thinned to a random sample of the {self.questions} choices, those that can be accepted are "
                f"too few at each threshold: {target} takes {min_right} right answers at the very least."
            )
        if not self.tested.accepted:
            counts = acceptance_counts(self.questions, risk=self.risk, confidence=self.confidence)
            return (
                f"Fewer than {counts[0]} of the {self.questions} questions can be accepted: the others are of another "
                "kind than the head's, or have no probability."
            )
        errors, accepted = self.tested.errors, self.tested.accepted
        wrong = "wrong or of a group without feedback" if self.feedback else "wrong"
        return (
            f"Of the {accepted} answers that the head is most confident of, among {self.questions}, {errors} are "
            f"{wrong} ({100 * errors / accepted:.1f} %): too many for {target} (p = {self.tested.p_value:.2g})."
        )


def calibrate(
    head: FilePath | AnyHead,
    samples: FilePath | Sequence[FilePath] | Iterable[Group],
    *,
    risk: float,
    confidence: float = 0.9,
    n: int = 16,
    stopping: str | StoppingRule | None = None,
    select: Method = "auto",
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    split: str = "unseen",
    verifier: str | None = None,
    when: When = "doubt",
    feedback: bool = False,
    overlook_rate: float = 0.0,
    out: FilePath | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> Acceptable:
    """Learn the confidence above which a choice among ``n`` completions may be accepted without a check.

    With probability ``confidence`` over the calibration questions, at most a share ``risk`` of the accepted answers to
    questions of the same kind is wrong.

    Args:
        head: a head with calibrated probabilities, or its file.
        samples: samples files of the head's model, or graded questions.
        risk: tolerated share of wrong answers among the accepted ones, 0..1.
        confidence: probability that the risk is kept, 0..1.
        n: completions per question.
        stopping: a stopping rule, asked after each completion.
        select: how the answer is chosen.
        answer: how answers are compared; default: as in the head's training.
        grade: how completions of files without a stored label are compared with the question's answer; default: as
            ``answer``, if that is a name.
        split: "unseen", the questions that the head's own split calls validation and test; one of its parts; or "all",
            for files of questions that it never saw.
        verifier: identity of a verifier that the head weighs, whose judgements are stored with the samples; "auto": the
            only one; None: the threshold holds for choices without a verifier.
        when: when it judges, as of ``Verifier``; the threshold holds for this alone.
        feedback: whether the labels are the feedback on the choices of users' calls in ``samples``. The risk then holds
            for all such choices, if feedback does not depend on whether an answer is right, among those that look alike
            to people; see ``risk.feedback_threshold``.
        overlook_rate: with ``feedback``, share of the wrong answers with feedback that people call right, 0..1.
        out: where the head is written if a threshold could be certified. Default: its own file, if it has one.
        progress: called with the number of questions that were read.

    Raises:
        ConfigurationError: a wrong argument, a head without probabilities or that does not weigh the verifier, or no
            question to calibrate on.
        ArtifactMismatchError: the head is for another model.
    """
    if when not in get_args(When):
        raise ConfigurationError(f"when= is {when!r}.", hint='Use "doubt" or "always".')
    if not 0 <= overlook_rate < 1 or (overlook_rate and not feedback):
        raise ConfigurationError(
            f"overlook_rate={overlook_rate!r} is for feedback=True, from 0 to below 1.", hint="20 % is 0.2."
        )
    for name, value in (("risk", risk), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigurationError(f"{name}={value!r} must lie between 0 and 1.", hint="5 % is 0.05.")
    if select == "consensus":
        raise ConfigurationError(
            'select="consensus" cannot be calibrated: it chooses texts, not answers.', hint='Use select="auto".'
        )
    if n < 1:
        raise ConfigurationError(f"n={n} must be 1 or more.")
    out = head if out is None and isinstance(head, (str, os.PathLike)) else out
    if out is not None and (not os.access(Path(out).absolute().parent, os.W_OK) or Path(out).is_dir()):
        raise ConfigurationError(f"{out} cannot be written.", hint="Give a file in a folder that you may write to.")
    head = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    if head.calibration is None or not head.beats_majority:
        reason = "has no calibrated probabilities" if head.calibration is None else describe_verdict(head.training)
        raise ConfigurationError(f"{head.name} {reason}: it is not used, so there is nothing to calibrate.", hint=HINT)
    term = None if verifier is None else find_term(head, verifier)
    groups, spec, _, _ = open_samples(samples, head, answer=answer, grade=grade, feedback=feedback)
    rule = None if stopping is None else stopping_rule(stopping)

    # Replay the choices of best_of, then find the lowest threshold that keeps the risk.
    config = SelectionConfig(scorer=head, answer=spec, select=select)
    outcomes = replay_questions(
        groups, config, n=n, stopping=rule, split=split, term=term, when=when, progress=progress
    )
    if outcomes.coverage is None:
        tested = certify(outcomes.log_odds, outcomes.correct, risk=risk, confidence=confidence)
        right = float(outcomes.correct.mean())
    else:
        # At least 1 - overlook_rate of the wrong answers are called wrong, so the risk that shows is lower by that.
        shown_risk = risk * (1 - overlook_rate)
        tested = certify_from_feedback(
            outcomes.log_odds, outcomes.correct, outcomes.coverage, risk=shown_risk, confidence=confidence
        )
        right = outcomes.coverage.share_right(outcomes.correct)
    acceptance = None
    if tested.threshold is not None:
        acceptance = Acceptance(
            threshold=tested.threshold,
            risk=float(risk),
            confidence=float(confidence),
            n=n,
            stopping=None if rule is None else str(rule),
            select=select,
            answer=spec if spec is None or isinstance(spec, str) else "custom",
            questions=tested.questions,
            accepted=tested.accepted,
            errors=tested.errors,
            verifier=None if term is None else term.verifier,
            when=None if term is None else when,
            source="feedback" if feedback else "grades",
        )
        # An acceptance with the same plan is replaced.
        other_plans = tuple(stored for stored in head.acceptances if not stored.same_plan(acceptance))
        head = replace(head, acceptances=(*other_plans, acceptance))
        if out is not None:
            save(head, out)
    return Acceptable(
        head=head,
        acceptance=acceptance,
        tested=tested,
        risk=risk,
        confidence=confidence,
        questions=len(outcomes),
        right=right,
        oracle=oracle_share(right, risk),
        notes=(*outcomes.notes, *(groups.notes() if isinstance(groups, FeedbackGroups) else ())),
        feedback=feedback,
    )


def find_term(head: AnyHead, verifier: str) -> VerifierTerm:
    """Return the head's weight of a verifier's judgements; "auto" for the only one that helps.

    Raises ConfigurationError if there is none.
    """
    terms = [term for term in head.verifier_terms if term.helps and verifier in ("auto", term.verifier)]
    if len(terms) == 1:
        return terms[0]
    known = ", ".join(repr(term.verifier) for term in head.verifier_terms if term.helps)
    problem = f"{head.name} weighs several verifiers" if terms else f"{head.name} weighs no verifier {verifier!r}"
    hint = f"It weighs {known}." if known else "Train a head on samples from `collect --verifier`."
    raise ConfigurationError(f"{problem}.", hint=hint)


def oracle_share(right: float, risk: float) -> float:
    """Return the acceptable share if the truth were known: right answers, and wrong ones up to the risk."""
    return min(1.0, right / (1 - risk))


@dataclass(frozen=True, eq=False, kw_only=True)
class ReplayOutcomes:
    """Choices for Q questions."""

    # (Q,) natural log odds that the chosen answer is right, NaN without a probability.
    log_odds: F64
    correct: Bool  # (Q,) correctness of the choice; one without a label counts as wrong
    n_drawn: I64  # (Q,) completions drawn
    tokens: I64  # (Q,) tokens of these
    notes: tuple[str, ...] = ()  # omissions
    coverage: FeedbackCoverage | None = None  # None: the labels of all are grades

    def __len__(self) -> int:
        return len(self.correct)


class ReplayedQuestion(NamedTuple):
    """The choice for one question and its cost."""

    selection: Selection
    n_drawn: int
    tokens: int


def replay_questions(
    groups: Iterable[Group],
    config: SelectionConfig,
    *,
    n: int,
    stopping: StoppingRule | None = None,
    split: str = "unseen",
    term: VerifierTerm | None = None,
    when: When = "doubt",
    progress: ProgressCallback = lambda stage, done: None,
) -> ReplayOutcomes:
    """Choose among the first ``n`` completions of each labelled question, or as many as ``stopping`` draws.

    A rule is asked after each completion. A question that is not of the head's kind has no log odds, nor has one with
    an answer that the verifier of ``term`` would judge and whose judgement is not stored. The questions are
    those of one part of the head's own split, "unseen" (validation and test), or "all". Of ``FeedbackGroups`` they are
    those that a user's call chose an answer to, also without a label. Raises ConfigurationError for
    an unknown part, or without any question.
    """
    check_split(split, "unseen")
    parts, notes = get_split(config.scorer if isinstance(config.scorer, HeadArtifact) else None)
    wanted_parts = UNSEEN_PARTS if split == "unseen" else (split,)
    rows: list[tuple[float, bool, int, int]] = []
    cover: list[tuple[bool, float, str]] = []
    n_short = n_unlabelled = n_foreign = n_unjudged = n_uncalled = 0
    has_feedback = isinstance(groups, FeedbackGroups)
    for done, group in enumerate(groups, 1):
        progress("questions", done)
        if split != "all" and parts.part(group.question_id) not in wanted_parts:
            continue
        is_known = not np.isnan(group.labels).all()
        if has_feedback and group.propensity is None:
            n_uncalled += 1
        elif not is_known and not has_feedback:
            n_unlabelled += 1
        elif len(group.completions) < n:
            n_short += 1
        else:
            order = completion_order(group)
            replayed = replay_question([group.completions[i] for i in order], config, n=n, stopping=stopping)
            if term is not None:
                selection, is_judged = _verify_replayed(replayed, group, order, config, term=term, when=when)
                replayed = replayed._replace(selection=selection)
            log_odds = answer_log_odds(replayed.selection)
            if term is not None and not is_judged:
                log_odds, n_unjudged = None, n_unjudged + 1
            if isinstance(config.scorer, AnyHead) and kind_problem(config.scorer, group.messages):
                log_odds, n_foreign = None, n_foreign + 1
            correct = bool(group.labels[order[replayed.selection.winner]] == 1)
            rows.append((np.nan if log_odds is None else log_odds, correct, replayed.n_drawn, replayed.tokens))
            cover.append((is_known, group.propensity or 0.0, group.question_id))
    notes += check_questions(rows, split, n, n_short=n_short, n_unlabelled=n_unlabelled)
    if n_uncalled:
        notes.append(f"{n_uncalled} questions are left out: no user's call chose an answer to them.")
    if n_foreign:
        notes.append(
            f"{n_foreign} of {len(rows)} questions are unlike those that the head was trained on, or their text is "
            "unknown: they are never accepted."
        )
    if n_unjudged:
        notes.append(f"On {n_unjudged} of {len(rows)} questions a judgement is missing: they are never accepted.")
    all_log_odds, all_correct, n_drawn, tokens = zip(*rows, strict=True)
    all_known, propensities, question_ids = zip(*cover, strict=True)
    coverage = FeedbackCoverage(
        is_known=np.array(all_known, np.bool_),
        propensities=np.array(propensities, np.float64),
        question_ids=question_ids,
    )
    return ReplayOutcomes(
        log_odds=np.array(all_log_odds),
        correct=np.array(all_correct, np.bool_),
        n_drawn=np.array(n_drawn, np.int64),
        tokens=np.array(tokens, np.int64),
        notes=tuple(notes),
        coverage=coverage if has_feedback else None,
    )


def replay_question(
    completions: Sequence[Completion], config: SelectionConfig, *, n: int, stopping: StoppingRule | None = None
) -> ReplayedQuestion:
    """Return the choice of ``best_of`` if the provider sends ``completions``, at least n, one by one."""
    numbered = [replace(completion, index=index) for index, completion in enumerate(completions[:n])]
    for n_drawn in range(1 if stopping else n, n + 1):
        selection = select_best(numbered[:n_drawn], config)
        if stopping is None or stopping(build_votes(selection, n=n, scorer=config.scorer)).stop:
            break
    return ReplayedQuestion(selection, n_drawn, sum(len(completion.tokens) for completion in numbered[:n_drawn]))


def _verify_replayed(
    replayed: ReplayedQuestion,
    group: Group,
    order: Sequence[int],
    config: SelectionConfig,
    *,
    term: VerifierTerm,
    when: When,
) -> tuple[Selection, bool]:
    """Return the choice with the stored judgements, and whether no judgement is missing."""
    scored = score_completions([candidate.completion for candidate in replayed.selection.candidates], config)
    unknown = np.full(len(group.labels), np.nan)
    judgements = group.verifier_scores.get(term.verifier, unknown)[list(order)[: replayed.n_drawn]]
    if not learnt_terms(config.scorer, scored):  # the head is not used here, so there is no probability either
        return replayed.selection, True
    verified = verify_stored(scored, choose(scored, config.select), judgements, term=term, when=when)
    selection = apply_verification(build_selection(scored, verified.choice), verified)
    return selection, verified.verification.judged == verified.verification.answers
