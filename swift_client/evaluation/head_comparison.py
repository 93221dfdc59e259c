"""Paired comparison of two heads: both choose from the same draws of the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.errors import ConfigurationError
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.methods import METHODS
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Agreement, Pool, build_pool, head_scorer, score_group
from swift_client.evaluation.result import HeadDifference, weighted_means
from swift_client.features.segments import F64
from swift_client.models import AnyHead, HeadArtifact

NS = (2, 4, 8)  # numbers of completions at which heads are judged
_HEAD_VOTE = next(method for method in METHODS if method.name == "head_vote")


def held_out(groups: Iterable[Group], splits: Sequence[Split], part: str) -> Iterator[Group]:
    """Yield the labelled questions that belong to a part of the questions by every split; "all" yields all."""
    for group in groups:
        belongs = part == "all" or all(split.part(group.question_id) == part for split in splits)
        if belongs and not np.isnan(group.labels).all():
            yield group


def compare_heads(
    first: AnyHead,
    second: AnyHead,
    groups: Iterable[Group],
    *,
    answer: answers.Spec,
    ns: Sequence[int] = NS,
    subsets: int = 100,
    resamples: int = 2000,
    seed: int = 0,
    adjust: Callable[[Pool, Group], Pool] = lambda pool, group: pool,
    weights: Callable[[], F64] | None = None,
) -> HeadDifference:
    """Compare the votes of two heads on labelled questions.

    Args:
        first: a head.
        second: the head that it is compared with.
        groups: the questions, which neither of them was trained on.
        answer: how answers are compared.
        ns: numbers of completions; those that no question has are left out.
        subsets: draws per question and n, the same for both heads.
        resamples: of the questions, for the intervals.
        seed: of the draws and the resamples.
        adjust: changes a question's pool before it is counted, such as its labels; its scores are the first head's.
        weights: returns the weight of each question (Q,) when all were read; default: 1.

    Raises:
        ConfigurationError: there is no question, or none has enough completions.
    """
    tables = PoolTable(), PoolTable()
    for group in groups:
        pool = adjust(build_pool(group, {"head": head_scorer(first)}, answer), group)
        scored = score_group(group, {"head": head_scorer(second)})
        tables[0].add(pool)
        tables[1].add(replace(pool, scores=scored.scores, probabilities=scored.probabilities))
    usable = tuple(n for n in sorted(set(ns)) if n <= tables[0].max_size)
    if not usable:
        raise ConfigurationError(
            f"No question that neither head was trained on has {min(ns)} completions.",
            hint="Give samples of further questions, or --split all for files that neither was trained on.",
        )
    shares = [
        _accuracies(head, table, usable, answer=answer, subsets=subsets, seed=seed)
        for head, table in zip((first, second), tables, strict=True)
    ]
    differences = shares[1] - shares[0]
    columns = [*shares[0].T, *shares[1].T, *differences.T, _row_means(differences)]
    question_weights = np.ones(len(tables[0])) if weights is None else weights()
    estimates = weighted_means(np.stack(columns, axis=1), question_weights, resamples=resamples, seed=seed)
    parts = [dict(zip(usable, estimates[start:], strict=False)) for start in range(0, 3 * len(usable), len(usable))]
    return HeadDifference(
        questions=len(tables[0]), accuracy=parts[0], other_accuracy=parts[1], at=parts[2], mean=estimates[-1]
    )


def _accuracies(
    head: AnyHead, table: PoolTable, ns: Sequence[int], *, answer: answers.Spec, subsets: int, seed: int
) -> F64:
    """Return the share of draws in which a head's vote is right, (Q, n); NaN for questions with too few completions."""
    comparison = Comparison(
        table,
        [_HEAD_VOTE],
        ns=ns,
        max_subsets=subsets,
        seed=seed,
        auto_answer=answer == "auto",
        agreement=Agreement.from_head(head) if isinstance(head, HeadArtifact) else None,
        beta=head.beta,
    )
    return np.stack([comparison.accuracy(_HEAD_VOTE.name, n) for n in ns], axis=1)


def _row_means(values: F64) -> F64:
    """Return the mean of each row (Q, n) without NaN, (Q,); NaN for rows without a number."""
    counts = (~np.isnan(values)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=1) / counts)
