"""What an evaluation keeps of each question: for every completion its label, its answer and what each scorer says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from swift_client import answers
from swift_client.answers import READERS
from swift_client.dataset.question_samples import Group
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64, I64
from swift_client.models import AnyHead, HiddenHead, ResponseWeights
from swift_client.scoring.result import Scores
from swift_client.scoring.scorers import SCORERS, score
from swift_client.types import Bool, Completion

QuestionScorer = Callable[[Sequence[Completion]], Scores]
"""Scores of one question's completions."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """One question with m completions, in the order of their indices."""

    family: str
    labels: F64
    """(m,) 1 right, 0 wrong, NaN unknown."""
    complete: Bool
    """(m,) those that ended by themselves; others never vote."""
    has_text: Bool
    """(m,) whole ones with any text: what "auto" counts its readable answers against."""
    answers: I64
    """(m,) equal numbers for equal answers, -1 for none."""
    tokens: I64
    """(m,)"""
    scores: Mapping[str, F64]
    """By scorer: (m,), NaN for no signal."""
    probabilities: Mapping[str, F64]
    """By scorer: (m,) probabilities, for those scorers that have them."""
    note: str | None
    """What the reader of answers has to say."""
    out_of_distribution: bool = False
    """Whether ``best_of`` would set the head aside, since the answers are unlike those of its training."""

    def merge_scores(self, other: Pool) -> Pool:
        """Return this question with the scores of both."""
        return replace(
            self, scores={**self.scores, **other.scores}, probabilities={**self.probabilities, **other.probabilities}
        )


def build_pool(group: Group, scorers: Mapping[str, QuestionScorer], answer: answers.Spec) -> Pool:
    """Read one question. Raises ConfigurationError where a scorer cannot read a completion."""
    order = np.arange(len(group.completions))
    if len({completion.index for completion in group.completions}) == len(order):
        order = np.argsort([completion.index for completion in group.completions])
    completions = [group.completions[at] for at in order]
    whole = np.array([completion.complete for completion in completions], np.bool_)
    # "auto" gives up where fewer than half are readable: that is decided for each draw, not for the pool.
    read = answers.read(
        [completion.text if completion.complete else "" for completion in completions],
        READERS["auto"] if answer == "auto" else answer,
    )
    try:
        scored = {name: scoring(completions) for name, scoring in scorers.items()}
    except ValueError as error:
        raise ConfigurationError(
            f"Question {group.question_id}: {error}", hint="Leave this question out, or sample it again."
        ) from error
    return Pool(
        family=group.family or "unknown",
        labels=group.labels[order],
        complete=whole,
        has_text=whole & np.array([bool(completion.text.strip()) for completion in completions], np.bool_),
        answers=np.array([-1 if same is None else same for same in read.groups], np.int64),
        tokens=np.array([len(completion.tokens) for completion in completions], np.int64),
        scores={name: each.values.astype(np.float64) for name, each in scored.items()},
        probabilities={
            name: each.probabilities.astype(np.float64)
            for name, each in scored.items()
            if each.probabilities is not None
        },
        note=read.note,
        out_of_distribution=any(each.out_of_distribution for each in scored.values()),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class StackedPools:
    """Q questions with m completions each; arrays (Q, m) as in Pool."""

    labels: F64
    complete: Bool
    has_text: Bool
    answers: I64
    scores: Mapping[str, F64]
    probabilities: Mapping[str, F64]

    @classmethod
    def stack(cls, pools: Sequence[Pool]) -> StackedPools:
        """Stack questions that have equally many completions."""
        return cls(
            labels=np.stack([each.labels for each in pools]),
            complete=np.stack([each.complete for each in pools]),
            has_text=np.stack([each.has_text for each in pools]),
            answers=np.stack([each.answers for each in pools]),
            scores={name: np.stack([each.scores[name] for each in pools]) for name in pools[0].scores},
            probabilities={
                name: np.stack([each.probabilities[name] for each in pools]) for name in pools[0].probabilities
            },
        )

    def slice_questions(self, rows: slice) -> StackedPools:
        """Return some of the questions."""
        return StackedPools(
            labels=self.labels[rows],
            complete=self.complete[rows],
            has_text=self.has_text[rows],
            answers=self.answers[rows],
            scores={name: values[rows] for name, values in self.scores.items()},
            probabilities={name: values[rows] for name, values in self.probabilities.items()},
        )


def label_free_scorers(names: Set[str]) -> dict[str, QuestionScorer]:
    """Return those of the scorers that need no labels."""
    scorings: dict[str, QuestionScorer] = {name: partial(score, scorer=name) for name in SCORERS if name in names}

    def longest(completions: Sequence[Completion]) -> Scores:
        shortest = score(completions, "shortest")
        return replace(shortest, values=-shortest.values, name="longest")

    def probability(completions: Sequence[Completion]) -> Scores:
        logprob = score(completions, "mean_logprob")
        return replace(logprob, values=np.exp(logprob.values), name="probability")

    derived = {"longest": longest, "probability": probability}
    return scorings | {name: scoring for name, scoring in derived.items() if name in names}


def head_scorer(head: AnyHead) -> QuestionScorer:
    """Score without agreement, which ``methods.Drawn`` adds: it depends on who else is in the draw."""
    if isinstance(head, HiddenHead) or "agreement" not in head.response_terms:
        return partial(score, scorer=head)
    weight = head.response.weight.copy()
    weight[head.response_terms.index("agreement") - len(head.response_terms)] = 0.0
    part = head.response.standardizer
    alone = replace(head, response=ResponseWeights(mean=part.mean, scale=part.scale, weight=weight), calibration=None)
    return partial(score, scorer=alone)
