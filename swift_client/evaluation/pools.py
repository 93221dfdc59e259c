"""Pools: labels, answers and scores of all completions of each question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.features import agreement_column
from swift_client.features.segments import F64, I64
from swift_client.models import AnyHead, HeadArtifact, HiddenHead, ResponseWeights
from swift_client.scoring.many_questions import score_questions
from swift_client.scoring.result import Scores
from swift_client.scoring.scorers import SCORERS, score
from swift_client.types import F32, Bool, Completion, completeness

# Function that scores the completions of one question.
QuestionScorer = Callable[[Sequence[Completion]], Scores]
# An array of a pool: its attribute, and the name of the scorer or verifier; "" without one.
ColumnKey = tuple[str, str]

_PLAIN_COLUMNS = ("labels", "complete", "has_text", "answers", "tokens")
_NAMED_COLUMNS = ("scores", "probabilities", "judgements")

_NO_VALUES: Mapping[str, F32] = MappingProxyType({})
_MAX_BATCH_TOKENS = 1 << 14  # tokens that label-free scorers read at once


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """One question with m completions, in the order of their indices."""

    family: str
    labels: F64  # (m,) 1 right, 0 wrong, NaN unknown
    complete: Bool  # (m,) False if cut, filtered or refused; such completions never vote
    has_text: Bool  # (m,) complete with any text; the reader "auto" needs answers in half of these
    answers: I64  # (m,) equal numbers for equal answers, -1 for none
    tokens: I64  # (m,) lengths
    scores: Mapping[str, F64]  # by scorer: (m,), NaN without logprobs
    probabilities: Mapping[str, F64]  # by scorer: (m,), for scorers that have probabilities
    note: str | None  # note of the answer reader
    # ``best_of`` would not use the head, since the answers are unlike those of its training.
    out_of_distribution: bool = False
    # By verifier: (m,) judgements of the answers, 0..1, NaN if unknown.
    judgements: Mapping[str, F64] = field(default_factory=dict)

    def merge_scores(self, other: Pool) -> Pool:
        """Return this question with the scores of both."""
        return replace(
            self, scores={**self.scores, **other.scores}, probabilities={**self.probabilities, **other.probabilities}
        )

    @property
    def columns(self) -> dict[ColumnKey, F64]:
        """The arrays of the completions as float64, (m,)."""
        named: dict[ColumnKey, F64] = {(name, ""): getattr(self, name).astype(np.float64) for name in _PLAIN_COLUMNS}
        for kind in _NAMED_COLUMNS:
            named.update({(kind, name): values for name, values in getattr(self, kind).items()})
        return named


def completion_order(group: Group) -> list[int]:
    """Return the positions of the completions by ``Completion.index`` if all differ, else in the given order."""
    indices = [completion.index for completion in group.completions]
    positions = list(range(len(indices)))
    return sorted(positions, key=indices.__getitem__) if len(set(indices)) == len(indices) else positions


def build_pool(
    group: Group, scorers: Mapping[str, QuestionScorer], answer: answers.Spec, values: Mapping[str, F32] = _NO_VALUES
) -> Pool:
    """Read and score one question; ``values`` as of ``score_group()``.

    Raises ConfigurationError if a scorer cannot read a completion.
    """
    order = completion_order(group)
    completions = [group.completions[position] for position in order]
    complete = np.array(completeness(completions), np.bool_)
    # "auto" gives up if fewer than half are readable; that is decided per draw, not for the pool.
    texts, spec = answers.texts_to_read(completions, answer)
    parsed = answers.read_by_deadline(
        [text if is_complete else "" for text, is_complete in zip(texts, complete, strict=True)],
        spec,
        None,
        requires_half=False,
    )
    scores, probabilities, out_of_distribution = score_group(group, scorers, values)
    return Pool(
        family=group.family or "unknown",
        labels=group.labels[order],
        complete=complete,
        has_text=complete & np.array([bool(completion.text.strip()) for completion in completions], np.bool_),
        answers=np.array([-1 if number is None else number for number in parsed.groups], np.int64),
        tokens=np.array([len(completion.tokens) for completion in completions], np.int64),
        scores=scores,
        probabilities=probabilities,
        note=parsed.note,
        out_of_distribution=out_of_distribution,
        judgements={verifier: values[order] for verifier, values in group.verifier_scores.items()},
    )


def build_pools(groups: Iterable[Group], scorers: Mapping[str, QuestionScorer], answer: answers.Spec) -> Iterator[Pool]:
    """Yield the pool of each question, as ``build_pool()`` makes it; label-free scorers read many questions at once."""
    names = {scorer.base for scorer in scorers.values() if isinstance(scorer, LabelFreeScorer)}
    for batch in _batches(groups):
        questions = [[group.completions[position] for position in completion_order(group)] for group in batch]
        try:
            values: Sequence[Mapping[str, F32]] = score_questions(questions, names)
        except ValueError:  # build_pool() finds the question
            values = [_NO_VALUES] * len(batch)
        for group, group_values in zip(batch, values, strict=True):
            yield build_pool(group, scorers, answer, group_values)


def _batches(groups: Iterable[Group]) -> Iterator[list[Group]]:
    """Yield runs of questions that are small enough to be scored at once."""
    batch: list[Group] = []
    size = 0
    for group in groups:
        batch.append(group)
        size += sum(1 + len(completion.tokens) for completion in group.completions)
        if size >= _MAX_BATCH_TOKENS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class GroupScores(NamedTuple):
    """Scores of one question's completions, as in Pool."""

    scores: dict[str, F64]
    probabilities: dict[str, F64]
    out_of_distribution: bool

    @property
    def columns(self) -> dict[ColumnKey, F64]:
        """The arrays of the completions, (m,)."""
        scores = {("scores", name): values for name, values in self.scores.items()}
        return scores | {("probabilities", name): values for name, values in self.probabilities.items()}


