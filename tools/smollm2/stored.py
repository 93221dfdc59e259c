"""Samples of SmolLM2 as one small file for benchmarks, and back to a samples file.

    python -m tools.smollm2.stored export samples.db --questions questions.jsonl --out benchmarks/data/smollm2.xz
    python -m tools.smollm2.stored restore benchmarks/data/smollm2.xz --out smollm2.db --split train

The file is xz-compressed msgpack with exactly what the samples file holds: texts, tokens, logprobs of chosen tokens in
float32 and of 20 alternatives in float16, without token ids. It takes a fifth of the samples file.
"""

from __future__ import annotations

import argparse
import json
import lzma
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from swift_client.dataset.questions import read_questions
from swift_client.store import Meta, SampleStore, StoredQuestion
from swift_client.store.packing import pack, unpack
from swift_client.types import Completion, Usage

FILE = Path(__file__).parents[2] / "benchmarks" / "data" / "smollm2.xz"


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A question with its split (train, validation, test or foreign) and its completions."""

    question: StoredQuestion
    split: str
    completions: tuple[Completion, ...]


def read_about(path: Path = FILE) -> dict[str, Any]:
    """Return how the samples were drawn: command, date, versions, model and sampling parameters."""
    about: dict[str, Any] = _read(path)["about"]
    return about


def read(path: Path = FILE, splits: Collection[str] | None = None) -> Iterator[Sampled]:
    """Yield the questions of ``splits`` (default: all) in the order in which they were drawn."""
    for split, question, samples in _read(path)["questions"]:
        if splits is None or split in splits:
            yield Sampled(
                question=msgspec.convert(question, StoredQuestion),
                split=split,
                completions=tuple(
                    unpack(zlib.compress(data, 0), text=text, index=index, finish_reason=reason)
                    for index, (text, reason, data) in enumerate(samples)
                ),
            )


def restore(path: Path, out: Path, splits: Collection[str] | None = None) -> int:
    """Write the questions of ``splits`` to the samples file ``out``; return their number."""
    about, count = read_about(path), 0
    with SampleStore(out, write=True) as store:
        store.begin(
            Meta(
                provider=about["provider"],
                model=about["model"],
                top_logprobs=about["top_logprobs"],
                sampling=about["sampling"],
            )
        )
        for sampled in read(path, splits):
            store.add_questions([sampled.question])
            tokens = sum(len(completion.tokens) for completion in sampled.completions)
            store.add_samples(sampled.question.id, sampled.completions, usage=Usage(completion_tokens=tokens, calls=1))
            count += 1
    return count


def export(samples: Path, questions: Path, out: Path, about: dict[str, Any], n: int) -> int:
    """Write the questions that have ``n`` completions in ``samples`` and are in ``questions``; return their number."""
    asked = {question.id: question for question in read_questions(questions)}
    records = map(json.loads, questions.read_text("utf-8").splitlines())
    splits = {record["id"]: record["split"] for record in records}
    with SampleStore(samples) as store:
        meta = store.meta
        if meta is None:
            raise SystemExit(f"{samples} does not name the model of its samples.")
        entries = [
            (
                splits[question.id],
                msgspec.to_builtins(asked[question.id]),  # its answers may have been corrected since
                [
                    (sample.completion.text, sample.completion.finish_reason, zlib.decompress(pack(sample.completion)))
                    for sample in drawn
                ],
            )
            for question, drawn in store.questions_with_samples()
            if question.id in asked and question.messages == asked[question.id].messages and len(drawn) == n
        ]
    about = about | {
        "provider": meta.provider,
        "model": meta.model,
        "top_logprobs": meta.top_logprobs,
        "sampling": dict(meta.sampling),
        "n": n,
    }
    data = msgspec.msgpack.encode({"about": about, "questions": entries})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(lzma.compress(data, preset=9))
    return len(entries)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.msgpack.decode(lzma.decompress(path.read_bytes()))
    return content


def main() -> None:
    """Export or restore."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    exporting = commands.add_parser("export")
    exporting.add_argument("samples", type=Path)
    exporting.add_argument("--questions", type=Path, required=True)
    exporting.add_argument("--out", type=Path, default=FILE)
    exporting.add_argument("--n", type=int, default=16)
    exporting.add_argument("--about", type=json.loads, default={}, help="JSON object: command, date, versions")
    restoring = commands.add_parser("restore")
    restoring.add_argument("file", type=Path)
    restoring.add_argument("--out", type=Path, required=True)
    restoring.add_argument("--split", action="append", choices=["train", "validation", "test", "foreign"])
    arguments = parser.parse_args()
    if arguments.command == "export":
        count = export(arguments.samples, arguments.questions, arguments.out, arguments.about, arguments.n)
    else:
        count = restore(arguments.file, arguments.out, arguments.split)
    print(f"{count} questions in {arguments.out}")


if __name__ == "__main__":
    main()
