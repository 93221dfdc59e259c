"""Accepted answers: of foreign questions and nonsense, which must be hardly any, and of a head's own kind.

    python benchmarks/acceptance.py [--json] [--questions 320] [--own 120] [--n 4] [--head smollm2.safetensors]

The packaged head is asked through ``best_of`` on the packaged model's server. A head for SmolLM2 is trained on the
stored samples' train questions (or read from ``--head``), calibrated on the validation questions, and replayed on the
test questions and on five families that it never saw, all at n=16. Of SmolLM2 there are no samples for nonsense: it
is asked after the solved examples of a test question, and counts as accepted if it is of the head's kind. Intervals are
95 % (Clopper and Pearson). ``broken`` is the share of 200 random halves of the test questions, of which one half
calibrates and the other has more wrong answers among the accepted than the risk; 10 % are allowed. SmolLM2 is so seldom
right that 5 % can hardly be certified, so a risk of 20 % stands beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.foreign_questions import foreign_questions, nonsense
from benchmarks.guarantee import check_guarantee
from swift_client import SwiftReranker
from swift_client.errors import SwiftClientError
from swift_client.evaluation.risk.calibrate import replay_question, replay_questions
from swift_client.models import AnyHead
from swift_client.models.artifact import BETTER_VERDICT
from swift_client.models.resolve_head import find_for_model, load_any_head
from swift_client.pocket.questions import questions
from swift_client.reranker.acceptance import kind_problem, with_acceptance
from swift_client.selection.select import SelectionConfig
from swift_client.training import Group, Split, StoredGroups, calibrate, train
from tools.smollm2.stored import FILE, restore

RISKS, COMPLETIONS, TEMPERATURE = (0.05, 0.2), 16, 0.8


def share(accepted: int, asked: int) -> dict[str, Any]:
    """Return a share with its exact 95 % interval."""
    low = beta.ppf(0.025, accepted, asked - accepted + 1) if accepted else 0.0
    high = beta.ppf(0.975, accepted + 1, asked - accepted) if accepted < asked else 1.0
    interval = [round(float(low), 4), round(float(high), 4)]
    return {"accepted": accepted, "questions": asked, "value": round(accepted / asked, 4), "interval": interval}


def ask_packaged(path: Path | None, count: int, own: int, n: int) -> dict[str, Any]:
    """Ask the packaged model foreign questions and its own, and count the accepted answers."""
    head = find_for_model("pocket", "pocket").artifact if path is None else load_any_head(path)
    calibrated = sorted({f"n={acceptance.n}" for acceptance in head.acceptances}) if head else []
    kinds = {**foreign_questions(count), "own": [question.prompt for question in questions(own, seed=31, split="test")]}
    results: dict[str, Any] = {"calibrated_at": calibrated}
    with SwiftReranker("pocket", head=path or "auto", timeout=600.0) as reranker:
        for kind, asked in kinds.items():
            accepted = 0
            for number, prompt in enumerate(asked):
                try:
                    selection = reranker.best_of(prompt, n, temperature=TEMPERATURE, seed=number, max_tokens=320)
                except SwiftClientError as error:
                    print(f"{prompt!r}: {error}", file=sys.stderr)
                    continue
                accepted += selection.accepted is True
            results[kind] = share(accepted, len(asked))
    foreign = [results[kind] for kind in kinds if kind != "own"]
    results["foreign"] = share(*(sum(result[name] for result in foreign) for name in ("accepted", "questions")))
    return results


def replay_smollm2(path: Path | None, count: int) -> dict[str, Any]:
    """Replay the stored samples of SmolLM2, and count the accepted answers per risk."""
    with tempfile.TemporaryDirectory() as folder:
        files = {split: Path(folder) / f"{split}.db" for split in ("train", "validation", "test", "foreign")}
        for split, file in files.items():
            restore(FILE, file, [split])
        head = (
            train(files["train"], split=Split(test=0.0), answer="text").artifact
            if path is None
            else load_any_head(path)
        )
        # Acceptance is measured also if the comparison with the best label-free rule would set the head aside.
        head = replace(head, training={**head.training, "verdict": BETTER_VERDICT})
        groups = {
            split: list(StoredGroups([files[split]], grade="text")) for split in ("validation", "test", "foreign")
        }
        results: dict[str, Any] = {"nonsense": count_kind(head, groups["test"], count)}
        for risk in RISKS:
            calibrated = calibrate(head, groups["validation"], risk=risk, n=COMPLETIONS, split="all", answer="text")
            results[f"risk={risk}"] = {
                "calibrated": calibrated.reason or "yes",
                **{split: accept(calibrated.head, groups[split]) for split in ("test", "foreign")},
            }
        outcomes = replay_questions(
            groups["test"], SelectionConfig(scorer=head, answer="text"), n=COMPLETIONS, split="all"
        )
        for risk in RISKS:
            check = check_guarantee(outcomes, risk=risk)
            results[f"risk={risk}"]["guarantee"] = {
                "broken": check.violation_rate,
                "accepted": round(float(check.accepted_share.mean()), 4),
                "of_oracle": round(check.share_of_oracle, 4),
            }
        return results


def count_kind(head: AnyHead, groups: Sequence[Group], count: int) -> dict[str, Any]:
    """Count nonsense that is of the head's kind although it is asked as the head's own questions are."""
    asked = nonsense(count)
    prompts = [
        (*groups[index % len(groups)].messages[:-1], {"role": "user", "content": text})
        for index, text in enumerate(asked)
    ]
    return share(sum(kind_problem(head, messages) is None for messages in prompts), len(asked))


def accept(head: AnyHead, groups: Sequence[Group]) -> dict[str, Any]:
    """Count accepted answers, and how many of them are wrong."""
    config = SelectionConfig(scorer=head, answer="text")
    accepted = wrong = 0
    for group in groups:
        selection = with_acceptance(
            replay_question(group.completions, config, n=COMPLETIONS).selection,
            config,
            n=COMPLETIONS,
            messages=group.messages,
        )
        accepted += selection.accepted is True
        wrong += selection.accepted is True and bool(group.labels[selection.winner] != 1)
    return {**share(accepted, len(groups)), "wrong": wrong}


def main() -> None:
    """Print the shares, or one JSON document with the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--questions", type=int, default=320, help="foreign questions and nonsense")
    parser.add_argument("--own", type=int, default=120, help="the packaged model's own test questions")
    parser.add_argument("--n", type=int, default=4, help="completions of the packaged model per question")
    parser.add_argument("--pocket-head", type=Path, help="a head for the packaged model; default: the packaged one")
    parser.add_argument("--head", type=Path, help="a head for SmolLM2 that was trained on the train questions")
    parser.add_argument("--only", choices=["packaged", "smollm2"])
    options = parser.parse_args()
    results: dict[str, Any] = {}
    bars: dict[str, Any] = {}
    if options.only != "smollm2":
        packaged = results["packaged"] = ask_packaged(options.pocket_head, options.questions, options.own, options.n)
        bars["foreign_accepted_packaged"] = bar(packaged["foreign"], 0.02)
    if options.only != "packaged":
        smollm2 = results["smollm2"] = replay_smollm2(options.head, options.questions)
        bars["foreign_accepted_smollm2"] = bar(smollm2["risk=0.05"]["foreign"], 0.02)
        bars["nonsense_accepted_smollm2"] = bar(smollm2["nonsense"], 0.02)
        bars["splits_broken_smollm2"] = {
            "value": max(smollm2[f"risk={risk}"]["guarantee"]["broken"] for risk in RISKS),
            "target": 0.1,
            "unit": "0-1",
            "interval": None,
        }
    if options.json:
        print(json.dumps({**results, "bars": bars}))
        return
    print(json.dumps(results, indent=2))
    for name, facts in bars.items():
        print(f"{name}: {100 * facts['value']:.1f} % (at most {100 * facts['target']:.0f} %), 95 % {facts['interval']}")


def bar(result: dict[str, Any], target: float) -> dict[str, Any]:
    """Return a share as a bar."""
    return {"value": result["value"], "target": target, "unit": "0-1", "interval": result["interval"]}


if __name__ == "__main__":
    main()
