"""The judgements of collected samples: each distinct answer of a complete question is judged once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from swift_client.collect.result import CollectedJudgements, CollectState
from swift_client.errors import AuthenticationError, ConfigurationError, MissingExtraError
from swift_client.pricing import add_costs
from swift_client.sampling import BudgetTracker, Cost
from swift_client.sampling.model_client import ModelClient
from swift_client.selection.select import SelectionConfig, score_completions, select
from swift_client.store import BatchStore, Sample, StoredQuestion, StoredVerdict
from swift_client.types import Usage
from swift_client.verify.connect_judge import connect_judge
from swift_client.verify.distinct_answers import find_distinct_answers, texts_of
from swift_client.verify.judge import Judge, JudgeSession
from swift_client.verify.modes import MODES, JudgingTask
from swift_client.verify.verification import identity
from swift_client.verify.verifier import Verifier, resolve_verifier

# Answers in a row without a judgement after which the judge is not asked again in this run.
MAX_CONSECUTIVE_FAILURES = 8
# Errors that every other verdict would meet as well.
_FATAL_ERRORS = (AuthenticationError, ConfigurationError)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConnectedVerifier:
    """A verifier, with a mode that judges one answer at a time, and its judge."""

    settings: Verifier
    mode: str
    judge: Judge

    @property
    def identity(self) -> str:
        """The name of its judgements in the samples file."""
        return identity(self.settings, self.judge.name, self.mode)


@dataclass(frozen=True, kw_only=True)
class UnjudgedAnswer:
    """A distinct answer of which some samples lack a judgement."""

    text: str
    indices: tuple[int, ...]  # of its samples that lack one
    score: float | None  # judgement that its other samples have; None if they have none


@dataclass(kw_only=True)
class SampleJudge:
    """Judges the answers of one question after another; the workers of a run share it.

    Attributes:
        verifier: The verifier.
        state: The samples file and the totals of the run.
        budget: The limits on cost and requests.
        n_judged: Distinct answers judged so far.
        usage: Of the verdicts of this run.
        cost: Of the verdicts of this run; None if the judge's price is unknown.
    """

    verifier: ConnectedVerifier
    state: CollectState[BatchStore]
    budget: BudgetTracker
    n_judged: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0

    def __post_init__(self) -> None:
        self.judge, self.identity = self.verifier.judge, self.verifier.identity
        self._first_reply = asyncio.Lock()
        self._complete_ids = set[str]()
        self._consecutive_failures, self._has_failed = 0, False
        self._is_refused = False  # the judge refuses every call

    @property
    def is_off(self) -> bool:
        """True if the judge is not asked again in this run."""
        return self._is_refused or self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES

    async def require_price(self) -> None:
        """Raise ConfigurationError if the cost is limited and the judge's price is unknown; nothing was sent."""
        if self.budget.budget.usd is None:
            return
        try:
            price = await asyncio.to_thread(self.judge.model.cost.price)
        except MissingExtraError:
            price = None
        if price is None:
            raise ConfigurationError(
                f"max_cost needs the price of the judge {self.judge.name}, which is unknown.",
                hint="Give a reranker with prices= as the verifier's judge, or limit max_requests instead.",
            )

    async def judge_question(self, question: StoredQuestion) -> str | None:
        """Judge the answers of a question whose samples are complete, and store the judgements.

        Returns:
            Why the budget kept verdicts back; None if it did not.
        """
        samples = self.state.store.samples(question.id)
        answers = await asyncio.to_thread(find_unjudged_answers, samples, self.identity)
        # A judge that never replied is asked for one answer at a time, by all workers together: its key may be wrong.
        n_done, reason = 0, None
        while n_done < len(answers) and not self.judge.has_replied:
            async with self._first_reply:
                reason = await self._judge_answer(question, answers[n_done]) or reason
            n_done += 1
        reasons = await asyncio.gather(*(self._judge_answer(question, answer) for answer in answers[n_done:]))
        if not await asyncio.to_thread(find_unjudged_answers, self.state.store.samples(question.id), self.identity):
            self._complete_ids.add(question.id)
        return next(filter(None, (reason, *reasons)), None)

    async def _judge_answer(self, question: StoredQuestion, answer: UnjudgedAnswer) -> str | None:
        """Judge an answer and store its judgement; return why the budget kept it back, None if it did not."""
        score = answer.score
        if score is None:
            if self.is_off:
                return None
            session, score = await self._ask(question, answer.text)
            if session.budget_reason:
                return session.budget_reason
            if session.has_text_verdicts:
                self._add_note(
                    f"{self.judge.name} lists no logprobs for its verdicts, so the words of its verdicts count."
                )
            if score is None:
                self._count_failure(session)
                return None
            self._consecutive_failures = 0
            self.n_judged += 1
        scores = dict.fromkeys(answer.indices, score)
        self.state.store.add_verifier_scores(question.id, scores, verifier=self.identity)
        return None

    async def _ask(self, question: StoredQuestion, text: str) -> tuple[JudgeSession, float | None]:
        """Return the judgement of one answer, None unless all of its verdicts arrived; those are kept in the file."""
        task = JudgingTask(
            question=question.messages,
            answers=[text],
            log_weights=np.zeros(1),
            criteria=self.verifier.settings.criteria,
            reference=self.verifier.settings.reference,
        )
        cache = OpenFileVerdictCache(self.state.store, question.id)
        while True:
            reasons = self.judge.reasons
            session = JudgeSession(self.judge, budget=self.budget, deadline=None, deadline_at=None, cache=cache)
            (score,) = await MODES[self.verifier.mode].judge(session, task)
            self._count_spending(session)
            if not session.failures and not session.budget_reason:
                return session, score
            if self.judge.reasons == reasons:
                return session, None
            # Its first reply has shown that it reasons, so it is asked once more, with room for that.

    def _count_spending(self, session: JudgeSession) -> None:
        self.usage += session.usage
        self.state.usage += session.usage
        self.cost = add_costs(self.cost, session.cost)
        if self.budget.budget.usd is None:  # else each request was paid from it
            self.budget.commit(Cost(), Cost(usd=session.cost or 0.0))

    def _count_failure(self, session: JudgeSession) -> None:
        self._consecutive_failures += 1
        error = session.failures[0].error
        self._is_refused |= isinstance(error, _FATAL_ERRORS)
        if not self._has_failed:
            self._add_note(f"{self.judge.name} brought no judgement of some answers; the first cause: {error.message}")
        self._has_failed = True

    def _add_note(self, note: str) -> None:
        self.state.notes.setdefault(note)

    def result(self) -> CollectedJudgements:
        """Return what this run has judged."""
        question_ids = {question.id for question in self.state.setup.questions}
        return CollectedJudgements(
            verifier=self.identity,
            judged=self.n_judged,
            unjudged_questions=len(question_ids - self._complete_ids),
            calls=self.usage.calls,
            usage=self.usage,
            cost=self.cost,
        )


