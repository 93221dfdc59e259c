"""Quality of a head against every other method, on the packaged model's answers to questions that training never saw.

    python benchmarks/quality.py [--json] [--train 700] [--test 600] [--seeds 3] [--folder samples]

The packaged model answers questions of its train split and of its test split, 16 completions each at temperature 0.8,
with seeds of its own for each question. For each seed a head is trained on four fifths of the train questions, drawn
by that seed, and one more on 100 of them; both are judged on all test questions, with 200 draws of n completions each.
Values are means over the seeds. An interval is the mean of the seeds' 95 % intervals, which are paired bootstraps over
the questions: wider than the interval of the mean, since the seeds share their questions. ``--folder`` keeps the
samples, and goes on from those that lie there. Points are hundredths of the questions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from swift_client.evaluation.evaluate import evaluate
from swift_client.evaluation.gate import judge_head
from swift_client.pocket.questions import questions
from swift_client.store import StoredQuestion
from swift_client.training import Estimate, Evaluation, Group, Split, StoredGroups, collect
from swift_client.training.fit import fit

COMPLETIONS, TEMPERATURE, FEW = 16, 0.8, 100
LOWER_IS_BETTER = ("ece", "default_behind_best")


def draw_samples(folder: Path, train: int, test: int) -> dict[str, list[Group]]:
    """Collect the missing answers of both files at once, and read them."""
    questions_by_part = {
        "train": questions(train, seed=1, split="train"),
        "test": questions(test, seed=2, split="test"),
    }

    def ask(part: str) -> list[Group]:
        path = folder / f"{part}.db"
        stored = [
            StoredQuestion(
                id=question.id,
                messages=({"role": "user", "content": question.prompt},),
                answer=question.answer,
                family=question.family,
            )
            for question in questions_by_part[part]
        ]
        collect(stored, path, provider="pocket", n=COMPLETIONS, temperature=TEMPERATURE, seed=0)
        ids = {question.id for question in stored}
        return [group for group in StoredGroups([path]) if group.question_id in ids]

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(questions_by_part, threads.map(ask, questions_by_part), strict=True))


def judge(train: Sequence[Group], test: Sequence[Group], seed: int, *, trained: bool) -> Evaluation:
    """Train a head, choose the label-free rule to beat on its validation questions, and compare all methods."""
    split = Split(test=0.0, seed=seed)
    head = fit(train, provider="pocket", model="pocket", split=split, seed=seed).artifact
    judged = judge_head(head, train, split=split, answer="auto", test_groups=test, seed=seed)
    head = replace(head, training={**head.training, "verdict": judged.verdict, "comparison": judged.to_dict()})
    return evaluate(head, test, split="all", train_samples=train if trained else None, trained=trained, seed=seed)


def bar(estimates: Sequence[Estimate], target: float, unit: str) -> dict[str, Any]:
    """Return the mean over the seeds beside its bar; points are hundredths."""
    scale, digits = (100.0, 2) if unit == "points" else (1.0, 4)
    value, low, high = (
        round(scale * fmean(getattr(estimate, name) for estimate in estimates), digits)
        for name in ("value", "low", "high")
    )
    return {"value": value, "target": target, "unit": unit, "interval": [low, high]}


def difference(one: Estimate, two: Estimate) -> Estimate:
    """Return the difference of two unpaired estimates: its interval is too wide, never too narrow."""
    value = one.value - two.value
    half = np.hypot(one.high - one.low, two.high - two.low) / 2
    return Estimate(value, float(value - half), float(value + half))


def measure(full: Sequence[Evaluation], few: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """Return every bar of the evaluations, one per seed."""

    def gains_over_majority(evaluations: Sequence[Evaluation], n: int) -> list[Estimate]:
        return [evaluation.row("head_vote").minus_majority[n] for evaluation in evaluations]

    def best_free(evaluation: Evaluation) -> Estimate:
        rows = [row for row in evaluation.rows if row.kind == "single" and not row.needs_labels]
        return max((row.accuracy[8] for row in rows), key=lambda estimate: estimate.value)

    def of(value: Callable[[Evaluation], Estimate]) -> list[Estimate]:
        return [value(evaluation) for evaluation in full]

    def behind_best(n: int) -> list[Estimate]:
        """Return the best of the head's three plain rules less its default."""
        losses = [
            max(evaluation.row(name).accuracy[n].value for name in ("head_p", "head_odds", "head"))
            - evaluation.row("head_vote").accuracy[n].value
            for evaluation in full
        ]
        return [Estimate(loss, loss, loss) for loss in losses]

    aurocs = [evaluation.row("head").within_question_auroc for evaluation in full]
    eces = [evaluation.row("head").ece for evaluation in full]
    return {
        **{
            f"vote_minus_majority_n{n}": bar(gains_over_majority(full, n), 3 if n == 8 else 4, "points")
            for n in (2, 4, 8)
        },
        "vote_minus_majority_n16": bar(gains_over_majority(full, 16), 0, "points"),
        "vote8_minus_majority16": bar(
            of(
                lambda evaluation: difference(
                    evaluation.row("head_vote").accuracy[8], evaluation.row("majority").accuracy[16]
                )
            ),
            0,
            "points",
        ),
        "best8_minus_best_free8": bar(
            of(lambda evaluation: difference(evaluation.row("head").accuracy[8], best_free(evaluation))), 0, "points"
        ),
        "within_question_auroc": bar([auroc for auroc in aurocs if auroc is not None], 0.75, "0-1"),
        "ece": bar([Estimate(ece, ece, ece) for ece in eces if ece is not None], 0.05, "0-1"),
        **{
            f"head_minus_label_free_n{n}": bar(
                [evaluation.row("head_vote").minus_label_free[n] for evaluation in full], 0, "points"
            )
            for n in (2, 4, 8, 16)
        },
        "default_behind_best": max(
            (bar(behind_best(n), 0.3, "points") for n in (2, 4, 8, 16)), key=lambda entry: float(entry["value"])
        ),
        # Not bars: what weighing votes by odds would be worth.
        **{
            f"odds_vote_minus_majority_n{n}": bar(
                [evaluation.row("head_odds").minus_majority[n] for evaluation in full], 0, "points"
            )
            for n in (2, 4, 8, 16)
        },
        **{f"few_vote_minus_majority_n{n}": bar(gains_over_majority(few, n), 0, "points") for n in (2, 4, 8)},
    }


