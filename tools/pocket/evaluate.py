"""Accuracy of the model through the real server: ``python -m tools.pocket.evaluate [--json] [--by-level]``.

Sixteen completions a question at temperature 0.8, nothing truncated: accuracy of a single one, of the most frequent
answer, and share of questions with a right answer among them. Intervals: 95 % bootstrap over questions.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.pocket.questions import FAMILIES, TRAINED_LEVELS, Question, Split, questions
from swift_client.pocket.server import PACKAGED_MODEL, PocketServer
from tools.pocket.loopback import post

N, TEMPERATURE = 16, 0.8
_ANSWER = re.compile(r"The answer is (\w+)\.\s*$")


@dataclass(frozen=True)
class Asked:
    """One question and the answers of its completions, in index order; None if a completion marks none."""

    question: Question
    answers: tuple[str | None, ...]

    @property
    def single(self) -> float:
        """Share of right completions."""
        return self.answers.count(self.question.answer) / len(self.answers)

    @property
    def majority(self) -> float:
        """Return 1 if the most frequent answer is right; of equally frequent ones the first counts."""
        counted = Counter(answer for answer in self.answers if answer is not None)
        return float(bool(counted) and counted.most_common(1)[0][0] == self.question.answer)

    @property
    def any(self) -> float:
        """Return 1 if at least one completion is right."""
        return float(self.question.answer in self.answers)


def ask(base_url: str, question: Question, seed: int, n: int = N) -> Asked:
    """Draw ``n`` completions of one question."""
    body = {
        "messages": [{"role": "user", "content": question.prompt}],
        "n": n,
        "temperature": TEMPERATURE,
        "seed": seed,
        "max_tokens": 320,
    }
    matches = [
        _ANSWER.search(choice["message"]["content"]) for choice in post(base_url, "/chat/completions", body)["choices"]
    ]
    return Asked(question, tuple(match[1] if match else None for match in matches))


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and its 95 % bootstrap interval (2,000 resamples of questions)."""
    array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    resamples = np.random.default_rng(0).integers(0, len(array), (2_000, len(array)))
    low, high = np.percentile(array[resamples].mean(1), [2.5, 97.5])
    return {"value": round(float(array.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def summary(outcomes: Sequence[Asked]) -> dict[str, Any]:
    """Return questions, single, majority and any of a group of questions."""
    return {"questions": len(outcomes)} | {
        name: interval([getattr(outcome, name) for outcome in outcomes]) for name in ("single", "majority", "any")
    }


def by_level(model: Path, count: int, *, n: int = N, split: Split = "validation") -> dict[str, list[float]]:
    """Single-sample accuracy of every trained level of every family, from ``n`` completions of ``count`` questions."""
    shares: dict[str, list[float]] = {}
    with PocketServer(model) as server, ThreadPoolExecutor(4) as threads:
        for family in FAMILIES:
            shares[family] = []
            for level in range(1, TRAINED_LEVELS[family] + 1):
                level_questions = questions(count, seed=2, split=split, families=[family], levels={family: [level]})
                outcomes = threads.map(partial(ask, server.base_url, n=n), level_questions, range(0, n * count, n))
                shares[family].append(round(sum(row.single for row in outcomes) / count, 4))
    return shares


def evaluate(model: Path, count: int, *, seed: int, split: Split, by_level: bool) -> dict[str, Any]:
    """Ask ``count`` questions per family (or level) and return a summary of every group."""
    with PocketServer(model, slots=16) as server, ThreadPoolExecutor(2) as threads:

        def group(family_questions: Sequence[Question]) -> list[Asked]:
            seeds = range(seed, seed + N * len(family_questions), N)
            return list(threads.map(partial(ask, server.base_url), family_questions, seeds))

        if by_level:
            return {
                f"{family} {level}": summary(
                    group(questions(count, seed=seed, split=split, families=[family], levels={family: [level]}))
                )
                for family in FAMILIES
                for level in range(1, TRAINED_LEVELS[family] + 1)
            }
        outcomes = {family: group(questions(count, seed=seed, split=split, families=[family])) for family in FAMILIES}
        summaries = {family: summary(rows) for family, rows in outcomes.items()}
        return summaries | {"overall": summary([row for rows in outcomes.values() for row in rows])}


def table(result: dict[str, Any]) -> str:
    """Return the findings as lines for people."""
    lines = [f"{'':<18}{'questions':>10}{'single':>22}{'majority@16':>22}{'any of 16':>22}"]
    for name, row in result.items():
        cells = (
            f"{row[k]['value']:.1%} [{row[k]['low']:.1%}, {row[k]['high']:.1%}]" for k in ("single", "majority", "any")
        )
        lines.append(f"{name:<18}{row['questions']:>10}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Read the command line and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL)
    parser.add_argument("--questions", type=int, default=200, help="questions a family, or a level of one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--by-level", action="store_true", help="every trained level instead of the asked mix")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = evaluate(
        options.model, options.questions, seed=options.seed, split=options.split, by_level=options.by_level
    )
    sys.stdout.write((json.dumps(result, indent=1) if options.json else table(result)) + "\n")


if __name__ == "__main__":
    main()