class OpenFileVerdictCache:
    """The verdicts on a question in a samples file that this run has open for writing."""

    def __init__(self, store: BatchStore, question_id: str) -> None:
        self._store, self._question_id = store, question_id

    async def lookup(self, keys: Sequence[str]) -> Mapping[str, StoredVerdict]:
        """Return the stored ones of these verdicts by key."""
        return self._store.verdicts(keys)

    def save(self, key: str, verdict: StoredVerdict) -> None:
        """Store a new verdict. Raises ConfigurationError if the file cannot be written, as for a reply."""
        self._store.add_verdict(key, verdict, question_id=self._question_id)

    async def collect_notes(self, *, n_reused: int) -> tuple[str, ...]:
        """Return nothing: verdicts are stored at once, and reused ones are those of an interrupted run."""
        return ()


def connect_verifier(verifier: object, own: ModelClient, *, timeout: float) -> ConnectedVerifier | None:
    """Return the verifier that ``verifier=`` means, connected; None for None. Opens nothing and reads no key.

    Args:
        verifier: a Verifier, or the name of its judge.
        own: the sampled model, which judges as "self".
        timeout: seconds per call of a judge with its own connections.

    Raises:
        ConfigurationError: it is not a verifier, it compares pairs, or there is no such judge.
    """
    settings = resolve_verifier(verifier)
    if settings is None:
        return None
    if settings.mode == "pairwise":
        raise ConfigurationError(
            'The mode "pairwise" compares the answers of one question, so its judgements cannot be learnt from.',
            hint='Use mode="p_true" or mode="score".',
        )
    mode = "p_true" if settings.mode == "auto" else settings.mode
    return ConnectedVerifier(settings=settings, mode=mode, judge=connect_judge(settings.judge, own, timeout=timeout))


def find_unjudged_answers(samples: Sequence[Sample], verifier: str) -> list[UnjudgedAnswer]:
    """Return the distinct answers that have samples without a judgement of ``verifier`` (its identity).

    Answers are told apart as for a choice with ``answer="auto"``; completions that cannot be chosen, such as those that
    were cut off, have none.
    """
    if all(verifier in sample.verifier_scores for sample in samples):
        return []
    scored = score_completions([sample.completion for sample in samples], SelectionConfig())
    answers = find_distinct_answers(scored, select(scored, "auto"))
    unjudged = []
    for positions, text in zip(answers.members, texts_of(scored, answers), strict=True):
        scores = [samples[position].verifier_scores.get(verifier) for position in positions]
        indices = [samples[position].index for position, score in zip(positions, scores, strict=True) if score is None]
        if indices:
            unjudged.append(
                UnjudgedAnswer(
                    text=text,
                    indices=tuple(indices),
                    score=next((score for score in scores if score is not None), None),
                )
            )
    return unjudged
