"""The paper's table on a real model: heads on hidden states, on logprobs and on both of SmolLM2-135M.

    python -m tools.smollm2.unpack FOLDER
    python -m tools.smollm2.states FOLDER --out train.db --split train --split validation
    python -m tools.smollm2.states FOLDER --out test.db --split test
    python benchmarks/hidden_real.py --train train.db --test test.db --out benchmarks/data/hidden_real.json

The states are those of the completions in ``benchmarks/data/smollm2.xz``, 8 per question, of all 31 layers (3 GB).
The test questions ask about entities that no training question asks about. Each head is trained as ``train`` does it,
but calibrated, and its β chosen, on the validation questions instead of out of fold. Unfinished completions are left
out. Intervals are 95 % bootstraps over the test questions, of differences paired by question.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swift_client.dataset.question_samples import Group
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.features import FEATURES, column_names
from swift_client.features.segments import F64, I64
from swift_client.selection.voting import draw_orders, odds_weights, vote
from swift_client.training import Split, StoredGroups, recipe_of
from swift_client.training.calibration import calibrate
from swift_client.training.feature_matrix import FeatureMatrix
from swift_client.training.fit import MIN_IDENTITY_GAIN
from swift_client.training.folds import Folds, read_groups
from swift_client.training.metrics import pair_wins, within_question_auroc
from swift_client.training.optimize import TrainedNetwork, network_scores, train
from swift_client.training.recipes import RECIPES, Recipe
from swift_client.training.vote_exponent import learn_beta

NS = (1, 2, 4, 8)
SUBSETS, RESAMPLES = 120, 2000
SPLIT = Split(test=0.0)
FOUR = (16, 20, 24, 28)
LAYERS = (0, 4, 8, 12, 16, 20, 24, 28, 30)
SIZES = (50, 100, 200, 400, 800)
HEADS: dict[str, tuple[str, Recipe]] = {
    "default": ("logprobs (`default`)", RECIPES["default"]),
    "logprobs": ("logprobs, trained as `hybrid`", replace(RECIPES["hybrid"], states=None)),
    "hybrid": ("`hybrid`, all layers", RECIPES["hybrid"]),
    "hidden": ("`hidden`, all layers", RECIPES["hidden"]),
    "swift": ("SWIFT as published, all layers", RECIPES["swift-hidden"]),
    "hybrid_four": ("`hybrid`, 4 layers", recipe_of("hybrid", layers=FOUR)),
    "hidden_four": ("`hidden`, 4 layers", recipe_of("hidden", layers=FOUR)),
    "swift_four": ("SWIFT as published, 4 layers", recipe_of("swift-hidden", layers=FOUR)),
    "no_gate": ("`hidden`, 4 layers, no gate", recipe_of("hidden", layers=FOUR, gate=False)),
    "top_k": ("SWIFT as published on top-k", RECIPES["swift-top-k"]),
}
# Differences that issue 15 sets a goal for.
PAIRS = (
    ("hidden", "swift"),
    ("hybrid", "default"),
    ("hybrid", "logprobs"),
    ("hidden", "default"),
    ("hidden_four", "swift_four"),
    ("hybrid_four", "default"),
    ("hybrid_four", "logprobs"),
    ("hybrid", "sum_logprob"),
)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A head on the test questions."""

    wins: F64  # (Q,) pairs of a right and a wrong completion in the right order
    pairs: F64  # (Q,) such pairs
    best: dict[int, F64]  # per n: share (Q,) of draws whose best score is right
    votes: dict[int, F64]  # per n: share (Q,) of draws whose vote is right
    beta: float


