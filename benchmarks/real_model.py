"""Worth of a head on a real model, SmolLM2-135M-Instruct, against the best rule that needs no labels.

    python benchmarks/real_model.py [--json] [--seeds 3] [--sets DIR] [--collect FOLDER]

The samples are stored: 3,176 few-shot questions × 16 answers at temperature 0.8 (``tools/smollm2/README.md`` says how
they were drawn). For each seed a head is trained on the train and validation questions. The best label-free rule is
chosen on the validation questions. Both are judged on the test questions, which chose nothing, and on five families of
questions that no training saw; all rules choose from the same 200 draws of n answers per question. An interval is a
95 % paired bootstrap over the questions of the difference, mean over the seeds. Points are hundredths of the questions.

``--collect`` draws the samples anew with torch into FOLDER, which takes about half an hour. ``--sets`` names a folder
with recorded answers of other models, which are not part of the project: ballots of seven models on MMLU, on which a
head is trained too, and the sets of ``benchmarks/label_free.py``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import label_free
from swift_client.evaluation.baselines import train_baselines
from swift_client.evaluation.compare import Comparison
from swift_client.evaluation.gate import LABEL_FREE, choose_rule, judge_head
from swift_client.evaluation.methods import METHODS, NO_SCORE
from swift_client.evaluation.pool_table import PoolTable
from swift_client.evaluation.pools import Agreement, Pool, QuestionScorer, build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.evaluation.simulation.simulate import simulate
from swift_client.features.segments import F64
from swift_client.models import HeadArtifact
from swift_client.stopping.monitor import WAVE_SIZES
from swift_client.training import Group, Split, StoredGroups
from swift_client.training.fit import fit
from swift_client.training.metrics import pair_wins
from swift_client.types import Completion
from tools.smollm2 import stored

NS = (1, 2, 4, 8, 16)
SUBSETS, RESAMPLES, ORDERS = 200, 2000, 20
ANSWER = "text"
HEAD_RULES = ("head_p", "head_odds", "head")  # vote by p, vote by odds, best score
SHOWN = ("majority", "majority_ties", "mean_logprob", "sum_logprob", "default", "swift", "swift_vote", "head_p",
         "head_odds", "head", "head_vote", "oracle")  # fmt: skip
MMLU, MMLU_TEST, MMLU_SEED = "mmlu_7models_topk", 0.5, 99  # another seed than those of training
BALLOT_RANKS = 5  # the shortest lists of alternatives


@dataclass(frozen=True, eq=False)
class Judged:
    """Accuracy of every rule on Q questions, mean over heads of several seeds; arrays (Q,) by (rule, n)."""

    accuracy: Mapping[tuple[str, int], F64]
    auroc: Mapping[str, float]  # within a question, by scorer; of the first seed
    ns: tuple[int, ...]
    rule: str  # the label-free rule that validation questions chose
    rule_on_test: str  # the one that is best on these questions, for the reader alone
    betas: tuple[float, ...]
    set_aside: float  # share of the questions on which ``best_of`` would not use the head
    of_kind: float  # share of the questions to which an answer may be accepted: those of the heads' kind

    @property
    def questions(self) -> int:
        """Number of questions."""
        return len(next(iter(self.accuracy.values())))

    def points(self, name: str, n: int) -> float:
        """Accuracy in per cent."""
        return 100 * float(self.accuracy[name, n].mean())

    def difference(self, one: tuple[str, int], two: tuple[str, int]) -> Estimate:
        """Return the paired difference of two rules in points."""
        column = 100 * (self.accuracy[one] - self.accuracy[two])
        sums = sums_with_resamples(column[:, None], resamples=RESAMPLES, seed=0)[:, 0]
        return estimate(sums / len(column))

    def default_loss(self) -> dict[str, float]:
        """Return by n the best of the head's three plain rules less its default, in points."""
        return {
            f"n={n}": max(self.points(name, n) for name in HEAD_RULES) - self.points("head_vote", n)
            for n in self.ns
            if n > 1
        }


def read_groups(path: Path) -> dict[str, list[Group]]:
    """Return the stored questions by split, graded."""
    groups = {}
    with tempfile.TemporaryDirectory() as folder:
        for split in ("train", "validation", "test", "foreign"):
            file = Path(folder) / f"{split}.db"
            stored.restore(path, file, [split])
            groups[split] = list(StoredGroups([file], grade=ANSWER))
    return groups


