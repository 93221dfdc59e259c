"""A question with a known answer, its selection, and the candidates that are correct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swift_client.pocket.questions import Question
    from swift_client.types import Selection, Usage


@dataclass(frozen=True)
class GradedQuestion:
    """One question, its selection, and which candidates are correct."""

    question: Question
    selection: Selection
    correct_flags: tuple[bool, ...]  # (N,) by candidate index

    @property
    def majority_index(self) -> int:
        """Index of the first candidate with the most frequent answer: a plain vote, without scores."""
        votes = Counter(candidate.answer for candidate in self.selection.candidates if candidate.weight > 0)
        if not votes:
            return 0
        frequent = votes.most_common(1)[0][0]
        return next(i for i, candidate in enumerate(self.selection.candidates) if candidate.answer == frequent)

    def outcomes(self) -> dict[str, bool]:
        """Return for each way to choose an answer whether it is correct here."""
        return {
            "first": self.correct_flags[0],
            "majority": self.correct_flags[self.majority_index],
            "chosen": self.correct_flags[self.selection.winner],
            "any": any(self.correct_flags),
        }


def grade(question: Question, selection: Selection) -> tuple[bool, ...]:
    """Return for each candidate whether its answer equals the correct one."""
    from swift_client.answers import read

    texts = [candidate.answer or "" for candidate in selection.candidates]
    *groups, truth = read([*texts, question.answer], "text").groups
    return tuple(group is not None and group == truth for group in groups)


def total_usage(graded_questions: Sequence[GradedQuestion]) -> Usage:
    """Return the sum of the usage of all questions."""
    from swift_client.types import Usage

    return sum((graded.selection.usage for graded in graded_questions), start=Usage())


def count_correct(graded_questions: Sequence[GradedQuestion]) -> dict[str, int]:
    """Count for each way to choose an answer how often it is correct."""
    outcomes = [graded.outcomes() for graded in graded_questions]
    return {name: sum(outcome[name] for outcome in outcomes) for name in ("first", "majority", "chosen", "any")}
