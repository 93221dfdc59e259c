"""Row groups of Parquet files, read in batches of bounded size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from swift_client.dataset.sample_columns.footer import count_values
from swift_client.dataset.sample_columns.locations import Location, translate_errors
from swift_client.dataset.sample_columns.schema import import_pyarrow, sample_schema
from swift_client.errors import ConfigurationError

# Numbers of a column that one row group may have. A tiny file may unfold to any number of them.
MAX_VALUES = 2**28
BATCH_VALUES = 2**20  # numbers that are read at a time, unless a row has more: 25 MB as completions
BATCH_ROWS = 1024  # rows that are read at a time
_BUFFER_BYTES = 2**20


@dataclass(frozen=True)
class RowGroup:
    """One row group of an open file."""

    name: str  # of the file
    file: Any  # pyarrow.parquet.ParquetFile
    number: int
    columns: Sequence[str]
    values: Mapping[str, int]  # numbers of values, by the name of a column

    def read(self, columns: Collection[str] | None = None) -> Iterator[Any]:
        """Yield its rows as record batches.

        Args:
            columns: names of columns; None: all that samples have.

        Raises:
            ConfigurationError: the file is damaged, or has more numbers than memory should hold.
        """
        arrow = import_pyarrow()
        names = [name for name in self.columns if columns is None or name in columns]
        with translate_errors(self.name):
            size = self._batch_rows(names)
            batches = self.file.iter_batches(size, [self.number], names, use_threads=False)
        while True:
            with translate_errors(self.name):
                batch = next(batches, None)
            if batch is None:
                return
            yield arrow.Table.from_batches([batch])

    def _batch_rows(self, names: Collection[str]) -> int:
        """Return the number of rows per batch."""
        values = max((self.values.get(name, 0) for name in names), default=0)
        if values > MAX_VALUES:
            raise ConfigurationError(
                f"{self.name}: a row group has {values:,} values in one column; {MAX_VALUES:,} are the most.",
                hint="Write the file with smaller row groups.",
            )
        return max(1, min(BATCH_ROWS, self.count_rows() * BATCH_VALUES // max(values, 1)))

    def count_rows(self) -> int:
        """Return its number of rows, as the footer says."""
        count: int = self.file.metadata.row_group(self.number).num_rows
        return count


@dataclass(frozen=True)
class OpenParquet:
    """An open file, and its row groups."""

    name: str
    schema: Any  # pyarrow.Schema
    row_groups: Sequence[RowGroup]


def read_row_groups(location: Location, files: Sequence[str], *, skip: Collection[str] = ()) -> Iterator[RowGroup]:
    """Yield all row groups of files in order; one file is open at a time.

    Args:
        location: the file, or the folder of the files.
        files: paths of ``location.list_files()``.
        skip: names of columns that are not read.

    Raises:
        ConfigurationError: a file is missing or not Parquet, or has no column of samples.
    """
    known = set(sample_schema(1).names) - set(skip)
    for file_path in files:
        with open_parquet(location, file_path, known) as opened:
            yield from opened.row_groups


@contextmanager
def open_parquet(location: Location, file_path: str, known: Collection[str]) -> Iterator[OpenParquet]:
    """Open a file of ``location.list_files()`` to read columns of these names, as far as it has them.

    Raises:
        ConfigurationError: the file is missing or not Parquet, or has none of the columns.
    """
    arrow = import_pyarrow()
    name = f"{location.name.rstrip('/')}{file_path[len(location.path) :]}"
    is_local = isinstance(location.filesystem, arrow.fs.LocalFileSystem)
    with translate_errors(name):
        source = location.filesystem.open_input_file(file_path)
        try:
            file = _open(arrow, source, known, is_local=is_local)
        except BaseException:
            source.close()
            raise
    with source:
        with translate_errors(name):
            values_of_groups = count_values(source)
            schema = file.schema_arrow
        columns = [column for column in schema.names if column in known]
        if not columns:
            raise ConfigurationError(
                f"{name} contains no samples: it has none of the columns of samples.", hint="Give another file."
            )
        row_groups = [
            RowGroup(name, file, number, columns, values)
            for number, values in enumerate(values_of_groups[: file.metadata.num_row_groups])
        ]
        yield OpenParquet(name, schema, row_groups)


def _open(arrow: Any, source: Any, known: Collection[str], *, is_local: bool) -> Any:
    """Return a ``pyarrow.parquet.ParquetFile``.

    Texts are read as dictionaries: a few that return often stay as small in memory as they are in the file.
    On this machine pages are read one by one, and elsewhere the columns of a row group at once.
    """
    facts = arrow.parquet.ParquetFile(source)
    leaves = [facts.schema.column(position) for position in range(len(facts.schema))]
    texts = [
        leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.path.partition(".")[0] in known
    ]
    return arrow.parquet.ParquetFile(
        source,
        metadata=facts.metadata,
        read_dictionary=texts,
        buffer_size=_BUFFER_BYTES if is_local else 0,
        pre_buffer=not is_local,
    )
