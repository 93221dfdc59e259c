"""Choice by comparing pairs: our tournament against llm-verifier's, with the same simulated judge.

    python benchmarks/pairwise.py [--json] [--questions 2000] [--seed 0]

Candidates are right or wrong; the share of right ones differs per question, evenly from 0 to 1. The judge holds a
lasting opinion of each candidate (higher if it is right, with an error of standard deviation 1), and each comparison
adds noise of the same size. One comparison without position bias ranks a right candidate above a wrong one with the
chance ``auroc``. ``sharpness`` turns differences into log odds: 1 gives soft preferences, 4 near certain ones.
``bias`` is by how many points the first of two equal candidates is preferred.

The peer's tournament (llm-verifier 0.3.0, arXiv 2607.05391) is written from its description: a random directed ring,
the two best become pivots, all others against both pivots, the pivots against each other, the largest mean of σ(score A
− score B). "12 calls each" averages 12 judgements per comparison, every second one with swapped slots, as its default
of three criteria and four repeats: 252 calls for 8 candidates.

All tournaments see the same judgements. Accuracies are in points; intervals are 95 % paired bootstraps over the
questions.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.features.segments import F64, I64
from swift_client.types import Bool
from swift_client.verify.comparisons import PairwiseTournament, max_comparisons

NS, AUROCS, SHARPNESSES, BIAS_POINTS = (4, 8, 16), (0.6, 0.75, 0.9), (1.0, 4.0), 10.0
REPEATS, RESAMPLES = 12, 2000
PEER_DEFAULT = "peer, 12 calls each"
_NAN = float("nan")

Compare = Callable[[int, int], float]
"""The judge of one question: (first, second) to the chance that the first is better, NaN if the judgement failed."""


@dataclass(frozen=True, kw_only=True)
class JudgeModel:
    """A simulated judge."""

    auroc: float
    sharpness: float = 1.0
    bias: float = 0.0  # points


@dataclass(frozen=True, eq=False)
class Judgements:
    """Candidates of Q questions, and a judgement of each ordered pair, REPEATS times."""

    right: Bool  # (Q, n)
    preferences: F64  # (Q, n, n, REPEATS): [q, first, second, repeat]

    def compare(self, question: int) -> Compare:
        """Return a judge that asks once per comparison."""
        preferences = self.preferences[question, :, :, 0]
        return lambda first, second: float(preferences[first, second])

    def compare_often(self, question: int) -> Compare:
        """Return a judge that averages REPEATS judgements, every second one with swapped slots."""
        preferences = self.preferences[question]
        means = preferences[:, :, ::2].mean(axis=2) / 2 + (1 - preferences[:, :, 1::2].mean(axis=2).T) / 2
        return lambda first, second: float(means[first, second])


def simulate(judge: JudgeModel, n: int, questions: int, seed: int) -> Judgements:
    """Draw candidates and judgements; judges that differ in sharpness or bias only have the same draws."""
    rng = np.random.default_rng([seed, n, round(judge.auroc * 1000)])
    right = rng.random((questions, n)) < rng.random((questions, 1))
    # Two opinions and one comparison have noise of variance 1 each.
    gap = NormalDist().inv_cdf(judge.auroc) * np.sqrt(3)
    opinions = right * gap + rng.normal(size=right.shape)
    noise = rng.normal(size=(questions, n, n, REPEATS))
    share = 0.5 + judge.bias / 100
    log_odds = judge.sharpness * ((opinions[:, :, None] - opinions[:, None, :])[..., None] + noise)
    return Judgements(right, 1 / (1 + np.exp(-log_odds - np.log(share / (1 - share)))))


def our_tournament(compare: Compare, log_priors: F64) -> tuple[int, int]:
    """Return the choice and the number of comparisons."""
    tournament = PairwiseTournament(log_priors)
    while pairs := tournament.next_pairs():
        for first, second in pairs:
            preference = compare(first, second)
            tournament.record(first, second, None if np.isnan(preference) else preference)
    return int(tournament.strengths.argmax()), tournament.n_comparisons


def peer_tournament(compare: Compare, n: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return the choice and the number of comparisons; a failed judgement scores both candidates .5."""
    wins, counts = np.zeros(n), np.zeros(n)

    def play(first: int, second: int) -> None:
        preference = compare(first, second)
        score = 0.5 if np.isnan(preference) else preference
        win = 1 / (1 + np.exp(-(score - (1 - score))))
        wins[[first, second]] += win, 1 - win
        counts[[first, second]] += 1

    ring = rng.permutation(n).tolist()
    for first, second in zip(ring, [*ring[1:], ring[0]], strict=True):
        play(first, second)
    pivots = np.argsort(-wins / counts, kind="stable")[:2].tolist()
    others = [candidate for candidate in range(n) if candidate not in pivots]
    for pair in [*((pivot, other) for pivot in pivots for other in others), tuple(pivots)]:
        first, second = rng.permutation(pair).tolist()
        play(first, second)
    return int((wins / counts).argmax()), int(counts.sum() / 2)


