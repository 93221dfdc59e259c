"""The default choice without a head against a majority vote, on recorded answers of real models.

    python benchmarks/label_free.py --sets DIR [--json] [--n 4]

DIR has recorded sets with logprobs as ``real/NAME.jsonl.gz`` and a samples file ``smollm2/samples.db``; they are not
part of the project. Each question's completions are drawn 120 times, n at a time, and both rules choose from the same
draws. Intervals are 95 % paired bootstraps over the questions. Texts without a recorded number of tokens are left out;
where only the mean logprob was recorded, each token counts as so probable. Points are hundredths of the questions.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from swift_client.evaluation.evaluate import evaluate
from swift_client.selection.voting import LABEL_FREE_WEIGHTS, label_free_weights
from swift_client.training import Evaluation, Group, StoredGroups
from swift_client.types import Completion

SETS = (
    "mmlu_7models_topk",
    "medmcqa_llama_chain_cost",
    "mmlu_qwen_openai_chain_cost",
    "gsm8k_qwen0.5b",
    "svamp_llama8b_postwarp",
)
SUBSETS = 120
ROWS = ("majority", "default", "majority_ties", "mean_logprob", "sum_logprob")


def read_completion(index: int, row: dict[str, Any]) -> Completion:
    """Return a recorded completion; its token texts do not matter here."""
    logprobs = row.get("logprobs")
    if logprobs is None:
        logprobs = [row["mean_logprob"]] * row["n_tokens"]
    count = len(logprobs)
    return Completion(
        text=row["text"],
        index=index,
        tokens=("",) * count,
        logprobs=np.array(logprobs, np.float32),
        top_logprobs=np.zeros((count, 0), np.float32),
        censored=np.zeros(count, np.bool_),
    )


def read_set(path: Path) -> list[Group]:
    """Read one recorded set."""
    groups = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            completions = tuple(read_completion(index, recorded) for index, recorded in enumerate(row["completions"]))
            labels = np.array([float(recorded["label"]) for recorded in row["completions"]])
            groups.append(Group(question_id=str(row["id"]), completions=completions, labels=labels))
    return groups


def weight_rows(groups: list[Group]) -> str:
    """Return the share of the questions whose completions take the first row of LABEL_FREE_WEIGHTS, in per cent."""
    taken = []
    for group in groups:
        means = np.array([completion.logprobs.mean() for completion in group.completions])
        lengths = np.array([len(completion.tokens) for completion in group.completions])
        taken.append(int(label_free_weights(means, lengths, np.ones(len(means), np.bool_))[1]))
    return f"{100 * fmean(row < len(LABEL_FREE_WEIGHTS) - 1 for row in taken):.0f}"


def measure(groups: list[Group], n: int) -> Evaluation:
    """Compare the rules that need no labels."""
    return evaluate(None, groups, split="all", ns=(n,), subsets=SUBSETS, trained=False)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sets = {name: read_set(arguments.sets / "real" / f"{name}.jsonl.gz") for name in SETS}
    sets["smollm2"] = list(StoredGroups([arguments.sets / "smollm2" / "samples.db"], grade="text"))
    rows: dict[str, dict[str, Any]] = {}
    for name, groups in sets.items():
        if max(len(group.completions) for group in groups) < arguments.n:
            continue
        result = measure(groups, arguments.n)
        gain = result.row("default").minus_majority[arguments.n]
        rows[name] = {
            "questions": result.questions,
            "short_replies": weight_rows(groups),
            **{row: round(100 * result.row(row).accuracy[arguments.n].value, 1) for row in ROWS},
            "gain": round(100 * gain.value, 1),
            "interval": [round(100 * gain.low, 1), round(100 * gain.high, 1)],
        }
    gains = {name: row["gain"] for name, row in rows.items()}
    worst = min(rows.values(), key=lambda row: float(row["gain"]))
    if arguments.json:
        bars = {
            "default_minus_majority_mean": {
                "value": round(fmean(gains.values()), 2), "target": 2, "unit": "points", "interval": None,
            },
            "default_minus_majority_worst": {
                "value": worst["gain"], "target": 0, "unit": "points", "interval": worst["interval"],
            },
        }  # fmt: skip
        print(json.dumps({"n": arguments.n, "sets": rows, "bars": bars}))
        return
    print(f"right answers in % at n = {arguments.n}; the default minus majority in points, with its 95 % interval")
    for name, row in rows.items():
        low, high = row["interval"]
        accuracies = "  ".join(f"{key} {row[key]:.1f}" for key in ROWS)
        print(f"{name:28} {row['questions']:5} questions, {row['short_replies']:>3} % short  {accuracies}", end="")
        print(f"  {row['gain']:+.1f} ({low:+.1f} to {high:+.1f})")
    print(f"mean {fmean(gains.values()):+.2f}, worst {worst['gain']:+.1f}")


if __name__ == "__main__":
    main()
