"""Export of a samples file to Parquet (extra ``parquet``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from swift_client.dataset.sample_columns import encode_samples, import_pyarrow, sample_schema
from swift_client.dataset.sample_columns.encode import list_width
from swift_client.dataset.sample_columns.schema import open_writer
from swift_client.errors import ConfigurationError
from swift_client.store import Sample, SampleStore, StoredQuestion
from swift_client.store.atomic_write import atomic_write

ROW_GROUP_SIZE = 1024  # samples after which a row group ends with its question
ROW_GROUP_TOKENS = 250_000  # tokens after which it ends; 30 MB with 20 alternatives and their ids

Rows = list[tuple[StoredQuestion, Sample]]


def export_parquet(samples: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write one row per sample to ``out`` and return the number of rows. A failed export leaves no file.

    The columns are those of ``swift_client.dataset.sample_columns.sample_schema()``, and hold all that the samples file
    has of its samples. A question is never divided over row groups.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ConfigurationError: the samples file cannot be read, or ``out`` cannot be written.
    """
    import_pyarrow("The export to Parquet")
    target = Path(out)
    try:
        with SampleStore(samples) as store, atomic_write(target) as draft:
            k = 0 if store.meta is None else store.meta.top_logprobs
            # Servers may list more alternatives than requested.
            while (count := _write(store, draft, k)) is None:
                k = _find_widest(store)
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror or error}.", hint="Check its folder, and the free disk space."
        ) from error
    return count


def _write(store: SampleStore, out: Path, k: int) -> int | None:
    """Write all samples and return their number; None, as soon as one lists more than ``k`` alternatives."""
    import pyarrow

    count = 0
    with open_writer(out, sample_schema(k)) as writer:
        for rows in _read_row_groups(store):
            if max(list_width(sample.completion) for _, sample in rows) > max(k, 1):
                return None
            sources = {question_id: store.source_of(question_id) for question_id in {row[0].id for row in rows}}
            tables: list[Any] = []
            for (provider, model), run in groupby(rows, key=lambda row: sources[row[0].id]):
                tables.append(encode_samples(run, provider=provider, model=model, k=k))
            writer.write_table(pyarrow.concat_tables(tables))
            count += len(rows)
    return count


def _find_widest(store: SampleStore) -> int:
    groups = store.questions_with_samples()
    return max(list_width(sample.completion) for _, samples in groups for sample in samples)


def _read_row_groups(store: SampleStore) -> Iterator[Rows]:
    rows: Rows = []
    n_tokens = 0
    for question, samples in store.questions_with_samples():
        rows += [(question, sample) for sample in samples]
        n_tokens += sum(len(sample.completion.tokens) for sample in samples)
        if len(rows) >= ROW_GROUP_SIZE or n_tokens >= ROW_GROUP_TOKENS:
            yield rows
            rows, n_tokens = [], 0
    if rows:
        yield rows
