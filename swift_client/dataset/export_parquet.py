"""Export of a samples file to Parquet (extra ``parquet``)."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path
from typing import Any

from swift_client.dataset.sample_columns import encode_samples, import_pyarrow, sample_schema
from swift_client.dataset.sample_columns.cut_rows import cut_rows
from swift_client.dataset.sample_columns.encode import list_width
from swift_client.dataset.sample_columns.schema import open_writer
from swift_client.errors import ConfigurationError
from swift_client.store import SampleStore
from swift_client.store.atomic_write import atomic_write

_MAX_LISTED = 1000  # alternatives that a server may list; a file that says more may lie


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
            if k > _MAX_LISTED:
                k = _find_widest(store)
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
    stored_rows = ((question, sample) for question, samples in store.questions_with_samples() for sample in samples)
    with open_writer(out, sample_schema(k)) as writer:
        for rows in cut_rows(stored_rows):
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
    return max((list_width(sample.completion) for _, samples in groups for sample in samples), default=0)