def draw_anew(folder: Path) -> Path:
    """Draw the samples with the tools that drew the stored ones."""
    questions, weights, samples, out = (folder / name for name in ("questions.jsonl", "model", "samples.db", "new.xz"))
    folder.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"command": "python benchmarks/real_model.py --collect", "date": f"{date.today()}"})
    steps = [
        ["questions", "--out", questions],
        ["unpack", weights],
        ["draw", "--questions", questions, "--folder", weights, "--out", samples],
        ["stored", "export", samples, "--questions", questions, "--out", out, "--about", about],
    ]
    for step, *arguments in steps:
        command = [sys.executable, "-m", f"tools.smollm2.{step}", *map(str, arguments)]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[1], stdout=sys.stderr)
    return out


@dataclass(frozen=True, kw_only=True)
class GivenSplit(Split):
    """Split whose validation questions are given: those of other entities than the training questions."""

    ids: frozenset[str]

    def fold(self, question_id: str) -> int | None:
        """Return 0 for the given questions and 1 for the others."""
        return 0 if question_id in self.ids else 1


def train_head(
    groups: Sequence[Group], seed: int, model: str, *, validation: Sequence[Group] = (), k: int | None = None
) -> HeadArtifact:
    """Train a head; without ``validation``, questions of ``groups`` are set apart by their ids."""
    plain = Split(test=0.0, seed=seed)
    ids = frozenset(group.question_id for group in validation)
    split = GivenSplit(test=0.0, seed=seed, ids=ids) if ids else plain
    head = fit(
        [*groups, *validation], provider="smollm2", model=model, answer=ANSWER, split=split, seed=seed, k=k
    ).artifact  # fmt: skip
    assert isinstance(head, HeadArtifact)
    return replace(head, training={**head.training, "split": asdict(plain)})


def judge(
    heads: Sequence[HeadArtifact], rule: str, groups: Sequence[Group], baselines: Mapping[str, QuestionScorer]
) -> Judged:
    """Let every rule choose from the same draws of all questions, once with each head."""
    scorers = {**label_free_scorers({method.scorer for method in METHODS}), **baselines}
    plain = [build_pool(group, scorers, ANSWER) for group in groups]
    ns = tuple(n for n in NS if n <= max(len(pool.labels) for pool in plain))
    parts = []
    for head in heads:
        scored = [build_pool(group, {"head": head_scorer(head)}, ANSWER) for group in groups]
        pools = [one.merge_scores(two) for one, two in zip(plain, scored, strict=True)]
        comparison = Comparison(
            PoolTable(pools),
            [method for method in METHODS if method.scorer == NO_SCORE or method.scorer in pools[0].scores],
            ns=ns,
            max_subsets=SUBSETS,
            seed=0,
            auto_answer=False,
            agreement=Agreement.from_head(head),
            beta=head.beta,
        )
        names = [method.name for method in METHODS if method.scorer == NO_SCORE or method.scorer in pools[0].scores]
        accuracy = {(name, n): comparison.accuracy(name, n) for name in names for n in ns}
        parts.append((accuracy, pools, fmean(pool.out_of_distribution for pool in scored)))
    mean = {key: np.mean([accuracy[key] for accuracy, _, _ in parts], axis=0) for key in parts[0][0]}
    sums = {name: fmean(float(mean[name, n].mean()) for n in ns if n > 1) for name in LABEL_FREE}
    return Judged(
        accuracy=mean,
        auroc={name: _auroc(parts[0][1], name) for name in ("head", "sum_logprob", "mean_logprob", *baselines)},
        ns=ns,
        rule=rule,
        rule_on_test=max(sums, key=sums.__getitem__),
        betas=tuple(head.beta for head in heads),
        set_aside=fmean(share for *_, share in parts),
        of_kind=fmean(head.sketch is None or head.sketch.covers(group.messages) for head in heads for group in groups),
    )


def _auroc(pools: Sequence[Pool], name: str) -> float:
    """Return the share of pairs of a right and a wrong answer to one question that a scorer orders rightly."""
    usable = [pool.complete & ~np.isnan(pool.labels) & ~np.isnan(pool.scores[name]) for pool in pools]
    question = np.repeat(np.arange(len(pools)), [int(mask.sum()) for mask in usable])
    scores, labels = (
        np.concatenate([values[mask] for values, mask in zip(column, usable, strict=True)])
        for column in ([pool.scores[name] for pool in pools], [pool.labels for pool in pools])
    )
    won, pairs = pair_wins(scores, labels, question, questions=len(pools))
    return float(won.sum() / pairs.sum())


