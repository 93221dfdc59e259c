"""Consensus on free sentences of SmolLM2-135M, against the best score, and the time that similarities take.

    python benchmarks/consensus.py [--json]

``benchmarks/data/smollm2_sentences.xz`` has questions with 16 sentences each, drawn by ``tools/smollm2/sentences.py``.
A sentence is right if it names the right entity and no other of the question's family. The same draws of n sentences
serve every method. Intervals are 95 % bootstraps over the questions, of differences paired by question. Nothing is read
as an answer, and nothing is fitted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from swift_client.features.segments import F64
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.selection.similarity import SIMILARITIES
from swift_client.selection.voting import draw_orders
from swift_client.types import Completion
from tools.smollm2.sentences import FILE, read

NS = (4, 8, 16)
DRAWS = {4: 8, 8: 4, 16: 1}  # draws per question
REFERENCE = "mean_logprob"
DEFAULT = "token_f1"  # the similarity of select="consensus"
BOOTSTRAPS = 4_000

# Right or wrong (1.0, 0.0) by the completions of one draw.
Choose = Callable[[Sequence[Completion]], int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method.

    Attributes:
        accuracy: Share of right choices by n, 0..1.
        difference: Points against the reference by n, with the ends of its interval.
        reference: Name of the method that it is compared with.
    """

    accuracy: dict[int, float]
    difference: dict[int, tuple[float, float, float]]
    reference: str


def without_logprobs(completion: Completion) -> Completion:
    """Return a completion as a provider gives it that hides logprobs."""
    return Completion(text=completion.text, index=completion.index, finish_reason=completion.finish_reason)


def by_config(config: SelectionConfig, *, text_only: bool = False) -> Choose:
    """Return the choice of the library."""

    def choose(completions: Sequence[Completion]) -> int:
        seen = [without_logprobs(completion) for completion in completions] if text_only else completions
        return select_best(seen, config).winner

    return choose


def methods() -> dict[str, tuple[Choose, str]]:
    """Return the methods by name, each with the name of the method that it is compared with."""
    best = SelectionConfig(answer=None, select="best")
    consensus = {name: replace(best, select="consensus", similarity=name) for name in SIMILARITIES}
    automatic = replace(best, select="auto")
    return {
        "first": (by_config(best, text_only=True), REFERENCE),
        REFERENCE: (by_config(best), REFERENCE),
        "sum_logprob": (by_config(replace(best, scorer="sum_logprob")), REFERENCE),
        **{f"consensus_{name}": (by_config(config), REFERENCE) for name, config in consensus.items()},
        "auto": (by_config(automatic), REFERENCE),
        **{f"text_{name}": (by_config(config, text_only=True), "first") for name, config in consensus.items()},
        "text_auto": (by_config(automatic, text_only=True), "first"),
    }


def consensus_table(path: Path = FILE, ns: Sequence[int] = NS, *, limit: int | None = None) -> dict[str, Row]:
    """Return the rows of the table, and "any": the share of draws with a right sentence.

    Args:
        path: samples as ``tools.smollm2.sentences`` exports them.
        ns: numbers of sentences to choose from.
        limit: number of questions; None: all.
    """
    chosen: dict[str, dict[int, list[float]]] = {}
    rules = methods()
    for number, sampled in enumerate(read(path)):
        if number == limit:
            break
        labels = np.array(sampled.labels)
        for n in ns:
            orders = draw_orders(len(labels), n, max_subsets=DRAWS.get(n, 4), seed=number)
            draws = [[replace(sampled.completions[i], index=k) for k, i in enumerate(order)] for order in orders]
            for name, (choose, _) in rules.items():
                right = [labels[order[choose(draw)]] for order, draw in zip(orders, draws, strict=True)]
                chosen.setdefault(name, {}).setdefault(n, []).append(float(np.mean(right)))
            chosen.setdefault("any", {}).setdefault(n, []).append(float(labels[orders].max(axis=1).mean()))
    rules["any"] = (rules["first"][0], REFERENCE)
    return {
        name: Row(
            accuracy={n: float(np.mean(values)) for n, values in by_n.items()},
            difference={n: paired(values, chosen[rules[name][1]][n]) for n, values in by_n.items()},
            reference=rules[name][1],
        )
        for name, by_n in chosen.items()
    }


def paired(values: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean difference in points, and the ends of its 95 % interval."""
    differences = 100 * (np.array(values) - np.array(others))
    places = np.random.default_rng(0).integers(0, len(differences), (BOOTSTRAPS, len(differences)))
    low, high = np.quantile(differences[places].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def consensus_bars(table: dict[str, Row], n: int = 8) -> dict[str, dict[str, Any]]:
    """Return the bars of a table: consensus against mean logprob, and "auto" against what it would choose otherwise."""
    rows = {
        "consensus_minus_mean_logprob": table[f"consensus_{DEFAULT}"],
        "auto_minus_mean_logprob": table["auto"],
        "auto_minus_first_without_logprobs": table["text_auto"],
    }
    return {
        name: {
            "value": round(row.difference[n][0], 2),
            "target": 0,
            "unit": "points",
            "interval": [round(end, 2) for end in row.difference[n][1:]],
        }
        for name, row in rows.items()
    }


def long_texts(count: int = 64, characters: int = 2_000) -> list[str]:
    """Return texts of which six words in ten are the same in any two."""
    rng = Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(3_000)]
    base = rng.choices(words, k=characters // 4)
    return [
        " ".join(word if rng.random() < 0.6 else rng.choice(words) for word in base)[:characters] for _ in range(count)
    ]


def milliseconds(similarity: Callable[[Sequence[str]], F64], texts: Sequence[str]) -> float:
    """Return the processor time of one matrix, the best of five."""
    times = []
    for _ in range(5):
        start = time.process_time()
        similarity(texts)
        times.append(time.process_time() - start)
    return 1_000 * min(times)


def speed_bars() -> dict[str, dict[str, Any]]:
    """Return the bars of time: 64 texts of 2,000 characters."""
    texts, targets = long_texts(), {"token_f1": 50, "chrf": 500, "content": 50}
    return {
        f"{name}_64_texts": {
            "value": round(milliseconds(SIMILARITIES[name], texts), 1),
            "target": target,
            "unit": "ms",
            "interval": None,
        }
        for name, target in targets.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--limit", type=int, help="number of questions")
    arguments = parser.parse_args()
    table = consensus_table(limit=arguments.limit)
    bars = consensus_bars(table) | speed_bars()
    if arguments.json:
        rows = {
            name: {
                "accuracy": {n: round(value, 4) for n, value in row.accuracy.items()},
                "difference": {n: [round(x, 2) for x in values] for n, values in row.difference.items()},
                "reference": row.reference,
            }
            for name, row in table.items()
        }
        print(json.dumps({"bars": bars, "rows": rows}, indent=2))
        return
    print("right choices in %, and points against the reference with their 95 % interval")
    for name, row in table.items():
        cells = "".join(
            f"  {n:3}: {100 * row.accuracy[n]:5.1f} {value:+5.1f} [{low:+.1f}, {high:+.1f}]"
            for n, (value, low, high) in row.difference.items()
        )
        print(f"{name:20}{cells}  against {row.reference}")
    for name, bar in bars.items():
        print(f"{name}: {bar['value']} {bar['unit']} (target {bar['target']})")


if __name__ == "__main__":
    main()
