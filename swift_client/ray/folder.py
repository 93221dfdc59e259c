"""A folder on any file system that pyarrow or fsspec knows, whose files appear completely or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from swift_client.dataset.sample_columns import import_pyarrow
from swift_client.errors import ConfigurationError
from swift_client.store.atomic_write import atomic_write

# File systems whose files appear when they are closed, in one piece; renaming would copy them.
_OBJECT_STORES = ("s3", "gcs", "gs", "abfs", "az", "adl", "oss", "http")


class Folder:
    """A folder by its path or URL. Paths of its files are relative to it, with slashes.

    It can be pickled: workers open the same folder.

    Args:
        url: path of a local folder, or URL that pyarrow or fsspec knows, such as "s3://bucket/run7".

    Raises:
        MissingExtraError: pyarrow, or the library of the file system, is not installed.
        ConfigurationError: no file system knows the URL; later: a file cannot be read or written.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        text = os.fspath(url)
        self.url = text if "://" in text else os.path.abspath(text)  # workers have another current folder
        self._open()

    def __getstate__(self) -> str:
        return self.url

    def __setstate__(self, url: str) -> None:
        self.url = url
        self._open()

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        if not parts.scheme or "://" not in self.url:
            return self.url
        # A user, a password or a query of the URL may be a key.
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")

    def __repr__(self) -> str:
        return f"Folder({str(self)!r})"

    def _open(self) -> None:
        import_pyarrow()
        self.file_system, self._root = _open_file_system(self.url)
        name = self.file_system.type_name
        self._is_local = name == "local"
        self._is_object_store = name.removeprefix("py::fsspec+").startswith(_OBJECT_STORES)

    @property
    def local_path(self) -> Path | None:
        """The path of a local folder; None for others."""
        return Path(self._root) if self._is_local else None

    def address(self, name: str) -> str:
        """Return the path of a file as its file system wants it."""
        return f"{self._root}/{name}"

    def write(self, name: str, data: Any) -> None:
        """Write a file, or replace it: readers see the old bytes or the new ones."""
        with self._translate_errors(name):
            target = self.address(name)
            self.file_system.create_dir(target.rpartition("/")[0], recursive=True)
            if self._is_local:
                with atomic_write(target) as draft:
                    draft.write_bytes(data)
            elif self._is_object_store:
                self._write_stream(target, data)
            else:
                folder, _, own_name = target.rpartition("/")
                draft_name = f"{folder}/.{own_name}.{secrets.token_hex(8)}.draft"
                self._write_stream(draft_name, data)
                self.file_system.move(draft_name, target)

    def _write_stream(self, address: str, data: Any) -> None:
        with self.file_system.open_output_stream(address) as stream:
            stream.write(data)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file; None if there is no such file."""
        with self._translate_errors(name):
            try:
                with self.file_system.open_input_stream(self.address(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        with self._translate_errors(name):
            try:
                self.file_system.delete_file(self.address(name))
            except FileNotFoundError:
                return

    def exists(self, name: str) -> bool:
        """Return True if there is such a file."""
        from pyarrow.fs import FileType

        with self._translate_errors(name):
            return bool(self.file_system.get_file_info(self.address(name)).type == FileType.File)

    def list_files(self, folder: str, suffix: str) -> list[str]:
        """Return the names of the files of a folder within this one, in order; none if it does not exist."""
        from pyarrow.fs import FileSelector, FileType

        with self._translate_errors(folder):
            selector = FileSelector(self.address(folder), allow_not_found=True)
            names = [info.base_name for info in self.file_system.get_file_info(selector) if info.type == FileType.File]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(suffix) and not name.startswith((".", "_")))

    @contextmanager
    def _translate_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"{self}/{name} cannot be read or written: {error.strerror or error}.",
                hint="Check the address, the permissions and the free space.",
            ) from error


def _open_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a path or URL, and the path within it."""
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

    if "://" not in url:
        return LocalFileSystem(), url
    try:
        file_system, root = FileSystem.from_uri(url)
        return file_system, root.rstrip("/")
    except (ArrowException, OSError, ValueError):
        pass  # pyarrow does not know it, but fsspec may
    try:
        from fsspec.core import url_to_fs

        inner, root = url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"No file system knows {url.partition('://')[0]}:// ({error}).",
            hint="Install the library of this file system, such as s3fs, gcsfs or adlfs.",
        ) from error
    return PyFileSystem(FSSpecHandler(inner)), root.rstrip("/")
