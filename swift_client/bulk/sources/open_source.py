"""The source of a path, by its content."""

from __future__ import annotations

import os
from pathlib import Path

from swift_client.bulk.sources.parquet_files import ParquetFiles
from swift_client.bulk.sources.replies_file import RepliesFile
from swift_client.bulk.sources.samples_file import SamplesFile
from swift_client.bulk.sources.source import Kind, Source
from swift_client.dataset.sample_columns.locations import is_parquet
from swift_client.errors import ConfigurationError
from swift_client.store.sqlite import SQLITE_MAGIC, read_magic


def open_source(path: Path, kind: Kind) -> Source:
    """Return the source of a file or folder.

    Raises:
        ConfigurationError: there is no such file, it is of the other kind, or it can be read only once.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise ConfigurationError(
            f"{path} is a pipe or a device, which cannot be read twice.", hint="Write it to a file first."
        )
    if is_parquet(path):
        return ParquetFiles.of_path(path, kind)
    if not path.exists():
        raise ConfigurationError(f"There is no file {path}.", hint="Check the path.")
    is_samples_file = _is_sqlite(path)
    if kind == "samples" or (kind == "auto" and is_samples_file):
        return SamplesFile(path)
    if is_samples_file:
        raise ConfigurationError(f"{path} is a samples file, not a file of replies.", hint="Rank it as samples.")
    return RepliesFile(path.resolve())  # in a worker, /dev/stdin is another file


def _is_sqlite(path: Path) -> bool:
    try:
        return read_magic(path) == SQLITE_MAGIC
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
