"""Savings by stopping early: every rule on the same answers of the packaged model, to questions not used for tuning.

    python benchmarks/savings.py [--json] [--questions 510] [--seeds 3] [--orders 50] [--folder samples] [--svg file]

For each seed the packaged model answers questions of its test split, 16 completions each at temperature 0.8, with
seeds of their own. Every rule is replayed over all of them, in many orders of each question's completions, once as
``best_of(stopping=...)`` asks it (after waves) and once after every completion, as its authors do. The packaged head
gives probabilities; it, its calibration and the rules' parameters come from the train split. Accuracies and shares are
means over all questions with 95 % paired bootstrap intervals over the questions; each seed's own values stand beside
them. Then a part of the questions is asked again by ``best_of`` itself, to show that replay and service agree.
Points are hundredths of the questions. ``--folder`` keeps the samples, and goes on from those that lie there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.cascade_curve import CurvePoint, cascade_curve
from benchmarks.guarantee import check_guarantee
from swift_client import SwiftReranker
from swift_client.answers import are_equal
from swift_client.evaluation.result import Replayed, Simulation
from swift_client.evaluation.risk.calibrate import replay_questions
from swift_client.evaluation.simulation.simulate import simulate
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import find_for_model
from swift_client.pocket.questions import Question, questions
from swift_client.report.charts.stopping import savings_svg
from swift_client.selection.select import SelectionConfig
from swift_client.stopping.monitor import WAVE_SIZES
from swift_client.store import StoredQuestion
from swift_client.training import Group, StoredGroups, collect

COMPLETIONS, TEMPERATURE, FIRST_SEED = 16, 0.8, 21
RISK, CONFIDENCE, SPLITS = 0.05, 0.9, 200


def draw_samples(folder: Path, count: int, seeds: int) -> list[list[Group]]:
    """Collect the missing answers and return the groups of each seed, without repeated questions."""
    seen_ids: set[str] = set()
    parts = []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        new_questions = [
            question for question in questions(count + 10, seed=seed, split="test") if question.id not in seen_ids
        ][:count]
        seen_ids |= {question.id for question in new_questions}
        stored = [
            StoredQuestion(
                id=question.id,
                messages=({"role": "user", "content": question.prompt},),
                answer=question.answer,
                family=question.family,
            )
            for question in new_questions
        ]
        path = folder / f"savings_{seed}.db"
        collect(stored, path, provider="pocket", n=COMPLETIONS, temperature=TEMPERATURE, seed=seed)
        ids = {question.id for question in stored}
        parts.append([group for group in StoredGroups([path]) if group.question_id in ids])
    return parts


def replay(groups: Sequence[Group], head: HeadArtifact, waves: Sequence[int], orders: int, rules: Any) -> Simulation:
    """Replay rules with the head over groups, asked after these waves."""
    return simulate(groups, head, rules=rules, n=COMPLETIONS, orders=orders, waves=waves, split="all")


def serve(sample_questions: Sequence[Question]) -> dict[str, float]:
    """Ask ``best_of`` itself, with and without the rule; return accuracies, tokens and calls."""
    totals = {"questions": float(len(sample_questions))}
    with SwiftReranker("pocket") as reranker:
        for name, stopping in (("auto", "auto"), ("all_16", None)):
            right = tokens = calls = 0
            for number, question in enumerate(sample_questions):
                selection = reranker.best_of(
                    question.prompt, COMPLETIONS, temperature=TEMPERATURE, seed=7919 * number, stopping=stopping
                )
                right += are_equal(selection.answer or "", question.answer)
                tokens += selection.usage.completion_tokens
                calls += selection.usage.calls
            totals |= {f"{name}_right": right / len(sample_questions), f"{name}_tokens": tokens / len(sample_questions)}
            totals[f"{name}_calls"] = calls / len(sample_questions)
    totals["token_share"] = totals["auto_tokens"] / totals["all_16_tokens"]
    return totals


def promises(groups: Sequence[Group], head: HeadArtifact) -> dict[str, dict[str, float]]:
    """Learn thresholds on random halves and test them on the others, for several n."""
    promises_by_n = {}
    for n in (1, 4, COMPLETIONS):
        replay = replay_questions(groups, SelectionConfig(scorer=head), n=n, split="all")
        runs = [
            check_guarantee(replay, risk=RISK, confidence=CONFIDENCE, n_splits=SPLITS, seed=seed) for seed in range(3)
        ]
        promises_by_n[f"n={n}"] = {
            "broken": fmean(run.violation_rate for run in runs),
            "accepted": fmean(float(run.accepted_share.mean()) for run in runs),
            "of_oracle": fmean(run.share_of_oracle for run in runs),
            "uncertified": fmean(float((run.accepted_share == 0).mean()) for run in runs),
        }
    return promises_by_n


def promise_bars(promised: dict[str, dict[str, float]], curve: Sequence[CurvePoint]) -> dict[str, dict[str, Any]]:
    """Return the bars of the guarantee and of the cascade."""
    promise, worst_rate = (
        promised[f"n={COMPLETIONS}"],
        max(promise_at_n["broken"] for promise_at_n in promised.values()),
    )
    # 200 splits: two standard errors of a share of 10 %
    allowed = 1 - CONFIDENCE + 2 * (CONFIDENCE * (1 - CONFIDENCE) / SPLITS) ** 0.5
    inner = [point.above_line for point in curve[1:-1]]
    worst = min(inner, key=lambda estimate: estimate.value)
    return {
        "splits_broken": {
            "value": round(worst_rate, 4),
            "target": round(allowed, 4),
            "unit": "0-1",
            "interval": None,
        },
        "accepted_of_oracle": {
            "value": round(promise["of_oracle"], 4),
            "target": 0.15,
            "unit": "0-1",
            "interval": None,
        },
        "cascade_above_line": {
            "value": round(100 * worst.value, 2),
            "target": 0.0,
            "unit": "points",
            "interval": [round(100 * worst.low, 2), round(100 * worst.high, 2)],
        },
    }


def points(row: Replayed) -> tuple[float, list[float]]:
    """Return a row's difference to majority over all, in points, with its interval."""
    estimate = row.minus_majority
    return round(100 * estimate.value, 2), [round(100 * estimate.low, 2), round(100 * estimate.high, 2)]