def _choose(judgements: Judgements, seed: int) -> Iterator[dict[str, tuple[int, int]]]:
    """Yield the choice and the number of calls of each tournament, for one question after the other."""
    n = judgements.right.shape[1]
    for question in range(len(judgements.right)):
        once, often = judgements.compare(question), judgements.compare_often(question)
        choice, calls = peer_tournament(often, n, np.random.default_rng([seed, question]))
        yield {
            "ours": our_tournament(once, np.zeros(n)),
            "peer": peer_tournament(once, n, np.random.default_rng([seed, question])),
            PEER_DEFAULT: (choice, calls * REPEATS),
        }


@dataclass(frozen=True, eq=False)
class Cell:
    """Result of one judge and one n."""

    judge: JudgeModel
    n: int
    is_right: dict[str, F64]  # (Q,) 1.0 if the choice of the tournament is right
    calls: dict[str, float]  # mean per question


def measure(judge: JudgeModel, n: int, questions: int, seed: int) -> Cell:
    """Return the result of all tournaments."""
    judgements = simulate(judge, n, questions, seed)
    choices = list(_choose(judgements, seed))
    names = choices[0]
    chosen = {name: np.array([choice[name][0] for choice in choices]) for name in names}
    return Cell(
        judge,
        n,
        {name: _right_of(judgements, chosen[name]) for name in names},
        {name: float(np.mean([choice[name][1] for choice in choices])) for name in names},
    )


def _right_of(judgements: Judgements, chosen: I64) -> F64:
    return judgements.right[np.arange(len(chosen)), chosen].astype(np.float64)


def measure_failures(n: int, questions: int, seed: int) -> dict[str, float]:
    """Return accuracies with half of the judgements failed, in points, and how often failing less wins, in %.

    For the latter all candidates are equal, and only comparisons with the first never fail; by chance it would be
    chosen in 1 of n questions.
    """
    judgements = simulate(JudgeModel(auroc=0.75), n, questions, seed)
    equal = simulate(JudgeModel(auroc=0.5), n, questions, seed)
    failed = np.random.default_rng(seed).random((questions, n, n)) < 0.5
    spared = failed.copy()
    spared[:, 0, :] = spared[:, :, 0] = False
    shares: dict[str, float] = {}
    tournaments: dict[str, Callable[[Compare, int], tuple[int, int]]] = {
        "ours": lambda compare, question: our_tournament(compare, np.zeros(n)),
        "peer": lambda compare, question: peer_tournament(compare, n, np.random.default_rng([seed, question])),
    }
    for name, tournament in tournaments.items():
        right, first = [], []
        for question in range(questions):
            half = np.where(failed[question], _NAN, judgements.preferences[question, :, :, 0])
            right.append(judgements.right[question, tournament(lambda a, b, m=half: float(m[a, b]), question)[0]])
            flat = np.where(spared[question], _NAN, equal.preferences[question, :, :, 0])
            # Slots keep their places, candidates do not: a tie must not go to the first by its number.
            places = np.random.default_rng([seed, question]).permutation(n)
            flat = flat[np.ix_(places, places)]
            first.append(places[tournament(lambda a, b, m=flat: float(m[a, b]), question)[0]] == 0)
        shares[f"{name}_accuracy_half_failed"] = 100 * float(np.mean(right))
        shares[f"{name}_chooses_the_spared"] = 100 * float(np.mean(first))
    return shares


