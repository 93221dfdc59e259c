"""All methods on all draws of all questions, and the numbers that come of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from swift_client.evaluation.bootstrap import estimate, resampled_sums
from swift_client.evaluation.methods import NO_SCORE, Agreement, DrawnSubsets, Method, accuracy_by_method
from swift_client.evaluation.pools import Pool, StackedPools
from swift_client.evaluation.result import Estimate, Row
from swift_client.features.segments import F64
from swift_client.selection.voting import draw_subsets
from swift_client.training.metrics import brier, expected_calibration_error, pair_wins, pooled_auroc

DRAWS_FOR_CALIBRATION = 20
"""Draws a question whose probabilities are judged, where agreement makes them differ from draw to draw."""

_ColumnKey = tuple[str, int | str]
"""A method at n, its pairs won or its pairs; "valid" at n for the questions that count there."""


class Comparison:
    """What each method gets right at each n. Q questions, of which those with at least n completions count at n."""

    def __init__(
        self,
        pools: Sequence[Pool],
        methods: Sequence[Method],
        *,
        ns: Sequence[int],
        max_subsets: int,
        seed: int,
        auto_answer: bool,
        agreement: Agreement | None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._methods, self._ns, self._n_questions = tuple(methods), tuple(ns), len(pools)
        self._max_subsets, self._seed, self._auto_answer, self._agreement = max_subsets, seed, auto_answer, agreement
        by_size: dict[int, list[int]] = defaultdict(list)
        for number, each in enumerate(pools):
            by_size[len(each.labels)].append(number)
        self._stacks = [
            (np.array(at), size, StackedPools.stack([pools[i] for i in at])) for size, at in sorted(by_size.items())
        ]
        self._accuracies = {(method.name, n): np.full(len(pools), np.nan) for method in methods for n in ns}
        for n in ns:
            for at, size, stack in self._stacks:
                if size >= n:
                    draws = draw_subsets(size, n, max_subsets=max_subsets, seed=seed)
                    shares = accuracy_by_method(methods, stack, draws, auto_answer=auto_answer, agreement=agreement)
                    for name, share in shares.items():
                        self._accuracies[name, n][at] = share
            progress(n)

    def accuracy(self, name: str, n: int) -> F64:
        """Return the share of draws in which a method is right at n, (Q,); NaN for questions with fewer completions."""
        return self._accuracies[name, n]

    def rows(self, *, resamples: int) -> tuple[Row, ...]:
        """Return one row a method, with intervals from ``resamples`` draws of the questions."""
        duelled = {method.name: self._pair_wins(method.scorer) for method in self._methods if _has_own_scores(method)}
        columns: dict[_ColumnKey, F64] = {
            ("valid", n): (~np.isnan(self._accuracies["majority", n])).astype(np.float64) for n in self._ns
        }
        columns.update({key: np.nan_to_num(share) for key, share in self._accuracies.items()})
        for name, (won, pairs) in duelled.items():
            columns.update({(name, "won"): won, (name, "pairs"): pairs})
        stacked = np.stack(list(columns.values()), axis=1)
        sums = np.concatenate(
            [stacked.sum(axis=0)[None], resampled_sums(stacked, resamples=resamples, seed=self._seed)]
        )
        total = dict(zip(columns, sums.T, strict=True))  # the first is the questions as they are
        with np.errstate(invalid="ignore"):
            accuracy = {key: total[key] / total["valid", key[1]] for key in self._accuracies}
            auroc = {name: total[name, "won"] / total[name, "pairs"] for name in duelled}
        return tuple(self._row(method, accuracy, auroc.get(method.name)) for method in self._methods)

    def labelled_probabilities(self, name: str, n: int) -> tuple[F64, F64]:
        """Return a scorer's probabilities at n and their labels; empty where it has none.

        Completions that are whole, labelled and scored count; several times where agreement in a draw matters.
        """
        said, right = [np.zeros(0)], [np.zeros(0)]
        varies = name == "head" and self._agreement is not None
        for _, size, stack in self._stacks:
            draws = np.arange(size)[None]
            if varies:
                if size < n:
                    continue
                draws = draw_subsets(size, n, max_subsets=self._max_subsets, seed=self._seed)[:DRAWS_FOR_CALIBRATION]
            drawn = DrawnSubsets(stack, draws, auto_answer=self._auto_answer, agreement=self._agreement)
            chances = drawn.probabilities(name)
            if chances is None:
                break
            labels = stack.labels[:, draws]
            known = drawn.complete & ~np.isnan(labels) & ~np.isnan(chances)
            said.append(chances[known])
            right.append(labels[known])
        return np.concatenate(said), np.concatenate(right)

    def _row(self, method: Method, accuracy: dict[tuple[str, int], F64], auroc: F64 | None) -> Row:
        here = {n: accuracy[method.name, n] for n in self._ns}
        beyond = {n: here[n] - accuracy["majority", n] for n in self._ns}
        first = {n: float(accuracy["first", n][0]) for n in self._ns}
        gap = {n: float(accuracy["oracle", n][0]) - first[n] for n in self._ns}
        scores, labels = (
            self._pooled_scores(method.scorer)[1:] if _has_own_scores(method) else (np.zeros(0), np.zeros(0))
        )
        judged = {n: self.labelled_probabilities(method.scorer, n) for n in self._ns} if _has_own_scores(method) else {}
        judged = {n: each for n, each in judged.items() if len(each[0])}
        brier_at = {n: brier(*each) for n, each in judged.items()}
        ece_at = {n: expected_calibration_error(*each) for n, each in judged.items()}
        return Row(
            name=method.name,
            label=method.label,
            kind=method.kind,
            needs_labels=method.needs_labels,
            accuracy={n: _estimate(here[n]) for n in self._ns},
            minus_majority={n: _estimate(beyond[n]) for n in self._ns},
            gap_closed={n: (float(here[n][0]) - first[n]) / gap[n] if gap[n] > 0 else None for n in self._ns},
            within_question_auroc=None if auroc is None else _estimate(auroc),
            pooled_auroc=_none_if_nan(pooled_auroc(scores, labels)) if len(scores) else None,
            brier=brier_at.get(self._ns[-1]),
            ece=ece_at.get(self._ns[-1]),
            brier_at=brier_at,
            ece_at=ece_at,
        )

    def _pair_wins(self, name: str) -> tuple[F64, F64]:
        question, scores, labels = self._pooled_scores(name)
        return pair_wins(scores, labels, question.astype(np.int64), questions=self._n_questions)

    def _pooled_scores(self, name: str) -> tuple[F64, F64, F64]:
        """Return question, score and label of each whole, labelled and scored completion, among all of its question."""
        parts = []
        for at, size, stack in self._stacks:
            drawn = DrawnSubsets(stack, np.arange(size)[None], auto_answer=self._auto_answer, agreement=self._agreement)
            scores, labels = drawn.scores(name)[:, 0], stack.labels
            known = stack.complete & ~np.isnan(labels) & ~np.isnan(scores)
            question = np.repeat(at, size).reshape(known.shape)
            parts.append((question[known].astype(np.float64), scores[known], labels[known]))
        question, scores, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        return question, scores, labels


def _has_own_scores(method: Method) -> bool:
    """Tell whether a row's scores are shown: a vote's are those of the row that picks the best of them."""
    return method.kind == "single" and method.scorer != NO_SCORE


def _estimate(values: F64) -> Estimate:
    return estimate(float(values[0]), values[1:])


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else value