def measure(served: Simulation) -> dict[str, dict[str, Any]]:
    """Return every bar."""
    auto = served.row("auto")
    difference, interval = points(auto)
    share = auto.token_share
    shares = [round(share.low, 4), round(share.high, 4)]
    return {
        "token_share": {"value": round(share.value, 4), "target": 0.40, "unit": "0-1", "interval": shares},
        "token_share_goal": {"value": round(share.value, 4), "target": 0.25, "unit": "0-1", "interval": shares},
        "accuracy_minus_majority16": {"value": difference, "target": 0.0, "unit": "points", "interval": interval},
        "accuracy_minus_vote16": {
            "value": round(100 * auto.minus_vote.value, 2),
            "target": -2.0,
            "unit": "points",
            "interval": [round(100 * auto.minus_vote.low, 2), round(100 * auto.minus_vote.high, 2)],
        },
        # The bar itself: the lower end of the interval.
        "accuracy_minus_majority16_low": {"value": interval[0], "target": -1.0, "unit": "points", "interval": interval},
    }


def show(name: str, simulation: Simulation) -> None:
    """Print one table of rules."""
    print(f"\n{name}: {simulation.questions} questions in {simulation.orders} orders; majority of 16 is right in "
          f"{100 * simulation.majority.value:.1f} %")  # fmt: skip
    print(f"{'rule':24}{'choice':>10}{'right, %':>10}{'- majority16':>24}{'- vote16':>10}{'drawn':>8}{'tokens, %':>11}")
    for row in simulation.rows:
        difference, (low, high) = points(row)
        print(
            f"{row.name:24}{row.choice:>10}{100 * row.accuracy.value:10.1f}"
            f"{difference:+9.2f} [{low:+.2f}, {high:+.2f}]{100 * row.minus_vote.value:+10.2f}"
            f"{row.completions.value:8.1f}{100 * row.token_share.value:11.1f}"
        )


