"""All completions of one question, each with its label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from swift_client.features.segments import I64
from swift_client.types import Completion, Message, completeness


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """One question with its N labelled completions. ``question_id`` decides the split, so a question is never divided.

    Raises:
        ValueError: the numbers of labels, judgements and completions differ, a label is not 0, 1 or NaN, a judgement
            is not 0 to 1 or NaN, or the weight is not positive.

    Attributes:
        labels: (N,) 1 right, 0 wrong, NaN unknown.
        family: Kind of question, for tables by kind; None if unknown.
        messages: The question as it was sent; empty if unknown.
        verifier_scores: (N,) judgements of the completions' answers, 0..1, 1 is right, NaN unknown, by the identity of
            the verifier.
        mean_logprobs: (N,) mean logprob of each completion without tokens, NaN where unknown; None if all are unknown.
        weight: Weight of the question in training and in estimates, above 0.
        feedback_on: Position of the chosen completion if labels rest on feedback on it; None if they are grades. Such
            labels are complete only if the choice was right, so they cannot tell which choice is better.
        propensity: Share of the choices that looked like this one of which it is known whether they are right, 0..1;
            None for a question that is not a choice of a user's call.
    """

    question_id: str
    completions: tuple[Completion, ...]
    labels: NDArray[np.float64]
    family: str | None = None
    mean_logprobs: NDArray[np.float64] | None = None
    messages: tuple[Message, ...] = ()
    verifier_scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    weight: float = 1.0
    feedback_on: int | None = None
    propensity: float | None = None

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.completions),):
            raise ValueError(
                f"Question {self.question_id}: {len(self.completions)} completions, but labels {self.labels.shape}."
            )
        if not (np.isnan(self.labels) | (self.labels == 0) | (self.labels == 1)).all():
            raise ValueError(f"Question {self.question_id}: a label is not 0, 1 or NaN.")
        if not 0 < self.weight < np.inf:
            raise ValueError(f"Question {self.question_id}: the weight {self.weight} is not a positive number.")
        for scores in self.verifier_scores.values():
            if scores.shape != self.labels.shape or not (np.isnan(scores) | ((scores >= 0) & (scores <= 1))).all():
                raise ValueError(
                    f"Question {self.question_id}: judgements are not one number from 0 to 1 each, or NaN."
                )


def trainable_indices(group: Group) -> I64:
    """Return the indices of the completions that can be learned from: finished, labelled, with tokens."""
    pairs = zip(group.completions, completeness(group.completions), strict=True)
    usable = [is_complete and len(completion.tokens) > 0 for completion, is_complete in pairs]
    return np.flatnonzero(np.array(usable, np.bool_) & ~np.isnan(group.labels))
