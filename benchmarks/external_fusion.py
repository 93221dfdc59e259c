"""Fusion with a real reward model on recorded answers: a process reward model's score beside agreement.

    python benchmarks/external_fusion.py --sets DIR [--json]

DIR has ``real/math500_qwen1.5b_prm_seed0.jsonl.gz`` and ``real/gsm8k_qwen1.5b_prm.jsonl.gz`` (60 questions × 8 answers
of Qwen 1.5B; not part of this project). They have no logprobs and no hidden states, so our score is the share of a
completion's answer in the draw. Each question's completions are drawn 120 times, n at a time, and all rules choose from
the same draws. Differences to the reward model's best are in points, with 95 % paired bootstraps over the questions.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from swift_client import answers
from swift_client.evaluation.result import estimate, sums_with_resamples
from swift_client.features.segments import F64, I64
from swift_client.scoring.fusion import fuse
from swift_client.selection.voting import clamp_weights, draw_orders, majority, vote

SETS = ("math500_qwen1.5b_prm_seed0", "gsm8k_qwen1.5b_prm")
NS = (2, 4, 8)
SUBSETS, RESAMPLES = 120, 2000

# From the answers (n,) of a draw, -1 for none, and the external scores (n,) to the position of the chosen one.
Choice = Callable[[I64, F64], int]


def agreement(groups: I64) -> F64:
    """Return the share of each completion's answer in the draw; 0 for one that cannot be read."""
    return np.array([(groups == group).mean() if group >= 0 else 0.0 for group in groups])


def fused(spec: str) -> Choice:
    """Return the best of agreement and external score, fused."""
    return lambda groups, scores: int(fuse(agreement(groups), scores, spec).argmax())


RULES: dict[str, Choice] = {
    "majority": lambda groups, scores: int(majority(groups, scores)),
    "reward model, best": lambda groups, scores: int(scores.argmax()),
    "reward model, weighted vote": lambda groups, scores: int(vote(groups, scores, clamp_weights(scores))),
    "fused by mean": fused("mean"),
    "fused by mean rank": fused("mean_rank"),
    "fused by worst rank": fused("worst_rank"),
}


def accuracies(path: Path) -> dict[tuple[str, int], list[float]]:
    """Return the share of right choices per question, by rule and n."""
    shares: dict[tuple[str, int], list[float]] = {(rule, n): [] for rule in RULES for n in NS}
    with gzip.open(path, "rt") as lines:
        for record in map(json.loads, lines):
            completions = record["completions"]
            labels = np.array([float(completion["label"]) for completion in completions])
            scores = np.array([float(completion["external_score"]) for completion in completions])
            read = answers.read([completion["text"] for completion in completions], "auto").groups
            groups = np.array([-1 if group is None else group for group in read], np.int64)
            for n in NS:
                draws = draw_orders(len(labels), n, max_subsets=SUBSETS, seed=0)
                for name, rule in RULES.items():
                    right = [labels[draw[rule(groups[draw], scores[draw])]] for draw in draws]
                    shares[name, n].append(float(np.mean(right)))
    return shares


def main() -> None:
    """Measure both sets together and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    parts = [accuracies(arguments.sets / "real" / f"{name}.jsonl.gz") for name in SETS]
    shares = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    rows: dict[str, Any] = {}
    for rule in RULES:
        rows[rule] = {}
        for n in NS:
            gain = shares[rule, n] - shares["reward model, best", n]
            sums = sums_with_resamples(100 * gain[:, None], resamples=RESAMPLES, seed=0)[:, 0] / len(gain)
            value = estimate(sums)
            rows[rule][n] = {
                "right": round(100 * float(shares[rule, n].mean()), 1),
                "minus_reward_model": [round(number, 1) for number in (value.value, value.low, value.high)],
            }
    if arguments.json:
        print(json.dumps({"questions": len(gain), "rows": rows}))
        return
    print(f"{len(gain)} questions{'':24}" + "".join(f"{f'n = {n}':>26}" for n in NS))
    for rule, row in rows.items():
        cells = [f"{cell['right']} ({cell['minus_reward_model']})" for cell in row.values()]
        print(f"{rule:36}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
