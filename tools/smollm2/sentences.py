"""Questions that SmolLM2-135M answers in free sentences, their samples and their grades.

    python -m tools.smollm2.sentences draw --folder FOLDER --out sentences.jsonl
    python -m tools.smollm2.sentences export sentences.jsonl --out benchmarks/data/smollm2_sentences.xz

A sentence is right if it names the question's entity and no other entity of the question's family. ``draw`` continues
where it ended. The exported file is xz-compressed msgpack: texts, finish reasons, and logprobs of the chosen tokens in
float16.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from swift_client.store import StoredQuestion
from swift_client.types import Completion
from tools.smollm2 import questions
from tools.smollm2.tables import other_values, read_table

FAMILIES: Mapping[str, Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("sentences.toml").read_text("utf-8"))
FILE = Path(__file__).parents[2] / "benchmarks" / "data" / "smollm2_sentences.xz"
SYSTEM = "Answer in one full sentence."
BLOCK = 8  # questions of one family that share a batch


@dataclass(frozen=True, kw_only=True)
class Question:
    """A few-shot chat question; ``answers`` are the entities that a right sentence may name."""

    id: str
    family: str
    messages: list[dict[str, str]]
    answers: list[str]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A question of the exported file, its completions and their grades: 1 right, 0 wrong."""

    id: str
    family: str
    question: str
    completions: tuple[Completion, ...]
    labels: tuple[float, ...]


def generate(seed: int = 0) -> list[Question]:
    """Return all questions in blocks of one family, in a random order of blocks."""
    blocks = []
    for name in FAMILIES:
        own = list(_generate_family(name))
        Random(f"{seed}/{name}").shuffle(own)
        blocks += [own[start : start + BLOCK] for start in range(0, len(own), BLOCK)]
    Random(seed).shuffle(blocks)
    return [question for block in blocks for question in block]


def named_entities(family: str, text: str) -> set[str]:
    """Return the entities of a family that a text names, in lower case; the longest of names that overlap counts."""
    neutral = {name.lower() for name in FAMILIES[family].get("neutral", ())}
    return {name.lower() for name in _entities(family).findall(text)} - neutral


def is_right(family: str, text: str, answers: list[str]) -> bool:
    """Return True if a text names one of ``answers`` and no other entity of the family."""
    named = named_entities(family, text)
    return bool(named) and named <= {answer.lower() for answer in answers}


def read(path: Path = FILE) -> Iterator[Sampled]:
    """Yield the questions of an exported file with graded completions."""
    for identity, family, question, answers, samples in _read(path)["questions"]:
        completions = tuple(_completion(index, *sample) for index, sample in enumerate(samples))
        labels = tuple(float(is_right(family, text, answers)) for text, _, _ in samples)
        yield Sampled(id=identity, family=family, question=question, completions=completions, labels=labels)


def read_about(path: Path = FILE) -> dict[str, Any]:
    """Return how the samples were drawn: command, date, versions, model and sampling parameters."""
    about: dict[str, Any] = _read(path)["about"]
    return about


def export(samples: Path, out: Path, about: dict[str, Any]) -> int:
    """Write what ``draw`` has drawn as one small file; return the number of questions."""
    asked = {question.id: question for question in generate()}
    entries = []
    for line in samples.read_text("utf-8").splitlines():
        record = json.loads(line)
        question = asked[record["id"]]
        drawn = [
            (text, reason, np.array(logprobs, np.float16).tobytes()) for text, reason, logprobs in record["samples"]
        ]
        entries.append((question.id, question.family, question.messages[-1]["content"], question.answers, drawn))
    data = msgspec.msgpack.encode({"about": about, "questions": entries})
    out.write_bytes(lzma.compress(data, preset=9))
    return len(entries)


