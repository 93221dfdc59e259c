"""Hidden states of SmolLM2's stored samples reduced to principal components, as a file that fits the repository.

    python -m tools.smollm2.reduced write --train train.db --test test.db
    python -m tools.smollm2.reduced restore --out hidden.db --split train --split validation

``write`` reads what ``tools.smollm2.states`` wrote. Its components are those of the training questions alone: the
directions in which the mean states of a question's completions differ most, all columns scaled as ``train`` scales
them. ``restore`` writes a samples file whose states are one layer of components, for ``train --recipe hybrid``.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from swift_client.store import Meta, SampleStore, StateFile, StateLayout
from swift_client.training.feature_matrix import MIN_SCALE
from swift_client.types import F16, F32, Usage
from tools.smollm2 import stored

FILE = Path(__file__).parents[2] / "benchmarks" / "data" / "smollm2_hidden.xz"
LAYER = 0  # number of the one layer that restored files have


@dataclass(frozen=True)
class Components:
    """An orthonormal projection of scaled states to K components."""

    scale: F32  # (C,) deviation of each column between the mean states of a question's completions
    directions: F32  # (C, K)

    def project(self, states: F16) -> F16:
        """Return the components (T, K) of states (T, C), scaled so that all columns together have the variance 1."""
        scaled = states.astype(np.float32) / (self.scale * np.sqrt(np.float32(len(self.scale))))
        return (scaled @ self.directions).astype(np.float16)


def fit_components(centred: F32, count: int, *, seed: int = 0) -> Components:
    """Fit ``count`` components to mean states (N, C), each less its question's mean, by a randomized SVD.

    Halko, Martinsson and Tropp (2011), algorithm 4.4 with two power iterations. ``centred`` is overwritten.
    """
    deviation = np.sqrt(np.mean(np.square(centred), axis=0))
    scale = np.where(deviation > MIN_SCALE, deviation, 1.0).astype(np.float32)
    centred /= scale
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(centred.shape[1], count + 16)).astype(np.float32)
    for _ in range(3):
        rows, _ = np.linalg.qr(centred @ basis)
        basis, _ = np.linalg.qr(centred.T @ rows)
    # The best directions within the basis.
    _, _, rotation = np.linalg.svd(centred @ basis, full_matrices=False)
    return Components(scale, (basis @ rotation[:count].T).astype(np.float32))


def centred_means(states: Iterator[list[F16]]) -> F32:
    """Return the mean state of each completion less the mean of its question, (N, C)."""
    parts = []
    for completions in states:
        means = np.stack([rows.mean(axis=0, dtype=np.float32) for rows in completions])
        parts.append(means - means.mean(axis=0))
    return np.concatenate(parts)


def write(train: Path, test: Path, out: Path, *, count: int, about: dict[str, Any]) -> int:
    """Reduce the states of both samples files; return the number of questions."""
    components = fit_components(centred_means(rows for _, _, rows in _read_states(train)), count)
    entries = [
        (question_id, numbers, *_unique([components.project(states) for states in rows]))
        for path in (train, test)
        for question_id, numbers, rows in _read_states(path)
    ]
    data = msgspec.msgpack.encode({"about": about | {"components": count}, "questions": entries})
    out.write_bytes(lzma.compress(data, preset=6))
    return len(entries)


def _read_states(path: Path) -> Iterator[tuple[str, list[int], list[F16]]]:
    """Yield each question's id, the numbers of its completions, and their states (T, C)."""
    with SampleStore(path) as store, StateFile(path) as file:
        for question, samples in store.questions_with_samples():
            numbers = [sample.index for sample in samples]
            yield question.id, numbers, [file.states(question.id, number, file.layout) for number in numbers]


def _unique(rows: list[F16]) -> tuple[list[int], list[bytes]]:
    """Return for each array the position of its bytes in the list of different ones, and this list."""
    position: dict[bytes, int] = {}
    return [position.setdefault(array.tobytes(), len(position)) for array in rows], list(position)


def restore(path: Path, out: Path, splits: Collection[str] | None = None) -> int:
    """Write the questions of ``splits`` with their reduced states to the samples file ``out``; return their number."""
    content, about = msgspec.msgpack.decode(lzma.decompress(path.read_bytes())), stored.read_about()
    reduced = {question_id: record for question_id, *record in content["questions"]}
    layout = StateLayout(layers=(LAYER,), width=content["about"]["components"])
    count = 0
    with SampleStore(out, write=True) as store, StateFile(out, write_layout=layout) as file:
        store.begin(Meta(**{name: about[name] for name in ("provider", "model", "top_logprobs", "sampling")}))
        for sampled in stored.read(splits=splits):
            if sampled.question.id in reduced:
                numbers, positions, arrays = reduced[sampled.question.id]
                states = [np.frombuffer(data, "<f2").reshape(-1, layout.width) for data in arrays]
                completions = [
                    replace(sampled.completions[number], hidden_states=states[position])
                    for number, position in zip(numbers, positions, strict=True)
                ]
                stateless = file.append(sampled.question.id, numbers, completions)
                store.add_questions([sampled.question])
                usage = Usage(completion_tokens=sum(len(completion.tokens) for completion in completions), calls=1)
                store.add_samples(sampled.question.id, stateless, usage=usage, numbers=numbers)
                count += 1
    return count


def main() -> None:
    """Write or restore."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("--train", type=Path, required=True, help="components are fitted to these questions")
    writing.add_argument("--test", type=Path, required=True)
    writing.add_argument("--out", type=Path, default=FILE)
    writing.add_argument("--components", type=int, default=128)
    writing.add_argument("--about", type=json.loads, default={}, help="JSON object: command, date, versions")
    restoring = commands.add_parser("restore")
    restoring.add_argument("file", type=Path, nargs="?", default=FILE)
    restoring.add_argument("--out", type=Path, required=True)
    restoring.add_argument("--split", action="append", choices=["train", "validation", "test"])
    arguments = parser.parse_args()
    if arguments.command == "write":
        count = write(arguments.train, arguments.test, arguments.out, count=arguments.components, about=arguments.about)
    else:
        count = restore(arguments.file, arguments.out, arguments.split)
    print(f"{count} questions in {arguments.out}")


if __name__ == "__main__":
    main()