def label_free_rule(groups: Sequence[Group]) -> str:
    """Return the rule without labels that is right most often on these questions."""
    scorers = label_free_scorers({method.scorer for method in METHODS})
    return choose_rule(PoolTable(build_pool(group, scorers, ANSWER) for group in groups), answer=ANSWER)


def read_ballots(path: Path) -> list[Group]:
    """Read recorded one-token ballots with their alternatives."""

    def completion(index: int, row: dict[str, Any]) -> Completion:
        listed = [sorted(map(float, alternatives.values()), reverse=True) for alternatives in row["top_logprobs"]]
        width = max(map(len, listed))
        return Completion(
            text=row["text"],
            index=index,
            tokens=tuple(row["tokens"]),
            logprobs=np.array(row["logprobs"], np.float32),
            top_logprobs=np.array([values + [-np.inf] * (width - len(values)) for values in listed], np.float32),
            censored=np.zeros(len(listed), np.bool_),
        )

    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Group(
            question_id=str(row["id"]),
            completions=tuple(completion(index, recorded) for index, recorded in enumerate(row["completions"])),
            labels=np.array([float(recorded["label"]) for recorded in row["completions"]]),
        )
        for row in rows
    ]


def judge_ballots(path: Path, seeds: int) -> Judged:
    """Train heads on half of the ballots and judge them on the other half."""
    parts = Split(test=MMLU_TEST, seed=MMLU_SEED)
    groups = read_ballots(path)
    training = [group for group in groups if parts.part(group.question_id) != "test"]
    test = [group for group in groups if parts.part(group.question_id) == "test"]
    heads = [train_head(training, seed, "seven models", k=BALLOT_RANKS) for seed in range(seeds)]
    return judge(heads, label_free_rule(training), test, {})


def judge_recorded(sets: Path, n: int = 4) -> dict[str, dict[str, Any]]:
    """Return by recorded set the default without a head less majority at n, in points."""
    gains = {}
    for name in label_free.SETS:
        result = label_free.measure(label_free.read_set(sets / "real" / f"{name}.jsonl.gz"), n)
        gain = result.row("default").minus_majority[n]
        gains[name] = _rounded(Estimate(*(100 * value for value in (gain.value, gain.low, gain.high))))
    return gains


def _rounded(value: Estimate) -> dict[str, Any]:
    return {"value": round(value.value, 2), "interval": [round(value.low, 2), round(value.high, 2)]}


