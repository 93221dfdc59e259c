"""Worth of a verifier: votes and judgements together, against votes alone and the judge alone.

    python benchmarks/verify.py [--json] [--folder samples] [--pocket 300] [--subsets 3] [--seed 0] [--sets DIR]

The candidates are real: 1,076 test questions × 16 answers of SmolLM2-135M (stored), and the packaged model's answers to
new questions (drawn into ``--folder``, some minutes), with a trained head each. The judge is simulated, since no able
judge runs here: of each distinct answer it holds the log likelihood ratio of a normal score, so that it orders a right
and a wrong answer to one question rightly with the chance AUROC (.6, .75, .9), and its probabilities mean what they
say. The order of the options moves each of its two verdicts by ``BIAS_POINTS``. A worthless judge is as sure as one of
.75, at random. Its weight beside the head is learnt on the validation questions (``training.verifier_weight``), and it
is set aside there if its gain is not above 0 (``evaluation.verifier_gate``).

"doubt" judges in rounds and stops early, as ``best_of`` does; its tokens are those of the answers judged. Without a
head votes and judgements weigh as they come; recorded sets (``--sets``) have no head. Pairs are measured by
``benchmarks/pairwise.py`` and consensus by ``benchmarks/consensus.py``. Points are hundredths of the questions,
intervals 95 % paired bootstraps over the questions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import consensus, label_free, pairwise, real_model
from swift_client.dataset.question_samples import Group
from swift_client.evaluation.pools import build_pool, head_scorer, label_free_scorers
from swift_client.evaluation.result import Estimate, estimate, sums_with_resamples
from swift_client.features.segments import F64, I64
from swift_client.models import HeadArtifact
from swift_client.models.resolve_head import load_named
from swift_client.models.verifier_term import VerifierTerm
from swift_client.pocket.questions import questions as pocket_questions
from swift_client.selection.voting import answer_odds, label_free_weights
from swift_client.store import StoredQuestion
from swift_client.training import StoredGroups, collect
from swift_client.training.verifier_weight import learn_weight
from swift_client.verify.posterior import DOUBT_BELOW, judgement_log_odds, next_to_judge, posterior

COMPLETIONS, NS, AUROCS, USELESS, USELESS_SURENESS = 16, (4, 8, 16), (0.6, 0.75, 0.9), 0.5, 0.95
BIAS_POINTS, RESAMPLES = 10.0, 2000
RECORDED = ("mmlu_7models_topk", "gsm8k_qwen0.5b", "svamp_llama8b_postwarp")


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """Q questions with m candidates each; arrays (Q, m)."""

    labels: F64  # 1 right, 0 wrong
    answers: I64  # equal numbers for equal answers, -1 for none
    mean_logprobs: F64
    tokens: I64
    scores: F64 | None = None  # of the head
    probabilities: F64 | None = None
    beta: float = 1.0

    @property
    def right(self) -> F64:
        """1 for right answers, (Q, m), by the number of the answer."""
        right = np.zeros(self.labels.shape)
        rows, columns = np.nonzero(self.answers >= 0)
        right[rows, self.answers[rows, columns]] = self.labels[rows, columns]
        return right


def stack(
    groups: Sequence[Group], answer: str, *, head: HeadArtifact | None = None, m: int = COMPLETIONS
) -> Candidates:
    """Read and score questions that have ``m`` labelled completions."""
    scorers = label_free_scorers({"mean_logprob"}) | ({"head": head_scorer(head)} if head else {})
    usable = [group for group in groups if len(group.completions) >= m and not np.isnan(group.labels).any()]
    pools = [build_pool(group, scorers, answer) for group in usable]

    def rows(values: Sequence[Any]) -> Any:
        return np.stack([value[:m] for value in values])

    answers = rows([np.where(pool.complete, pool.answers, -1) for pool in pools])
    return Candidates(
        labels=rows([pool.labels for pool in pools]),
        answers=np.minimum(answers, m - 1),
        mean_logprobs=rows([pool.scores["mean_logprob"] for pool in pools]),
        tokens=rows([pool.tokens for pool in pools]),
        scores=rows([pool.scores["head"] for pool in pools]) if head else None,
        probabilities=rows([pool.probabilities["head"] for pool in pools]) if head else None,
        beta=head.beta if head else 1.0,
    )


def judge(candidates: Candidates, auroc: float, seed: int, *, bias: float = 0.0) -> F64:
    """Return a judgement, 0..1, of each answer by its number, (Q, m): the mean of two verdicts.

    Args:
        candidates: the questions.
        auroc: chance to order a right and a wrong answer rightly; USELESS: sure of itself at random.
        seed: of the judge's opinions.
        bias: log odds by which the option that is named first is preferred.
    """
    rng = np.random.default_rng([seed, round(1000 * auroc)])
    noise = rng.normal(size=candidates.labels.shape)
    distance = np.sqrt(2) * NormalDist().inv_cdf(0.75 if auroc == USELESS else auroc)
    shift = 0.0 if auroc == USELESS else distance * (candidates.right - 0.5)
    log_odds = distance * (shift + noise)
    first, second = (1 / (1 + np.exp(-(log_odds + sign * bias))) for sign in (1, -1))
    return np.asarray((first + second) / 2)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of one set, judge, n and weight; arrays (Q,) are means over the draws."""

    vote: F64
    judge: F64
    fused: F64
    doubt: F64
    oracle: F64
    doubt_share: float  # of the judge's tokens


