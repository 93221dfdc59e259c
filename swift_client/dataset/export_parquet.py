"""Export of a samples file to Parquet (extra ``parquet``)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from swift_client.atomic_write import atomic_write
from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.store import Sample, SampleStore, StoredQuestion

ROW_GROUP_SIZE = 1024
"""Samples per row group, and in memory at a time."""


def export_parquet(samples: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write one row per sample to ``out`` and return the number of rows. A failed export leaves no file.

    ``top_logprobs`` is a list of T float16 lists of length K; missing ranks are -inf. ``messages`` is JSON.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ConfigurationError: the samples file cannot be read, or ``out`` cannot be written.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise MissingExtraError.needs("parquet", "The export to Parquet") from missing
    schema = _schema(pyarrow)
    target = Path(out)
    count = 0
    try:
        with (
            SampleStore(samples) as store,
            atomic_write(target) as draft,
            pyarrow.parquet.ParquetWriter(draft, schema, compression="zstd") as writer,
        ):
            rows: list[dict[str, Any]] = []
            for question, stored_samples in store.questions_with_samples():
                for sample in stored_samples:
                    rows.append(_row(question, sample))
                    count += 1
                    if len(rows) == ROW_GROUP_SIZE:
                        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                        rows.clear()
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror or error}.", hint="Check its folder, and the free disk space."
        ) from error
    return count


def _schema(arrow: Any) -> Any:
    return arrow.schema(
        {
            "question": arrow.string(),
            "index": arrow.int32(),
            "messages": arrow.string(),
            "answer": arrow.string(),
            "family": arrow.string(),
            "text": arrow.string(),
            "finish_reason": arrow.string(),
            "label": arrow.float32(),
            "seed": arrow.int64(),
            "cost": arrow.float64(),
            "tokens": arrow.list_(arrow.string()),
            "logprobs": arrow.list_(arrow.float32()),
            "censored": arrow.list_(arrow.bool_()),
            "top_logprobs": arrow.list_(arrow.list_(arrow.float16())),
            "top_ids": arrow.list_(arrow.list_(arrow.uint32())),
        }
    )


def _row(question: StoredQuestion, sample: Sample) -> dict[str, Any]:
    completion = sample.completion
    return {
        "question": question.id,
        "index": sample.index,
        "messages": json.dumps(question.messages),
        "answer": question.answer,
        "family": question.family,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "label": sample.label,
        "seed": sample.seed,
        "cost": sample.cost,
        "tokens": completion.tokens,
        "logprobs": completion.logprobs.tolist(),
        "censored": completion.censored.tolist(),
        "top_logprobs": list(completion.top_logprobs.astype("float16")),
        "top_ids": None if completion.top_ids is None else completion.top_ids.tolist(),
    }
