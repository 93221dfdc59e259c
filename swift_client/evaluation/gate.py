"""The verdict on a head: its vote against the best label-free rule, on questions that nothing was chosen by.

The rule is chosen on validation questions; the difference is measured on others, paired by question. A head whose gain
cannot be told from 0 is set aside: ``best_of`` then weighs votes as without a head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.dataset.question_samples import Group
from swift_client.dataset.splits import Split
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.methods import METHODS, NO_SCORE, Method
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Agreement, QuestionScorer, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Estimate, weighted_means
from swift_client.features.segments import F64
from swift_client.models import AnyHead, HeadArtifact
from swift_client.models.artifact import BETTER_VERDICT, NOT_BETTER_VERDICT, TOO_FEW_VERDICT
from swift_client.training.metrics import json_number

NS = (2, 4, 8)  # numbers of completions at which a head is judged
MIN_QUESTIONS = 30  # with fewer, intervals from resampling are too narrow
DEFAULT_RULE = "default"  # the row of METHODS that ``best_of`` follows without a head
_SUBSETS, _RESAMPLES = 100, 2000

# Rows of METHODS that need neither labels nor luck.
LABEL_FREE = tuple(
    method.name
    for method in METHODS
    if not (method.needs_labels or method.kind == "oracle" or method.name in ("first", "random"))
)


@dataclass(frozen=True, kw_only=True)
class HeadVerdict:
    """The paired difference of a head's vote to the best label-free rule.

    Attributes:
        rule: Row of METHODS; the default without a head if there was no question to choose it on.
        label: Its name for people.
        chosen_on: Questions that the rule was chosen on.
        questions: Questions of the comparison, which trained, calibrated and chose nothing.
        mean: The difference, mean over the n, -1..1; NaN without questions.
        at: The difference at each n.
    """

    rule: str
    label: str
    chosen_on: int
    questions: int
    mean: Estimate
    at: Mapping[int, Estimate]

    @property
    def verdict(self) -> str:
        """The result in words, as the head's file stores it."""
        if self.questions < MIN_QUESTIONS:
            return TOO_FEW_VERDICT
        return BETTER_VERDICT if self.mean.low > 0 else NOT_BETTER_VERDICT

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for NaN."""
        return {
            "rule": self.rule,
            "label": self.label,
            "chosen_on": self.chosen_on,
            "questions": self.questions,
            "mean": _plain(self.mean),
            "at": {str(n): _plain(difference) for n, difference in self.at.items()},
        }


def judge_head(
    head: AnyHead,
    groups: Iterable[Group],
    *,
    split: Split,
    answer: answers.Spec,
    test_groups: Iterable[Group] | None = None,
    seed: int = 0,
) -> HeadVerdict:
    """Compare a head's vote with the best label-free rule at the n of NS.

    Args:
        head: the head.
        groups: the graded questions of its training; those for validation choose the rule.
        split: the split of its training.
        answer: how answers are compared.
        test_groups: graded questions that its training never saw; default: the split's test questions.
        seed: of the draws and the resamples.
    """
    scorers = label_free_scorers({method.scorer for method in METHODS}) | {"head": head_scorer(head)}
    pools = {"validation": PoolTable(), "test": PoolTable()}
    for group in groups:
        part = split.part(group.question_id)
        if part == "validation" or (part == "test" and test_groups is None):
            _add_pool(pools[part], group, scorers, answer)
    for group in test_groups or ():
        _add_pool(pools["test"], group, scorers, answer)

    rule = choose_rule(pools["validation"], answer=answer, seed=seed)
    label = next(method.label for method in METHODS if method.name == rule)
    unknown = Estimate(np.nan, np.nan, np.nan)
    if not len(pools["test"]):
        return HeadVerdict(rule=rule, label=label, chosen_on=len(pools["validation"]), questions=0, mean=unknown, at={})
    ns = _usable(pools["test"])
    comparison = _compare(pools["test"], ("head_vote", rule), answer=answer, head=head, seed=seed)
    # (Q, n) differences, NaN for questions with fewer than n completions.
    differences = np.stack([comparison.accuracy("head_vote", n) - comparison.accuracy(rule, n) for n in ns], axis=1)
    mean, *at = _estimate_means(np.concatenate([_row_means(differences)[:, None], differences], axis=1), seed)
    return HeadVerdict(
        rule=rule,
        label=label,
        chosen_on=len(pools["validation"]),
        questions=len(pools["test"]),
        mean=mean,
        at=dict(zip(ns, at, strict=True)),
    )


def choose_rule(pools: PoolTable, *, answer: answers.Spec, seed: int = 0) -> str:
    """Return the label-free row that is right most often, mean over the n of NS; DEFAULT_RULE without questions.

    Of equally good ones the default is preferred.
    """
    if not (ns := _usable(pools)):
        return DEFAULT_RULE
    comparison = _compare(pools, LABEL_FREE, answer=answer, head=None, seed=seed)
    means = {name: comparison.mean_accuracy(name, ns) for name in LABEL_FREE}
    return max(LABEL_FREE, key=lambda name: (round(means[name], 12), name == DEFAULT_RULE))


def mean_difference(differences: F64, seed: int) -> Estimate:
    """Return the mean over n and questions of differences (Q, n), NaN for none, with its interval over questions."""
    return _estimate_means(_row_means(differences)[:, None], seed)[0]


def _add_pool(pools: PoolTable, group: Group, scorers: Mapping[str, QuestionScorer], answer: answers.Spec) -> None:
    """Add a question that has grades and something to choose from.

    After feedback on a wrong choice nobody knows whether another one was right, so it compares no choices.
    """
    is_graded = group.feedback_on is None and not np.isnan(group.labels).all()
    if is_graded and len(group.completions) >= min(NS):
        pools.add(build_pool(group, scorers, answer))


def _usable(pools: PoolTable) -> list[int]:
    return [n for n in NS if n <= pools.max_size]


def _compare(
    pools: PoolTable, names: Sequence[str], *, answer: answers.Spec, head: AnyHead | None, seed: int
) -> Comparison:
    """Compare methods at each n of NS."""
    chosen: list[Method] = [method for method in METHODS if method.name in names]
    return Comparison(
        pools,
        [method for method in chosen if method.scorer in (NO_SCORE, *pools.scorers)],
        ns=_usable(pools),
        max_subsets=_SUBSETS,
        seed=seed,
        auto_answer=answer == "auto",
        agreement=Agreement.from_head(head) if isinstance(head, HeadArtifact) else None,
        beta=1.0 if head is None else head.beta,
    )


def _row_means(values: F64) -> F64:
    """Return the mean of each row (Q, n) without NaN, (Q,); each row has a number."""
    return np.asarray(np.nanmean(values, axis=1))


def _estimate_means(columns: F64, seed: int) -> list[Estimate]:
    """Return the mean of each column (Q, C) without NaN, with its interval over resampled questions."""
    return weighted_means(columns, np.ones(len(columns)), resamples=_RESAMPLES, seed=seed)


def _plain(value: Estimate) -> dict[str, float | None]:
    return {name: json_number(getattr(value, name)) for name in ("value", "low", "high")}
