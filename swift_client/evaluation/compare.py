"""Comparison of all methods on all draws of all questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from swift_client.evaluation.methods import (
    NO_SCORE,
    DrawnSubsets,
    Method,
    accuracy_by_method,
    count_judged_answers,
)
from swift_client.evaluation.pools import Agreement, Pool, StackedPools
from swift_client.evaluation.result import Row, estimate, sums_with_resamples
from swift_client.features.segments import F64, I64
from swift_client.selection.voting import draw_orders
from swift_client.training.metrics import brier, expected_calibration_error, pair_wins, pooled_auroc

# Draws per question for calibration metrics, if agreement makes probabilities differ from draw to draw.
DRAWS_FOR_CALIBRATION = 20

_MEAN = "mean"  # of several n

# (method, n or _MEAN), (method, "won"), (method, "pairs"), or ("valid", n or _MEAN) for the questions that count there.
_ColumnKey = tuple[str, int | str]


class Comparison:
    """Accuracy of each method at each n on Q questions, of which those with at least n completions count."""

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
        beta: float = 1.0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._methods, self._ns, self._n_questions = tuple(methods), tuple(ns), len(pools)
        self._max_subsets, self._seed, self._agreement = max_subsets, seed, agreement
        # Questions with equally many completions are stacked into one array and share their draws.
        by_size: dict[int, list[int]] = defaultdict(list)
        for index, pool in enumerate(pools):
            by_size[len(pool.labels)].append(index)
        self._stacks = [
            (
                np.array(indices),
                size,
                StackedPools.stack(
                    [pools[index] for index in indices], auto_answer=auto_answer, agreement=agreement, beta=beta
                ),
            )
            for size, indices in sorted(by_size.items())
        ]
        self._accuracies = {(method.name, n): np.full(len(pools), np.nan) for method in methods for n in ns}
        for n in ns:
            for indices, size, stack in self._stacks:
                if size >= n:
                    draws = draw_orders(size, n, max_subsets=max_subsets, seed=seed)
                    for name, share in accuracy_by_method(methods, stack, draws).items():
                        self._accuracies[name, n][indices] = share
            progress(n)

    def judged_answers(self, method: Method, n: int) -> F64:
        """Return the mean number of answers per draw of n that the method's verifier judges, (Q,); NaN without any.

        Questions that it did not judge count none.
        """
        counts = np.full(self._n_questions, np.nan)
        for indices, size, stack in self._stacks:
            if size >= n:
                draws = draw_orders(size, n, max_subsets=self._max_subsets, seed=self._seed)
                counts[indices] = count_judged_answers(method, stack, draws)
        return counts

    def add_larger_draws(self, method: Method, ns: Mapping[int, int]) -> None:
        """Add a method that chooses from more completions than the others: at n from ``ns[n]``, or all if fewer."""
        last = max(i for i, other in enumerate(self._methods) if other.kind == method.kind)
        self._methods = (*self._methods[: last + 1], method, *self._methods[last + 1 :])
        for n, larger_n in ns.items():
            shares = np.full(self._n_questions, np.nan)
            for indices, size, stack in self._stacks:
                if size >= n:
                    draws = draw_orders(size, min(size, larger_n), max_subsets=self._max_subsets, seed=self._seed)
                    shares[indices] = accuracy_by_method([method], stack, draws)[method.name]
            self._accuracies[method.name, n] = shares

    def accuracy(self, name: str, n: int) -> F64:
        """Return the share of draws in which a method is right at n, (Q,); NaN for questions with fewer completions."""
        return self._accuracies[name, n]

    def rows(self, *, resamples: int, label_free: str = "default", gain_ns: Sequence[int] = ()) -> tuple[Row, ...]:
        """Return one row per method, with intervals from ``resamples`` draws of the questions.

        ``label_free`` is the row that all are compared with, beside majority; ``gain_ns`` are the n over which the
        difference to it is averaged, by default all.
        """
        pooled = {
            method.name: self._pooled_scores(method.shown_scorer) for method in self._methods if _has_own_scores(method)
        }
        pair_counts = {
            name: pair_wins(scores, labels, question, questions=self._n_questions)
            for name, (question, scores, labels) in pooled.items()
        }
        # Everything that is summed over questions goes into one table, so all rows share the resamples.
        columns: dict[_ColumnKey, F64] = {
            ("valid", n): (~np.isnan(self._accuracies["majority", n])).astype(np.float64) for n in self._ns
        }
        columns.update({key: np.nan_to_num(share) for key, share in self._accuracies.items()})
        # The mean over several n, of those questions that have enough completions for any of them.
        means = {method.name: self._mean_accuracy(method.name, gain_ns or self._ns) for method in self._methods}
        columns["valid", _MEAN] = (~np.isnan(means["majority"])).astype(np.float64)
        columns.update({(name, _MEAN): np.nan_to_num(mean) for name, mean in means.items()})
        for name, (won, pairs) in pair_counts.items():
            columns.update({(name, "won"): won, (name, "pairs"): pairs})
        table = np.stack(list(columns.values()), axis=1)
        sums = sums_with_resamples(table, resamples=resamples, seed=self._seed)
        totals = dict(zip(columns, sums.T, strict=True))
        ns: tuple[int | str, ...] = (*self._ns, _MEAN)
        # Ratios of sums, for the questions as they are and for every resample.
        with np.errstate(invalid="ignore"):
            accuracy = {(name, n): totals[name, n] / totals["valid", n] for name in means for n in ns}
            auroc = {name: totals[name, "won"] / totals[name, "pairs"] for name in pair_counts}
        return tuple(
            self._row(method, accuracy, auroc.get(method.name), pooled.get(method.name), label_free)
            for method in self._methods
        )

    def _mean_accuracy(self, name: str, ns: Sequence[int]) -> F64:
        """Return a method's mean accuracy over ``ns``, (Q,); NaN for questions with too few completions."""
        table = np.stack([self._accuracies[name, n] for n in ns], axis=1)
        counts = (~np.isnan(table)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(table, axis=1) / counts)

    def labelled_probabilities(self, name: str, n: int) -> tuple[F64, F64]:
        """Return a scorer's probabilities at n and their labels; empty if it has none.

        Complete, labelled and scored completions count; several times if agreement in a draw matters.
        """
        probabilities, labels = [np.zeros(0)], [np.zeros(0)]
        varies = name == "head" and self._agreement is not None
        for _, size, stack in self._stacks:
            draws = np.arange(size)[None]
            if varies:  # agreement depends on the other completions of the draw
                if size < n:
                    continue
                draws = draw_orders(size, n, max_subsets=self._max_subsets, seed=self._seed)[:DRAWS_FOR_CALIBRATION]
            subsets = DrawnSubsets(stack, draws)
            drawn_probabilities = subsets.probabilities(name)
            if drawn_probabilities is None:
                break
            drawn_labels = stack.labels[:, draws]
            usable = subsets.complete & ~np.isnan(drawn_labels) & ~np.isnan(drawn_probabilities)
            probabilities.append(drawn_probabilities[usable])
            labels.append(drawn_labels[usable])
        return np.concatenate(probabilities), np.concatenate(labels)

    def _row(
        self,
        method: Method,
        accuracy: dict[_ColumnKey, F64],
        auroc: F64 | None,
        pooled_scores: tuple[I64, F64, F64] | None,
        label_free: str,
    ) -> Row:
        own = {n: accuracy[method.name, n] for n in self._ns}
        first = {n: float(accuracy["first", n][0]) for n in self._ns}
        gap = {n: float(accuracy["oracle", n][0]) - first[n] for n in self._ns}
        pooled, calibrated = np.nan, {}
        if pooled_scores is not None:
            _, scores, labels = pooled_scores
            pooled = pooled_auroc(scores, labels) if len(scores) else np.nan
            pairs = {n: self.labelled_probabilities(method.shown_scorer, n) for n in self._ns}
            calibrated = {n: pair for n, pair in pairs.items() if len(pair[0])}
        brier_at = {n: brier(*pair) for n, pair in calibrated.items()}
        ece_at = {n: expected_calibration_error(*pair) for n, pair in calibrated.items()}
        return Row(
            name=method.name,
            label=method.label,
            kind=method.kind,
            needs_labels=method.needs_labels,
            accuracy={n: estimate(own[n]) for n in self._ns},
            minus_majority={n: estimate(own[n] - accuracy["majority", n]) for n in self._ns},
            minus_label_free={n: estimate(own[n] - accuracy[label_free, n]) for n in self._ns},
            gain=estimate(accuracy[method.name, _MEAN] - accuracy[label_free, _MEAN]),
            gain_over_majority=estimate(accuracy[method.name, _MEAN] - accuracy["majority", _MEAN]),
            gap_closed={n: (float(own[n][0]) - first[n]) / gap[n] if gap[n] > 0 else None for n in self._ns},
            within_question_auroc=None if auroc is None else estimate(auroc),
            pooled_auroc=None if np.isnan(pooled) else pooled,
            brier=brier_at.get(self._ns[-1]),
            ece=ece_at.get(self._ns[-1]),
            brier_at=brier_at,
            ece_at=ece_at,
        )

    def _pooled_scores(self, name: str) -> tuple[I64, F64, F64]:
        """Return question, score and label of each complete, labelled and scored completion of all questions."""
        parts = []
        for indices, size, stack in self._stacks:
            scores, labels = DrawnSubsets(stack, np.arange(size)[None]).scores(name)[:, 0], stack.labels
            usable = stack.complete & ~np.isnan(labels) & ~np.isnan(scores)
            question = np.repeat(indices, size).reshape(usable.shape)
            parts.append((question[usable], scores[usable], labels[usable]))
        question, scores, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        return question, scores, labels


def _has_own_scores(method: Method) -> bool:
    """Return whether a row shows its scores; a vote's are those of the row that chooses the best of them."""
    return method.kind == "single" and method.shown_scorer != NO_SCORE
