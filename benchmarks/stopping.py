"""Savings on real models: stopping rules on recorded sets and samples files, each paired with "auto".

    python benchmarks/stopping.py [--json] [--sets DIR] [--samples FILE[:ANSWER][=HEAD] ...] [--questions 3000]
                                  [--orders 10] [--seeds 3] [--rules auto,beta:threshold=0.9,final_lead]

``--sets`` names a folder with recorded answers, NAME.jsonl.gz: a JSON line per question, ``{id, completions: [{text or
parsed, label, logprobs? or mean_logprob? and n_tokens?}]}``. Sets with fewer than seven answers per question are left
out. ``--samples`` names a samples file of ``swift-client collect``, how its answers are read, and a head, which adds a
second table: "pocket" is the packaged one, and of another one the test questions alone are replayed.

Rules are replayed on the first ``--questions`` of each set, after the waves of ``best_of``, and choose by its vote.
All see the same orders of each question's completions; means are over the orders of all seeds. Differences are paired,
with 95 % bootstrap intervals over the questions: points to majority and to the vote of ``best_of`` over all n, points
to "auto", and the tokens that a rule takes beyond those of "auto", in % of these. A completion without a known length
counts one token.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.evaluation.evaluate import get_split, open_samples
from swift_client.evaluation.pools import build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.evaluation.simulation.engine import PlannedReplay, ReplayEngine
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import find_for_model, load_head
from swift_client.selection.voting import draw_orders
from swift_client.stopping import StoppingRule, stopping_rule
from swift_client.stopping.monitor import arrival_counts
from swift_client.training import Group
from swift_client.types import Completion

LEAST_ANSWERS, MOST_ANSWERS = 7, 16
RULES = ("auto", "beta:threshold=0.9", "beta", "final_lead")
RESAMPLES = 1000
_MOST_REPLAYS = 1 << 14  # replays in memory at once


@dataclass(frozen=True)
class Source:
    """Questions of one model with n completions each, and the head that scores them."""

    name: str
    groups: Sequence[Group]
    lengths: Sequence[Sequence[int]]  # tokens of each completion
    n: int
    answer: str
    head: HeadArtifact | None = None
    answers: Sequence[Sequence[str]] = ()  # of each completion, if the set names them


def read_recorded(path: Path, most_questions: int) -> Source | None:
    """Read a recorded set; None if it has fewer than LEAST_ANSWERS per question."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    n = min(MOST_ANSWERS, int(np.median([len(record["completions"]) for record in records])))
    if n < LEAST_ANSWERS:
        return None
    records = [record for record in records if len(record["completions"]) >= n][:most_questions]
    groups = [
        Group(
            question_id=record["id"],
            completions=tuple(starmap(read_completion, enumerate(record["completions"]))),
            labels=np.array([float(completion.get("label") is True) for completion in record["completions"]]),
        )
        for record in records
    ]
    lengths = [[len(completion.tokens) or 1 for completion in group.completions] for group in groups]
    answers = [[str(completion.get("parsed", "")) for completion in record["completions"]] for record in records]
    has_answers = any(map(any, answers))
    return Source(path.name.removesuffix(".jsonl.gz"), groups, lengths, n, "auto", None, answers if has_answers else ())


def read_completion(index: int, recorded: dict[str, Any]) -> Completion:
    """Return a recorded completion; a mean logprob stands for each of its tokens."""
    logprobs = recorded.get("logprobs", [recorded.get("mean_logprob", np.nan)] * recorded.get("n_tokens", 0))
    logprobs = [] if np.isnan(logprobs).any() else logprobs
    return Completion(
        text=str(recorded.get("text", recorded.get("parsed"))),
        index=index,
        tokens=("?",) * len(logprobs),
        logprobs=np.array(logprobs, np.float32),
        top_logprobs=np.zeros((len(logprobs), 0), np.float32),
        censored=np.zeros(len(logprobs), np.bool_),
    )


def read_samples(spec: str, most_questions: int) -> list[Source]:
    """Read a samples file, without a head, or as its head's test questions, with and without it."""
    rest, _, head_file = spec.partition("=")
    file, _, reader = rest.partition(":")
    is_packaged = head_file == "pocket"
    head = find_for_model("pocket", "pocket").artifact if is_packaged else load_head(head_file) if head_file else None
    opened, answer, _, _ = open_samples(file, head, answer=reader or ..., grade=None)
    groups = [group for group in opened if len(group.completions) == MOST_ANSWERS]
    if head and not is_packaged:
        split = get_split(head)[0]
        groups = [group for group in groups if split.part(group.question_id) == "test"]
    groups = groups[:most_questions]
    lengths = [[len(completion.tokens) for completion in group.completions] for group in groups]
    name = Path(file).stem
    source = Source(name, groups, lengths, MOST_ANSWERS, str(answer))
    return [source, replace(source, name=f"{name}, head", head=head)] if head else [source]


def number_answers(answers: Sequence[str]) -> I64:
    """Return equal numbers for equal answers, -1 for none."""
    numbers = {answer: number for number, answer in enumerate(dict.fromkeys(filter(None, answers)))}
    return np.array([numbers.get(answer, -1) for answer in answers], np.int64)


