"""Recorded labels that were shown to be wrong: single ones, and rules for whole classes.

The list is ``benchmarks/data/wrong_labels.json``. No entry rests on our readers: single labels were read by hand, and a
rule is a pattern with one comparison of plain numbers or of month, day and year.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRONG_LABELS = Path(__file__).parents[1] / "data" / "wrong_labels.json"


def parse_plain_number(text: str) -> float:
    """Parse digits with commas and decimals. Raises ValueError for anything else."""
    return float(text.replace(",", ""))


def parse_plain_date(text: str) -> tuple[int, ...]:
    """Parse month/day/year in digits. Raises ValueError for anything else."""
    month, day, year = text.split("/")
    return int(month), int(day), int(year)


COMPARED: Mapping[str, Callable[[str], Any]] = {"number": parse_plain_number, "date": parse_plain_date}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A class of labels that are wrong for one mechanical reason."""

    pattern: re.Pattern[str]  # the group that matched is the stated answer
    parse: Callable[[str], Any]

    def label(self, text: str, references: Sequence[Any]) -> bool | None:
        """Return the right label; None if the rule does not apply."""
        match = self.pattern.search(text.strip())
        if match is None:
            return None
        try:
            wanted = [self.parse(str(reference)) for reference in references]
            return self.parse(next(filter(None, match.groups()))) in wanted
        except ValueError:
            return None


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """The corrections of one set."""

    labels: Mapping[tuple[str, int], bool | None] = field(default_factory=dict)  # (question id, completion index)
    rules: Sequence[Rule] = ()

    def label(self, question: str, index: int, text: str, references: Sequence[Any], label: bool | None) -> bool | None:
        """Return the right label of a completion; None leaves it out, as a recorded label of None does."""
        if label is None:
            return None
        if (question, index) in self.labels:
            return self.labels[question, index]
        for rule in self.rules:
            right = rule.label(text, references)
            if right is not None:
                return right
        return label


def load_corrections(path: Path = WRONG_LABELS) -> dict[str, Corrections]:
    """Return the corrections per set."""
    document = json.loads(path.read_text(encoding="utf-8"))
    names = {entry["set"] for entry in document["labels"]} | {name for row in document["rules"] for name in row["sets"]}
    return {name: corrections_of(name, document) for name in names}


def corrections_of(name: str, document: dict[str, Any]) -> Corrections:
    """Return the corrections of one set from the document."""
    labels = {
        (entry["id"], index): entry["right"]
        for entry in document["labels"]
        if entry["set"] == name
        for index in entry["indices"]
    }
    rules = [
        Rule(pattern=re.compile(row["pattern"]), parse=COMPARED[row["compare"]])
        for row in document["rules"]
        if name in row["sets"]
    ]
    return Corrections(labels=labels, rules=rules)
