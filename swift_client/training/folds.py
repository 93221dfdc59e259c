"""Training data in folds. Questions that no head can be trained on are refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from swift_client import answers
from swift_client.dataset.question_samples import Group, trainable_indices
from swift_client.dataset.splits import Part, Split, hash_fraction
from swift_client.errors import ConfigurationError
from swift_client.features import THINKING_TERMS, listed_ranks
from swift_client.features.segments import I64
from swift_client.training.feature_matrix import FeatureMatrix, FeatureMatrixBuilder, subsample
from swift_client.training.network import single_thread
from swift_client.training.recipes import Recipe
from swift_client.types import Completion, Message, completeness

# Alternatives per token that subsampling keeps at least: the shortest lists that providers return.
MIN_ALTERNATIVES = 5
# Share of completions that may list fewer alternatives than the others, such as replies of a token or two.
MAX_SHORT_LIST_SHARE = 0.01
LOOKAHEAD = 64  # questions read ahead to find the length of the lists
MORE_QUESTIONS = "Collect more questions: 50 are few, 500 are good."


class EmptyPartError(ConfigurationError):
    """A part of the split has no question that can be learned from."""


class SingleLabelError(ConfigurationError):
    """All completions are right, or all are wrong."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """The parts that one network is trained and tested on."""

    train: FeatureMatrix
    validation: FeatureMatrix
    held_out: FeatureMatrix | None  # the held-out fold, if there is one
    k_min: int
    k_max: int
    has_top_ids: bool  # True if every completion identifies the tokens of its alternatives
    has_token_texts: bool  # True if no completion was stored without the texts of its tokens
    question_counts: dict[str, int]  # questions per part: train, validation, test

    @property
    def completion_counts(self) -> dict[str, int]:
        """Completions for training and validation, subsampled ones included."""
        return {"train": len(self.train.labels), "validation": len(self.validation.labels)}


@dataclass(kw_only=True)
class QuestionCounts:
    """Counts over all questions that were read, also those without a trainable completion."""

    # Questions per fold, None for test.
    questions: Counter[int | None] = field(default_factory=Counter)
    labels: Counter[float] = field(default_factory=Counter)
    # Trainable completions per number of listed alternatives.
    list_lengths: Counter[int] = field(default_factory=Counter)
    labelled_ids: set[str] = field(default_factory=set)  # questions with a label
    unlabelled: int = 0  # complete completions that could not be graded; they are not learned from
    has_tokens: bool = False
    has_thinking: bool = False
    # True if every trainable completion identifies the tokens of its alternatives.
    has_top_ids: bool = True
    # True if no trainable completion was stored without the texts of its tokens.
    has_token_texts: bool = True

    def add(self, group: Group, *, fold: int | None, k_max: int) -> None:
        """Count one question."""
        self.questions[fold] += 1
        if not np.isnan(group.labels).all():
            self.labelled_ids.add(group.question_id)
        complete = completeness(group.completions)
        for completion, label, is_complete in zip(group.completions, group.labels, complete, strict=True):
            self.has_tokens |= bool(completion.tokens)
            self.has_thinking |= completion.thinking is not None and bool(completion.thinking.tokens)
            self.unlabelled += is_complete and group.feedback_on is None and bool(np.isnan(label))
        for index in trainable_indices(group):
            self.labels[float(group.labels[index])] += 1
            self.list_lengths[min(listed_ranks(group.completions[index]), k_max)] += 1
            self.has_top_ids &= group.completions[index].top_ids is not None
            hashed = answers.find_hash(group.completions[index].text)
            self.has_token_texts &= hashed is None or hashed.start() > 0

    def require_trainable(self, recipe: Recipe, k_max: int) -> None:
        """Raise ConfigurationError if no head can be trained on these questions."""
        # The lists of all completions must be about equally long.
        n_questions, n_completions = self.questions.total(), self.list_lengths.total()
        shorter = {length: count for length, count in self.list_lengths.items() if length < k_max}
        n_shorter = sum(shorter.values())
        if n_shorter > MAX_SHORT_LIST_SHARE * n_completions:
            common = max(shorter, key=shorter.__getitem__)
            raise ConfigurationError(
                f"{n_shorter} of {n_completions} completions list fewer than {k_max} alternatives per token "
                f"(most of them {common}), so their numbers do not compare.",
                hint=f"Read all lists to the shorter length (k={common}), or leave those completions out.",
            )
        # There must be several questions, with logprobs and with right and wrong completions.
        if n_questions < 2:
            problem = (
                "There is one question only, and a head needs several." if n_questions else "There are no questions."
            )
            raise ConfigurationError(problem, hint=MORE_QUESTIONS)
        if not self.has_tokens:
            raise ConfigurationError(
                f"No completion of {n_questions} questions has logprobs.",
                hint="Collect from a provider that returns them.",
            )
        if not self.labels:
            raise ConfigurationError(
                "No finished completion has a label.", hint="Grade them first: each must be right (1) or wrong (0)."
            )
        if len(self.labels) == 1:
            word = "right" if 1.0 in self.labels else "wrong"
            raise SingleLabelError(
                f"All {self.labels.total()} completions are {word}, so there is nothing to tell apart.",
                hint="Check the grader and the reference answers, or ask easier or harder questions.",
            )
        if not self.has_thinking and not set(THINKING_TERMS).isdisjoint(recipe.terms):
            raise ConfigurationError(
                "No completion has thinking tokens, which this recipe reads.",
                hint='Most hosted models hide them; use recipe "default".',
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Folds:
    """The features of all questions with their folds, from which ``parts()`` selects."""

    split: Split
    # All but the test questions, each whole and, if the recipe says so, also subsampled.
    matrix: FeatureMatrix
    fold: I64  # (Q,) fold of each question of the matrix
    is_subsampled: NDArray[np.bool_]  # (Q,) True for a subsampled question
    k_min: int
    k_max: int
    counts: QuestionCounts
    questions: tuple[tuple[Message, ...], ...]  # known messages of all but the test questions
    question_folds: I64  # the fold of each of ``questions``

    def parts(self, *, held_out: int | None = None) -> Parts:
        """Select the parts for training and validation, and the held-out fold if given.

        Raises:
            EmptyPartError: a part has no question that can be learned from.
        """
        part_of_fold = [self.split.part_of(fold, held=held_out) for fold in range(self.split.folds)]
        question_counts: Counter[Part] = Counter()  # of all questions, trainable or not
        for fold, count in self.counts.questions.items():
            question_counts[self.split.part_of(fold, held=held_out)] += count

        def select(part: Part) -> FeatureMatrix:
            mask = np.array([name == part for name in part_of_fold])[self.fold]
            mask &= ~self.is_subsampled | (part == "train")
            if not mask.any():
                raise EmptyPartError(
                    f"None of {question_counts.total()} questions that can be learned from fell to {part}.",
                    hint=MORE_QUESTIONS,
                )
            return self.matrix.select(mask)

        return Parts(
            train=select("train"),
            validation=select("validation"),
            held_out=None if held_out is None else select("held"),
            k_min=self.k_min,
            k_max=self.k_max,
            has_top_ids=self.counts.has_top_ids,
            has_token_texts=self.counts.has_token_texts,
            question_counts={part: question_counts[part] for part in ("train", "validation", "test")},
        )


@single_thread()
def read_groups(
    groups: Iterable[Group],
    recipe: Recipe,
    *,
    split: Split,
    answer: answers.Spec,
    k: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Folds:
    """Read each question once and build its features. Questions need not be in memory together.

    Args:
        groups: the questions, in any order.
        recipe: features and terms to build.
        split: assigns each question to a fold or to test.
        answer: how answers are compared, for votes and for agreement.
        k: alternatives per token to read; None reads as many as are listed.
        seed: seed of the subsampling.
        progress: called with the number of questions read.

    Raises:
        ConfigurationError: no head can be trained on these questions.
    """
    # The first questions show the length of the lists and the size of the hidden states.
    stream = iter(groups)
    ahead = list(islice(stream, LOOKAHEAD))
    completions = [completion for group in ahead for completion in group.completions]
    n_states = _state_columns(completions) if recipe.states else 0
    if not (recipe.features or recipe.terms):
        k = 0
    k_max = max(map(listed_ranks, completions), default=0) if k is None else k
    k_min = min(MIN_ALTERNATIVES, k_max) if recipe.thin else k_max
    counts = QuestionCounts()
    folds: list[int] = []
    is_subsampled: list[bool] = []
    questions: list[tuple[int, tuple[Message, ...]]] = []  # with their folds
    with FeatureMatrixBuilder(recipe.features, recipe.terms, width=k_max, state_columns=n_states) as builder:
        for done, group in enumerate(chain(ahead, stream), 1):
            fold = split.fold(group.question_id)
            counts.add(group, fold=fold, k_max=k_max)
            if fold is not None:
                if group.messages:
                    questions.append((fold, group.messages))
                # Build the question whole and, if the recipe says so, subsampled with its own random numbers.
                answer_groups = answers.read(*answers.texts_to_read(group.completions, answer)).groups
                versions: list[tuple[Group, Sequence[int | None], int]] = [(group, answer_groups, k_max)]
                if recipe.thin:
                    rng = np.random.default_rng(int(hash_fraction(f"thin:{seed}:{group.question_id}") * 2**63))
                    versions.append(subsample(group, answer_groups, rng, k_min=k_min, k_max=k_max))
                for number, (version, version_answers, version_k) in enumerate(versions):
                    if builder.add(version, version_answers, k=version_k):
                        folds.append(fold)
                        is_subsampled.append(number > 0)
            progress(done)
        counts.require_trainable(recipe, k_max)
        if not folds:
            raise EmptyPartError(
                f"All {counts.questions.total()} questions that can be learned from fell to test.", hint=MORE_QUESTIONS
            )
        matrix = builder.build()
    return Folds(
        split=split,
        matrix=matrix,
        fold=np.array(folds),
        is_subsampled=np.array(is_subsampled),
        k_min=k_min,
        k_max=k_max,
        counts=counts,
        questions=tuple(messages for _, messages in questions),
        question_folds=np.array([fold for fold, _ in questions], np.int64),
    )


def _state_columns(completions: Sequence[Completion]) -> int:
    """Return the number of hidden state columns per token."""
    for completion in completions:
        if completion.hidden_states is not None:
            return int(completion.hidden_states.shape[1])
    raise ConfigurationError(
        "The completions have no hidden states, which this recipe reads.",
        hint='Sample a local model with `swift-client collect --capture`, or use recipe "default".',
    )
