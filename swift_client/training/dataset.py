"""From graded questions to what training and validation see; everything that cannot be trained on is refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from swift_client import answers
from swift_client.errors import ConfigurationError
from swift_client.features import listed_ranks
from swift_client.training.groups import Group
from swift_client.training.matrix import Matrix, MatrixBuilder, thinned, trainable
from swift_client.training.recipes import Recipe
from swift_client.training.splits import Part, Split, fraction
from swift_client.training.threads import one_thread

SHORTEST_LISTS = 5
"""Alternatives a token that a thinned question keeps at least: what the poorest provider with lists gives."""
FEW = 0.01
"""Share of completions that may list fewer alternatives than the others: replies of a token or two."""
LOOKED_AT = 64
"""Questions read ahead to see how long the lists are."""


class EmptyPartError(ConfigurationError):
    """No question fell to a part that needs some."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """What :func:`read` makes of the questions."""

    train: Matrix
    validation: Matrix
    held: Matrix | None
    """The fold set aside."""
    k_min: int
    k_max: int
    top_ids: bool
    """Whether every completion learned from says which tokens its alternatives are."""
    questions: dict[str, int]
    """Questions by part: train, validation, test."""
    completions: dict[str, int]
    """Completions learned from or validated on, by part."""


@one_thread()
def read(
    groups: Iterable[Group],
    *,
    recipe: Recipe,
    split: Split,
    answer: answers.Spec,
    held: int | None = None,
    k: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Dataset:
    """Read each question once, in any order; they need not be in memory together.

    ``answer`` is how answers are compared for agreement, ``held`` the fold that is set aside, ``k`` how many
    alternatives a token are read (None: as many as are listed), ``progress`` is called with the number of questions
    read. Raises ConfigurationError for questions that no head can be trained on.
    """
    ahead, stream = _look_ahead(groups)
    k_max = k if k is not None else max((_depth(group) for group in ahead), default=0)
    k_min = min(SHORTEST_LISTS, k_max) if recipe.thin else k_max
    questions: Counter[Part] = Counter()
    labels: Counter[float] = Counter()
    depths: Counter[int] = Counter()
    with_tokens, top_ids = 0, True
    kinds: tuple[Part, ...] = ("train", "validation") if held is None else ("train", "validation", "held")
    with ExitStack() as files:
        builders = {
            kind: files.enter_context(MatrixBuilder(recipe.features, recipe.terms, width=k_max)) for kind in kinds
        }
        for done, group in enumerate(stream, 1):
            part = split.part(group.question_id, held=held)
            questions[part] += 1
            with_tokens += any(completion.tokens for completion in group.completions)
            kept = trainable(group)
            labels.update(group.labels[kept].tolist())
            top_ids &= all(group.completions[at].top_ids is not None for at in kept)
            depths.update(min(listed_ranks(group.completions[at]), k_max) for at in kept)
            if part in builders:
                texts = [completion.text for completion in group.completions]
                same = answers.read(texts, answer if "agreement" in recipe.terms else None).groups
                builders[part].add(group, same, k=k_max)
                if recipe.thin and part == "train":
                    rng = np.random.default_rng(int(fraction(f"thin:{seed}:{group.question_id}") * 2**63))
                    less, same_less, k_less = thinned(group, same, rng, k_min=k_min, k_max=k_max)
                    builders[part].add(less, same_less, k=k_less)
            progress(done)
        _refuse_depths(depths, k_max)
        _refuse(questions, labels, with_tokens=with_tokens > 0)
        for kind, builder in builders.items():
            if not builder.questions:
                raise EmptyPartError(
                    f"None of {questions.total()} questions that can be learned from fell to {kind}.",
                    hint="Collect more questions: 50 are few, 500 are good.",
                )
        matrices = {kind: builder.build() for kind, builder in builders.items()}
    return Dataset(
        train=matrices["train"],
        validation=matrices["validation"],
        held=matrices.get("held"),
        k_min=k_min,
        k_max=k_max,
        top_ids=top_ids,
        questions={part: questions[part] for part in ("train", "validation", "test")},
        completions={kind: len(matrix.labels) for kind, matrix in matrices.items()},
    )


def _look_ahead(groups: Iterable[Group]) -> tuple[list[Group], Iterator[Group]]:
    stream = iter(groups)
    ahead = list(islice(stream, LOOKED_AT))
    return ahead, chain(ahead, stream)


def _depth(group: Group) -> int:
    return max((listed_ranks(completion) for completion in group.completions), default=0)


def _refuse_depths(depths: Counter[int], k_max: int) -> None:
    fewer = {depth: count for depth, count in depths.items() if depth < k_max}
    if sum(fewer.values()) > FEW * depths.total():
        common = max(fewer, key=fewer.__getitem__)
        raise ConfigurationError(
            f"{sum(fewer.values())} of {depths.total()} completions list fewer than {k_max} alternatives a token "
            f"(most of them {common}), so their numbers do not compare.",
            hint=f"Read all lists to the shorter length (k={common}), or leave those completions out.",
        )


def _refuse(questions: Counter[Part], labels: Counter[float], *, with_tokens: bool) -> None:
    many = questions.total()
    if many < 2:
        raise ConfigurationError(
            "There are no questions." if not many else "There is one question only, and a head needs several.",
            hint="Collect more questions: 50 are few, 500 are good.",
        )
    if not with_tokens:
        raise ConfigurationError(
            f"No completion of {many} questions has logprobs.", hint="Collect from a provider that returns them."
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
