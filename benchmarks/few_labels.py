"""Gain of few labelled questions beside unlabelled ones over the best rule that needs no labels.

    python benchmarks/few_labels.py [--json] [--labels 25 50 100 200 500] [--questions 1076] [--seeds 3] [--folder DIR]

SmolLM2's stored answers (``tools/smollm2/README.md``), 16 per question. Each seed draws which train questions have
labels; the others, but for the largest ``--labels``, are the unlabelled ones. The best label-free rule is chosen on the
validation questions. All rows are judged on the first ``--questions`` test questions, with the same 100 draws of n
completions. Accuracies are means over the seeds. An interval is a 95 % paired bootstrap over the questions of the mean
difference. Points are hundredths of the questions.

``--validation`` judges on the validation questions, on which the method was chosen. ``--folder`` takes the packaged
model's ``train*.db`` and ``test.db``, as ``benchmarks/quality.py --folder`` keeps them; a fifth of the train questions
chooses the rule then.

The rows beside the label-free ones:

- ``labels``: ``train`` on the labelled questions, its vote and its best score.
- ``agreement first``: ``train --unlabelled`` with the other questions, its vote and its best score.
- ``agreement``: the best score of a head that saw no label, for 0 labels.
- ``agreement as a column``: a logistic regression on that score and the label-free score.
- ``label-free start``: the penalty of training holds the weights near those of the label-free score.
- ``standardized``: training on labels, columns standardized on the unlabelled questions too.

The label-free score is the sum of logprobs if half of the replies have at most 8 tokens, else their mean.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.dataset.graders import grade_all
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.gate import choose_rule
from swift_client.evaluation.methods import METHODS
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Pool, build_pool, completion_order, head_scorer, label_free_scorers
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.features import FEATURES, RESPONSE_TERMS, column_names
from swift_client.features.segments import F64
from swift_client.models import AnyHead
from swift_client.selection.voting import LABEL_FREE_WEIGHTS
from swift_client.training import Group, Split, StoredGroups
from swift_client.training.agreement import LABELS_PRIOR, AgreementNetwork, train_by_agreement
from swift_client.training.calibration import fit_platt
from swift_client.training.export_head import build_head
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.fit import fit
from swift_client.training.folds import Parts, read_groups
from swift_client.training.network import Network
from swift_client.training.optimize import TrainedNetwork, network_scores, train
from swift_client.training.recipes import RECIPES
from tools.smollm2 import stored

NS, SUBSETS, RESAMPLES = (2, 4, 8, 16), 100, 2000
CPU = torch.device("cpu")
RECIPE = replace(RECIPES["default"], identity=())
NAMES: dict[str, Any] = {"provider": "benchmark", "model": "benchmark"}
LABELS, AGREEMENT_FIRST = "labels", "agreement first"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The questions of one model."""

    train: Sequence[Group]
    validation: Sequence[Group]
    test: Sequence[Group]
    answer: str


def read_smollm2() -> Questions:
    """Read the stored samples of SmolLM2."""
    parts: dict[str, list[Group]] = {"train": [], "validation": [], "test": []}
    for sampled in stored.read(splits=parts):
        graded = grade_all(sampled.completions, sampled.question.answer, "text")
        group = Group(question_id=sampled.question.id, completions=sampled.completions, labels=graded.labels)
        parts[sampled.split].append(group)
    return Questions(**parts, answer="text")


def read_folder(folder: Path) -> Questions:
    """Read the packaged model's samples, split by another seed than those of the heads."""
    split, groups = Split(test=0.0, seed=-1), list(StoredGroups(sorted(folder.glob("train*.db"))))
    parts = {
        part: [group for group in groups if split.part(group.question_id) == part] for part in ("train", "validation")
    }
    return Questions(**parts, test=list(StoredGroups([folder / "test.db"])), answer="auto")


