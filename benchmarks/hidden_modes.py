"""Accuracy of every mode of the paper: hidden states, logits, logprobs and both, on the same answers.

    python benchmarks/hidden_modes.py --folder captured [--json] [--train 1000] [--test 300] [--seed 0]

The packaged model answers as a transformers model, and all its hidden states and the logprobs of its whole vocabulary
are kept: 1,000 questions with 8 answers to train on, 300 others with 64 to choose from, at temperature 0.8 (9 GB in
``--folder``, which a second run uses again). ``flat_memory`` is the memory of that collecting process, after a tenth
of the questions and at the end. Each mode is trained on the same questions, picks the best of n answers and weighs
votes; majority, one random answer and any-of-n stand in the same table, with 95 % bootstrap intervals over the
questions. ``gain_kept`` is the top-20 head's gain over one answer by that of the best mode on hidden states. No reward
model can be had here, so the external scorer is drawn: the truth plus normal noise of deviation 1.5, which tells right
from wrong within a question as a fair reward model does (its own row says how well), and knows nothing that ours knows.
It is fused as the mean of both scores, each between its question's lowest and highest.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.methods import METHODS, Method
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Pool, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import resampled_sums
from swift_client.models import AnyHead, HiddenHead
from swift_client.pocket.questions import questions
from swift_client.pocket.server import PACKAGED_MODEL
from swift_client.scoring.fusion import fuse
from swift_client.store import StoredQuestion
from swift_client.training import Group, Split, StoredGroups, collect, train
from swift_client.training.recipes import RECIPES, Recipe, recipe_of
from tools.pocket.export import write_transformers
from tools.pocket.unpack import read_gguf

NS = (4, 16, 64)
NOISE = 1.5
SPLIT = Split(test=0.0)
FOUR = (3, 4, 5, 6)
"""Of 7 states, as 16, 24, 28 and 32 stand in 33."""
HIDDEN = RECIPES["hidden"]
MODES: dict[str, tuple[str, Recipe, int | None]] = {
    "swift": ("SWIFT as published, all layers", RECIPES["swift-hidden"], None),
    "full": ("all layers", HIDDEN, None),
    "four": ("4 layers", recipe_of("hidden", layers=FOUR), None),
    "no_gate": ("all layers, no gate", recipe_of("hidden", gate=False), None),
    "swift_logits": ("whole vocabulary, as published", RECIPES["swift-logits"], None),
    "logits": ("whole vocabulary", replace(HIDDEN, states="vocabulary"), None),
    "top_5": ("top-5 logprobs, our features", RECIPES["default"], 5),
    "top_20": ("top-20 logprobs, our features", RECIPES["default"], 20),
    "hybrid": ("hybrid", RECIPES["hybrid"], None),
}
"""By name: for people, the recipe, alternatives a token."""
ON_STATES = ("swift", "full", "four", "no_gate")


def samples(folder: Path, part: str, count: int, n: int, seed: int) -> tuple[Path, list[float]]:
    """Collect the missing answers; return the file, and this process's megabytes after each reply."""
    model = folder / "pocket"
    if not model.exists():
        model.mkdir(parents=True)
        write_transformers(*read_gguf(PACKAGED_MODEL), model)
    new_questions = [
        StoredQuestion(
            id=question.id,
            messages=({"role": "user", "content": question.prompt},),
            answer=question.answer,
            family=question.family,
        )
        for question in questions(count, seed=seed, split="test")
    ]
    used: list[float] = []
    path = folder / f"{part}.db"
    collect(
        new_questions, path, provider="huggingface", model=str(model), n=n, seed=seed, temperature=0.8, max_tokens=160,
        hidden_states=["layers", "vocabulary"],
        on_progress=lambda _: used.append(megabytes()),
    )  # fmt: skip
    return path, used