def draw(folder: Path, out: Path, *, n: int, max_tokens: int, limit: int, seed: int) -> None:
    """Draw ``n`` sentences for each of the first ``limit`` questions; what ``out`` has is not drawn again."""
    import torch

    from tools.smollm2.draw import Sampler, batches

    torch.set_num_threads(1)
    sampler = Sampler(folder, n=n, max_tokens=max_tokens, seed=seed, narrow=False)
    done = {json.loads(line)["id"] for line in out.read_text("utf-8").splitlines()} if out.exists() else set()
    missing = [question for question in generate()[:limit] if question.id not in done]
    stored = [StoredQuestion(id=asked.id, family=asked.family, messages=tuple(asked.messages)) for asked in missing]
    with out.open("a", encoding="utf-8") as file:
        for batch in batches(stored, BLOCK):
            for question, reply in zip(batch, sampler.sample(batch), strict=True):
                samples = [
                    (
                        choice["message"]["content"],
                        choice["finish_reason"],
                        [round(entry["logprob"], 5) for entry in choice["logprobs"]["content"]],
                    )
                    for choice in reply["choices"]
                ]
                file.write(json.dumps({"id": question.id, "samples": samples}) + "\n")
            file.flush()


def _generate_family(name: str) -> Iterator[Question]:
    family = FAMILIES[name]
    rows, column, examples = read_table(family["table"]), family["column"], family["examples"]
    only = questions.FAMILIES[family["only"]]["only"] if "only" in family else None
    key_column = next(iter(rows[0]))
    by_key = {row[key_column]: row for row in rows}
    messages = [{"role": "system", "content": SYSTEM}]
    for key, sentence in examples.items():
        messages.append({"role": "user", "content": family["ask"].format_map(by_key[key])})
        messages.append({"role": "assistant", "content": sentence})
    seen = {message["content"] for message in messages}
    for index, row in enumerate(rows):
        key = row[key_column]
        if key in examples or column not in row or (only is not None and key not in only):
            continue
        ask = family["ask"].format_map(row)
        if ask in seen or named_entities(name, ask):
            continue
        seen.add(ask)
        answers = [row[column], *filter(None, row.get(other_values(column), "").split("|"))]
        yield Question(
            id=f"{name}-{index}",
            family=name,
            messages=[*messages, {"role": "user", "content": ask}],
            answers=answers,
        )


@cache
def _entities(family: str) -> re.Pattern[str]:
    facts = FAMILIES[family]
    names = set(facts.get("neutral", ()))
    for place in facts.get("entities", [f"{facts['table']}.{facts['column']}"]):
        table, column = place.split(".")
        for row in read_table(table):
            names |= {row.get(column, ""), *row.get(other_values(column), "").split("|")} - {""}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)


def _completion(index: int, text: str, reason: str, data: bytes) -> Completion:
    logprobs = np.frombuffer(data, np.float16).astype(np.float32)
    return Completion(
        text=text,
        index=index,
        finish_reason=reason,
        tokens=("",) * len(logprobs),
        logprobs=logprobs,
        top_logprobs=np.zeros((len(logprobs), 0), np.float32),
        censored=np.zeros(len(logprobs), np.bool_),
    )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.msgpack.decode(lzma.decompress(path.read_bytes()))
    return content


def main() -> None:
    """Draw or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("--folder", type=Path, required=True, help="written by tools.smollm2.unpack")
    drawing.add_argument("--out", type=Path, required=True)
    drawing.add_argument("--n", type=int, default=16)
    drawing.add_argument("--max-tokens", type=int, default=40)
    drawing.add_argument("--limit", type=int, default=800, help="questions")
    drawing.add_argument("--seed", type=int, default=0)
    exporting = commands.add_parser("export")
    exporting.add_argument("samples", type=Path)
    exporting.add_argument("--out", type=Path, default=FILE)
    exporting.add_argument("--about", type=json.loads, default={}, help="JSON object: command, date, versions")
    arguments = parser.parse_args()
    if arguments.command == "draw":
        draw(
            arguments.folder,
            arguments.out,
            n=arguments.n,
            max_tokens=arguments.max_tokens,
            limit=arguments.limit,
            seed=arguments.seed,
        )
    else:
        print(f"{export(arguments.samples, arguments.out, arguments.about)} questions in {arguments.out}")


if __name__ == "__main__":
    main()
