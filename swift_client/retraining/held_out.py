"""The choices on which a new head is judged: held out by both heads, weighted to stand for all choices of the users."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from swift_client.dataset.feedback import FeedbackGroups
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split, hash_fraction
from swift_client.errors import ConfigurationError
from swift_client.evaluation.pools import Pool, completion_order
from swift_client.features.segments import F64
from swift_client.models import AnyHead
from swift_client.retraining.expected_labels import answer_probability, with_expected_labels

MIN_QUESTIONS = 30  # held-out questions; with fewer, intervals from resampling are too narrow
MAX_UNKNOWN = 1000  # choices of groups without feedback that are read; they stand for all of them


@dataclass(kw_only=True)
class HeldOut:
    """The held-out questions of a retraining. Iterating reads the files.

    Attributes:
        groups: All questions.
        split: The split of both heads.
        known: Held-out questions of which it is known whether the choice, or any answer, is right.
        effective: Number of equally weighted questions that are worth as much (Kish).
        trainable: Questions of the same kind that train and calibrate: with feedback, or graded.
        repeated: Held-out questions that are left out, since a question with the same messages trains.
        unknown: Held-out choices of groups without any feedback.
    """

    groups: Iterable[Group]
    split: Split
    known: int = 0
    effective: float = 0.0
    trainable: int = 0
    repeated: int = 0
    unknown: int = 0
    _training_messages: set[str] = field(default_factory=set)

    @property
    def has_feedback(self) -> bool:
        """True if users' choices are judged, not graded questions alone."""
        return isinstance(self.groups, FeedbackGroups)

    def count(self, progress: Callable[[str, int], None]) -> None:
        """Read all questions once and count them."""
        tests: list[tuple[str | None, float, bool]] = []
        for done, group in enumerate(self.groups, 1):
            is_known = not np.isnan(group.labels).all()
            if self.split.part(group.question_id) == "test":
                if self._may_judge(group):
                    tests.append((_message_key(group), group.weight, is_known))
            elif is_known:
                self.trainable += self._may_judge(group)
                if (key := _message_key(group)) is not None:
                    self._training_messages.add(key)
            progress("questions", done)
        kept = [row for row in tests if row[0] not in self._training_messages]
        self.repeated = len(tests) - len(kept)
        weights = np.array([weight for _, weight, is_known in kept if is_known])
        self.known, self.unknown = len(weights), len(kept) - len(weights)
        self.effective = float(weights.sum() ** 2 / np.square(weights).sum()) if len(weights) else 0.0

    def require_enough(self) -> None:
        """Raise ConfigurationError with the number of missing answers if too few questions are held out."""
        if self.effective >= MIN_QUESTIONS:
            return
        total = self.known + self.trainable
        worth = self.effective / self.known if self.known else 1.0
        missing = math.ceil((MIN_QUESTIONS - self.effective) / worth / self.split.test)
        kind = "answers with feedback" if self.has_feedback else "graded questions"
        weighted = f", which are weighted and worth {self.effective:.0f}" if worth < 0.95 else ""
        raise ConfigurationError(
            f"Of {total:,} {kind}, {self.known} are held out for the comparison{weighted}: {MIN_QUESTIONS} are needed.",
            hint=f"About {missing:,} more {kind} are enough.",
        )

    def __iter__(self) -> Iterator[Group]:
        share = min(1.0, MAX_UNKNOWN / self.unknown) if self.unknown else 1.0
        for group in self.groups:
            is_test = self.split.part(group.question_id) == "test" and self._may_judge(group)
            if not is_test or _message_key(group) in self._training_messages:
                continue
            if not np.isnan(group.labels).all() or hash_fraction(f"unknown:{group.question_id}") < share:
                yield group

    def _may_judge(self, group: Group) -> bool:
        """Return whether a question can judge: a user's choice of known answer, or of a group without feedback."""
        is_known = not np.isnan(group.labels).all()
        if not self.has_feedback:
            return is_known
        return group.propensity is not None and (is_known or group.propensity == 0)


class FeedbackLabels:
    """Labels and weights of the held-out questions, for ``compare_heads()``.

    Choices of groups without feedback count with the expected labels of the head in use, as often as they occur.
    Wrong answers count for no more than that head expects of them, since people report some kinds of answers more
    readily than others, and too many reports of wrong answers would favour any head that chooses differently.

    Args:
        head: the head in use.
        held_out: the questions.
    """

    def __init__(self, head: AnyHead, held_out: HeldOut) -> None:
        self._head, self._held_out = head, held_out
        self._weights: list[float] = []
        self._outcomes: list[float] = []  # of the choice with feedback: 1 right, 0 wrong; NaN for other questions
        self._expected: list[float] = []  # the head's probability that this choice is right

    def adjust(self, pool: Pool, group: Group) -> Pool:
        """Return the pool with expected labels in place of unknown ones."""
        outcome = expected = np.nan
        if group.feedback_on is not None:
            position = completion_order(group).index(group.feedback_on)
            outcome, expected = pool.labels[position], answer_probability(pool, position, self._head)
        self._outcomes.append(float(outcome))
        self._expected.append(float(expected))
        self._weights.append(0.0 if np.isnan(group.labels).all() else group.weight)
        return with_expected_labels(pool, self._head)

    def weights(self) -> F64:
        """Return the weight of each question, (Q,)."""
        weights, outcomes = np.array(self._weights), np.array(self._outcomes)
        is_known = weights > 0
        covered = weights.sum() * self._choices_per_weight()  # choices that the known ones stand for
        weights[outcomes == 0] *= self.wrong_factor
        if weights.any():
            weights *= covered / weights.sum()
        if not is_known.all():
            weights[~is_known] = self._held_out.unknown / (~is_known).sum()
        return weights

    @property
    def wrong_factor(self) -> float:
        """The factor of the weights of wrong choices, 0..1."""
        outcomes, weights = np.array(self._outcomes), np.array(self._weights)
        right, wrong = (weights[outcomes == value].sum() for value in (1, 0))
        if not wrong:
            return 1.0
        with_feedback = ~np.isnan(outcomes)
        expected = float(np.average(np.array(self._expected)[with_feedback], weights=weights[with_feedback]))
        return float(min(1.0, right / wrong * (1 - expected) / max(expected, 1e-12)))

    def _choices_per_weight(self) -> float:
        """Return the number of choices that a weight of 1 stands for."""
        groups = self._held_out.groups
        if not isinstance(groups, FeedbackGroups):
            return 1.0
        uncovered = sum(stratum.choices for stratum in groups.bias.without_overlap)
        return (groups.bias.choices - uncovered) / max(groups.bias.known_count, 1)


def _message_key(group: Group) -> str | None:
    """Return a digest of a question's messages; None if they are unknown."""
    if not group.messages:
        return None
    return hashlib.sha256(json.dumps(group.messages, sort_keys=True, default=str).encode()).hexdigest()
