"""The completions that a folder of shards holds: a small table by question, and their usage and cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.errors import ConfigurationError
from swift_client.pricing import add_costs
from swift_client.ray.folder import Folder
from swift_client.ray.shards import SAMPLES, ShardFacts, open_shard
from swift_client.types import Usage

_DIGEST_BYTES = 16  # two of a billion questions are equal with a probability of 1e-21
_MAX_INDEX = 4096  # each question takes a bit per index, so one of a hostile file must not be large
_READERS = 8  # shards that are read at once


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The completions of a folder by question. A question takes 16 bytes and one bit per completion.

    Attributes:
        samples: Completions in the folder.
        usage: Their tokens and requests.
        cost: Their cost; None if that of any is unknown.
    """

    samples: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    _digests: NDArray[np.bytes_] = field(default_factory=lambda: np.empty(0, f"S{_DIGEST_BYTES}"))
    _masks: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))  # bit i: index i

    @classmethod
    def read(cls, folder: Folder) -> Committed:
        """Read the key columns of all shards.

        Raises:
            ConfigurationError: a shard cannot be read, or is none.
        """
        digests: list[bytes] = []
        masks: list[int] = []
        samples, usage = 0, Usage()
        cost: float | None = 0.0
        with ThreadPoolExecutor(_READERS) as pool:
            for facts, indices in pool.map(
                lambda name: read_keys(folder, name), folder.list_files(SAMPLES, ".parquet")
            ):
                digests += map(digest_id, indices)
                masks += (sum(1 << index for index in numbers) for numbers in indices.values())
                samples += sum(map(len, indices.values()))
                usage, cost = usage + facts.usage, add_costs(cost, facts.cost)
        return cls(samples=samples, usage=usage, cost=cost, **_sort_masks(digests, masks))

    def indices(self, question_ids: Sequence[str]) -> dict[str, set[int]]:
        """Return the committed indices of each of these questions that has some."""
        if not len(self._digests) or not question_ids:
            return {}
        digests = np.array([digest_id(question_id) for question_id in question_ids], self._digests.dtype)
        positions = np.searchsorted(self._digests, digests) % len(self._digests)
        rows = np.flatnonzero(self._digests[positions] == digests)
        bits = np.unpackbits(self._masks[positions[rows]], axis=1, bitorder="little")
        return {
            question_ids[row]: set(np.flatnonzero(own_bits).tolist())
            for row, own_bits in zip(rows.tolist(), bits, strict=True)
        }


def read_keys(folder: Folder, name: str) -> tuple[ShardFacts, dict[str, set[int]]]:
    """Return the facts of a shard, and the indices of its completions by question.

    Raises:
        ConfigurationError: it cannot be read, or is no shard.
    """
    from pyarrow import ArrowException

    indices: dict[str, set[int]] = {}
    with open_shard(folder, name) as (file, facts):
        try:
            for batch in file.iter_batches(columns=["question", "index"]):
                for question_id, numbers in _read_runs(batch):
                    indices.setdefault(question_id, set()).update(numbers)
        except (ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{folder}/{name} is not a shard of samples: {error}.", hint="Move it out of the folder."
            ) from error
    return facts, indices


def _read_runs(batch: Any) -> Iterator[tuple[str, list[int]]]:
    """Yield each run of rows of one question, as the question's id and the rows' indices."""
    if any(column.null_count for column in batch.columns):
        raise ValueError("a question or an index is missing")
    encoded = batch.column("question").dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    numbers = batch.column("index").to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "iu" or not all(isinstance(question_id, str) for question_id in names):
        raise ValueError("a question is not text, or an index is not a whole number")
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < _MAX_INDEX):
        raise ValueError(f"an index is not from 0 to {_MAX_INDEX - 1}")
    bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    for start, end in pairwise(bounds):
        if end > start:
            yield names[codes[start]], numbers[start:end].tolist()


def _sort_masks(digests: Sequence[bytes], masks: Sequence[int]) -> Mapping[str, Any]:
    """Return the sorted digests, each once, and the joined bits of each; a resumed question is in several shards."""
    if not digests:
        return {}
    width = (max(map(int.bit_length, masks)) + 7) // 8
    rows = np.frombuffer(b"".join(mask.to_bytes(width, "little") for mask in masks), np.uint8).reshape(-1, width)
    keys = np.array(digests, f"S{_DIGEST_BYTES}")
    order = np.argsort(keys, kind="stable")
    unique, starts = np.unique(keys[order], return_index=True)
    return {"_digests": unique, "_masks": np.bitwise_or.reduceat(rows[order], starts, axis=0)}


def digest_id(question_id: str) -> bytes:
    """Return 16 bytes that stand for a question."""
    return hashlib.blake2b(question_id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()