class Candidates:
    """Heads trained on some labelled questions, beside others whose labels are hidden."""

    def __init__(self, labelled: Sequence[Group], agreement: AgreementNetwork, answer: str, seed: int) -> None:
        self._labelled, self._agreement, self._answer, self._seed = labelled, agreement, answer, seed
        self._split = Split(test=0.0, seed=seed)

    def shipped(self, *, with_agreement: bool) -> AnyHead:
        """Return the head of ``train``, with or without ``--unlabelled``."""
        return fit(
            self._labelled,
            **NAMES,
            answer=self._answer,
            split=self._split,
            seed=self._seed,
            device="cpu",
            unlabelled=self._agreement if with_agreement else None,
        ).artifact

    def heads(self) -> Iterator[tuple[str, AnyHead]]:
        """Yield the other candidates, which are judged by their best score."""
        parts = read_groups(self._labelled, RECIPE, split=self._split, answer=self._answer, seed=self._seed).parts()
        agreement = self._agreement.trained
        yield "agreement as a column", _head(agreement, self._add_column(agreement.network, parts.train))
        yield "label-free start", _head(agreement, self._train(self._label_free(agreement.network, parts), parts))
        blank = copy.deepcopy(agreement.network)
        blank.zero_weights()
        trained = train(parts, RECIPE, start=blank, seed=self._seed, device=CPU)
        yield "standardized", _head(agreement, trained.network)

    def _train(self, start: Network, parts: Parts) -> Network:
        recipe = replace(RECIPE, loss="bce", prior=LABELS_PRIOR)
        return train(parts, recipe, start=start, seed=self._seed, device=CPU).network

    def _label_free_column(self) -> tuple[bool, int]:
        """Return True and the column of the sum among the terms, or False and that of a token's logprob."""
        if np.median(self._agreement.trained.parts.train.lengths) <= LABEL_FREE_WEIGHTS[0].max_tokens:
            return True, column_names(RESPONSE_TERMS, RECIPE.terms).index("sum_logprob")
        return False, column_names(FEATURES, RECIPE.features).index("logprob")

    def _add_label_free(self, network: Network, weight: float) -> None:
        """Add ``weight`` times the label-free score to the network's scores, but for a constant."""
        is_sum, column = self._label_free_column()
        with torch.no_grad():
            if is_sum:
                network.response_weights[column] += weight * network.terms_scale[column]
            else:  # without gates: the mean over the tokens
                network.token_linear.weight[1, column] += weight * network.tokens_scale[column]

    def _label_free(self, like: Network, parts: Parts) -> Network:
        """Return a network with the label-free score, scaled to the labels."""
        network = copy.deepcopy(like)
        network.zero_weights()
        self._add_label_free(network, 1.0)
        platt = fit_platt(network_scores(network, parts.train), parts.train.labels)
        network.rescale(float(platt.a), float(platt.b))
        return network

    def _add_column(self, agreement: Network, matrix: FeatureMatrix) -> Network:
        """Return the agreement's network plus the label-free score, both weighed by a logistic regression."""
        is_sum, _ = self._label_free_column()
        free = copy.deepcopy(agreement)
        free.zero_weights()
        self._add_label_free(free, 1.0)
        columns = np.stack([network_scores(network, matrix) for network in (agreement, free)], axis=1)
        scale = columns.std(axis=0)
        weights = LogisticRegression().fit(columns / scale, matrix.labels).coef_[0] / scale
        network = copy.deepcopy(agreement)
        network.rescale(float(weights[0]), 0.0)
        if is_sum:  # the gates of the network would weigh a mean
            self._add_label_free(network, float(weights[1]))
        return network


def _head(trained: TrainedNetwork, network: Network) -> AnyHead:
    return build_head(trained._replace(network=network), None, **NAMES)