def megabytes() -> float:
    """Return this process's memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def groups_of(path: Path, head: AnyHead | None) -> Iterator[Group]:
    """Yield the questions with the states that the head reads."""
    if not isinstance(head, HiddenHead):
        yield from StoredGroups([path])
    elif head.layers:
        yield from StoredGroups([path], states="layers", layers=head.layers)
    else:
        yield from StoredGroups([path], states="vocabulary")


def scored(path: Path, heads: dict[str, AnyHead], training_ids: set[str], say: Callable[[str], None]) -> list[Pool]:
    """Return the test questions, none of which was trained on, with the scores of all heads and of the external one."""
    ids = [group.question_id for group in StoredGroups([path])]
    rng = np.random.default_rng(7)
    pools = [build_pool(group, label_free_scorers({"mean_logprob"}), "auto") for group in groups_of(path, None)]
    scored_pools = [
        replace(pool, scores={**pool.scores, "external": pool.labels + rng.normal(0, NOISE, len(pool.labels))})
        for pool in pools
    ]
    for name, head in heads.items():
        say(f"scoring {name}")
        more = (build_pool(group, {name: head_scorer(head)}, "auto") for group in groups_of(path, head))
        scored_pools = [one.merge_scores(other) for one, other in zip(scored_pools, more, strict=True)]
    fused = [
        replace(
            pool,
            scores=dict(pool.scores)
            | {f"{name}_fused": fuse(pool.scores[name], pool.scores["external"], "mean") for name in heads},
        )
        for pool in scored_pools
    ]
    return [pool for pool, key in zip(fused, ids, strict=True) if key not in training_ids]


def rows_of(heads: dict[str, AnyHead]) -> list[Method]:
    """Return the methods of the table."""
    methods = [method for method in METHODS if method.name in ("first", "random", "mean_logprob", "majority", "oracle")]
    methods.append(Method(name="external", label="external scorer, best", scorer="external"))
    for name in heads:
        label = MODES[name][0]
        methods.append(Method(name=name, label=f"{label}, best", scorer=name))
        methods.append(
            Method(name=f"{name}_vote", label=f"{label}, vote", kind="vote", scorer=name, rule="probability")
        )
        methods.append(Method(name=f"{name}_fused", label=f"{label}, with external", scorer=f"{name}_fused"))
    return methods


def parameters(head: AnyHead) -> int:
    """Count the weights of a head, biases included."""
    logprob_head = head.logprob_head if isinstance(head, HiddenHead) else head
    terms = len(logprob_head.response.weight) if logprob_head else 0
    rest = 2 * logprob_head.head.width if logprob_head is not None and logprob_head is not head else 0
    return 2 * head.head.width + 2 + rest + terms


def gain_kept(table: Comparison, n: int, seed: int) -> dict[str, Any]:
    """Return the top-20 head's share of the best hidden-state gain over one answer, with intervals."""
    gains = {name: table.accuracy(name, n) - table.accuracy("random", n) for name in (*ON_STATES, "top_20", "hybrid")}
    best = max(ON_STATES, key=lambda name: float(gains[name].mean()))
    columns = np.stack([gains[best], gains["top_20"], gains["hybrid"]], axis=1)
    sums = resampled_sums(columns, resamples=2000, seed=seed)

    def interval(values: Any) -> list[float]:
        return np.quantile(values, [0.025, 0.975]).round(4).tolist()

    count, means = len(columns), columns.mean(axis=0)
    return {
        "best_hidden": best,
        "hidden_gain": {"value": float(means[0]), "interval": interval(sums[:, 0] / count)},
        "gain_kept": {"value": float(means[1] / means[0]), "interval": interval(sums[:, 1] / sums[:, 0])},
        "hybrid_minus_hidden": {
            "value": float(means[2] - means[0]), "interval": interval((sums[:, 2] - sums[:, 0]) / count),
        },
        "hybrid_minus_top_20": {
            "value": float(means[2] - means[1]), "interval": interval((sums[:, 2] - sums[:, 1]) / count),
        },
    }  # fmt: skip


def measure(folder: Path, *, count: int, test_count: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Collect, train every mode, choose with every mode; return the document."""
    training, used = samples(folder, "train", count, 8, 31)
    test, _ = samples(folder, "test", test_count, max(NS), 41)
    heads: dict[str, AnyHead] = {}
    for name, (_, recipe, k) in MODES.items():
        say(f"training {name}")
        heads[name] = train(training, recipe=recipe, split=SPLIT, seed=seed, k=k).artifact
    training_ids = {group.question_id for group in StoredGroups([training])}
    pools = scored(test, heads, training_ids, say)
    table = Comparison(
        PoolTable(pools),
        rows_of(heads),
        ns=NS,
        max_subsets=100,
        seed=seed,
        auto_answer=True,
        agreement=None,
    )
    rows = table.rows(resamples=1000)
    tenth, weights = len(used) // 10, {name: parameters(head) for name, head in heads.items()}
    return {
        "seed": seed,
        "questions": {"train": count, "test": len(pools)},
        "flat_memory": {"mb_after_a_tenth": used[tenth], "mb_at_the_end": used[-1]} if used else None,
        "kept": {n: gain_kept(table, n, seed) for n in NS},
        "parameters": weights,
        "rows": [asdict(row) for row in rows],
        "text": [
            (row.label, *(_points(row.accuracy[n]) for n in NS), _auroc(row), weights.get(row.name, "")) for row in rows
        ],
    }


def _points(estimate: Any) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _auroc(row: Any) -> str:
    return "" if row.within_question_auroc is None else f"{row.within_question_auroc.value:.3f}"


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = measure(
        options.folder,
        count=options.train,
        test_count=options.test,
        seed=options.seed,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    text = result.pop("text")
    if options.json:
        json.dump(result, sys.stdout, default=dict)
        return
    print(f"{'':42}" + "".join(f"{f'n = {n}':>22}" for n in NS) + f"{'AUROC':>8}{'weights':>9}")
    for label, *cells, auroc, weights in text:
        print(f"{label:42}" + "".join(f"{cell:>22}" for cell in cells) + f"{auroc:>8}{weights:>9}")
    print(json.dumps({key: result[key] for key in ("kept", "flat_memory", "questions")}, indent=1))


if __name__ == "__main__":
    main()
