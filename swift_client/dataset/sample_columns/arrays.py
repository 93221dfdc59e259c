"""Arrow columns as numpy arrays and lists of Python objects, with checked types and without copies where possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swift_client.errors import ConfigurationError
from swift_client.store.packing import MAX_EMPTY_WIDTH


@contextmanager
def refuse_invalid(arrow: Any) -> Iterator[None]:
    """Raise what invalid columns cause in Arrow, numpy and Python as ConfigurationError."""
    try:
        yield
    except (arrow.ArrowException, ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"The columns hold no valid samples: {str(error)[:300].rstrip('.')}.",
            hint="Write samples with `swift-client collect --parquet`, or with swift_client.dataset.sample_columns.",
        ) from error


class Columns:
    """The columns of a table by name, each as one Arrow array of the type that is asked for.

    All methods raise ValueError (which ``ArrowInvalid`` is), TypeError or ``ArrowException`` for a column of another
    type, and for missing values that are not allowed.
    """

    def __init__(self, arrow: Any, table: Any) -> None:
        self.arrow = arrow
        self.table = arrow.Table.from_batches([table]) if isinstance(table, arrow.RecordBatch) else table

    def array(self, name: str) -> Any | None:
        """Return a column; None if there is none, or if all of it is missing."""
        position = self.table.schema.get_field_index(name)
        if position < 0:
            if name in self.table.schema.names:
                raise ValueError(f"there are several columns {name!r}")
            return None
        column = self.table.column(position)
        if column.null_count == len(column):
            return None
        if column.num_chunks == 1:
            return column.chunk(0)
        joined = column.combine_chunks()
        return self.arrow.concat_arrays(joined.chunks) if isinstance(joined, self.arrow.ChunkedArray) else joined

    def required(self, name: str) -> Any:
        """Return a column without missing values."""
        array = self.array(name)
        if array is None:
            raise ValueError(f"the column {name!r} is missing")
        if array.null_count:
            raise ValueError(f"the column {name!r} has missing values")
        return array

    def required_texts(self, name: str) -> list[str]:
        """Return texts, none of them missing."""
        return list_texts(self.arrow, self.required(name))  # type: ignore[return-value]

    def texts(self, name: str) -> list[str | None]:
        """Return texts, and None for missing ones."""
        array = self.array(name)
        return [None] * len(self.table) if array is None else list_texts(self.arrow, array)

    def values(self, name: str, kind: Any) -> list[Any]:
        """Return numbers as Python objects, and None for missing ones."""
        array = self.array(name)
        return [None] * len(self.table) if array is None else array.cast(kind).to_pylist()


def find_run_starts(values: Sequence[str | None]) -> list[int]:
    """Return the first row of each run of equal values, and the number of rows; a missing value equals no other."""
    changes = (row for row, (value, following) in enumerate(pairwise(values), 1) if value is None or value != following)
    return [0, *changes, len(values)] if values else [0]


def join_lists(arrow: Any, array: Any) -> tuple[Any, NDArray[np.int64]]:
    """Return the joined values of lists, and the offsets (N + 1,) of each; a missing list is empty."""
    types = arrow.types
    if types.is_list(array.type) or types.is_large_list(array.type):
        lengths = np.diff(array.offsets.to_numpy())
    elif types.is_fixed_size_list(array.type):
        lengths = np.full(len(array), array.type.list_size)
    else:
        raise TypeError(f"there are values of type {array.type} instead of lists")
    if array.null_count:
        lengths = np.where(array.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
    return array.flatten(), np.cumsum([0, *lengths], dtype=np.int64)


def as_numbers(values: Any, kind: Any) -> NDArray[Any]:
    """Return an Arrow array without missing values as numpy array, without a copy if its type is ``kind``."""
    if values.null_count:
        raise ValueError(f"a list of {kind} has missing values")
    result: NDArray[Any] = values.cast(kind).to_numpy(zero_copy_only=False)
    return result


def as_matrix(arrow: Any, rows: Any, kind: Any) -> NDArray[Any]:
    """Return lists of one length, fixed or not, as (rows, width)."""
    if rows.null_count:
        raise ValueError("a list of alternatives is missing")
    if arrow.types.is_fixed_size_list(rows.type):
        width = rows.type.list_size
        if width > MAX_EMPTY_WIDTH:
            raise ValueError(f"its lists have {width} values each")
        values = rows.flatten()
    else:
        values, offsets = join_lists(arrow, rows)
        lengths = np.diff(offsets)
        width = int(lengths[0]) if len(lengths) else 0
        if (lengths != width).any():
            raise ValueError("the lists of one column have several lengths")
    return as_numbers(values, kind).reshape(len(rows), width)


def list_texts(arrow: Any, array: Any) -> list[str | None]:
    """Return an array of text, encoded as dictionary or not; equal values of a dictionary are one object."""
    if not arrow.types.is_dictionary(array.type):
        _require_text(arrow, array.type)
        return list(array.to_pylist())
    values, codes = _dictionary(arrow, array)
    return list(values.take(codes).tolist())


def split_texts(arrow: Any, values: Any, offsets: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """Return the texts between each two offsets; equal texts are one object, which makes them cheap."""
    if values.null_count:
        raise ValueError("a list of texts has missing values")
    if not len(values):
        return [()] * (len(offsets) - 1)
    texts, codes = _dictionary(arrow, values if arrow.types.is_dictionary(values.type) else values.dictionary_encode())
    # Taken part by part, the references stay in the processor's cache.
    return [tuple(texts.take(codes[start:end]).tolist()) for start, end in pairwise(offsets.tolist())]


def _dictionary(arrow: Any, array: Any) -> tuple[NDArray[np.object_], NDArray[Any]]:
    """Return the distinct texts of a dictionary array, with None at the end, and the index of each value's text."""
    _require_text(arrow, array.type.value_type)
    if array.dictionary.null_count:
        raise ValueError("a dictionary of texts has missing values")
    texts = np.array([*array.dictionary.to_pylist(), None], object)
    codes = array.indices.fill_null(len(texts) - 1) if array.null_count else array.indices
    return texts, codes.to_numpy(zero_copy_only=False)


def _require_text(arrow: Any, kind: Any) -> None:
    if not (arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_string_view(kind)):
        raise TypeError(f"there are values of type {kind} instead of text")