def main() -> None:
    """Measure, then print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--questions", type=int, default=510, help="for each seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=50, help="of each question's completions")
    parser.add_argument("--serve", type=int, default=90, help="questions asked again by best_of itself")
    parser.add_argument("--folder", type=Path, help="where samples are kept")
    parser.add_argument("--svg", type=Path, help="draw accuracy against tokens, with every rule's sweep")
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        parts = draw_samples(folder, options.questions, options.seeds)
    print(f"sampled in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    head = find_for_model("pocket", "pocket").artifact
    assert head is not None, "the packaged head is missing"
    groups = [group for part in parts for group in part]
    served = replay(groups, head, WAVE_SIZES, options.orders, "all")
    sequential = replay(groups, head, (1,), options.orders, "all")
    seeds = [replay(part, head, WAVE_SIZES, options.orders, ["auto"]).row("auto") for part in parts]
    promised = promises(groups, head)
    curve = cascade_curve(groups, SelectionConfig(scorer=head), points=9)
    print(f"replayed after {time.perf_counter() - start:.0f} s", file=sys.stderr)
    real = serve(questions(options.serve, seed=FIRST_SEED - 1, split="test"))
    if options.svg:
        swept = simulate(groups, head, n=COMPLETIONS, orders=options.orders, sweep=True, split="all")
        options.svg.write_text(savings_svg(swept), encoding="utf-8")
    bars = measure(served) | promise_bars(promised, curve)
    if options.json:
        document = {
            "bars": bars,
            "seeds": [
                {"token_share": row.token_share.value, "accuracy_minus_majority16": points(row)} for row in seeds
            ],
            "guarantee": promised,
            "cascade": [asdict(point) for point in curve],
            "service": real,
            "waves": served.to_dict(),
            "sequential": sequential.to_dict(),
            "seconds": time.perf_counter() - start,
        }
        print(json.dumps(document, indent=2))
        return
    for name, bar in bars.items():
        lower_is_better = name.startswith(("token_share", "splits"))
        is_met = bar["value"] <= bar["target"] if lower_is_better else bar["value"] >= bar["target"]
        print(f"{name:32} {bar['value']:>8} {bar['unit']:7} bar {bar['target']:<5} {'ok' if is_met else 'MISSED':7}"
              f"{bar['interval']}")  # fmt: skip
    for number, row in enumerate(seeds, FIRST_SEED):
        print(f"seed {number}: {100 * row.token_share.value:.1f} % of the tokens, {points(row)[0]:+.2f} points")
    show(f"As best_of asks, after waves of {', '.join(map(str, WAVE_SIZES))}", served)
    show("Asked after every completion", sequential)
    print(f"\nAccepting at a risk of {RISK:g} with confidence {CONFIDENCE:g}, {SPLITS} random halves × 3 seeds")
    for n, row in promised.items():
        print(f"{n:6} broken {100 * row['broken']:5.1f} %   accepted {100 * row['accepted']:5.1f} %   of an oracle's "
              f"{100 * row['of_oracle']:5.1f} %   nothing certified {100 * row['uncertified']:5.1f} %")  # fmt: skip
    print("\nA cascade from 1 completion to 16")
    for point in curve:
        low, high = 100 * point.above_line.low, 100 * point.above_line.high
        print(f"{100 * point.asked_on:5.0f} % go on   {100 * point.token_share.value:5.1f} % of the tokens   right "
              f"{100 * point.accuracy.value:5.1f} %   above the line {100 * point.above_line.value:+5.1f} "
              f"[{low:+.1f}, {high:+.1f}]")  # fmt: skip
    print(
        f"\nbest_of itself on {real['questions']:.0f} other questions: "
        f"{100 * real['token_share']:.1f} % of the tokens, "
        f"{real['auto_calls']:.1f} calls; right {100 * real['auto_right']:.1f} % against "
        f"{100 * real['all_16_right']:.1f} % with all 16"
    )


if __name__ == "__main__":
    main()