def score_group(
    group: Group, scorers: Mapping[str, QuestionScorer], values: Mapping[str, F32] = _NO_VALUES
) -> GroupScores:
    """Score one question.

    Args:
        group: the question.
        scorers: the scorers.
        values: (m,) what ``score_questions()`` returned for its completions, in the order of ``completion_order()``;
            this is not computed again.

    Raises:
        ConfigurationError: a scorer cannot read a completion.
    """
    order = completion_order(group)
    completions = [group.completions[position] for position in order]
    try:
        results = {
            name: scorer.finish(values[scorer.base])
            if isinstance(scorer, LabelFreeScorer) and scorer.base in values
            else scorer(completions)
            for name, scorer in scorers.items()
        }
    except ValueError as error:
        raise ConfigurationError(
            f"Question {group.question_id}: {error}", hint="Leave this question out, or sample it again."
        ) from error
    means = None if group.mean_logprobs is None else group.mean_logprobs[order]
    return GroupScores(
        {name: _fill_from_means(name, result.values.astype(np.float64), means) for name, result in results.items()},
        {
            name: result.probabilities.astype(np.float64)
            for name, result in results.items()
            if result.probabilities is not None
        },
        any(result.out_of_distribution for result in results.values()),
    )


# Scores that follow from the mean logprob alone, by scorer.
_SCORES_OF_MEANS: Mapping[str, Callable[[F64], F64]] = MappingProxyType(
    {
        "mean_logprob": lambda means: means,
        "perplexity": lambda means: -np.exp(np.minimum(-means, 88.0)),
        "probability": np.exp,
    }
)