class States:
    """All columns of the captured questions, read once, and the subsets that recipes read."""

    def __init__(self, path: Path, log: Any) -> None:
        groups = StoredGroups([path], grade="text", states="layers")
        if groups.layout is None:
            raise SystemExit(f"{path} has no hidden states.")
        self.layers, self._width = groups.layout.layers, groups.layout.width
        self.recipe = replace(RECIPES["hybrid"], features=(*RECIPES["hybrid"].features, "token_hash"))
        self._folds = read_groups(groups, self.recipe, split=SPLIT, answer="text")
        self.questions = len(self._folds.fold)
        log(f"read {self.questions} questions of {path.name}")

    def folds(self, recipe: Recipe, *, questions: int | None = None) -> Folds:
        """Return the columns that a recipe reads, of ``questions`` at random."""
        names = column_names(FEATURES, self.recipe.features, width=self._folds.k_max)
        wanted = set(column_names(FEATURES, recipe.features, width=self._folds.k_max))
        layers = () if recipe.states is None else recipe.layers or self.layers
        columns = [self.layers.index(layer) * self._width + np.arange(self._width, dtype=np.int64) for layer in layers]
        first = len(self.layers) * self._width
        columns.append(np.array([first + i for i, name in enumerate(names) if name in wanted], np.int64))
        matrix = _select_columns(self._folds.matrix, np.concatenate(columns), with_terms=bool(recipe.terms))
        mask = np.random.default_rng(0).permutation(self.questions) < (questions or self.questions)
        return replace(
            self._folds,
            matrix=matrix.select(mask) if questions else matrix,
            fold=self._folds.fold[mask],
            is_subsampled=self._folds.is_subsampled[mask],
        )


def _select_columns(matrix: FeatureMatrix, columns: I64, *, with_terms: bool) -> FeatureMatrix:
    moments = matrix.moments._replace(
        mean=matrix.moments.mean[:, columns],
        squared_deviations=matrix.moments.squared_deviations[:, columns],
        completion_deviations=matrix.moments.completion_deviations[:, columns],
    )
    everything = len(columns) == matrix.values.shape[1]
    return replace(
        matrix,
        values=matrix.values if everything else np.ascontiguousarray(matrix.values[:, columns]),
        terms=matrix.terms if with_terms else matrix.terms[:, :0],
        moments=moments,
    )


def train_default(groups: Sequence[Group]) -> TrainedNetwork:
    """Train the recipe "default" as ``train`` does: with token identities if they help on validation."""
    trained = []
    for recipe in (
        RECIPES["default"],
        replace(RECIPES["default"], features=(*HEADS["default"][1].features, "token_hash")),
    ):
        folds = read_groups(groups, recipe, split=SPLIT, answer="text")
        trained.append(train(folds.parts(), recipe, seed=0, device=torch.device("cpu")))
    plain, identity = trained
    return identity if identity.validation_auroc > plain.validation_auroc + MIN_IDENTITY_GAIN else plain


def judge(trained: TrainedNetwork, test: FeatureMatrix) -> Judged:
    """Score, calibrate on validation, choose and vote."""
    validation = trained.parts.validation
    held_out = network_scores(trained.network, validation)
    calibration = calibrate(held_out, validation.labels)
    exponent = learn_beta(
        held_out, calibration(held_out), validation.labels, validation.answers, validation.question, seed=0
    )
    return judge_scores(network_scores(trained.network, test), test, calibration=calibration, beta=exponent.beta)


def judge_scores(scores: F64, test: FeatureMatrix, *, calibration: Any = None, beta: float = 0.0) -> Judged:
    """Judge scores; without a calibration every vote counts the same."""
    questions = int(test.question[-1]) + 1
    wins, pairs = pair_wins(scores, test.labels, test.question, questions=questions)
    probabilities = np.full(len(scores), 0.5) if calibration is None else calibration(scores)
    best = {n: np.zeros(questions) for n in NS}
    votes = {n: np.zeros(questions) for n in NS}
    offsets = test.question_offsets
    for size in np.unique(np.diff(offsets)).tolist():
        mine = np.flatnonzero(np.diff(offsets) == size)
        rows = offsets[mine, None] + np.arange(size)
        for n in NS:
            draws = draw_orders(size, min(n, size), max_subsets=SUBSETS, seed=0)
            score, label, answer = scores[rows][:, draws], test.labels[rows][:, draws], test.answers[rows][:, draws]
            weights = odds_weights(probabilities[rows][:, draws], score, answer >= 0, beta)
            for chosen, target in ((score.argmax(axis=-1), best), (vote(answer, score, weights), votes)):
                target[n][mine] = np.take_along_axis(label, chosen[..., None], axis=-1)[..., 0].mean(axis=1)
    return Judged(wins=wins, pairs=pairs, best=best, votes=votes, beta=beta)


def row_of(judged: Judged) -> dict[str, Any]:
    """Return AUROC with its interval, and percentages of right choices."""
    return {
        "auroc": _ratio(judged.wins, judged.pairs),
        "best": {n: _percent(share) for n, share in judged.best.items()},
        "vote": {n: _percent(share) for n, share in judged.votes.items()},
        "beta": "inf" if np.isinf(judged.beta) else judged.beta,
    }


