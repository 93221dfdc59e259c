"""Arrow columns to samples, many at a time. Values are checked: anyone may have written them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from swift_client.dataset.sample_columns.arrays import Columns, as_numbers, list_texts, refuse_invalid
from swift_client.dataset.sample_columns.contents import decode_completions
from swift_client.dataset.sample_columns.schema import import_pyarrow
from swift_client.store import Sample


def decode_samples(table: Any) -> list[Sample]:
    """Return the samples of a ``pyarrow.Table`` or record batch of ``sample_schema()``, in the order of its rows.

    Their arrays are views on the table's memory, or on arrays that all of them share, and equal those of a samples file
    to the last bit. Other columns are ignored; those that samples may lack need not be there.

    Raises:
        ConfigurationError: a column is missing or has another type, or a value is invalid.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    with refuse_invalid(arrow):
        return _decode(Columns(arrow, table))


def _decode(columns: Columns) -> list[Sample]:
    if not len(columns.table):
        return []
    arrow = columns.arrow
    indices = columns.required("index").cast(arrow.int64()).to_pylist()
    labels, seeds = columns.values("label", arrow.float64()), columns.values("seed", arrow.int64())
    costs, means = columns.values("cost", arrow.float64()), columns.values("mean_logprob", arrow.float64())
    if min(indices) < 0:
        raise ValueError("an index is negative")
    if not {None, 0.0, 1.0}.issuperset(labels):
        raise ValueError("a label is not 0 or 1")
    if any(cost is not None and not math.isfinite(cost) for cost in costs):
        raise ValueError("a cost is NaN or infinite")
    if any(mean is not None and not -math.inf < mean <= 0 for mean in means):
        raise ValueError("a mean logprob is NaN, infinite or above 0")
    rows = zip(
        columns.required_texts("question"),
        indices,
        decode_completions(columns, indices),
        seeds,
        labels,
        costs,
        means,
        _decode_scores(columns),
        strict=True,
    )
    return [
        Sample(
            question_id=question_id,
            index=index,
            completion=completion,
            seed=seed,
            label=label,
            cost=cost,
            mean_logprob=None if completion.tokens else mean,
            verifier_scores=scores,
        )
        for question_id, index, completion, seed, label, cost, mean, scores in rows
    ]


def _decode_scores(columns: Columns) -> list[Mapping[str, float]]:
    """Return the judgements of each sample by the identity of the verifier."""
    array = columns.array("verifier_scores")
    if array is None:
        return [{} for _ in range(len(columns.table))]
    if not columns.arrow.types.is_map(array.type):
        raise TypeError(f"verifier_scores are of type {array.type} instead of maps")
    # The keys and items of a slice are those of the whole array.
    offsets = array.offsets.to_numpy()
    first, n_pairs = offsets[0], offsets[-1] - offsets[0]
    if not n_pairs:
        return [{} for _ in range(len(columns.table))]
    values = as_numbers(array.items.slice(first, n_pairs), columns.arrow.float64())
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a judgement is not from 0 to 1")
    keys = list_texts(columns.arrow, array.keys.slice(first, n_pairs))
    pairs: list[Any] = list(zip(keys, values.tolist(), strict=True))
    ranges = zip(pairwise((offsets - first).tolist()), array.is_valid().to_pylist(), strict=True)
    return [dict(pairs[start:end]) if is_there else {} for (start, end), is_there in ranges]
