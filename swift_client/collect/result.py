"""Progress, state and result of one run, by direct calls or by batch."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from swift_client.collect.setup import CollectSetup, Prices
from swift_client.dataset.graders import grade_all
from swift_client.errors import SwiftClientError
from swift_client.store import ReferenceAnswer, SampleTotals
from swift_client.store.sample_store import GradeFunction
from swift_client.types import Completion, Usage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CollectProgress:
    """Progress of a run. Samples, usage and cost include earlier runs on the same file.

    Attributes:
        wanted: Samples in the file at the end.
        requests: HTTP requests of this run, retries included.
        failures: Completions that this run's calls lost.
        cost: Spent so far, in the currency of the prices; None without prices.
        expected_cost: Cost at the end, if the rest costs as much as the samples so far; None if unknown.
        elapsed: Seconds.
        judged: Distinct answers that this run's verifier has judged.
    """

    samples: int
    wanted: int
    requests: int
    failures: int
    usage: Usage
    cost: float | None
    expected_cost: float | None
    elapsed: float
    judged: int = 0


@dataclass(frozen=True, kw_only=True)
class CollectFailure:
    """Missing completions of one question. The next run requests them again."""

    question_id: str
    lost: int
    error: SwiftClientError


@dataclass(frozen=True, kw_only=True)
class CollectedJudgements:
    """The work of a run's verifier.

    Attributes:
        verifier: Its identity, by which ``Sample.verifier_scores`` has the judgements.
        judged: Distinct answers judged by this run.
        unjudged_questions: Questions of which a sample or a judgement is still missing. The next run asks for it.
        calls: HTTP requests of this run to the judge, retries included.
        usage: Tokens of these.
        cost: Of these; None if the judge's price is unknown.
    """

    verifier: str
    judged: int
    unjudged_questions: int
    calls: int
    usage: Usage
    cost: float | None


@dataclass(frozen=True, kw_only=True)
class CollectResult:
    """The samples added by a run, and the state of the file after it.

    Attributes:
        added: Samples added by this run.
        samples: Samples of these questions in the file now.
        requests: HTTP requests of this run, those to a judge included.
        usage: Of the whole file, with its verdicts.
        cost: Of the whole file, with its verdicts; None without prices.
        judgements: The work of the verifier; None without one.
        stopped: The limit that ended the run early: "max_cost", "max_requests" or "failures".
    """

    path: str
    questions: int
    added: int
    samples: int
    wanted: int
    requests: int
    usage: Usage
    cost: float | None
    stopped: str | None = None
    failures: tuple[CollectFailure, ...] = ()
    notes: tuple[str, ...] = ()
    elapsed: float = 0.0
    judgements: CollectedJudgements | None = None

    @property
    def complete(self) -> bool:
        """True if the file holds all requested samples, and all judgements if there is a verifier."""
        return self.samples >= self.wanted and not (self.judgements and self.judgements.unjudged_questions)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values."""
        failures = [
            {
                "question": failure.question_id,
                "lost": failure.lost,
                "error": type(failure.error).__name__,
                "message": str(failure.error),
            }
            for failure in self.failures
        ]
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        judgements = None if self.judgements is None else asdict(self.judgements)
        return {
            **facts,
            "complete": self.complete,
            "usage": asdict(self.usage),
            "failures": failures,
            "judgements": judgements,
        }


class SampleSink(Protocol):
    """The place that a run's samples go to; a samples file is one. The methods are as of ``BatchStore``."""

    @property
    def path(self) -> str | os.PathLike[str]:
        """The address, for people."""

    def indices(self) -> dict[str, set[int]]:
        """Return the sample indices of each question that has samples."""

    def totals(self) -> SampleTotals:
        """Return the totals of all samples."""

    def verdict_totals(self) -> tuple[Usage, float | None]:
        """Return usage and cost of all verdicts."""

    def add_samples(
        self,
        question_id: str,
        completions: Sequence[Completion],
        *,
        usage: Usage,
        numbers: Sequence[int],
        cost: float | None,
        seed: int | None,
        grade: GradeFunction,
    ) -> object:
        """Store the completions of one request under ``numbers``, labelled by ``grade`` if their texts are not."""


