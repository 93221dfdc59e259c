"""GPT-3.5 and GPT-4 in March and in June 2023 on the same 500 questions about primes, compared by their texts alone.

The answers are those of "How Is ChatGPT's Behavior Changing over Time?" (arXiv 2307.09009); they are not part of this
project.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift_parts.streams import count_false_alarms, detect, profile_of
from swift_client import rank
from swift_client.features.segments import F64
from swift_client.monitoring import question_statistics
from swift_client.types import Completion

FILE = "primes_drift.jsonl.gz"
MARCH, JUNE = ("0301", "0314"), ("0613",)  # versions are named after the day


def read_texts(path: Path) -> dict[str, dict[str, dict[str, tuple[str, bool]]]]:
    """Return (text, right) by model, month and question; an answer without a label has no verdict and is wrong."""
    answers: dict[str, dict[str, dict[str, tuple[str, bool]]]] = defaultdict(lambda: defaultdict(dict))
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for question in map(json.loads, lines):
            for row in question["completions"]:
                name = row["model"].rsplit("/", 1)[-1]
                model, _, version = name.rpartition("-")
                month = "march" if version in MARCH else "june" if version in JUNE else version
                answers[model][month].setdefault(question["id"], (row["text"], bool(row.get("label"))))
    return answers


def statistics(text: str) -> F64:
    """Return what can be compared of a single text, (S,)."""
    completions = [Completion(text=text)]
    selection = rank(completions, answer="yes_no")
    return question_statistics(completions, answers=[candidate.group for candidate in selection.candidates])


def measure(folder: Path, *, streams: int, per_false_alarm: float) -> dict[str, Any] | None:
    """Return the changes of both models; None if the folder lacks the file.

    One half of the questions in March is the reference; the others are asked in June, and in March for false alarms.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    result: dict[str, Any] = {}
    for model, months in read_texts(path).items():
        earlier, later = months["march"], months["june"]
        ids = sorted(earlier.keys() & later.keys())
        if len(ids) < 100:
            continue
        order = np.random.default_rng(0).permutation(len(ids))
        rows = {
            month: np.array([statistics(answers[ids[index]][0]) for index in order])
            for month, answers in (("march", earlier), ("june", later))
        }
        half = len(ids) // 2
        profile = profile_of(rows["march"][:half], 1)
        right = {name: np.mean([answers[id_][1] for id_ in ids]) for name, answers in (("m", earlier), ("j", later))}
        same = detect(profile, rows["march"][half:], streams=streams, per_false_alarm=per_false_alarm)
        result[model] = {
            "accuracy_points": round(100 * float(right["j"] - right["m"]), 1),
            **detect(profile, rows["june"][half:], streams=streams, per_false_alarm=per_false_alarm).to_dict(),
            "unchanged_detected": same.to_dict()["detected"],
            "false_alarms_per_10000": count_false_alarms(
                profile, rows["march"][half:], questions=10_000, per_false_alarm=per_false_alarm
            ).per_10000,
        }
    return result
