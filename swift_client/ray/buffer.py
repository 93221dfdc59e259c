"""The samples of a batch in memory, until their questions are complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from swift_client.pricing import add_costs
from swift_client.store import Sample, SampleTotals, StoredQuestion
from swift_client.store.sample_store import GradeFunction
from swift_client.types import Completion, Usage


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Samples with their questions, those of one question adjacent, and what their requests cost."""

    samples: list[tuple[StoredQuestion, Sample]]
    usage: Usage
    cost: float | None


@dataclass
class _QuestionSamples:
    samples: list[Sample] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0


@dataclass(kw_only=True)
class SampleBuffer:
    """The samples that a batch has brought and nobody has taken yet.

    Attributes:
        path: Address of the place where they go, for people.
        questions: The questions of the batch by id.
        existing: Indices that exist already, by question.
        cost: Cost of all samples of the batch; None if unknown.
    """

    path: str
    questions: Mapping[str, StoredQuestion]
    existing: Mapping[str, set[int]]
    cost: float | None = 0.0

    def __post_init__(self) -> None:
        self._running: dict[str, _QuestionSamples] = {}
        self._ended: dict[str, _QuestionSamples] = {}

    @property
    def n_ended(self) -> int:
        """Number of samples of questions that have ended."""
        return sum(len(taken.samples) for taken in self._ended.values())

    def indices(self) -> dict[str, set[int]]:
        """Return the indices that exist by question."""
        return {question_id: set(indices) for question_id, indices in self.existing.items()}

    def totals(self) -> SampleTotals:
        """Return nothing: what exists belongs to other batches and runs."""
        return SampleTotals(cost=0.0)

    def verdict_totals(self) -> tuple[Usage, float | None]:
        """Return nothing: there are no verdicts."""
        return Usage(), 0.0

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
    ) -> None:
        """Take the completions of one request; ``grade`` is not needed, since texts are stored as they are."""
        share = None if cost is None or not completions else cost / len(completions)
        taken = self._running.setdefault(question_id, _QuestionSamples())
        taken.samples += [
            Sample(
                question_id=question_id,
                index=index,
                completion=replace(completion, index=index),
                seed=seed,
                cost=share,
            )
            for index, completion in zip(numbers, completions, strict=True)
        ]
        taken.usage += usage
        taken.cost = add_costs(taken.cost, cost)
        self.cost = add_costs(self.cost, cost)

    async def begin(self, question: StoredQuestion) -> None:
        """Do nothing: what is in memory needs no journal."""

    def end(self, question: StoredQuestion) -> None:
        """Let the samples of a question be taken: no more come."""
        if taken := self._running.pop(question.id, None):
            self._ended[question.id] = taken

    def end_all(self) -> None:
        """Let the samples of all questions be taken."""
        for question_id in list(self._running):
            self.end(self.questions[question_id])

    def take_ended(self) -> Rows:
        """Return the samples of questions that have ended, and forget them."""
        ended, self._ended = self._ended, {}
        cost: float | None = 0.0
        for taken in ended.values():
            cost = add_costs(cost, taken.cost)
        return Rows(
            samples=[
                (self.questions[question_id], sample)
                for question_id, taken in ended.items()
                for sample in sorted(taken.samples, key=lambda sample: sample.index)
            ],
            usage=sum((taken.usage for taken in ended.values()), Usage()),
            cost=cost,
        )