def replay(source: Source, rules: Sequence[StoppingRule], orders: int, seeds: int) -> dict[str, F64]:
    """Return the accuracy, completions and tokens of each rule, "majority" and "vote", (Q, 3): means over all orders.

    The last two are over all n.
    """
    scorers = label_free_scorers({"mean_logprob", "shortest"}) | (
        {"head": head_scorer(source.head)} if source.head else {}
    )
    pools = [
        replace(build_pool(group, scorers, source.answer), tokens=np.array(lengths, np.int64))
        for group, lengths in zip(source.groups, source.lengths, strict=True)
    ]
    if source.answers:
        pools = [
            replace(pool, answers=number_answers(given)) for pool, given in zip(pools, source.answers, strict=True)
        ]
    plan = [PlannedReplay(str(rule), rule, ("vote",), rule.source) for rule in rules]
    check_points = set(arrival_counts(source.n))
    means: dict[str, list[F64]] = {}
    for seed in range(seeds):
        engine = ReplayEngine(
            source.n,
            plan,
            check_points=check_points,
            auto_answer=source.answer == "auto",
            head=source.head,
        )
        for size in sorted({len(pool.labels) for pool in pools}):
            draws = draw_orders(size, source.n, max_subsets=orders, seed=seed)
            block = max(1, _MOST_REPLAYS // len(draws))
            same_size = [pool for pool in pools if len(pool.labels) == size]
            for start in range(0, len(same_size), block):
                engine.add(same_size[start : start + block], [], draws)
        means.setdefault("majority", []).append(engine.majority_means)
        means.setdefault("vote", []).append(engine.vote_means)
        for planned in plan:
            means.setdefault(planned.name, []).append(engine.question_means(planned.name, "vote"))
    return {name: np.mean(values, axis=0) for name, values in means.items()}


def compare(means: dict[str, F64]) -> dict[str, dict[str, Estimate]]:
    """Return the figures of each rule, with intervals from one resampling of the questions."""
    columns = np.concatenate(list(means.values()), axis=1)
    sums = sums_with_resamples(columns, resamples=RESAMPLES, seed=0) / len(columns)
    by_name = {name: sums[:, 3 * number : 3 * number + 3].T for number, name in enumerate(means)}
    (majority, _, all_tokens), (auto, _, auto_tokens) = by_name["majority"], by_name["auto"]
    full_vote = by_name["vote"][0]
    return {
        name: {
            "right": estimate(right),
            "completions": estimate(completions),
            "token_share": estimate(tokens / all_tokens),
            "minus_majority": estimate(right - majority),
            "minus_vote": estimate(right - full_vote),
            "minus_auto": estimate(right - auto),
            "tokens_beyond_auto": estimate(tokens / auto_tokens - 1),
        }
        for name, (right, completions, tokens) in by_name.items()
    }


def main() -> None:
    """Measure, then print one table per source or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--sets", type=Path, help="folder with recorded answers")
    parser.add_argument("--samples", action="append", default=[], help="FILE[:ANSWER][=HEAD]")
    parser.add_argument("--questions", type=int, default=3000, help="of each set, at most")
    parser.add_argument("--orders", type=int, default=10, help="of each question's completions, per seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rules", default=",".join(RULES))
    options = parser.parse_args()
    rules = [stopping_rule(spec) for spec in dict.fromkeys(["auto", *options.rules.split(",")])]
    paths = sorted(options.sets.glob("*.jsonl.gz")) if options.sets else []
    recorded = [source for path in paths if (source := read_recorded(path, options.questions))]
    sources = [source for spec in options.samples for source in read_samples(spec, options.questions)] + recorded
    document = {}
    for source in sources:
        figures = compare(replay(source, rules, options.orders, options.seeds))
        document[source.name] = {
            "questions": len(source.groups),
            "n": source.n,
            "rules": {name: {key: asdict(value) for key, value in row.items()} for name, row in figures.items()},
        }
        if not options.json:
            show(source, figures)
    if options.json:
        print(json.dumps(document, indent=2))


def show(source: Source, figures: dict[str, dict[str, Estimate]]) -> None:
    """Print one source."""
    print(f"\n{source.name}: {len(source.groups)} questions, n = {source.n}")
    print(f"{'rule':24}{'right, %':>9}{'drawn':>7}{'tokens, %':>10}{'- majority':>22}{'- vote':>22}{'- auto':>22}"
          f"{'tokens beyond auto, %':>24}")  # fmt: skip
    for name, row in figures.items():
        points = [
            format_points(row[key]) for key in ("minus_majority", "minus_vote", "minus_auto", "tokens_beyond_auto")
        ]
        shares = f"{100 * row['right'].value:9.1f}{row['completions'].value:7.1f}{100 * row['token_share'].value:10.1f}"
        print(f"{name:24}{shares}{points[0]:>22}{points[1]:>22}{points[2]:>22}{points[3]:>24}", flush=True)


def format_points(value: Estimate) -> str:
    """Return a share in hundredths with its interval."""
    return f"{100 * value.value:+.2f} [{100 * value.low:+.2f}, {100 * value.high:+.2f}]"


if __name__ == "__main__":
    main()