def difference(one: Judged, other: Judged) -> dict[str, Any]:
    """Return the paired differences in AUROC and in percentage points at n = 8."""
    return {
        "auroc": _ratio(one.wins - other.wins, one.pairs),
        "best_at_8": _percent(one.best[8] - other.best[8]),
        "vote_at_8": _percent(one.votes[8] - other.votes[8]),
    }


def _ratio(numerator: F64, denominator: F64) -> list[float]:
    sums = sums_with_resamples(np.stack([numerator, denominator], axis=1), resamples=RESAMPLES, seed=0)
    return _numbers(estimate(sums[:, 0] / sums[:, 1]), 4)


def _percent(shares: F64) -> list[float]:
    sums = sums_with_resamples(shares[:, None], resamples=RESAMPLES, seed=0)
    return _numbers(estimate(100 * sums[:, 0] / len(shares)), 2)


def _numbers(value: Estimate, digits: int) -> list[float]:
    return [round(number, digits) for number in (value.value, value.low, value.high)]


class Results:
    """The document, written anew after each part, so that a run that is cut keeps what it has."""

    def __init__(self, out: Path, about: Mapping[str, Any]) -> None:
        self._out, self.document = out, dict(about) | {"rows": {}, "differences": {}, "layers": {}, "curve": {}}
        self.start = time.process_time()

    def write(self) -> None:
        """Write the file."""
        text = json.dumps(self.document | {"cpu_seconds": round(time.process_time() - self.start)}, indent=1)
        self._out.write_text(text + "\n", "utf-8")

    def log(self, line: str) -> None:
        """Print a line with the time used."""
        print(f"{time.process_time() - self.start:7.0f} s  {line}", flush=True)


def main() -> None:
    """Train and judge all heads, then the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "hidden_real.json")
    parser.add_argument("--heads", default=",".join(HEADS))
    parser.add_argument("--no-curves", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    results = Results(arguments.out, {"command": "python benchmarks/hidden_real.py", "versions": versions})
    states, test_states = States(arguments.train, results.log), States(arguments.test, results.log)
    results.document["questions"] = {"train": states.questions, "test": test_states.questions}
    everything = test_states.folds(states.recipe).matrix
    sums = everything.terms[:, RECIPES["hybrid"].terms.index("sum_logprob")].astype(np.float64)
    judged = {
        "majority": judge_scores(np.zeros(len(sums)), everything),
        "sum_logprob": judge_scores(sums, everything),
        "oracle": judge_scores(everything.labels, everything),
    }
    for name in arguments.heads.split(","):
        label, recipe = HEADS[name]
        if name == "default":
            trained = train_default(list(StoredGroups([arguments.train], grade="text")))
        else:
            trained = train(states.folds(recipe).parts(), recipe, seed=0, device=torch.device("cpu"))
        judged[name] = judge(trained, test_states.folds(trained.recipe).matrix)
        results.document["rows"] = {key: row_of(value) for key, value in judged.items()}
        results.document["differences"] = {
            f"{one} - {other}": difference(judged[one], judged[other])
            for one, other in PAIRS
            if one in judged and other in judged
        }
        results.write()
        results.log(f"{label}: {len(trained.history)} epochs, {results.document['rows'][name]}")
    if not arguments.no_curves:
        curves(states, test_states, results)


def curves(states: States, test_states: States, results: Results) -> None:
    """Measure AUROC by layer, and by the number of training questions."""

    def auroc(recipe: Recipe, questions: int | None = None) -> float:
        trained = train(states.folds(recipe, questions=questions).parts(), recipe, seed=0, device=torch.device("cpu"))
        test = test_states.folds(recipe).matrix
        return round(within_question_auroc(network_scores(trained.network, test), test.labels, test.question), 4)

    for layer in LAYERS:
        results.document["layers"][layer] = auroc(recipe_of("hidden", layers=[layer]))
        results.write()
        results.log(f"layer {layer}: {results.document['layers'][layer]}")
    for size in SIZES:
        row = {name: auroc(HEADS[name][1], size) for name in ("logprobs", "hidden_four", "hybrid_four")}
        results.document["curve"][size] = row
        results.write()
        results.log(f"{size} questions: {row}")


if __name__ == "__main__":
    main()