class Judge:
    """Accuracy of heads on fixed questions, and the best label-free rule."""

    def __init__(self, questions: Questions, test: Sequence[Group]) -> None:
        self._auto, self._groups = questions.answer == "auto", test
        scorers = label_free_scorers({method.scorer for method in METHODS})

        def pools(groups: Sequence[Group]) -> list[Pool]:
            return [build_pool(group, scorers, questions.answer) for group in groups]

        self._pools = pools(test)
        self.rule = choose_rule(PoolTable(pools(questions.validation)), answer=questions.answer)

    def label_free(self, *names: str) -> list[F64]:
        """Return the accuracies of rows that need no labels, (Q, |NS|) each."""
        return self._accuracies(self._pools, names, 1.0)

    def head(self, head: AnyHead) -> list[F64]:
        """Return the accuracies of a head's best score and of its vote, (Q, |NS|) each."""
        score, pools = head_scorer(head), []
        for group, pool in zip(self._groups, self._pools, strict=True):
            scores = score([group.completions[position] for position in completion_order(group)])
            probabilities = {} if scores.probabilities is None else {"head": scores.probabilities.astype(np.float64)}
            pools.append(replace(pool, scores={"head": scores.values.astype(np.float64)}, probabilities=probabilities))
        return self._accuracies(pools, ("head", "head_vote"), head.beta)

    def _accuracies(self, pools: Sequence[Pool], names: Sequence[str], beta: float) -> list[F64]:
        comparison = Comparison(
            PoolTable(pools),
            [method for method in METHODS if method.name in names],
            ns=NS,
            max_subsets=SUBSETS,
            seed=0,
            auto_answer=self._auto,
            agreement=None,
            beta=beta,
        )
        return [np.stack([comparison.accuracy(name, n) for n in NS], axis=1) for name in names]


