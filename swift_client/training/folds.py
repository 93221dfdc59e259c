"""From graded questions to what training and validation see; everything that cannot be trained on is refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from swift_client.training.recipes import Recipe
from swift_client.training.threads import single_thread

MIN_ALTERNATIVES = 5
"""Alternatives a token that a thinned question keeps at least: what the poorest provider with lists gives."""
MAX_SHORT_LIST_SHARE = 0.01
"""Share of completions that may list fewer alternatives than the others: replies of a token or two."""
LOOKAHEAD = 64
"""Questions read ahead to see how long the lists are."""


class EmptyPartError(ConfigurationError):
    """No question fell to a part that needs some."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """What one head is trained on."""

    train: FeatureMatrix
    validation: FeatureMatrix
    held_out: FeatureMatrix | None
    """The fold set aside."""
    k_min: int
    k_max: int
    has_top_ids: bool
    """Whether every completion learned from says which tokens its alternatives are."""
    question_counts: dict[str, int]
    """Questions by part: train, validation, test."""

    @property
    def completion_counts(self) -> dict[str, int]:
        """Completions by part, as they are and thinned."""
        parts = {"train": self.train, "validation": self.validation, "held": self.held_out}
        return {part: len(matrix.labels) for part, matrix in parts.items() if matrix is not None}


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldedDataset:
    """What :func:`read` makes of the questions: all that heads on any folds of them need, read once."""

    split: Split
    matrix: FeatureMatrix
    """All but the test questions, each as it is and, where the recipe says so, thinned."""
    fold: I64
    """(Q,) fold of each question of the matrix."""
    is_subsampled: NDArray[np.bool_]
    """(Q,) whether it is a thinned one."""
    k_min: int
    k_max: int
    has_top_ids: bool
    question_counts: Counter[int | None]
    """Questions by fold, None for test, those that nothing can be learned from too."""
    n_unlabelled: int
    """Whole completions that could not be judged right or wrong: nothing is learned from them."""

    def dataset(self, held_out_fold: int | None = None) -> Dataset:
        """Return the parts that train and validate, and with ``held`` that fold beside them.

        Raises EmptyPartError where one of them has no question that can be learned from.
        """
        parts = [self.split.part_of(fold, held=held_out_fold) for fold in range(self.split.folds)]
        questions: Counter[Part] = Counter()
        for fold, count in self.question_counts.items():
            questions[self.split.part_of(fold, held=held_out_fold)] += count

        def part(kind: Part) -> FeatureMatrix:
            kept = np.array([each == kind for each in parts])[self.fold]
            kept &= ~self.is_subsampled | (kind == "train")
            if not kept.any():
                raise EmptyPartError(
                    f"None of {questions.total()} questions that can be learned from fell to {kind}.",
                    hint="Collect more questions: 50 are few, 500 are good.",
                )
            return self.matrix.select(kept)

        return Dataset(
            train=part("train"),
            validation=part("validation"),
            held_out=None if held_out_fold is None else part("held"),
            k_min=self.k_min,
            k_max=self.k_max,
            has_top_ids=self.has_top_ids,
            question_counts={kind: questions[kind] for kind in ("train", "validation", "test")},
        )


@single_thread()
def read_groups(
    groups: Iterable[Group],
    *,
    recipe: Recipe,
    split: Split,
    answer: answers.Spec,
    k: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> FoldedDataset:
    """Read each question once, in any order; they need not be in memory together.

    ``answer`` is how answers are compared for agreement, ``k`` how many alternatives a token are read (None: as many
    as are listed), ``progress`` is called with the number of questions read. Raises ConfigurationError for questions
    that no head can be trained on.
    """
    ahead, stream = _look_ahead(groups)
    states = _state_columns(ahead) if recipe.states else 0
    if not (recipe.features or recipe.terms):
        k = 0
    k_max = k if k is not None else max((_longest_list(group) for group in ahead), default=0)
    k_min = min(MIN_ALTERNATIVES, k_max) if recipe.thin else k_max
    questions: Counter[int | None] = Counter()
    labels: Counter[float] = Counter()
    depths: Counter[int] = Counter()
    with_tokens, unlabelled, top_ids, thought = 0, 0, True, False
    rows: list[tuple[int, bool]] = []
    with FeatureMatrixBuilder(recipe.features, recipe.terms, width=k_max, state_columns=states) as builder:
        for done, group in enumerate(stream, 1):
            fold = split.fold(group.question_id)
            questions[fold] += 1
            with_tokens += any(completion.tokens for completion in group.completions)
            thought |= any(each.thinking is not None and bool(each.thinking.tokens) for each in group.completions)
            kept = trainable_indices(group)
            unlabelled += sum(
                each.complete and bool(np.isnan(label))
                for each, label in zip(group.completions, group.labels, strict=True)
            )
            labels.update(group.labels[kept].tolist())
            top_ids &= all(group.completions[at].top_ids is not None for at in kept)
            depths.update(min(listed_ranks(group.completions[at]), k_max) for at in kept)
            if fold is not None:
                texts = [completion.text for completion in group.completions]
                same = answers.read(texts, answer if "agreement" in recipe.terms else None).groups
                if builder.add(group, same, k=k_max):
                    rows.append((fold, False))
                if recipe.thin:
                    rng = np.random.default_rng(int(hash_fraction(f"thin:{seed}:{group.question_id}") * 2**63))
                    less, same_less, k_less = subsample(group, same, rng, k_min=k_min, k_max=k_max)
                    if builder.add(less, same_less, k=k_less):
                        rows.append((fold, True))
            progress(done)
        _require_similar_lists(depths, k_max)
        _require_trainable(questions.total(), labels, with_tokens=with_tokens > 0)
        if not thought and not set(THINKING_TERMS).isdisjoint(recipe.terms):
            raise ConfigurationError(
                "No completion has thinking tokens, which this recipe reads.",
                hint='Most hosted models hide them; use recipe "default".',
            )
        if not rows:
            raise EmptyPartError(
                f"All {questions.total()} questions that can be learned from fell to test.",
                hint="Collect more questions: 50 are few, 500 are good.",
            )
        matrix = builder.build()
    return FoldedDataset(
        split=split,
        matrix=matrix,
        fold=np.array([fold for fold, _ in rows]),
        is_subsampled=np.array([thin for _, thin in rows]),
        k_min=k_min,
        k_max=k_max,
        has_top_ids=top_ids,
        question_counts=questions,
        n_unlabelled=unlabelled,
    )


def _look_ahead(groups: Iterable[Group]) -> tuple[list[Group], Iterator[Group]]:
    stream = iter(groups)
    ahead = list(islice(stream, LOOKAHEAD))
    return ahead, chain(ahead, stream)


def _state_columns(groups: Sequence[Group]) -> int:
    """Return how many numbers of hidden states a token has."""
    for group in groups:
        for completion in group.completions:
            if completion.hidden_states is not None:
                return int(completion.hidden_states.shape[1])
    raise ConfigurationError(
        "The completions have no hidden states, which this recipe reads.",
        hint='Sample a local model with `swift-client collect --capture`, or use recipe "default".',
    )


def _longest_list(group: Group) -> int:
    return max((listed_ranks(completion) for completion in group.completions), default=0)


def _require_similar_lists(list_lengths: Counter[int], k_max: int) -> None:
    fewer = {depth: count for depth, count in list_lengths.items() if depth < k_max}
    if sum(fewer.values()) > MAX_SHORT_LIST_SHARE * list_lengths.total():
        common = max(fewer, key=fewer.__getitem__)
        raise ConfigurationError(
            f"{sum(fewer.values())} of {list_lengths.total()} completions list fewer than {k_max} alternatives a token "
            f"(most of them {common}), so their numbers do not compare.",
            hint=f"Read all lists to the shorter length (k={common}), or leave those completions out.",
        )


def _require_trainable(n_questions: int, labels: Counter[float], *, with_tokens: bool) -> None:
    if n_questions < 2:
        raise ConfigurationError(
            "There are no questions." if not n_questions else "There is one question only, and a head needs several.",
            hint="Collect more questions: 50 are few, 500 are good.",
        )
    if not with_tokens:
        raise ConfigurationError(
            f"No completion of {n_questions} questions has logprobs.", hint="Collect from a provider that returns them."
        )
    if not labels:
        raise ConfigurationError(
            "No whole completion has a label.", hint="Grade them first: each needs to be right (1) or wrong (0)."
        )
    if len(labels) == 1:
        word = "right" if 1.0 in labels else "wrong"
        raise ConfigurationError(
            f"All {labels.total()} completions are {word}, so there is nothing to tell apart.",
            hint="Check the grader and the reference answers, or ask easier or harder questions.",
        )