def grade_by_answer(answer: ReferenceAnswer | None, completions: Sequence[Completion]) -> list[float | None]:
    """Label completions by the answer of their question: 1 right, 0 wrong, None unknown."""
    if answer is None:
        return [None] * len(completions)
    return [None if math.isnan(label) else label for label in grade_all(completions, answer).labels.tolist()]


Sink = TypeVar("Sink", bound=SampleSink)


@dataclass(kw_only=True)
class CollectState(Generic[Sink]):
    """The samples file during one run, with the run's samples, usage, failures and notes."""

    setup: CollectSetup
    store: Sink
    direct_prices: Prices | None  # of direct calls; those of the setup may be a batch's
    on_progress: Callable[[Any], None] | None
    added_samples: int = 0
    failures: list[CollectFailure] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    start_time: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.notes |= dict.fromkeys(self.setup.notes)
        self.existing_indices = self.store.indices()
        """Indices in the file, by question."""
        self.prior_totals = self.store.totals()
        """Samples, usage and cost of the whole file before this run."""
        verdict_usage, verdict_cost = self.store.verdict_totals()
        self.usage = self.prior_totals.usage + verdict_usage
        """Of the whole file, with its verdicts."""
        cost = self.direct_prices.cost(self.prior_totals.usage) if self.direct_prices else 0.0
        self.prior_cost = cost if self.prior_totals.cost is None else self.prior_totals.cost
        """Cost of the whole file before this run: as stored, else at the prices of direct calls."""
        self.prior_cost += verdict_cost or 0.0
        self.count_samples({})

    def count_samples(self, pending_indices: Mapping[str, set[int]]) -> None:
        """Count the samples of these questions, and of those with pending indices, now and at the end."""
        existing, questions = self.existing_indices, self.setup.questions
        question_ids = {question.id for question in questions} | pending_indices.keys()
        self.initial_samples = sum(len(existing.get(question_id, ())) for question_id in question_ids)
        taken = {key: existing.get(key, set()) | pending_indices.get(key, set()) for key in question_ids}
        missing = (set(range(self.setup.n)) - taken[question.id] for question in questions)
        self.target_samples = sum(map(len, taken.values())) + sum(map(len, missing))

    @property
    def samples(self) -> int:
        """Samples of these questions in the file now."""
        return self.initial_samples + self.added_samples

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start_time

    def indices(self, question_id: str) -> set[int]:
        """Return the indices of a question's samples in the file."""
        return self.existing_indices.setdefault(question_id, set())

    def add(
        self,
        question_id: str,
        completions: Sequence[Completion],
        indices: Sequence[int],
        usage: Usage,
        *,
        prices: Prices | None,
        seed: int | None,
    ) -> float:
        """Store one reply's completions under these indices; return its cost, 0 without prices."""
        usage, cost = replace(usage, calls=1), prices.cost(usage) if prices else None
        self.store.add_samples(
            question_id,
            completions,
            numbers=indices,
            usage=usage,
            cost=cost,
            seed=seed,
            grade=partial(self._grade, question_id),
        )
        self.indices(question_id).update(indices)
        self.added_samples += len(indices)
        self.usage += usage
        return cost or 0.0

    def _grade(self, question_id: str, completions: Sequence[Completion]) -> list[float | None]:
        answers = (question.answer for question in self.setup.questions if question.id == question_id)
        return grade_by_answer(next(answers, None), completions)

    def report(self, create_progress: Callable[[], object]) -> None:
        """Call ``on_progress``; its errors may not cost replies that are under way."""
        if self.on_progress:
            try:
                self.on_progress(create_progress())
            except Exception:
                logger.exception("on_progress failed; collecting goes on")

    def result(
        self,
        *,
        requests: int,
        cost: float | None,
        stopped: str | None,
        judgements: CollectedJudgements | None = None,
    ) -> CollectResult:
        """Return the result of the run."""
        return CollectResult(
            path=str(self.store.path),
            questions=len(self.setup.questions),
            added=self.added_samples,
            samples=self.samples,
            wanted=self.target_samples,
            requests=requests,
            usage=self.usage,
            cost=cost,
            stopped=stopped,
            failures=tuple(self.failures),
            notes=tuple(self.notes),
            elapsed=self.elapsed,
            judgements=judgements,
        )