def measure(
    questions: Questions, judge: Judge, sizes: Sequence[int], seeds: int, unlabelled: int
) -> dict[tuple[int, str], list[F64]]:
    """Return the accuracies (Q, |NS|) of each number of labels and row, one array per seed."""
    start, found = time.perf_counter(), dict[tuple[int, str], list[F64]]()
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(questions.train))
        drawn = [questions.train[index] for index in order]
        # The same unlabelled questions for every number of labels, so that agreement is learnt once.
        agreement = train_by_agreement(
            drawn[max(sizes, default=0) :][:unlabelled],
            RECIPE,
            labelled=(),
            split=Split(test=0.0, seed=seed),
            answer=questions.answer,
            k=20,
            seed=seed,
            device=CPU,
        )
        best, _ = judge.head(_head(agreement.trained, agreement.trained.network))
        found.setdefault((0, "agreement"), []).append(best)
        print(f"seed {seed}, {agreement.questions} unlabelled: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        for size in sizes:
            candidates = Candidates(drawn[:size], agreement, questions.answer, seed)
            for row, with_agreement in ((LABELS, False), (AGREEMENT_FIRST, True)):
                best, vote = judge.head(candidates.shipped(with_agreement=with_agreement))
                found.setdefault((size, row), []).append(vote)
                found.setdefault((size, f"{row}, best"), []).append(best)
            for row, head in candidates.heads():
                found.setdefault((size, row), []).append(judge.head(head)[0])
            print(f"seed {seed}, {size} labels: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return found


def differences(one: Sequence[F64], other: Sequence[F64]) -> list[Estimate]:
    """Return the paired difference of two rows at each n and in the mean, in points."""
    difference = 100 * (np.mean(one, axis=0) - np.mean(other, axis=0))
    columns = np.concatenate([difference, difference.mean(axis=1, keepdims=True)], axis=1)
    sums = sums_with_resamples(columns, resamples=RESAMPLES, seed=0) / len(columns)
    return [estimate(column) for column in sums.T]


def plain(value: Estimate) -> dict[str, float]:
    """Return an estimate as JSON values."""
    return {name: round(getattr(value, name), 2) for name in ("value", "low", "high")}


def summarize(rows: Mapping[tuple[int, str], Sequence[F64]], free: F64) -> list[dict[str, Any]]:
    """Return one JSON object per row: accuracy, difference to the best label-free rule and to labels alone."""
    summaries = []
    for (size, name), accuracies in rows.items():
        means = 100 * np.mean(accuracies, axis=(0, 1))
        suffix = "" if name in (AGREEMENT_FIRST, LABELS) else ", best"
        baseline = rows.get((size, LABELS + suffix))
        by_seed = [100 * (accuracy.mean() - free.mean()) for accuracy in accuracies]
        summary: dict[str, Any] = {
            "labels": size,
            "row": name,
            "accuracy": {str(n): round(float(mean), 2) for n, mean in zip(NS, means, strict=True)},
            "minus_label_free": _by_n(differences(accuracies, [free])),
            "minus_label_free_by_seed": [round(float(value), 2) for value in by_seed],
        }
        if baseline is not None and name not in (LABELS, f"{LABELS}, best"):
            summary["minus_labels"] = _by_n(differences(accuracies, baseline))
        summaries.append(summary)
    return summaries


def _by_n(values: Sequence[Estimate]) -> dict[str, dict[str, float]]:
    return {key: plain(value) for key, value in zip([*map(str, NS), "mean"], values, strict=True)}


def bars(summaries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the gain of agreement first over labels alone and over the best label-free rule, mean over n."""
    results = {}
    for summary in summaries:
        if summary["row"] == AGREEMENT_FIRST:
            for name in ("minus_labels", "minus_label_free"):
                mean = summary[name]["mean"]
                results[f"agreement_first_{name}_{summary['labels']}"] = {
                    "value": mean["value"],
                    "target": 0,
                    "unit": "points",
                    "interval": [mean["low"], mean["high"]],
                }
    return results


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--labels", type=int, nargs="+", default=[25, 50, 100, 200, 500], help="labelled questions")
    parser.add_argument("--unlabelled", type=int, default=1000, help="at most so many other questions")
    parser.add_argument("--questions", type=int, help="judge on so many questions only")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--validation", action="store_true", help="judge on the validation questions")
    parser.add_argument("--folder", type=Path, help="samples of the packaged model: train*.db and test.db")
    options = parser.parse_args()
    start = time.perf_counter()
    questions = read_folder(options.folder) if options.folder else read_smollm2()
    test = (questions.validation if options.validation else questions.test)[: options.questions]
    judge = Judge(questions, test)
    free, majority, default = judge.label_free(judge.rule, "majority", "default")
    rows: dict[tuple[int, str], list[F64]] = {
        (0, "majority"): [majority],
        (0, "default without a head"): [default],
        (0, f"best label-free rule ({judge.rule})"): [free],
    }
    sizes = [size for size in options.labels if 0 < size < len(questions.train)]
    rows |= measure(questions, judge, sizes, options.seeds, options.unlabelled)
    summaries = summarize(rows, free)
    if options.json:
        facts = {"rule": judge.rule, "questions": len(test), "seconds": round(time.perf_counter() - start)}
        print(json.dumps({**facts, "bars": bars(summaries), "rows": summaries}, indent=2))
        return
    print(f"{len(test)} questions, {options.seeds} seeds; the best label-free rule on validation is {judge.rule}")
    print(f"{'labels':>6}  {'right, %':34}" + "".join(f"{f'n={n}':>7}" for n in NS) + "   minus label-free, mean")
    for row in sorted(summaries, key=lambda row: int(row["labels"])):
        mean, seed_range = row["minus_label_free"]["mean"], row["minus_label_free_by_seed"]
        print(
            f"{row['labels']:6}  {row['row']:34}"
            + "".join(f"{row['accuracy'][str(n)]:7.1f}" for n in NS)
            + f"   {mean['value']:+.2f} ({mean['low']:+.2f} to {mean['high']:+.2f})"
            + (f", seeds {min(seed_range):+.2f} to {max(seed_range):+.2f}" if len(seed_range) > 1 else "")
        )
    print(f"\nagreement first minus labels alone, mean over n = {', '.join(map(str, NS))}, in points")
    for name, bar in bars(summaries).items():
        print(f"{name:45} {bar['value']:+.2f} ({bar['interval'][0]:+.2f} to {bar['interval'][1]:+.2f})")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