def measure(
    candidates: Candidates, judgements: F64, n: int, *, term: VerifierTerm | None, subsets: int, seed: int
) -> Outcome:
    """Let all rules choose from the same draws of n candidates; ``term`` None: without a head."""
    rng = np.random.default_rng(seed)
    right = candidates.right
    count, m = candidates.labels.shape
    rows = np.zeros((5, count))
    judged = total = 0
    for q in np.repeat(np.arange(count), subsets):
        draw = rng.permutation(m)[:n]
        voters = candidates.answers[q, draw] >= 0
        if not voters.any():
            continue
        numbers, groups = np.unique(candidates.answers[q, draw], return_inverse=True)
        if numbers[0] < 0:
            numbers, groups = numbers[1:], groups - 1
        weights = _weigh(candidates, q, draw, groups, term)
        opinions = judgements[q, numbers].tolist()
        log_odds = judgement_log_odds(opinions)
        exponent = 1.0 if term is None else term.exponent
        chosen = {
            "vote": int(weights.argmax()),
            "judge": int((log_odds + 1e-9 * np.log(weights)).argmax()),
            "fused": int(posterior(weights, log_odds, exponent=exponent).argmax()),
        }
        chosen["doubt"], n_judged = _choose_in_doubt(weights, opinions, voters.sum(), term)
        judged, total = judged + n_judged, total + (len(numbers) if exponent else 0)
        values = [right[q, numbers[choice]] for choice in chosen.values()]
        rows[:, q] += [*values, right[q, numbers].max()]
    vote, judge_alone, fused, doubt, oracle = rows / subsets
    return Outcome(
        vote=vote, judge=judge_alone, fused=fused, doubt=doubt, oracle=oracle, doubt_share=judged / max(total, 1)
    )


def _weigh(candidates: Candidates, q: int, draw: I64, groups: I64, term: VerifierTerm | None) -> F64:
    """Return the weights of the answers of one draw."""
    if term is not None and candidates.probabilities is not None:
        return answer_odds(groups[None], candidates.probabilities[q, draw][None], candidates.beta)[0]
    voters = (groups >= 0)[None]
    weights, _ = label_free_weights(candidates.mean_logprobs[q, draw][None], candidates.tokens[q, draw][None], voters)
    return np.bincount(groups[voters[0]], weights[voters])


def _choose_in_doubt(
    weights: F64, opinions: Sequence[float], voters: int, term: VerifierTerm | None
) -> tuple[int, int]:
    """Return the choice of when="doubt", and how many answers were judged."""
    leader = int(weights.argmax())
    if len(weights) < 2 or (term is not None and not term.helps):
        return leader, 0
    if voters > len(weights) and posterior(weights).max() >= DOUBT_BELOW:
        return leader, 0
    if term is None:
        return int(posterior(weights, judgement_log_odds(opinions)).argmax()), len(weights)
    judgements: list[float | None] = [None] * len(weights)
    tried = [False] * len(weights)
    size = 1
    while positions := next_to_judge(weights, judgements, tried, term=term, size=size):
        for i in positions:
            judgements[i], tried[i] = opinions[i], True
        size *= 2
    log_odds = judgement_log_odds(judgements, missing=term.mean_log_odds)
    return int(posterior(weights, log_odds, exponent=term.exponent).argmax()), sum(tried)