def _fill_from_means(name: str, scores: F64, means: F64 | None) -> F64:
    """Return scores (m,), with missing ones computed from mean logprobs (m,) if the scorer needs nothing else."""
    score_of_means = _SCORES_OF_MEANS.get(name)
    if means is None or score_of_means is None:
        return scores
    return np.where(np.isnan(scores), score_of_means(means).astype(np.float32), scores)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The term of a head's score for the share of other completions with the same answer."""

    weight: float
    mean: float
    scale: float
    calibration: Callable[[F64], F64] | None

    @classmethod
    def from_head(cls, head: HeadArtifact) -> Agreement | None:
        """Return the head's term; None if it does not count agreement."""
        if "agreement" not in head.response_terms:
            return None
        column = agreement_column(head.response_terms)
        standardizer = head.response.standardizer
        return cls(
            weight=float(head.response.weight[column]),
            mean=float(standardizer.mean[column]),
            scale=float(standardizer.scale[column]),
            calibration=head.calibration,
        )

    def score_offsets(self, answers: I64, complete: Bool) -> F64:
        """Return the offsets of scores in draws (..., n); the share is that of ``features.response.agreement``."""
        n = answers.shape[-1]
        rows = answers.reshape(-1, n)
        # Count the votes of all draws with one bincount: each draw has its own range of cells, and the first
        # cell counts completions without an answer.
        cells_per_draw = int(rows.max(initial=-1)) + 2
        cell = rows + 1 + cells_per_draw * np.arange(len(rows))[:, None]
        votes = np.bincount(cell.ravel(), minlength=cells_per_draw * len(rows))
        same = np.where(rows >= 0, votes[cell] - 1, 0).reshape(answers.shape)
        # The share is smoothed by half a vote, as in training.
        n_others = complete.sum(axis=-1, keepdims=True) - complete
        share = ((same + 0.5) / (n_others + 1.0)).astype(np.float32)
        offsets: F64 = self.weight * ((share - self.mean) / self.scale)
        return offsets


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedPools:
    """Pools of Q questions with m completions each; arrays (Q, m) as in Pool."""

    # Whether answers are read by "auto", which gives up in draws with too few answers.
    auto_answer: bool
    agreement: Agreement | None  # term of the scorer "head" that depends on the draw
    beta: float  # exponent of the weights of the head's votes

    labels: F64
    complete: Bool
    has_text: Bool
    answers: I64
    tokens: I64
    scores: Mapping[str, F64]
    probabilities: Mapping[str, F64]
    judgements: Mapping[str, F64]  # NaN for questions that a verifier did not judge

    @classmethod
    def stack(
        cls, pools: Sequence[Pool], *, auto_answer: bool, agreement: Agreement | None, beta: float = 1.0
    ) -> StackedPools:
        """Stack questions with equally many completions."""
        verifiers = {("judgements", verifier) for pool in pools for verifier in pool.judgements}
        columns = stack_columns([pool.columns for pool in pools], sorted(verifiers))
        return cls.from_columns(columns, auto_answer=auto_answer, agreement=agreement, beta=beta)

    @classmethod
    def from_columns(
        cls, columns: Mapping[ColumnKey, F64], *, auto_answer: bool, agreement: Agreement | None, beta: float = 1.0
    ) -> StackedPools:
        """Create it from the arrays (Q, m) of ``Pool.columns``."""
        named: dict[str, dict[str, F64]] = {kind: {} for kind in _NAMED_COLUMNS}
        for (kind, name), values in columns.items():
            if kind in named:
                named[kind][name] = values
        return cls(
            auto_answer=auto_answer,
            agreement=agreement,
            beta=beta,
            labels=columns["labels", ""],
            complete=columns["complete", ""].astype(np.bool_),
            has_text=columns["has_text", ""].astype(np.bool_),
            answers=columns["answers", ""].astype(np.int64),
            tokens=columns["tokens", ""].astype(np.int64),
            scores=named["scores"],
            probabilities=named["probabilities"],
            judgements=named["judgements"],
        )

    def slice_questions(self, rows: slice) -> StackedPools:
        """Return the questions of a slice."""
        return replace(
            self,
            labels=self.labels[rows],
            complete=self.complete[rows],
            has_text=self.has_text[rows],
            answers=self.answers[rows],
            tokens=self.tokens[rows],
            scores={name: values[rows] for name, values in self.scores.items()},
            probabilities={name: values[rows] for name, values in self.probabilities.items()},
            judgements={verifier: values[rows] for verifier, values in self.judgements.items()},
        )


def stack_columns(pools: Sequence[Mapping[ColumnKey, F64]], optional: Sequence[ColumnKey]) -> dict[ColumnKey, F64]:
    """Stack the columns of questions with equally many completions, (Q, m); NaN for optional ones that are missing."""
    keys = dict.fromkeys((*pools[0], *optional))
    missing = np.full(len(next(iter(pools[0].values()))), np.nan)
    return {key: np.stack([columns.get(key, missing) for columns in pools]) for key in keys}


@dataclass(frozen=True)
class LabelFreeScorer:
    """A row of SCORERS, or one that follows from its values."""

    name: str
    base: str  # the row of SCORERS
    transform: Callable[[F32], F32] = np.positive

    def __call__(self, completions: Sequence[Completion]) -> Scores:
        """Score the completions of one question."""
        return self.finish(score(completions, self.base).values)

    def finish(self, values: F32) -> Scores:
        """Return the scores that follow from those of ``base``, (m,)."""
        return Scores(values=self.transform(values), name=self.name)


def label_free_scorers(names: Set[str]) -> dict[str, QuestionScorer]:
    """Return the scorers of these names that need no labels."""
    rows = [LabelFreeScorer(name, name) for name in SCORERS]
    rows.append(LabelFreeScorer("longest", "shortest", np.negative))
    rows.append(LabelFreeScorer("probability", "mean_logprob", np.exp))
    return {row.name: row for row in rows if row.name in names}


def head_scorer(head: AnyHead) -> QuestionScorer:
    """Return the head's scorer without agreement, which ``methods.DrawnSubsets`` adds for each draw."""
    if isinstance(head, HiddenHead) or "agreement" not in head.response_terms:
        return partial(score, scorer=head)
    # Agreement depends on the draw: here its weight is 0, and calibration waits until it is added.
    weight = head.response.weight.copy()
    weight[agreement_column(head.response_terms)] = 0.0
    standardizer = head.response.standardizer
    response = ResponseWeights(mean=standardizer.mean, scale=standardizer.scale, weight=weight)
    return partial(score, scorer=replace(head, response=response, calibration=None))
