"""Few-shot questions that SmolLM2-135M answers right some of the time, generated from a seed.

    python -m tools.smollm2.questions --out questions.jsonl

An entity (a country, a word, a number) belongs to one split in every family that asks about it, and foreign families
are in no split, so that a head is judged on entities, and on kinds of questions, that its training never saw.
``data/README.md`` states the sources.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from swift_client.dataset.splits import hash_fraction
from tools.smollm2.tables import Row, other_values, read_table

FAMILIES: Mapping[str, Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("families.toml").read_text("utf-8"))

SYSTEM = "Answer briefly."

# Shares of the entities.
VALIDATION, TEST = 0.16, 0.32


@dataclass(frozen=True, kw_only=True)
class Question:
    """A few-shot chat question; ``answer`` is a list if any of several answers is right."""

    id: str
    family: str
    split: str  # train, validation, test or foreign
    messages: list[dict[str, str]]
    answer: str | list[str]


def generate(seed: int = 0) -> list[Question]:
    """Return all questions, in an order in which each prefix holds about the same mixture of families."""
    questions = [question for family in FAMILIES for question in _generate_family(family, seed)]
    Random(seed).shuffle(questions)
    return questions


def in_blocks(questions: Sequence[Question], size: int, seed: int = 0) -> list[Question]:
    """Return the questions in blocks of one family, so that a sampler shares the examples' cache.

    Blocks are in random order, so that a prefix of any length is a sample of all; the few foreign questions are all in
    the first 65 %.
    """
    rng = Random(seed)
    blocks: list[tuple[float, list[Question]]] = []
    for family in FAMILIES:
        own = [question for question in questions if question.family == family]
        end = 0.65 if FAMILIES[family].get("foreign") else 1.0
        blocks += [(end * rng.random(), own[start : start + size]) for start in range(0, len(own), size)]
    blocks.sort(key=lambda block: block[0])
    return [question for _, block in blocks for question in block]


def split_of(table: str, key: str) -> str:
    """Return the split that an entity belongs to."""
    place = hash_fraction(f"smollm2:{table}:{key}")
    return "test" if place < TEST else "validation" if place < TEST + VALIDATION else "train"


def _generate_family(name: str, seed: int) -> Iterator[Question]:
    family = FAMILIES[name]
    rows = read_table(family["table"])
    key_column = next(iter(rows[0]))
    solved: list[tuple[str, str]] = []
    for key in family["examples"]:
        row = next(row for row in rows if row[key_column] == key)
        example = _pose(family, row, rows, Random(f"{seed}/{name}/{key}/example"), len(solved))
        solved += [example] if example else []
    seen = {ask for ask, _ in solved}
    for index, row in enumerate(rows):
        key = row[key_column]
        if key in family["examples"] or key not in family.get("only", (key,)):
            continue
        posed = _pose(family, row, rows, Random(f"{seed}/{name}/{key}"), index)
        if posed is None or posed[0] in seen:
            continue
        seen.add(posed[0])
        messages = [{"role": "system", "content": SYSTEM}]
        for ask, answer in solved:
            messages += [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
        messages.append({"role": "user", "content": posed[0]})
        split = "foreign" if family.get("foreign") else split_of(family["table"], key)
        others = _other_answers(family, row)
        yield Question(
            id=f"{name}-{index}",
            family=name,
            split=split,
            messages=messages,
            answer=[posed[1], *others] if others else posed[1],
        )


def _pose(family: Mapping[str, Any], row: Row, rows: Sequence[Row], rng: Random, turn: int) -> tuple[str, str] | None:
    """Return a question about a row with its answer; None if a column that it needs is missing."""
    kind = family.get("kind", "plain")
    try:
        if kind == "plain":
            ask, answer = family["ask"].format_map(row), family["answer"].format_map(row)
            return None if answer.casefold() in ask.casefold().split() else (ask, answer)
        right = row[family["column"]]
        distinct = family.get("distinct", family["column"])
        wrong = sorted({other[family["column"]] for other in rows if other.get(distinct) not in (None, row[distinct])})
        if kind == "truth":
            shown, answer = (right, "Yes") if turn % 2 == 0 else (rng.choice(wrong), "No")
            return family["ask"].format_map(row | {"shown": shown}), answer
        options = [*rng.sample(wrong, 2), right]
        rng.shuffle(options)
        if kind == "choose":
            return family["ask"].format_map(row | {"options": "{}, {} or {}".format(*options)}), right
        lettered = " ".join(f"{letter}) {option}" for letter, option in zip("ABC", options, strict=True))
        return family["ask"].format_map(row | {"options": lettered}), "ABC"[options.index(right)]
    except KeyError:
        return None


def _other_answers(family: Mapping[str, Any], row: Row) -> list[str]:
    """Return the answers with the other right values of the columns that a plain question's answer names."""
    return [
        family["answer"].format_map(row | {column: other})
        for column in list(row)
        if family.get("kind", "plain") == "plain" and f"{{{column}}}" in family["answer"]
        for other in row.get(other_values(column), "").split("|")
        if other
    ]


def main() -> None:
    """Write the questions as JSON lines for ``swift-client collect``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block", type=int, default=8, help="questions of one family in a row")
    arguments = parser.parse_args()
    questions = in_blocks(generate(arguments.seed), arguments.block, arguments.seed)
    arguments.out.write_text("".join(json.dumps(asdict(question)) + "\n" for question in questions), "utf-8")
    print(f"{len(questions)} questions in {arguments.out}")


if __name__ == "__main__":
    main()
