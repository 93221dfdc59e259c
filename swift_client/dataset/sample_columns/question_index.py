"""Index of the questions of a data set, of which it keeps eight bytes each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from swift_client.dataset.sample_columns.arrays import Columns, find_run_starts, refuse_invalid
from swift_client.dataset.sample_columns.locations import translate_errors
from swift_client.dataset.sample_columns.row_groups import RowGroup
from swift_client.dataset.sample_columns.schema import import_pyarrow

Hashes = NDArray[np.uint64]

_COLUMNS = ("question", "provider", "model")


@dataclass(frozen=True)
class QuestionIndex:
    """Facts of one pass over the columns of questions and models.

    Attributes:
        sources: The pairs of provider and model.
        divided: Hashes of the questions whose rows are not one run, in the order of their first rows.
        rows: Number of rows of each of them.
    """

    sources: frozenset[tuple[str, str]]
    divided: Hashes
    rows: NDArray[np.int64]


def hash_question(question_id: str) -> int:
    """Return a hash of 64 bits, the same in every process."""
    return int.from_bytes(blake2b(question_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def index_questions(row_groups: Iterable[RowGroup]) -> QuestionIndex:
    """Read the columns of questions and models.

    Raises:
        ConfigurationError: as ``RowGroup.read()``, or one of these columns is missing or has another type.
    """
    sources: set[tuple[str, str]] = set()
    hashes, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for row_group in row_groups:
        for run_hashes, run_lengths in find_runs(row_group, sources):
            hashes.append(run_hashes)
            lengths.append(run_lengths)
    all_hashes, all_lengths = np.concatenate(hashes), np.concatenate(lengths)
    # A run may go on in the next batch.
    is_start = np.ones(len(all_hashes), np.bool_)
    is_start[1:] = all_hashes[1:] != all_hashes[:-1]
    distinct, first, counts = np.unique(all_hashes[is_start], return_index=True, return_counts=True)
    is_divided = counts > 1
    divided = distinct[is_divided][np.argsort(first[is_divided])]
    return QuestionIndex(frozenset(sources), divided, _count_rows(divided, all_hashes, all_lengths))


def find_runs(
    row_group: RowGroup, sources: set[tuple[str, str]] | None = None
) -> Iterator[tuple[Hashes, NDArray[np.int64]]]:
    """Yield per batch the hash of each run of rows of one question, and its number of rows.

    Args:
        row_group: the rows.
        sources: gets the pairs of provider and model; None reads none.

    Raises:
        ConfigurationError: as ``index_questions()``.
    """
    arrow = import_pyarrow()
    for table in row_group.read(_COLUMNS if sources is not None else _COLUMNS[:1]):
        with translate_errors(row_group.name), refuse_invalid(arrow):
            columns = Columns(arrow, table)
            if sources is not None:
                models = [model or "unknown" for model in columns.texts("model")]
                sources.update(zip(columns.required_texts("provider"), models, strict=True))
            ids = columns.required_texts("question") if len(table) else []
        if not ids:
            continue
        starts = find_run_starts(ids)
        hashes = np.array([hash_question(ids[start]) for start in starts[:-1]], np.uint64)
        yield hashes, np.diff(starts)


def _count_rows(divided: Hashes, hashes: Hashes, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    order = np.argsort(divided)
    is_divided = np.isin(hashes, divided)
    positions = np.searchsorted(divided, hashes[is_divided], sorter=order)
    counts = np.zeros(len(divided), np.int64)
    np.add.at(counts, order[positions], lengths[is_divided])
    return counts
