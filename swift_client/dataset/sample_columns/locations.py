"""Places of Parquet files: paths, folders and URLs of file systems that pyarrow or fsspec knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from swift_client.dataset.sample_columns.schema import import_pyarrow
from swift_client.errors import ConfigurationError
from swift_client.store.sqlite import read_magic

FilePath = str | os.PathLike[str]

_MAGIC = b"PAR1"
# A scheme of one letter would be a drive. ``Path`` leaves one slash of two.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def is_parquet(path: FilePath) -> bool:
    """Return True for a folder, a URL, and a file that has Parquet's first bytes, or is missing and has its suffix."""
    if find_url(path) is not None or os.path.isdir(path):
        return True
    try:
        first = read_magic(path)[: len(_MAGIC)]
    except (OSError, ValueError):  # no such file, or a name that no file can have
        first = b""
    return first == _MAGIC if first else Path(path).suffix == ".parquet"


def find_url(path: FilePath) -> str | None:
    """Return the URL that a path is, with the slashes that ``Path`` took from it; None if it is a path."""
    match = _URL.fullmatch(os.fspath(path))
    if match is None or os.path.exists(path):
        return None
    scheme, rest = match.groups()
    return f"file:///{rest}" if scheme.lower() == "file" else f"{scheme}://{rest}"


@dataclass(frozen=True)
class Location:
    """A Parquet file, or a folder of them, on a file system.

    Attributes:
        name: The path or URL as it may be shown, without user, password and query.
        filesystem: A ``pyarrow.fs.FileSystem``.
        path: The path on it.
    """

    name: str
    filesystem: Any
    path: str

    def list_files(self) -> list[str]:
        """Return the file itself, or all ``*.parquet`` files of the folder and its folders, by their paths.

        Names that begin with a dot or an underscore are left out: other programs' drafts.

        Raises:
            ConfigurationError: there is nothing, or no such file in the folder.
        """
        fs = import_pyarrow().fs
        with translate_errors(self.name):
            kind = self.filesystem.get_file_info(self.path).type
            if kind == fs.FileType.File:
                return [self.path]
            if kind == fs.FileType.NotFound:
                raise ConfigurationError(
                    f"There are no samples at {self.name}.",
                    hint="Check the path. `swift-client collect --parquet` writes such a file.",
                )
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True))
        files = sorted(info.path for info in found if info.type == fs.FileType.File and self._is_part(info.path))
        if not files:
            raise ConfigurationError(
                f"The folder {self.name} contains no .parquet files.", hint="Give the folder with the samples' files."
            )
        return files

    def _is_part(self, path: str) -> bool:
        names = path[len(self.path) :].strip("/").split("/")
        return path.endswith(".parquet") and not any(name.startswith((".", "_")) for name in names)


def locate(path: FilePath) -> Location:
    """Return the location of a path or URL.

    Raises:
        ConfigurationError: neither pyarrow nor fsspec knows the URL's file system.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    url = find_url(path)
    if url is None:
        return Location(os.fspath(path), arrow.fs.LocalFileSystem(), os.path.abspath(path))
    name = _hide_secrets(url)
    with translate_errors(name, hides_reason=name != url):
        try:
            return Location(name, *arrow.fs.FileSystem.from_uri(url))
        except arrow.ArrowInvalid as error:
            if "Unrecognized filesystem" not in str(error):
                raise
    with translate_errors(name, hides_reason=name != url):
        return Location(name, *_locate_with_fsspec(arrow.fs, url, name))


def _locate_with_fsspec(fs: Any, url: str, name: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as missing:
        raise ConfigurationError(
            f"pyarrow does not know the file system of {name}.", hint="pip install fsspec, and its package for it"
        ) from missing
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as missing:  # the package of this file system
        raise ConfigurationError(f"{name} needs another package: {missing}.", hint="Install that package.") from missing
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def _hide_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@contextmanager
def translate_errors(name: str, *, hides_reason: bool = False) -> Iterator[None]:
    """Raise errors of file systems and of Parquet's reader as ConfigurationError with the name of the place.

    Args:
        name: the path or URL as it may be shown.
        hides_reason: leave out the error's text, which may contain a password.
    """
    arrow = import_pyarrow()
    limits = (OverflowError, RecursionError, MemoryError)
    try:
        yield
    except ConfigurationError as error:
        if name in error.message:
            raise
        raise ConfigurationError(f"{name}: {error.message}", hint=error.hint) from error
    except (arrow.ArrowException, OSError, ValueError, TypeError, LookupError, *limits) as error:
        reason = type(error).__name__ if hides_reason else str(error).partition("\n")[0][:300].rstrip(".")
        raise ConfigurationError(
            f"{name} cannot be read as Parquet: {reason}.",
            hint="Check the path. `swift-client collect --parquet` writes such a file.",
        ) from (None if hides_reason else error)