def learn(candidates: Candidates, judgements: F64, seed: int) -> VerifierTerm:
    """Learn the weight of the judgements on validation questions, half to choose it and half to test its gain."""
    count, m = candidates.labels.shape
    assert candidates.scores is not None
    assert candidates.probabilities is not None
    own = np.take_along_axis(judgements, np.maximum(candidates.answers, 0), axis=1)
    own = np.where(candidates.answers >= 0, own, np.nan)
    order = np.random.default_rng(seed).permutation(count)
    half = np.sort(order[: count // 2])
    learnt = learn_weight(
        candidates.scores[half].ravel(),
        candidates.probabilities[half].ravel(),
        candidates.labels[half].ravel(),
        candidates.answers[half].ravel(),
        np.repeat(np.arange(len(half)), m),
        own[half].ravel(),
        beta=candidates.beta,
        seed=seed,
    )
    other = np.sort(order[count // 2 :])
    part = Candidates(**{
        name: value[other] if isinstance(value, np.ndarray) else value for name, value in vars(candidates).items()
    })  # fmt: skip
    term = VerifierTerm(
        verifier="simulated", exponent=learnt.weight, mean_log_odds=learnt.mean_log_odds, gain=0.0, low=0.0, high=0.0,
        questions=len(other),
    )  # fmt: skip
    if not term.helps:
        return term
    outcomes = [measure(part, judgements[other], n, term=term, subsets=4, seed=seed) for n in NS]
    gain = difference([outcome.fused for outcome in outcomes], [outcome.vote for outcome in outcomes])
    exponent = learnt.weight if gain.low > 0 else 0.0
    return replace(term, exponent=exponent, gain=gain.value, low=gain.low, high=gain.high)


def difference(one: Sequence[F64], two: Sequence[F64]) -> Estimate:
    """Return the paired difference in points, mean over columns such as n."""
    column = 100 * (np.mean(one, axis=0) - np.mean(two, axis=0))
    sums = sums_with_resamples(column[:, None], resamples=RESAMPLES, seed=0)[:, 0]
    return estimate(sums / len(column))


def draw_pocket(folder: Path, count: int) -> dict[str, list[Group]]:
    """Collect the packaged model's answers to new questions that its head was not trained on."""
    parts = {
        "validation": pocket_questions(count, seed=71, split="train"),
        "test": pocket_questions(count, seed=72, split="test"),
    }
    groups = {}
    for part, questions in parts.items():
        stored = [
            StoredQuestion(id=q.id, messages=({"role": "user", "content": q.prompt},), answer=q.answer, family=q.family)
            for q in questions
        ]
        path = folder / f"verify-{part}.db"
        collect(stored, path, provider="pocket", n=COMPLETIONS, temperature=0.8, seed=0)
        groups[part] = list(StoredGroups([path]))
    return groups


def read_sets(folder: Path, count: int) -> dict[str, tuple[Candidates, Candidates]]:
    """Return (validation, test) candidates with head scores by set."""
    stored = real_model.read_groups(Path(__file__).parent / "data" / "smollm2.xz")
    head = real_model.train_head(stored["train"], 0, "m", validation=stored["validation"])
    pocket = draw_pocket(folder, count)
    packaged = load_named("pocket/pocket").artifact
    assert isinstance(packaged, HeadArtifact)
    return {
        "smollm2": (stack(stored["validation"], "text", head=head), stack(stored["test"], "text", head=head)),
        "pocket": (stack(pocket["validation"], "auto", head=packaged), stack(pocket["test"], "auto", head=packaged)),
    }


def bar(value: float, target: float, unit: str, interval: Sequence[float] | None = None) -> dict[str, Any]:
    """Return one entry of ``bars``."""
    return {
        "value": round(value, 3), "target": target, "unit": unit,
        "interval": None if interval is None else [round(end, 3) for end in interval],
    }  # fmt: skip


def run_set(
    validation: Candidates, test: Candidates, *, subsets: int, seed: int
) -> tuple[list[dict[str, Any]], dict[float, list[Outcome]]]:
    """Return the rows of one set, and the outcomes with a head by judge."""
    rows, by_judge = [], {}
    for auroc in (USELESS, *AUROCS):
        term = learn(validation, judge(validation, auroc, seed), seed)
        opinions = judge(test, auroc, seed + 1)
        by_judge[auroc] = []
        for n in NS:
            with_head = measure(test, opinions, n, term=term, subsets=subsets, seed=seed)
            free = measure(test, opinions, n, term=None, subsets=subsets, seed=seed)
            by_judge[auroc].append(with_head)
            better = max((with_head.vote, with_head.judge), key=lambda values: float(values.mean()))
            lead = difference([with_head.fused], [better])
            rows.append({
                "auroc": auroc, "n": n, "weight": term.exponent, "questions": len(test.labels),
                **{name: round(100 * float(getattr(with_head, name).mean()), 1)
                   for name in ("vote", "judge", "fused", "doubt", "oracle")},
                "doubt_share": round(with_head.doubt_share, 3),
                "lead": round(lead.value, 2), "lead_interval": [round(lead.low, 2), round(lead.high, 2)],
                "free": {name: round(100 * float(getattr(free, name).mean()), 1) for name in ("vote", "fused", "doubt")}
                | {"doubt_share": round(free.doubt_share, 3)},
            })  # fmt: skip
    return rows, by_judge


def run_recorded(folder: Path, *, subsets: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of recorded sets, without a head."""
    result = {}
    for name in RECORDED:
        groups = label_free.read_set(folder / "real" / f"{name}.jsonl.gz")
        m = min(len(group.completions) for group in groups)
        candidates = stack(groups, "auto", m=m)
        rows = []
        for auroc in AUROCS:
            outcome = measure(candidates, judge(candidates, auroc, seed), m, term=None, subsets=1, seed=seed)
            rows.append({
                "auroc": auroc, "n": m, "questions": len(candidates.labels),
                "doubt_share": round(outcome.doubt_share, 3),
                **{key: round(100 * float(getattr(outcome, key).mean()), 1)
                   for key in ("vote", "judge", "fused", "doubt", "oracle")},
            })  # fmt: skip
        result[name] = rows
    return result


def measure_bias(test: Candidates, term: VerifierTerm, *, subsets: int, seed: int) -> Estimate:
    """Return by how many points a position bias moves the choice with a judge of .75."""
    log_odds = float(np.log((0.5 + BIAS_POINTS / 100) / (0.5 - BIAS_POINTS / 100)))
    plain, biased = (
        [measure(test, judge(test, 0.75, seed, bias=bias), n, term=term, subsets=subsets, seed=seed).fused for n in NS]
        for bias in (0.0, log_odds)
    )
    return difference(biased, plain)


def main() -> None:
    """Print the table, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--pocket", type=int, default=300)
    parser.add_argument("--subsets", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=500, help="questions of the simulated pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sets = read_sets(folder, arguments.pocket)
    settings = {"subsets": arguments.subsets, "seed": arguments.seed}
    rows, outcomes = {}, {}
    for name, (validation, test) in sets.items():
        rows[name], outcomes[name] = run_set(validation, test, **settings)
    useful = [outcome for by_judge in outcomes.values() for auroc in AUROCS for outcome in by_judge[auroc]]
    gains = [(float((o.doubt - o.vote).mean()), float((o.fused - o.vote).mean()), o.doubt_share) for o in useful
             if o.doubt_share > 0]  # fmt: skip
    worst = min((row for part in rows.values() for row in part if row["auroc"] != USELESS), key=lambda row: row["lead"])
    useless = [(outcome.vote, outcome.fused) for by_judge in outcomes.values() for outcome in by_judge[USELESS]]
    costs = [difference([vote], [fused]) for vote, fused in useless]
    worst_cost = max(costs, key=lambda cost: cost.value)
    validation, test = sets["smollm2"]
    moved = measure_bias(test, learn(validation, judge(validation, 0.75, arguments.seed), arguments.seed), **settings)
    pairs = pairwise.bars(pairwise.measure_judges((8,), arguments.pairs, arguments.seed))
    texts = consensus.consensus_table()
    bars = {
        "verify_minus_best": bar(worst["lead"], -0.3, "points", worst["lead_interval"]),
        "doubt_gain_kept": bar(sum(kept for kept, _, _ in gains) / sum(gain for _, gain, _ in gains), 0.9, "0-1"),
        "doubt_token_share": bar(float(np.mean([share for *_, share in gains])), 0.4, "0-1"),
        "useless_judge_cost": bar(worst_cost.value, 0.3, "points", (worst_cost.low, worst_cost.high)),
        "position_bias_moves": bar(moved.value, 0.5, "points", (moved.low, moved.high)),
        **pairs,
        **consensus.consensus_bars(texts),
        **consensus.speed_bars(),
    }
    recorded = run_recorded(arguments.sets, **settings) if arguments.sets else {}
    seconds = round(time.perf_counter() - started)
    if arguments.json:
        print(json.dumps({"sets": rows, "recorded": recorded, "seconds": seconds, "bars": bars}))
        return
    show(rows, recorded, bars)


def show(
    rows: dict[str, list[dict[str, Any]]], recorded: dict[str, list[dict[str, Any]]], bars: dict[str, dict[str, Any]]
) -> None:
    """Print the tables."""
    for name, part in rows.items():
        print(f"{name}: right answers in %, {part[0]['questions']} test questions; weights learnt beside a head")
        for row in part:
            shown = "  ".join(f"{key} {row[key]:5.1f}" for key in ("vote", "judge", "fused", "doubt", "oracle"))
            print(f"  judge of {row['auroc']:.2f}  n={row['n']:2}  weight {row['weight']:4}  {shown}  "
                  f"{row['doubt_share']:4.0%} of the tokens  without a head {row['free']}")  # fmt: skip
    for name, part in recorded.items():
        print(f"{name}: without a head")
        for row in part:
            shown = "  ".join(f"{key} {row[key]:5.1f}" for key in ("vote", "judge", "fused", "doubt", "oracle"))
            print(f"  judge of {row['auroc']:.2f}  n={row['n']:2}  {shown}  {row['doubt_share']:4.0%} of the tokens")
    for name, value in bars.items():
        interval = "" if value["interval"] is None else f" {value['interval']}"
        print(f"{name:32} {value['value']:8.3f}{interval}  (bar {value['target']} {value['unit']})")


if __name__ == "__main__":
    main()
