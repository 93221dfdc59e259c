"""Evaluation of a head on people's feedback on choices that were made without it, or by it.

Feedback is on the chosen answer alone. If that was right, every other answer is wrong; if it was wrong, nobody knows
about the others. So the accuracy of other choices lies between two bounds (Manski 1990): unknown answers count as
wrong, or as right. What the head's probability of the chosen answer is worth can be measured without bounds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from swift_client import answers
from swift_client.dataset.feedback import FeedbackGroups
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.stored import FilePath
from swift_client.errors import ConfigurationError
from swift_client.evaluation.evaluate import ProgressCallback, check_split, get_split, open_samples
from swift_client.evaluation.pools import completion_order
from swift_client.evaluation.result import Estimate, plain_values, weighted_means
from swift_client.features.segments import F64
from swift_client.models import AnyHead
from swift_client.models.resolve_head import load_any_head
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.training.metrics import expected_calibration_error, json_number, pooled_auroc
from swift_client.types import Selection


@dataclass(frozen=True, eq=False, kw_only=True)
class FeedbackEvaluation:
    """Results of a head by feedback; every share and mean stands for all choices that look like known ones.

    Attributes:
        split: Part of the questions: "train", "validation" or "test" of the head's own split, or "all".
        choices: Choices of users' calls in this part.
        known_choices: Those with feedback or a grade.
        effective_size: Number of choices drawn at random that are worth as much.
        made_accuracy: Share of right answers among the choices that were made.
        changed_share: Share of the choices in which the head prefers another answer.
        min_change: Accuracy of the head's choices less that of the choices made if unknown answers are wrong, -1..1.
        max_change: The same if unknown answers are right.
        brier: Mean squared distance of the head's probability of the answer that was chosen from 0 or 1; None without
            probabilities.
        brier_minus_stored: ``brier`` less that of the probabilities that were stored with the choices, on choices with
            both; None without any.
        ece: Expected calibration error of the same probabilities.
        auroc: How well they tell right choices from wrong ones; None if all are right or all wrong.
    """

    split: str
    choices: int
    known_choices: int
    effective_size: float
    made_accuracy: Estimate
    changed_share: Estimate
    min_change: Estimate
    max_change: Estimate
    brier: Estimate | None
    brier_minus_stored: Estimate | None
    ece: float | None
    auroc: float | None
    head: str | None = None
    provider: str | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        plain: dict[str, Any] = plain_values(self)
        return plain


class FeedbackReplay(NamedTuple):
    """The choices of a head on Q questions with known choices; float64 (Q,), NaN for unknown."""

    question_ids: tuple[str, ...]
    weights: F64
    made_labels: F64  # 1 if the choice that was made is right, else 0
    own_labels: F64  # 1 if the head's choice is right, 0 if it is wrong
    is_changed: F64  # 1 if the head's choice has another label or another answer, else 0
    probability: F64  # the head's probability of the answer that was chosen
    stored_probability: F64  # the one that was stored with the choice

    @property
    def differences(self) -> tuple[F64, F64]:
        """Least and greatest value of ``own_labels - made_labels`` of each question; 0 for the same answer."""
        low = np.where(self.is_changed > 0, np.nan_to_num(self.own_labels, nan=0.0) - self.made_labels, 0.0)
        high = np.where(self.is_changed > 0, np.nan_to_num(self.own_labels, nan=1.0) - self.made_labels, 0.0)
        return low, high


def evaluate_feedback(
    head: FilePath | AnyHead | None,
    samples: FilePath | Sequence[FilePath],
    *,
    split: str = "test",
    resamples: int = 1000,
    seed: int = 0,
    answer: answers.Spec | EllipsisType = ...,
    grade: GraderSpec | None = None,
    progress: ProgressCallback = lambda stage, done: None,
) -> FeedbackEvaluation:
    """Compare a head with the choices that users got, by their feedback, weighted against its selection bias.

    Args:
        head: a head or its file; None for the default without a head.
        samples: samples files of the head's model with choices and feedback.
        split: "train", "validation" or "test", as the head's own training split them, or "all" for a head that was not
            trained on these files.
        resamples: of the questions, for the intervals.
        seed: of the resamples.
        answer: how answers are compared; default: as in the head's training, "auto" without a head.
        grade: how completions without a stored label are compared with the question's answer; default: as ``answer``.
        progress: called with the number of questions that were read.

    Raises:
        ConfigurationError: a wrong argument, or no known choice in this part.
        ArtifactMismatchError: the head is for another model.
    """
    check_split(split)
    head = load_any_head(head) if isinstance(head, (str, os.PathLike)) else head
    groups, spec, provider, model = open_samples(samples, head, answer=answer, grade=grade, feedback=True)
    if not isinstance(groups, FeedbackGroups):
        raise ConfigurationError("Feedback is read from samples files.", hint="Give their paths.")
    parts, notes = get_split(head)
    n_choices = 0

    def known_groups() -> Iterable[Group]:
        nonlocal n_choices
        for done, group in enumerate(groups, 1):
            progress("questions", done)
            if group.propensity is not None and split in ("all", parts.part(group.question_id)):
                n_choices += 1
                yield group

    config = SelectionConfig(answer=spec) if head is None else SelectionConfig(scorer=head, answer=spec)
    replay = replay_feedback(known_groups(), groups, config)
    if not len(replay.made_labels):
        raise ConfigurationError(
            f"No choice in the part {split!r} has feedback.",
            hint="Use --split all for a head that was not trained on these files.",
        )
    minimum, maximum = replay.differences
    has_probability = ~np.isnan(replay.probability)
    errors, stored = (np.square(p - replay.made_labels) for p in (replay.probability, replay.stored_probability))
    columns = np.stack([replay.made_labels, replay.is_changed, minimum, maximum, errors, errors - stored], axis=1)
    accuracy, changed_share, low, high, brier, difference = weighted_means(
        columns, replay.weights, resamples=resamples, seed=seed
    )
    probabilities = (
        replay.probability[has_probability],
        replay.made_labels[has_probability],
        replay.weights[has_probability],
    )
    return FeedbackEvaluation(
        split=split,
        choices=n_choices,
        known_choices=len(replay.made_labels),
        effective_size=float(replay.weights.sum() ** 2 / np.square(replay.weights).sum()),
        made_accuracy=accuracy,
        changed_share=changed_share,
        min_change=low,
        max_change=high,
        brier=None if np.isnan(brier.value) else brier,
        brier_minus_stored=None if np.isnan(difference.value) else difference,
        ece=expected_calibration_error(*probabilities) if has_probability.any() else None,
        auroc=json_number(pooled_auroc(*probabilities)) if has_probability.any() else None,
        head=None if head is None else head.name,
        provider=provider,
        model=model,
        notes=(*notes, *groups.notes()),
    )


def replay_feedback(groups: Iterable[Group], source: FeedbackGroups, config: SelectionConfig) -> FeedbackReplay:
    """Choose by ``config`` among all stored completions of each question whose choice is known to be right or wrong.

    Args:
        groups: questions of ``source``; those without a known choice are left out.
        source: the files, which know which completion was chosen.
        config: the head or scorer, and how answers are read.
    """
    rows: list[tuple[float, ...]] = []
    question_ids = []
    for group in groups:
        choice = source.choices(group.question_id)
        order = completion_order(group)
        positions = {group.completions[position].index: place for place, position in enumerate(order)}
        place = None if choice is None or choice.number is None else positions.get(choice.number)
        labels = group.labels[order]
        if choice is None or place is None or np.isnan(labels[place]):
            continue
        selection = select_best([group.completions[position] for position in order], config)
        candidates = selection.candidates
        same = selection.winner == place or (
            candidates[place].group is not None and candidates[place].group == candidates[selection.winner].group
        )
        stored = choice.appearance.confidence if choice.appearance.measure == "probability" else np.nan
        own_label = labels[place] if same else labels[selection.winner]
        question_ids.append(group.question_id)
        rows.append((group.weight, labels[place], own_label, float(not same), _probability(selection, place), stored))
    columns = np.array(rows, np.float64).reshape(-1, 6).T
    return FeedbackReplay(tuple(question_ids), *columns)


def _probability(selection: Selection, place: int) -> float:
    """Return the head's probability of a candidate's answer, or of the candidate without one; NaN if unknown."""
    candidate = selection.candidates[place]
    value = candidate.answer_probability if candidate.answer_probability is not None else candidate.probability
    return np.nan if value is None else value
