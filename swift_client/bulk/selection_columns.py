"""Ranked rows as an Arrow table (extra ``parquet``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from swift_client.bulk.ranked_row import RankedRow
from swift_client.dataset.sample_columns import import_pyarrow


def selection_schema() -> Any:
    """Return the schema of tables of ranked rows: one row per question, with the members of ``RankedRow``.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pyarrow = import_pyarrow("Ranking to or from Parquet")
    text, number = pyarrow.string(), pyarrow.float64()
    return pyarrow.schema(
        [
            ("question", text),
            ("text", text),
            ("answer", text),
            ("score", number),
            ("probability", number),
            ("index", pyarrow.int64()),
            ("n", pyarrow.int64()),
            ("accepted", pyarrow.bool_()),
            ("method", text),
            ("scorer", text),
            ("signal", text),
            ("notes", pyarrow.list_(text)),
            ("error", text),
        ]
    )


def to_table(rows: Sequence[RankedRow]) -> Any:
    """Return rows as a pyarrow.Table of ``selection_schema()``."""
    return import_pyarrow().Table.from_pylist(list(map(msgspec.structs.asdict, rows)), selection_schema())


def to_ipc(table: Any) -> bytes:
    """Return a table as bytes of an Arrow stream."""
    pyarrow = import_pyarrow("Ranking to or from Parquet")
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_ipc(data: bytes) -> Any:
    """Return the table of ``to_ipc()``."""
    with import_pyarrow().ipc.open_stream(data) as reader:
        return reader.read_all()
