"""Comparison of all methods on all draws of all questions, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from swift_client.evaluation.methods import (
    NO_SCORE,
    DrawnSubsets,
    Method,
    accuracy_by_method,
    count_judged_answers,
    question_blocks,
)
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Agreement, StackedPools
from swift_client.evaluation.result import Row, estimate
from swift_client.evaluation.scratch.block_file import Block
from swift_client.evaluation.scratch.pair_metrics import Calibration, measure_calibration, pooled_auroc
from swift_client.evaluation.scratch.resampling import resample_rows
from swift_client.evaluation.scratch.sorted_pairs import PairFile
from swift_client.evaluation.scratch.table_file import TableFile
from swift_client.features.segments import F64, I64
from swift_client.selection.voting import draw_orders
from swift_client.training.metrics import pair_wins

# Draws per question for calibration metrics, if agreement makes probabilities differ from draw to draw.
DRAWS_FOR_CALIBRATION = 20

_MEAN = "mean"  # of several n
_ROWS_PER_READ = 2048  # questions whose shares are read at once

# (method, n or _MEAN), (method, "won"), (method, "pairs"), or ("valid", n or _MEAN) for the questions that count there.
_ColumnKey = tuple[str, int | str]


class Comparison:
    """Accuracy of each method at each n on Q questions, of which those with at least n completions count."""

    def __init__(
        self,
        pools: PoolTable,
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
        self._pools, self._methods, self._ns = pools, tuple(methods), tuple(ns)
        self._max_subsets, self._seed, self._auto_answer = max_subsets, seed, auto_answer
        self._agreement, self._beta = agreement, beta
        # The shares of right draws: for each method and n, a table and a column of it.
        self._shares: dict[_ColumnKey, tuple[TableFile, int]] = {}
        self._measured = [method.name for method in methods]
        self._calibrations: dict[_ColumnKey, Calibration | None] = {}
        for n in ns:
            self._add_shares(methods, n)
            progress(n)

    def _stack(self, block: Block) -> StackedPools:
        return StackedPools.from_columns(
            block.columns, auto_answer=self._auto_answer, agreement=self._agreement, beta=self._beta
        )

    def _add_shares(self, methods: Sequence[Method], n: int, drawn: int | None = None) -> None:
        """Measure methods on draws of ``drawn`` completions, by default n; questions with fewer than n are NaN."""
        table = TableFile(len(methods))
        for count, blocks in self._pools.slices():
            rows = np.full((count, len(methods)), np.nan)
            for block in blocks:
                if block.size >= n:
                    draws = self._draws(block.size, min(block.size, drawn or n))
                    shares = accuracy_by_method(methods, self._stack(block), draws)
                    rows[block.rows] = np.stack([shares[method.name] for method in methods], axis=1)
            table.append(rows)
        for number, method in enumerate(methods):
            self._shares[method.name, n] = (table, number)

    def _draws(self, size: int, n: int) -> I64:
        return draw_orders(size, n, max_subsets=self._max_subsets, seed=self._seed)

    def mean_judged_answers(self, method: Method, n: int) -> float:
        """Return the mean number of answers per draw of n that the method's verifier judges.

        Questions that it did not judge count none.
        """
        table = TableFile(1)
        for count, blocks in self._pools.slices():
            counts = np.zeros((count, 1))  # with zeros, which change no sum, for questions with too few completions
            for block in blocks:
                if block.size >= n:
                    counts[block.rows, 0] = count_judged_answers(method, self._stack(block), self._draws(block.size, n))
            table.append(counts)
        return table.sum(0) / self._pools.count(n)

    def add_larger_draws(self, method: Method, ns: Mapping[int, int]) -> None:
        """Add a method that chooses from more completions than the others: at n from ``ns[n]``, or all if fewer."""
        last = max(i for i, other in enumerate(self._methods) if other.kind == method.kind)
        self._methods = (*self._methods[: last + 1], method, *self._methods[last + 1 :])
        self._measured.append(method.name)
        for n, larger_n in ns.items():
            self._add_shares([method], n, larger_n)

    def accuracy(self, name: str, n: int) -> F64:
        """Return the share of draws in which a method is right at n, (Q,); NaN for questions with fewer completions."""
        table, number = self._shares[name, n]
        return table.column(number)

    def mean_accuracy(self, name: str, ns: Sequence[int]) -> float:
        """Return a method's mean accuracy over ``ns``, over the questions with enough completions for any of them."""
        means = TableFile(1)
        for start in range(0, len(self._pools), _ROWS_PER_READ):
            shares = self._read_shares(slice(start, start + _ROWS_PER_READ))
            column = self._mean_column(shares, name, ns)
            means.append(column[~np.isnan(column), None])
        return means.mean(0)

    def rows(self, *, resamples: int, label_free: str = "default", gain_ns: Sequence[int] = ()) -> tuple[Row, ...]:
        """Return one row per method, with intervals from ``resamples`` draws of the questions.

        ``label_free`` is the row that all are compared with, beside majority; ``gain_ns`` are the n over which the
        difference to it is averaged, by default all.
        """
        scored = [method for method in self._methods if _has_own_scores(method)]
        won_pairs, pooled = self._measure_scores(scored)
        # Everything that is summed over questions goes into one table, so all rows share the resamples.
        ns: tuple[int | str, ...] = (*self._ns, _MEAN)
        keys: list[_ColumnKey] = [("valid", n) for n in self._ns]
        keys += [(name, n) for name in self._measured for n in self._ns]
        keys += [("valid", _MEAN), *((method.name, _MEAN) for method in self._methods)]
        keys += [(method.name, part) for method in scored for part in ("won", "pairs")]

        def fill(rows: slice, out: F64) -> None:
            for start in range(0, len(out), _ROWS_PER_READ):
                part = out[start : start + _ROWS_PER_READ]
                positions = slice(rows.start + start, rows.start + start + len(part))
                shares = self._read_shares(positions)
                # The mean over several n, of those questions that have enough completions for any of them.
                for method in self._methods:
                    shares[method.name, _MEAN] = self._mean_column(shares, method.name, gain_ns or self._ns)
                for n in ns:
                    shares["valid", n] = ~np.isnan(shares["majority", n])
                counts = won_pairs.read(positions)
                for number, method in enumerate(scored):
                    shares[method.name, "won"], shares[method.name, "pairs"] = counts[:, 2 * number : 2 * number + 2].T
                for number, key in enumerate(keys):
                    part[:, number] = np.nan_to_num(shares[key])

        sums = resample_rows(fill, (len(self._pools), len(keys)), resamples=resamples, seed=self._seed)
        totals = dict(zip(keys, sums.T, strict=True))
        # Ratios of sums, for the questions as they are and for every resample.
        with np.errstate(invalid="ignore"):
            accuracy = {(m.name, n): totals[m.name, n] / totals["valid", n] for m in self._methods for n in ns}
            auroc = {m.name: totals[m.name, "won"] / totals[m.name, "pairs"] for m in scored}
        return tuple(
            self._row(method, accuracy, auroc.get(method.name), pooled.get(method.name), label_free)
            for method in self._methods
        )

    def _read_shares(self, rows: slice) -> dict[_ColumnKey, F64]:
        """Return the shares of right draws of a slice of questions, (K,); NaN for those with too few completions."""
        tables = {id(table): table.read(rows) for table, _ in self._shares.values()}
        return {key: tables[id(table)][:, number] for key, (table, number) in self._shares.items()}

    def _mean_column(self, shares: Mapping[_ColumnKey, F64], name: str, ns: Sequence[int]) -> F64:
        """Return a method's mean accuracy over ``ns``, (K,); NaN for questions with too few completions."""
        table = np.stack([shares[name, n] for n in ns], axis=1)
        counts = (~np.isnan(table)).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(table, axis=1) / counts)

    def calibration(self, name: str, n: int) -> Calibration | None:
        """Return the calibration of a scorer's probabilities at n; None if it has none.

        Complete, labelled and scored completions count; several times if agreement in a draw matters.
        """
        varies = name == "head" and self._agreement is not None  # agreement depends on the other completions of a draw
        key = (name, n if varies else _MEAN)
        if key not in self._calibrations:
            self._calibrations[key] = measure_calibration(self._labelled_probabilities(name, n if varies else None))
        return self._calibrations[key]

    def _labelled_probabilities(self, name: str, n: int | None) -> PairFile:
        """Return a scorer's probabilities and their labels: in draws of n, or of each completion once."""
        pairs = PairFile()
        for size in sorted(self._pools.sizes):
            if n is not None and size < n:
                continue
            draws = np.arange(size)[None] if n is None else self._draws(size, n)[:DRAWS_FOR_CALIBRATION]
            for block in self._pools.blocks(size):
                for questions in question_blocks(len(block.rows), draws):
                    subsets = DrawnSubsets(self._stack(block).slice_questions(questions), draws)
                    probabilities = subsets.probabilities(name)
                    if probabilities is None:
                        return pairs
                    labels = block.columns["labels", ""][questions][:, draws]
                    usable = subsets.complete & ~np.isnan(labels) & ~np.isnan(probabilities)
                    pairs.append(probabilities[usable], labels[usable])
        return pairs

    def _row(
        self,
        method: Method,
        accuracy: dict[_ColumnKey, F64],
        auroc: F64 | None,
        pooled: float | None,
        label_free: str,
    ) -> Row:
        own = {n: accuracy[method.name, n] for n in self._ns}
        first = {n: float(accuracy["first", n][0]) for n in self._ns}
        gap = {n: float(accuracy["oracle", n][0]) - first[n] for n in self._ns}
        brier_at, ece_at = {}, {}
        if _has_own_scores(method):
            for n in self._ns:
                if calibration := self.calibration(method.shown_scorer, n):
                    brier_at[n], ece_at[n] = calibration.brier, calibration.reliability.error
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
            pooled_auroc=pooled,
            brier=brier_at.get(self._ns[-1]),
            ece=ece_at.get(self._ns[-1]),
            brier_at=brier_at,
            ece_at=ece_at,
        )

    def _measure_scores(self, methods: Sequence[Method]) -> tuple[TableFile, dict[str, float | None]]:
        """Return won and all pairs of each question, (Q, 2 · methods), and the pooled AUROC of each method.

        Complete, labelled and scored completions count.
        """
        won_pairs = TableFile(2 * len(methods))
        pooled = {method.name: PairFile() for method in methods}
        for count, blocks in self._pools.slices():
            rows = np.zeros((count, 2 * len(methods)))
            for block in blocks:
                subsets = DrawnSubsets(self._stack(block), np.arange(block.size)[None])
                labels = block.columns["labels", ""]
                for number, method in enumerate(methods):
                    scores = subsets.scores(method.shown_scorer)[:, 0]
                    usable = subsets.complete[:, 0] & ~np.isnan(labels) & ~np.isnan(scores)
                    pooled[method.name].append(scores[usable], labels[usable])
                    question = np.nonzero(usable)[0]
                    counts = pair_wins(scores[usable], labels[usable], question, questions=len(labels))
                    rows[block.rows, 2 * number : 2 * number + 2] = np.stack(counts, axis=1)
            won_pairs.append(rows)
        aurocs = {name: pooled_auroc(pairs) for name, pairs in pooled.items()}
        return won_pairs, {name: None if np.isnan(auroc) else auroc for name, auroc in aurocs.items()}


def _has_own_scores(method: Method) -> bool:
    """Return whether a row shows its scores; a vote's are those of the row that chooses the best of them."""
    return method.kind == "single" and method.shown_scorer != NO_SCORE
