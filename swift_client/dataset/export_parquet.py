"""Export of a samples file to Parquet (extra ``parquet``)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from swift_client.errors import ConfigurationError, MissingExtraError
from swift_client.store import Sample, SampleStore, StoredQuestion
from swift_client.store.atomic_write import atomic_write

ROW_GROUP_SIZE = 1024  # samples per row group, and in memory at a time


def export_parquet(samples: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write one row per sample to ``out`` and return the number of rows. A failed export leaves no file.

    ``top_logprobs`` is a list of T float16 lists of length K; missing ranks are -inf. ``messages`` is JSON.
    ``answers`` are all accepted answers and ``answer`` is the first of them. ``verifier_scores`` is a map from the
    identity of a verifier to its judgement, 0..1.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ConfigurationError: the samples file cannot be read, or ``out`` cannot be written.
    """
    pyarrow = import_pyarrow()
    columns = _columns(pyarrow)
    schema = pyarrow.schema({name: kind for name, (kind, _) in columns.items()})
    target = Path(out)
    count = 0
    try:
        with (
            SampleStore(samples) as store,
            atomic_write(target) as draft,
            pyarrow.parquet.ParquetWriter(draft, schema, compression="zstd") as writer,
        ):
            rows = (
                {name: value(question, sample) for name, (_, value) in columns.items()}
                for question, stored_samples in store.questions_with_samples()
                for sample in stored_samples
            )
            while row_group := list(islice(rows, ROW_GROUP_SIZE)):
                writer.write_table(pyarrow.Table.from_pylist(row_group, schema))
                count += len(row_group)
    except OSError as error:
        raise ConfigurationError(
            f"{target} cannot be written: {error.strerror or error}.", hint="Check its folder, and the free disk space."
        ) from error
    return count


def import_pyarrow() -> Any:
    """Return the library. Raises MissingExtraError if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise MissingExtraError.needs("parquet", "The export to Parquet") from missing
    return pyarrow


def _columns(arrow: Any) -> dict[str, tuple[Any, Callable[[StoredQuestion, Sample], Any]]]:
    """Return the type of each column, and the function that returns its value for a sample."""
    text = arrow.string()
    return {
        "question": (text, lambda question, _: question.id),
        "index": (arrow.int32(), lambda _, sample: sample.index),
        "messages": (text, lambda question, _: json.dumps(question.messages)),
        "answer": (text, lambda question, _: next(iter(_accepted_answers(question)), None)),
        "answers": (arrow.list_(text), lambda question, _: _accepted_answers(question)),
        "family": (text, lambda question, _: question.family),
        "text": (text, lambda _, sample: sample.completion.text),
        "finish_reason": (text, lambda _, sample: sample.completion.finish_reason),
        "label": (arrow.float32(), lambda _, sample: sample.label),
        "verifier_scores": (arrow.map_(text, arrow.float64()), lambda _, sample: list(sample.verifier_scores.items())),
        "seed": (arrow.int64(), lambda _, sample: sample.seed),
        "cost": (arrow.float64(), lambda _, sample: sample.cost),
        "tokens": (arrow.list_(text), lambda _, sample: sample.completion.tokens),
        "logprobs": (arrow.list_(arrow.float32()), lambda _, sample: sample.completion.logprobs.tolist()),
        "censored": (arrow.list_(arrow.bool_()), lambda _, sample: sample.completion.censored.tolist()),
        "top_logprobs": (
            arrow.list_(arrow.list_(arrow.float16())),
            lambda _, sample: list(sample.completion.top_logprobs.astype("float16")),
        ),
        "top_ids": (
            arrow.list_(arrow.list_(arrow.uint32())),
            lambda _, sample: None if sample.completion.top_ids is None else sample.completion.top_ids.tolist(),
        ),
    }


def _accepted_answers(question: StoredQuestion) -> tuple[str, ...]:
    answer = question.answer
    return () if answer is None else (answer,) if isinstance(answer, str) else answer
