"""Accepting answers at a stated risk: the threshold for a head, and whether what it promises holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback
from swift_client.evaluation.risk.replay import ReplayOutcomes, replay_questions
from swift_client.evaluation.risk.threshold import ThresholdTest, acceptance_counts, certify, min_accepted
from swift_client.features.segments import F64
from swift_client.models import Acceptance, AnyHead
from swift_client.selection.select import Method, SelectionConfig
from swift_client.stopping import StoppingRule, stopping_rule


@dataclass(frozen=True, eq=False, kw_only=True)
class Acceptable:
    """What a calibration found."""

    head: AnyHead
    """The head, with the acceptance where one could be certified."""
    acceptance: Acceptance | None
    """None where no threshold could be certified."""
    tested: ThresholdTest
    """The last threshold that passed; where none did, the first that was tested."""
    risk: float
    confidence: float
    questions: int
    right: float
    """Share of all questions whose answer was right, 0..1."""
    oracle: float
    """Share of the questions that somebody who knows the truth could accept at this risk, 0..1."""
    notes: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why nothing could be certified, in one sentence with its numbers; empty where it could."""
        if self.acceptance is not None:
            return ""
        at = f"a risk of {100 * self.risk:g} % at confidence {100 * self.confidence:g} %"
        least = min_accepted(0, risk=self.risk, confidence=self.confidence)
        if self.questions < least:
            return f"There are {self.questions} questions, and {at} takes {least} right answers at the very least."
        if not self.tested.accepted:
            sizes = acceptance_counts(self.questions, risk=self.risk, confidence=self.confidence)
            return f"The head has a probability for fewer than {sizes[0]} of the {self.questions} questions."
        errors, accepted = self.tested.errors, self.tested.accepted
        return (
            f"Of the {accepted} answers that the head is surest of, among {self.questions}, {errors} are wrong "
            f"({100 * errors / accepted:.1f} %): too many for {at} (p = {self.tested.p_value:.2g})."
        )


def calibrate(
    groups: Iterable[Group],
    head: AnyHead,
    *,
    risk: float,
    confidence: float = 0.9,
    n: int = 16,
    stopping: str | StoppingRule | None = None,
    select: Method = "auto",
    answer: answers.Spec = "auto",
    split: str = "unseen",
    progress: ProgressCallback = lambda stage, done: None,
) -> Acceptable:
    """Learn above which confidence a choice among ``n`` completions may be taken without a look.

    With probability ``confidence`` over the calibration questions at most a share ``risk`` of the answers that are
    accepted later is wrong, for questions of the same kind that are asked and judged the same way;
    ``training.certify`` says how, and what it takes for granted.

    Args:
        groups: graded questions that the head was not trained on.
        head: with calibrated probabilities.
        risk: share of the accepted answers that may be wrong, 0..1.
        confidence: 0..1.
        n: completions that are planned for each question; the first n that are stored count.
        stopping: the rule with which questions will be asked, as in ``best_of``; it is asked after each completion.
        select: how the answer is chosen, as in a reranker.
        answer: how answers are compared, as in a reranker.
        split: "unseen", the questions that the head's own split calls validation and test; one of its parts; or "all",
            for files of questions that it never saw.
        progress: told how many questions were read.

    Raises:
        ConfigurationError: a wrong argument, a head without probabilities, or no question to calibrate on.
    """
    for name, value in (("risk", risk), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigurationError(f"{name}={value!r} must lie between 0 and 1.", hint="5 % is 0.05.")
    if n < 1:
        raise ConfigurationError(f"n={n} must be 1 or more.")
    if head.calibration is None or not head.beats_majority:
        lack = "has no calibrated probabilities" if head.calibration is None else "was found no better than majority"
        raise ConfigurationError(f"{head.name} {lack}: it cannot say how sure an answer is.", hint="Train another one.")
    rule = None if stopping is None else stopping_rule(stopping)
    rules = SelectionConfig(scorer=head, answer=answer, select=select)
    found = replay_questions(groups, rules, n=n, stopping=rule, split=split, progress=progress)
    tested = certify(found.log_odds, found.correct, risk=risk, confidence=confidence)
    acceptance = None
    if tested.threshold is not None:
        acceptance = Acceptance(
            threshold=tested.threshold,
            risk=float(risk),
            confidence=float(confidence),
            n=n,
            stopping=None if rule is None else str(rule),
            select=select,
            answer=answer if answer is None or isinstance(answer, str) else "custom",
            questions=tested.questions,
            accepted=tested.accepted,
            errors=tested.errors,
        )
        others = tuple(each for each in head.acceptances if not each.same_plan(acceptance))
        head = replace(head, acceptances=(*others, acceptance))
    return Acceptable(
        head=head,
        acceptance=acceptance,
        tested=tested,
        risk=risk,
        confidence=confidence,
        questions=len(found),
        right=float(found.correct.mean()),
        oracle=oracle_share(found, risk),
        notes=found.notes,
    )


def oracle_share(outcomes: ReplayOutcomes, risk: float) -> float:
    """Return the share that could be accepted with the truth known: right answers, and wrong ones up to the risk."""
    return min(1.0, float(outcomes.correct.mean()) / (1 - risk))


@dataclass(frozen=True, eq=False, kw_only=True)
class GuaranteeCheck:
    """How often thresholds kept their promise, over random halves of the same questions; arrays (splits,)."""

    accepted_share: F64
    """Share of the test half that was accepted; 0 where nothing could be certified."""
    error_rate: F64
    """Share of wrong answers among these; NaN where none was accepted."""
    oracle_share: F64
    """What could be accepted with the truth known."""
    risk: float

    @property
    def violation_rate(self) -> float:
        """Share of the splits whose accepted error is above the risk."""
        return float(np.mean(np.nan_to_num(self.error_rate) > self.risk))

    @property
    def share_of_oracle(self) -> float:
        """Accepted share over what an oracle could accept, both as means over the splits."""
        return float(self.accepted_share.mean() / self.oracle_share.mean())


def check_guarantee(
    outcomes: ReplayOutcomes, *, risk: float = 0.05, confidence: float = 0.9, n_splits: int = 200, seed: int = 0
) -> GuaranteeCheck:
    """Calibrate on a random half of the questions and test on the other, ``splits`` times."""
    rng = np.random.default_rng(seed)
    accepted, error, oracle = np.zeros(n_splits), np.full(n_splits, np.nan), np.zeros(n_splits)
    for number in range(n_splits):
        here, there = np.array_split(rng.permutation(len(outcomes)), 2)
        limit = certify(outcomes.log_odds[here], outcomes.correct[here], risk=risk, confidence=confidence).threshold
        right = outcomes.correct[there]
        oracle[number] = min(1.0, right.mean() / (1 - risk))
        taken = np.zeros(len(there), np.bool_) if limit is None else outcomes.log_odds[there] >= limit
        if taken.any():
            accepted[number], error[number] = taken.mean(), (~right[taken]).mean()
    return GuaranteeCheck(accepted_share=accepted, error_rate=error, oracle_share=oracle, risk=risk)
