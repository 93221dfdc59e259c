"""Retraining on 500 biased feedbacks: is a head that ``retrain`` proposes ever worse than the one that it replaces?

    python benchmarks/feedback.py [--json] [--feedbacks 500] [--seeds 3] [--labels 60 300] [--small]

SmolLM2's stored answers (``tools/smollm2/README.md``). For each seed a head is trained on ``--labels`` questions. It
chooses among 8 completions of further questions, whose answers are unknown to it and to ``retrain``; simulated
users give feedback on some of its choices, by one of SCENARIOS. ``retrain`` gets the graded questions and these. Both
heads are then compared on the test questions, all of whose answers are known (n = 2, 4 and 8, 95 % paired bootstrap).

The bars: ``worse_proposed`` counts the proposed heads whose true interval is below 0; ``worst_proposed`` is the least
true difference of a proposed head, in points, and its interval. Without any proposal both are 0. The rows also show
how often a new head is proposed, what was measured, and the true difference of the heads that were refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift_client.dataset.graders import grade_all
from swift_client.evaluation.head_comparison import compare_heads
from swift_client.models import AnyHead, load, save
from swift_client.reranker.feedback import selection_facts
from swift_client.retraining import Retraining, retrain
from swift_client.selection.select import SelectionConfig, select_best
from swift_client.store import Meta, SelectionStore, StoredQuestion
from swift_client.training import Group, train
from swift_client.types import Selection, Usage
from tools.smollm2 import stored

N = 8
ANSWER = "text"
# From the random generator, the answer's probability, its place among all choices (0..1) and whether it is right, to
# the word of the user: True, False, or None for no feedback.
Scenario = Callable[[np.random.Generator, float, float, bool], bool | None]


def some(share: float, rng: np.random.Generator, word: bool) -> bool | None:
    """Return the word with a probability."""
    return word if rng.random() < share else None


SCENARIOS: dict[str, Scenario] = {
    "any choice": lambda rng, probability, place, right: some(0.6, rng, right),
    "confident choices only": lambda rng, probability, place, right: some(0.9, rng, right) if place > 0.5 else None,
    "mostly confident choices": lambda rng, probability, place, right: some(0.1 + 0.8 * place, rng, right),
    "mostly complaints": lambda rng, probability, place, right: some(0.2 if right else 0.9, rng, right),
    "mostly praise": lambda rng, probability, place, right: some(0.95 if right else 0.45, rng, right),
    "a tenth is mistaken": lambda rng, probability, place, right: some(0.6, rng, right ^ bool(rng.random() < 0.1)),
    "words at random": lambda rng, probability, place, right: some(0.6, rng, bool(rng.random() < 0.5)),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One retraining: what it decided, and the truth; differences in points with their intervals."""

    scenario: str
    labels: int
    seed: int
    feedbacks: int
    proposed: bool
    measured: tuple[float, float, float]
    true: tuple[float, float, float]
    seconds: float
    reason: str


def read_groups() -> tuple[list[Group], list[Group], dict[str, StoredQuestion]]:
    """Return the training and the test questions with all labels, and the questions by id."""
    parts: dict[str, list[Group]] = {"train": [], "validation": [], "test": []}
    questions = {}
    for sampled in stored.read(splits=parts):
        labels = grade_all(sampled.completions, sampled.question.answer, ANSWER).labels
        group = Group(question_id=sampled.question.id, completions=sampled.completions[:N], labels=labels[:N])
        parts[sampled.split].append(group)
        questions[sampled.question.id] = sampled.question
    return parts["train"] + parts["validation"], parts["test"], questions


def write(
    path: Path, groups: Sequence[Group], questions: dict[str, StoredQuestion], *, with_answers: bool
) -> SelectionStore:
    """Write questions with their samples, and return the open file."""
    store = SelectionStore(path, write=True)
    store.postpone_sync()
    store.begin(Meta(provider="smollm2", model="m", top_logprobs=20))
    for group in groups:
        question = questions[group.question_id]
        answer = question.answer if with_answers else None
        store.add_questions([StoredQuestion(id=question.id, messages=question.messages, answer=answer)])
        store.add_samples(group.question_id, group.completions, usage=Usage())
    return store


def choose(head: AnyHead, groups: Sequence[Group]) -> list[Selection]:
    """Return the head's choices, as ``best_of`` makes them."""
    config = SelectionConfig(scorer=head, answer=ANSWER, force_head=True)
    return [select_best(group.completions, config) for group in groups]


def give_feedback(
    store: SelectionStore,
    groups: Sequence[Group],
    selections: Sequence[Selection],
    scenario: Scenario,
    count: int,
    rng: np.random.Generator,
) -> int:
    """Store the choices, and the words of the users on at most ``count`` of them; return their number."""
    probabilities = np.array([selection.answer_probability or 0.0 for selection in selections])
    places = probabilities.argsort().argsort() / len(probabilities)
    given = 0
    for number in rng.permutation(len(groups)).tolist():
        group, selection = groups[number], selections[number]
        store.add_selection(
            selection.id, selection_facts(selection), group.completions, question_id=group.question_id, prompt=""
        )
        right = group.labels[selection.winner] == 1
        word = scenario(rng, float(probabilities[number]), float(places[number]), bool(right))
        if word is not None and given < count:
            store.set_feedback(selection.id, word)
            given += 1
    return given