def measure_bars(
    test: Judged, foreign: Judged, ballots: Judged | None, recorded: Mapping[str, dict[str, Any]],
    stopped: Mapping[str, Estimate],
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Return every bar with its target."""

    def bar(value: Estimate, target: float, unit: str = "points") -> dict[str, Any]:
        return {**_rounded(value), "target": target, "unit": unit}

    def plain(value: float, target: float, unit: str = "points") -> dict[str, Any]:
        return {"value": round(value, 2), "interval": None, "target": target, "unit": unit}

    bars = {
        f"head_minus_label_free_n{n}": bar(test.difference(("head_vote", n), (test.rule, n)), target)
        for n, target in ((2, 0.0), (4, 1.5), (8, 2.0), (16, 2.0))
    }
    bars["vote4_minus_majority16"] = bar(test.difference(("head_vote", 4), ("majority", 16)), 0.0)
    bars["default_behind_best_smollm2"] = plain(max(test.default_loss().values()), 0.3)
    for n in (4, 8, 16):
        bars[f"foreign_minus_label_free_n{n}"] = bar(foreign.difference(("head_vote", n), (foreign.rule, n)), 0.0)
    if ballots is not None:
        bars["default_behind_best_mmlu"] = plain(max(ballots.default_loss().values()), 0.3)
    own = _rounded(test.difference(("default", 4), ("majority", 4)))
    gains = {"smollm2": own, **recorded}
    worst = min(gains.values(), key=lambda gain: float(gain["value"]))
    bars["default_minus_majority_worst"] = {**worst, "target": 0.0, "unit": "points"}
    if recorded:
        bars["default_minus_majority_mean"] = plain(fmean(gain["value"] for gain in gains.values()), 2.0)
    bars["auto_token_share"] = bar(stopped["token_share"], 0.25, "0-1")
    bars["auto_minus_majority16"] = bar(stopped["minus_majority"], 0.0)
    return bars


def replay_auto(head: HeadArtifact, groups: Iterable[Group]) -> dict[str, Estimate]:
    """Replay ``stopping="auto"`` with n=16 as ``best_of`` asks; return tokens (0..1) and points against majority."""
    simulation = simulate(
        groups, head, rules=["auto"], n=16, orders=ORDERS, waves=WAVE_SIZES, split="all", answer=ANSWER
    )
    row = simulation.row("auto", "vote")
    minus = row.minus_majority
    return {
        "token_share": row.token_share,
        "minus_majority": Estimate(*(100 * value for value in (minus.value, minus.low, minus.high))),
    }


def report(name: str, judged: Judged) -> None:
    """Print one table of accuracies."""
    print(f"\n{name}: {judged.questions} questions; right answers in %, mean of {len(judged.betas)} heads")
    print(f"  best label-free rule on validation: {judged.rule}; on these questions: {judged.rule_on_test}")
    print(f"  β {', '.join(f'{beta:g}' for beta in judged.betas)}; head set aside on {100 * judged.set_aside:.1f} %")
    print(f"  questions of the head's kind: {100 * judged.of_kind:.1f} %")
    print(f"{'':34}" + "".join(f"{f'n={n}':>7}" for n in judged.ns) + "   AUROC")
    labels = {method.name: method.label for method in METHODS}
    for row in dict.fromkeys((*SHOWN[:5], judged.rule, judged.rule_on_test, *SHOWN[5:])):
        if (row, judged.ns[0]) in judged.accuracy:
            auroc = f"{judged.auroc[row]:8.3f}" if row in judged.auroc else ""
            print(f"{labels[row]:34}" + "".join(f"{judged.points(row, n):7.1f}" for n in judged.ns) + auroc)


def main() -> None:
    """Measure, then print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", type=Path, help="folder of recorded sets")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="draw the samples anew")
    options = parser.parse_args()
    start = time.perf_counter()
    path = stored.FILE if options.collect is None else draw_anew(options.collect)
    about = stored.read_about(path)
    groups = read_groups(path)
    training = groups["train"] + groups["validation"]
    rule = label_free_rule(groups["validation"])
    heads = []
    for seed in range(options.seeds):
        heads.append(train_head(groups["train"], seed, about["model"], validation=groups["validation"]))
        print(f"head {seed + 1} after {time.perf_counter() - start:.0f} s", file=sys.stderr)
    ids = frozenset(group.question_id for group in groups["validation"])
    baselines = train_baselines(training, split=GivenSplit(test=0.0, ids=ids), answer=ANSWER).scorers
    judged = {part: judge(heads, rule, groups[part], baselines) for part in ("test", "foreign")}
    verdict = judge_head(
        heads[0], groups["validation"], split=Split(validation=0.99, test=0.0), answer=ANSWER,
        test_groups=groups["test"],
    )  # fmt: skip
    stopped = replay_auto(heads[0], groups["test"])
    recorded: dict[str, dict[str, Any]] = {}
    if options.sets is not None:
        judged["mmlu"] = judge_ballots(options.sets / "real" / f"{MMLU}.jsonl.gz", options.seeds)
        recorded = judge_recorded(options.sets)
    bars = measure_bars(judged["test"], judged["foreign"], judged.get("mmlu"), recorded, stopped)
    seconds = round(time.perf_counter() - start)
    if options.json:
        tables = {
            name: {
                "questions": one.questions,
                "label_free": one.rule,
                "label_free_on_test": one.rule_on_test,
                "betas": [f"{beta:g}" for beta in one.betas],
                "set_aside": round(one.set_aside, 4),
                "of_kind": round(one.of_kind, 4),
                "auroc": {scorer: round(value, 4) for scorer, value in one.auroc.items()},
                "accuracy": {
                    row: {f"n={n}": round(one.points(row, n), 2) for n in one.ns}
                    for row in dict.fromkeys(name for name, _ in one.accuracy)
                },
                "default_behind_best": {n: round(loss, 2) for n, loss in one.default_loss().items()},
            }
            for name, one in judged.items()
        }
        document = {"bars": bars, "verdict": verdict.to_dict(), "tables": tables, "recorded": recorded,
                    "samples": about, "seconds": seconds}  # fmt: skip
        print(json.dumps(document, indent=2))
        return
    for name, one in judged.items():
        report(name, one)
    print(f"\nverdict on the first head, against {verdict.label}: {verdict.verdict}")
    for name, value in bars.items():
        interval = "" if value["interval"] is None else "({} to {})".format(*value["interval"])
        print(f"{name:32} {value['value']:>7} {value['unit']:6} target {value['target']:<5} {interval}")
    print(f"{seconds} s")


if __name__ == "__main__":
    main()
