"""The formats of ranked rows, JSON lines and Parquet: workers encode rows, the parent process writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from swift_client.bulk.ranked_row import RankedRow
from swift_client.bulk.selection_columns import from_ipc, selection_schema, to_ipc, to_table
from swift_client.dataset.sample_columns import import_pyarrow
from swift_client.errors import ConfigurationError

_ROW_GROUP_SIZE = 8192  # rows per row group of a Parquet file, and in memory at a time


class RowFormat(Protocol):
    """A format of a file of ranked rows."""

    def encode(self, rows: Sequence[RankedRow]) -> bytes:
        """Return rows as bytes, in a worker."""
        ...

    def open(self, path: Path) -> AbstractContextManager[Callable[[bytes], object]]:
        """Open an empty file for writing; the function appends encoded rows."""
        ...


class JsonLinesFormat:
    """One JSON object per row, with the names of the columns."""

    def encode(self, rows: Sequence[RankedRow]) -> bytes:
        """See ``RowFormat``."""
        return msgspec.json.Encoder().encode_lines(rows)

    @contextmanager
    def open(self, path: Path) -> Iterator[Callable[[bytes], object]]:
        """See ``RowFormat``."""
        with path.open("wb") as file:
            yield file.write


class ParquetFormat:
    """A Parquet file of ``selection_schema()``."""

    def encode(self, rows: Sequence[RankedRow]) -> bytes:
        """See ``RowFormat``."""
        return to_ipc(to_table(rows))

    @contextmanager
    def open(self, path: Path) -> Iterator[Callable[[bytes], object]]:
        """See ``RowFormat``."""
        pyarrow = import_pyarrow("Ranking to or from Parquet")
        waiting: list[Any] = []
        with pyarrow.parquet.ParquetWriter(path, selection_schema(), compression="zstd") as writer:

            def write_waiting() -> None:
                if waiting:
                    writer.write_table(pyarrow.concat_tables(waiting))
                    waiting.clear()

            def write(data: bytes) -> None:
                waiting.append(from_ipc(data))
                if sum(map(len, waiting)) >= _ROW_GROUP_SIZE:
                    write_waiting()

            yield write
            write_waiting()


def format_of(path: Path) -> RowFormat:
    """Return the format of a file by its suffix.

    Raises:
        ConfigurationError: the suffix is neither .jsonl nor .parquet.
        MissingExtraError: pyarrow is not installed, for .parquet.
    """
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            return JsonLinesFormat()
        case ".parquet":
            import_pyarrow("Ranking to Parquet")
            return ParquetFormat()
    raise ConfigurationError(
        f"{path} is neither a .jsonl nor a .parquet file.", hint="Give a file with one of these endings."
    )