def points(differences: F64, seed: int = 0) -> Estimate:
    """Return the mean of differences of right choices, in points, with its interval."""
    sums = sums_with_resamples(100 * differences[:, None] / len(differences), resamples=RESAMPLES, seed=seed)
    return estimate(sums[:, 0])


def bars(cells: list[Cell]) -> dict[str, dict[str, Any]]:
    """Return the bars, each over all judges of an n."""

    def joined(name: str, n: int, bias: float) -> F64:
        """Return means over the sharpnesses, which share their questions."""
        alike = [cell for cell in cells if (cell.n, cell.judge.bias) == (n, bias)]
        return np.concatenate(
            [
                np.mean([cell.is_right[name] for cell in alike if cell.judge.auroc == auroc], axis=0)
                for auroc in sorted({cell.judge.auroc for cell in alike})
            ]
        )

    def entry(value: Estimate, target: float, unit: str = "points") -> dict[str, Any]:
        return {
            "value": round(value.value, 2),
            "target": target,
            "unit": unit,
            "interval": [round(value.low, 2), round(value.high, 2)],
        }

    ns = sorted({cell.n for cell in cells})
    calls = {n: float(np.mean([cell.calls["ours"] for cell in cells if cell.n == n])) for n in ns}
    return {
        **{f"ours_minus_peer_n{n}": entry(points(joined("ours", n, 0.0) - joined("peer", n, 0.0)), -1) for n in ns},
        **{
            f"peer_default_minus_ours_n{n}": entry(points(joined(PEER_DEFAULT, n, 0.0) - joined("ours", n, 0.0)), 0)
            for n in ns
        },
        **{
            f"position_bias_n{n}": entry(points(joined("ours", n, BIAS_POINTS) - joined("ours", n, 0.0)), 0.5)
            for n in ns
        },
        **{f"calls_n{n}": entry(Estimate(calls[n], calls[n], calls[n]), max_comparisons(n), "calls") for n in ns},
    }


def measure_judges(ns: Sequence[int], questions: int, seed: int) -> list[Cell]:
    """Measure both tournaments with all judges."""
    return [
        measure(JudgeModel(auroc=auroc, sharpness=sharpness, bias=bias), n, questions, seed)
        for n in ns
        for auroc in AUROCS
        for sharpness in SHARPNESSES
        for bias in (0.0, BIAS_POINTS)
    ]


def main() -> None:
    """Measure all judges and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    start = time.perf_counter()
    cells = measure_judges(NS, args.questions, args.seed)
    failures = measure_failures(8, args.questions, args.seed)
    rows = [
        {
            "n": cell.n,
            **cell.judge.__dict__,
            "accuracy": {name: round(100 * float(right.mean()), 2) for name, right in cell.is_right.items()},
            "calls": {name: round(calls, 2) for name, calls in cell.calls.items()},
        }
        for cell in cells
    ]
    seconds = round(time.perf_counter() - start, 1)
    if args.json:
        print(json.dumps({"bars": bars(cells), "failures": failures, "rows": rows, "seconds": seconds}, indent=2))
        return
    print(f"{'n':>2} {'auroc':>5} {'sharp':>5} {'bias':>4}  accuracy (calls)")
    for row in rows:
        texts = [f"{name} {row['accuracy'][name]:.1f} ({row['calls'][name]:.1f})" for name in row["accuracy"]]
        print(f"{row['n']:2} {row['auroc']:5} {row['sharpness']:5} {row['bias']:4.0f}  {'   '.join(texts)}")
    for name, bar in bars(cells).items():
        low, high = bar["interval"]
        print(f"{name:28} {bar['value']:>6} {bar['unit']:6} [{low}, {high}] bar {bar['target']}")
    for name, value in failures.items():
        print(f"{name:28} {value:>6.1f}")
    print(f"{seconds} s")


if __name__ == "__main__":
    main()