def put_in_use(path: Path) -> AnyHead:
    """Return a head that is used whatever its own test found, which is rarely in its favour with few labels."""
    head = load(path)
    facts = {name: value for name, value in head.training.items() if name not in ("verdict", "comparison")}
    head = replace(head, training=facts)
    save(head, path)
    return head


def points(estimate: Any) -> tuple[float, float, float]:
    """Return an estimate in points."""
    return 100 * estimate.value, 100 * estimate.low, 100 * estimate.high


def runs(arguments: argparse.Namespace, folder: Path) -> Iterator[Run]:
    """Yield every retraining."""
    train_groups, test, questions = read_groups()
    if arguments.small:
        test = test[:150]
    for labels in arguments.labels:
        for seed in range(arguments.seeds):
            rng = np.random.default_rng(1000 * labels + seed)
            order = rng.permutation(len(train_groups))
            graded = [train_groups[number] for number in order[:labels]]
            asked = [train_groups[number] for number in order[labels : labels + arguments.asked]]
            place = folder / f"{labels}-{seed}"
            place.mkdir()
            write(place / "graded.db", graded, questions, with_answers=True).close()
            train(place / "graded.db", out=place / "old.safetensors", answer=ANSWER, seed=seed)
            old = put_in_use(place / "old.safetensors")
            selections = choose(old, asked)
            for number, (name, scenario) in enumerate(SCENARIOS.items()):
                if arguments.scenarios and name not in arguments.scenarios:
                    continue
                start = time.perf_counter()
                path = place / f"{number}.db"
                with write(path, asked, questions, with_answers=False) as store:
                    count = give_feedback(store, asked, selections, scenario, arguments.feedbacks, rng)
                result: Retraining = retrain([place / "graded.db", path], place / "old.safetensors", seed=seed)
                seconds = time.perf_counter() - start
                true = compare_heads(old, result.artifact, test, answer=ANSWER, seed=seed)
                yield Run(
                    scenario=name,
                    labels=labels,
                    seed=seed,
                    feedbacks=count,
                    proposed=result.is_better,
                    measured=points(result.difference.mean),
                    true=points(true.mean),
                    seconds=seconds,
                    reason=result.reason,
                )


def main() -> None:
    """Run every scenario and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--feedbacks", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, nargs="+", default=[60, 300])
    parser.add_argument("--asked", type=int, default=1200, help="choices, of which some get feedback")
    parser.add_argument("--scenarios", nargs="*", choices=SCENARIOS)
    parser.add_argument("--small", action="store_true", help="few test questions, for tests of this script")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="swift-feedback-") as folder:
        for run in runs(arguments, Path(folder)):
            rows.append(run)
            if not arguments.json:
                print(line(run), flush=True)
    document = {"bars": bars(rows), "runs": [asdict(run) for run in rows]}
    print(json.dumps(document, indent=2) if arguments.json else summary(rows))


def line(run: Run) -> str:
    """Return a run as a line for people."""
    measured, true = (f"{value:+.1f} [{low:+.1f}, {high:+.1f}]" for value, low, high in (run.measured, run.true))
    decision = "proposed" if run.proposed else "refused "
    return (
        f"{run.labels:4} labels, seed {run.seed}, {run.feedbacks} × {run.scenario:25} {decision} "
        f"measured {measured:22} true {true:22} {run.seconds:.0f} s"
    )


def bars(rows: Sequence[Run]) -> dict[str, Any]:
    """Return the bars; see the module."""
    proposed = [run for run in rows if run.proposed]
    worst = min(proposed, key=lambda run: run.true[0], default=None)
    return {
        "worse_proposed": {
            "value": sum(run.true[2] < 0 for run in proposed), "target": 0, "unit": "proposed heads", "interval": None,
        },
        "worst_proposed": {
            "value": worst.true[0] if worst else 0.0, "target": None, "unit": "points",
            "interval": list(worst.true[1:]) if worst else None,
        },
    }  # fmt: skip


def summary(rows: Sequence[Run]) -> str:
    """Return the bars for people."""
    proposed = [run for run in rows if run.proposed]
    refused = [run for run in rows if not run.proposed]
    worse = [run for run in refused if run.true[2] < 0]
    better = [run for run in refused if run.true[1] > 0]
    values = bars(rows)
    return "\n".join(
        [
            "",
            f"{len(proposed)} of {len(rows)} new heads were proposed, {values['worse_proposed']['value']} of them "
            f"worse than the head in use; the worst by {values['worst_proposed']['value']:+.1f} points.",
            f"Of {len(refused)} refused ones, {len(worse)} were worse than the head in use and {len(better)} better.",
        ]
    )


if __name__ == "__main__":
    main()