def table(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, float]]:
    """Return by row the mean accuracy at each n, in per cent."""
    return {
        row.name: {
            f"n={n}": round(100 * fmean(evaluation.row(row.name).accuracy[n].value for evaluation in evaluations), 2)
            for n in row.accuracy
        }
        for row in evaluations[0].rows
    }


def main() -> None:
    """Measure, then print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--train", type=int, default=700, help="questions to train on")
    parser.add_argument("--test", type=int, default=600, help="questions to judge on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where samples are kept")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        groups = draw_samples(folder, options.train, options.test)
    sampled = time.perf_counter()
    print(f"sampled in {sampled - start:.0f} s", file=sys.stderr)
    full, few = [], []
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(groups["train"]))
        training_groups = [groups["train"][index] for index in order[: len(order) * 4 // 5]]
        full.append(judge(training_groups, groups["test"], seed, trained=True))
        few.append(judge(training_groups[:FEW], groups["test"], seed, trained=False))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    bars = measure(full, few)
    rows, seconds = table(full), {"sampling": sampled - start, "all": time.perf_counter() - start}
    if options.json:
        results = {f"seed_{seed}": evaluation.to_dict() for seed, evaluation in enumerate(full)}
        print(json.dumps({"bars": bars, "accuracy": rows, "seconds": seconds, "evaluations": results}, indent=2))
        return
    for name, bar in bars.items():
        is_met = bar["value"] <= bar["target"] if name in LOWER_IS_BETTER else bar["value"] >= bar["target"]
        low, high = bar["interval"]
        print(
            f"{name:28} {bar['value']:>7} {bar['unit']:6} bar {bar['target']:<5} "
            f"{'ok' if is_met else 'MISSED':6} ({low} to {high})"
        )
    facts = full[0]
    print(f"\nbest label-free rule on validation: {', '.join(evaluation.label_free for evaluation in full)}")
    print(f"{facts.questions} test questions, {len(full)} heads trained on {len(groups['train']) * 4 // 5} questions")
    ns = list(next(iter(rows.values())))
    print(f"{'right, %':34}" + "".join(f"{n:>8}" for n in ns) + "   AUROC     ECE")
    for row in facts.rows:
        auroc = [evaluation.row(row.name).within_question_auroc for evaluation in full]
        ece = [evaluation.row(row.name).ece for evaluation in full]
        print(
            f"{row.label:34}"
            + "".join(f"{rows[row.name][n]:8.1f}" for n in ns)
            + (f"{fmean(estimate.value for estimate in auroc if estimate):8.3f}" if auroc[0] else " " * 8)
            + (f"{fmean(error for error in ece if error is not None):8.3f}" if ece[0] is not None else "")
        )


if __name__ == "__main__":
    main()
