"""People's feedback on stored choices as labels and weights of the questions of samples files."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.dataset.graders import GraderSpec
from swift_client.dataset.question_samples import Group
from swift_client.dataset.sample_columns.locations import FilePath, is_parquet
from swift_client.dataset.selection_bias import SelectionBias, ShownChoice, estimate_bias
from swift_client.dataset.stored import FilePaths, StoredGroups
from swift_client.errors import ConfigurationError
from swift_client.features.segments import F64
from swift_client.store import SelectionStore
from swift_client.types import Completion


@dataclass(frozen=True, kw_only=True)
class QuestionChoices:
    """The choices that were made for one question: one that represents them, and all feedback.

    Attributes:
        appearance: What people could see of the representative.
        number: Index of the sample that it chose; None if that is not in the file.
        feedback: Indices of chosen samples, and whether their answers are right.
        has_grades: Whether the question has a reference answer or a sample with a label.
    """

    appearance: ShownChoice
    number: int | None
    feedback: tuple[tuple[int, bool], ...]
    has_grades: bool

    @property
    def is_known(self) -> bool:
        """True if there is feedback or a grade."""
        return bool(self.feedback) or self.has_grades


@dataclass(kw_only=True)
class FeedbackCounts:
    """Counts of one reading of the questions.

    Attributes:
        graded_choices: Questions whose chosen answer has a grade and feedback.
        contradicted_grades: Those of ``graded_choices`` whose feedback contradicts the grade.
        wrong_grades: Those of ``graded_choices`` that the grade calls wrong.
        overlooked_errors: Those of ``wrong_grades`` that feedback calls right.
        contradictory_feedback: Questions with feedback that contradicts other feedback; these labels are unknown.
        missing_samples: Feedback on a sample that is not in the file.
    """

    graded_choices: int = 0
    contradicted_grades: int = 0
    wrong_grades: int = 0
    overlooked_errors: int = 0
    contradictory_feedback: int = 0
    missing_samples: int = 0

    def notes(self) -> list[str]:
        """Return one sentence per fact that a reader of the labels should know."""
        notes = []
        if self.graded_choices:
            notes.append(
                f"On {self.contradicted_grades} of {self.graded_choices} questions with feedback and a grade both "
                "disagree: the grade counts."
            )
        if self.overlooked_errors:
            notes.append(
                f"People called {self.overlooked_errors} of {self.wrong_grades} answers right that are wrong by their "
                "grade: calibrate with an overlook rate of at least that share."
            )
        if self.contradictory_feedback:
            notes.append(
                f"On {self.contradictory_feedback} questions feedback contradicts other feedback: these labels are "
                "left out."
            )
        if self.missing_samples:
            notes.append(
                f"{self.missing_samples} times feedback is on an answer that is not in the file: it is left out."
            )
        return notes


class FeedbackGroups(StoredGroups):
    """The questions of samples files, labelled by grades and, without a grade, by feedback.

    Grades (stored labels and reference answers) win over feedback; ``counts`` says on how many questions both disagree.
    Each question counts once, however often it was asked.

    Args:
        paths: samples files of one model, at least one with stored choices; also Parquet, for further grades.
        answer: how answers are read to find those equal to the chosen one.
        keep_unknown: whether questions without any label are yielded too, as calibration needs them.
        options: further arguments of ``StoredGroups``.

    Attributes:
        bias: Which choices have feedback, and how that is corrected.
        counts: Contradictions that the latest complete reading found.

    Raises:
        ConfigurationError: as ``StoredGroups``, or no file has feedback.
    """

    def __init__(
        self, paths: Sequence[FilePath], *, answer: answers.Spec = "auto", keep_unknown: bool = False, **options: Any
    ) -> None:
        super().__init__(paths, **options)
        self._answer, self._keep_unknown = answer, keep_unknown
        self._choices, missing_samples = _read_choices(paths)
        self.counts = FeedbackCounts(missing_samples=missing_samples)
        choices = list(self._choices.values())
        if not any(choice.feedback for choice in choices):
            raise ConfigurationError(
                "The files have no feedback on a choice.",
                hint="Give it with `swift-client feedback FILE ID --correct`, on choices that a samples file has.",
            )
        is_known = np.array([choice.is_known for choice in choices], np.bool_)
        self.bias: SelectionBias = estimate_bias([choice.appearance for choice in choices], is_known)
        columns = zip(self._choices, self.bias.weights.tolist(), self.bias.propensities.tolist(), strict=True)
        self._weights = {question_id: (weight, propensity) for question_id, weight, propensity in columns}

    def choices(self, question_id: str) -> QuestionChoices | None:
        """Return the choices that were made for a question; None if there are none."""
        return self._choices.get(question_id)

    def keeping_unknown(self, keep_unknown: bool) -> FeedbackGroups:
        """Return the same questions with or without those that have no label."""
        other = copy.copy(self)
        other._keep_unknown = keep_unknown
        return other

    def notes(self) -> list[str]:
        """Return one sentence per fact that a reader of a result should know; contradictions after a reading."""
        return [*self.bias.notes(), *self.counts.notes()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return self.bias.to_dict() | asdict(self.counts)

    def __iter__(self) -> Iterator[Group]:
        """Yield each question with its labels, its weight and its propensity."""
        counts = FeedbackCounts(missing_samples=self.counts.missing_samples)
        for group in super().__iter__():
            choices = self._choices.get(group.question_id)
            labelled = group if choices is None else self._label(group, choices, counts)
            if self._keep_unknown or not np.isnan(labelled.labels).all():
                yield labelled
        self.counts = counts

    def _label(self, group: Group, choices: QuestionChoices, counts: FeedbackCounts) -> Group:
        weight, propensity = self._weights[group.question_id]
        group = replace(group, weight=weight or 1.0, propensity=propensity)
        if not choices.feedback:
            return group
        positions = {completion.index: position for position, completion in enumerate(group.completions)}
        feedback = [(positions[number], correct) for number, correct in choices.feedback if number in positions]
        labels, contradicts = feedback_labels(group.completions, feedback, self._answer)
        counts.contradictory_feedback += contradicts
        position = None if choices.number is None else positions.get(choices.number)
        if position is not None and not np.isnan(grade := group.labels[position]):
            counts.graded_choices += 1
            counts.contradicted_grades += not np.isnan(labels[position]) and bool(labels[position] != grade)
            counts.wrong_grades += grade == 0
            counts.overlooked_errors += grade == 0 and labels[position] == 1
        is_graded = ~np.isnan(group.labels)
        labels = np.where(is_graded, group.labels, labels)
        return replace(group, labels=labels, feedback_on=None if is_graded.all() else position)


def feedback_groups(
    samples: FilePaths | Iterable[Group],
    *,
    answer: answers.Spec = "auto",
    grade: GraderSpec | None = None,
    keep_unknown: bool = False,
    **options: Any,
) -> FeedbackGroups:
    """Return the questions of one or several samples files, labelled by grades and feedback.

    Args:
        samples: a path or several, or what this function returned.
        answer: how answers are read; a name is also the default for ``grade``.
        grade: how completions without a stored label are compared with the question's answer.
        keep_unknown: whether questions without any label are yielded too.
        options: further arguments of ``StoredGroups``.

    Raises:
        ConfigurationError: as ``FeedbackGroups``, or these are other groups.
    """
    if isinstance(samples, FeedbackGroups):
        return samples.keeping_unknown(keep_unknown)
    paths: list[Any] = [samples] if isinstance(samples, (str, os.PathLike)) else list(samples)
    if not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise ConfigurationError("Feedback is read from samples files, not from groups.", hint="Give their paths.")
    grader = grade if grade is not None else answer if isinstance(answer, str) else "auto"
    return FeedbackGroups(paths, answer=answer, grade=grader, keep_unknown=keep_unknown, **options)


def feedback_labels(
    completions: Sequence[Completion], feedback: Sequence[tuple[int, bool]], answer: answers.Spec = "auto"
) -> tuple[F64, bool]:
    """Return the labels (N,) that follow from feedback, and whether some of it contradicts other.

    If a choice is right, so are the answers equal to it, and the different ones are wrong: a question has one right
    answer. If it is wrong, so are the equal ones, and nothing is known about the others. Without answers that can be
    compared, feedback is on the chosen completion alone. Contradictory labels are NaN.

    Args:
        completions: N completions of one question.
        feedback: position of each choice, and whether it is right.
        answer: how answers are read.
    """
    groups = answers.read(*answers.texts_to_read(completions, answer)).groups
    right, wrong = np.zeros(len(completions), np.bool_), np.zeros(len(completions), np.bool_)
    for position, correct in feedback:
        number = groups[position]
        equal = np.array([number is not None and other == number for other in groups])
        equal[position] = True
        if correct:
            right |= equal
            if number is not None:
                wrong |= np.array([other is not None and other != number for other in groups])
        else:
            wrong |= equal
    return np.where(right == wrong, np.nan, right.astype(np.float64)), bool((right & wrong).any())


def _read_choices(paths: Sequence[FilePath]) -> tuple[dict[str, QuestionChoices], int]:
    """Return the choices of each question, and how much feedback is on a sample that is not in the file.

    The newest choice with feedback represents a question, or else its newest.
    """
    choices: dict[str, QuestionChoices] = {}
    missing_samples = 0
    for path in paths:
        if is_parquet(path):
            continue
        with SelectionStore(path) as store:
            for row in store.reviewed_selections():
                selection = row.selection
                missing_samples += row.correct is not None and selection.number is None
                usable = row.correct is not None and selection.number is not None
                earlier = choices.get(selection.question_id)
                feedback = () if earlier is None else earlier.feedback
                if usable or earlier is None or not feedback:
                    appearance, number = ShownChoice.from_facts(selection.facts, selection.served_as), selection.number
                else:
                    appearance, number = earlier.appearance, earlier.number
                if usable and selection.number is not None and row.correct is not None:
                    feedback = (*feedback, (selection.number, row.correct))
                choices[selection.question_id] = QuestionChoices(
                    appearance=appearance, number=number, feedback=feedback, has_grades=row.has_grades
                )
    return choices, missing_samples
